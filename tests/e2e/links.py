"""What tests know of a link beyond what the app gets: the confirmation that only the browser will bring."""

from urllib.parse import parse_qs, urlsplit

from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.storage.links import link_from_item
from tools.local import service
from tools.local.stack import Stack


def link_in(connect_url: str) -> str:
    """The link in its URL."""
    return parse_qs(urlsplit(connect_url).query)["link"][0]


def confirmation_of(up: Stack, connect_url: str) -> str:
    """The confirmation of a link, made from its item as the callback makes it."""
    link = link_in(connect_url)
    key = {"pk": {"S": f"LINK#{fingerprint(link)}"}, "sk": {"S": "LINK"}}
    item = service.client(up, "dynamodb").get_item(TableName=up.table, Key=key)["Item"]
    return link_from_item(item).confirmation(link)
