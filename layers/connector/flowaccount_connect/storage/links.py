"""A host's link: made for one of its users, used up by one callback, ended by the host's own confirmation.

Whoever obtains a link can have somebody else consent through it, and come to the host's return URL himself. So what
opens FlowAccount and what ends the connect are two secrets. The *link* is shown to the host's user. The *session* is
told to the host, and to the browser whose callback used the link up, and to nobody else: a host that confirms the
session its user's browser brought back, with the tenant of that user, cannot be made to confirm what somebody
else's browser did. Of both only hashes are stored; the session is made again from the link, which the browser brings
in its cookie, and from the item's key, so that neither the table nor the link alone gives it away.

    open ─callback─▶ used ─exchange─▶ to be confirmed ─confirm─▶ connected
                      └─ whatever else it ends with       └─ another tenant, another business, 15 minutes: dropped
"""

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from flowaccount_connect.domain.ids import derived, fingerprint, new_secret
from flowaccount_connect.storage.dynamodb import (
    AttributeValue,
    Client,
    ConditionRefused,
    Item,
    call,
    n,
    number,
    s,
    text,
)
from flowaccount_connect.storage.event_items import event_put
from flowaccount_connect.storage.stored_tokens import ATTRIBUTES, StoredTokens, from_item, setting

CONFIRM_WITHIN = 900
"""How long a link's set waits for the host's confirmation, from the callback, in seconds."""

TO_BE_CONFIRMED = "to_be_confirmed"
CONNECTED = "connected"
_SET = ", ".join(ATTRIBUTES)


class Refusal(StrEnum):
    """Why a business was not connected, as the event tells it."""

    OTHER_BUSINESS = "other_business"
    """The host expected another one."""
    OTHER_TENANT = "other_tenant"
    """It belongs to another tenant of the host's."""
    TENANT_MISMATCH = "tenant_mismatch"
    """Somebody else came back than the tenant that the link was made for: the host confirmed another tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What an exchange brought, as it waits for the host: sealed for the connection that it is to become."""

    connection_id: str
    grant_id: str
    tokens: StoredTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectLink:
    """A link as it is stored. Times in epoch seconds."""

    id: str
    """The fingerprint of the link."""
    key: str
    """What makes the session of the link; worth nothing without the link."""
    tenant: str
    """The host's tenant that is to be connected."""
    return_url: str
    expires_at: int
    expected_connection: str | None = None
    consumed_by: str | None = None
    confirm_until: int | None = None
    """The end of the time to confirm, once it is used up."""
    result: str | None = None
    """`TO_BE_CONFIRMED`, `CONNECTED`, or how else it ended; `None` while it has not."""
    connection_id: str | None = None
    grant_id: str | None = None
    """The consent that it brought, also after it was confirmed: the connection may hold another by now."""
    waiting: Waiting | None = None

    def session(self, link: str) -> str:
        """What confirms, made from the link itself."""
        return f"{self.id}.{derived(link, self.key)}"

    def is_over(self, now: int) -> bool:
        """Whether nothing can come of it any more at `now`."""
        return (self.confirm_until or self.expires_at) <= now

    def kept_for(self, attempt_id: str) -> bool:
        """Whether what the callback `attempt_id` brought is kept here, or was."""
        return self.consumed_by == attempt_id and self.result in (TO_BE_CONFIRMED, CONNECTED)


def link_id_of(session: str) -> str:
    """The id of the link that a session ends."""
    return session.partition(".")[0]


class LinkStore:
    """The links of one table, made in one environment. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str, environment: str) -> None:
        self._client = client
        self._table = table
        self._environment = environment

    def create(
        self, *, tenant: str, return_url: str, expected_connection: str | None, expires_at: int
    ) -> tuple[str, str]:
        """Write a new link, in one call; the link and its session. Raises `StoreUnavailable`."""
        link = new_secret()
        made = ConnectLink(
            id=fingerprint(link),
            key=new_secret(),
            tenant=tenant,
            return_url=return_url,
            expires_at=expires_at,
            expected_connection=expected_connection,
        )
        session = made.session(link)
        item: dict[str, AttributeValue] = _key(made.id) | {
            "session": s(fingerprint(session)),
            "key": s(made.key),
            "environment": s(self._environment),
            "tenant": s(tenant),
            "return_url": s(return_url),
            "expires_at": n(expires_at),
            "ttl": n(expires_at),
        }
        if expected_connection is not None:
            item["expected_connection"] = s(expected_connection)
        call(self._client.put_item, TableName=self._table, Item=item)
        return link, session

    def opened(self, link: str) -> ConnectLink | None:
        """The link as it is now, or `None` where there is none in this environment. Raises `StoreUnavailable`."""
        item = self._get(fingerprint(link))
        return link_from_item(item) if item else None

    def of_session(self, session: str) -> ConnectLink | None:
        """The link that a session ends, or `None` where it ends none. Raises `StoreUnavailable`."""
        item = self._get(link_id_of(session))
        if item is None or not hmac.compare_digest(
            (text(item, "session") or "").encode(), fingerprint(session).encode()
        ):
            return None
        return link_from_item(item)

    def _get(self, link_id: str) -> Item | None:
        answer = call(self._client.get_item, TableName=self._table, Key=_key(link_id), ConsistentRead=True)
        item: Item | None = answer.get("Item")
        return item if item and text(item, "environment") == self._environment else None

    def consume(self, link_id: str, attempt_id: str, *, now: int) -> ConnectLink | None:
        """Use a link up: once, before it expires; `None` where it is used up already, has expired, or is gone.

        From here on the time to confirm it runs. Raises `StoreUnavailable`.
        """
        try:
            answer = call(
                self._client.update_item,
                TableName=self._table,
                Key=_key(link_id),
                UpdateExpression="SET consumed_by = :attempt, confirm_until = :until, #ttl = :until",
                ConditionExpression="attribute_not_exists(consumed_by) AND expires_at > :now "
                "AND environment = :environment",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={
                    ":attempt": s(attempt_id),
                    ":until": n(now + CONFIRM_WITHIN),
                    ":now": n(now),
                    ":environment": s(self._environment),
                },
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionRefused as refused:
            item = refused.items[0]
            found = link_from_item(item) if item else None
            # An SDK retry may have hidden the success of the first write.
            return found if found is not None and found.consumed_by == attempt_id else None
        return link_from_item(answer["Attributes"])


def keeping(table: str, link_id: str, attempt_id: str, waiting: Waiting, *, now: int) -> dict[str, object]:
    """The write that keeps what the callback `attempt_id` brought, until it is confirmed; refused once it is too late.

    To be sent alone or in a transaction.
    """
    assignments, _, values = setting(waiting.tokens)
    return {
        "TableName": table,
        "Key": _key(link_id),
        "UpdateExpression": f"SET #result = :waiting, connection_id = :connection, grant_id = :grant, {assignments}",
        "ConditionExpression": "consumed_by = :attempt AND attribute_not_exists(#result) AND confirm_until > :now",
        "ExpressionAttributeNames": {"#result": "result"},
        "ExpressionAttributeValues": values
        | {
            ":waiting": s(TO_BE_CONFIRMED),
            ":connection": s(waiting.connection_id),
            ":grant": s(waiting.grant_id),
            ":attempt": s(attempt_id),
            ":now": n(now),
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def failing(table: str, link_id: str, attempt_id: str, result: str) -> dict[str, object]:
    """The write that says how the callback `attempt_id` ended, where it brought nothing to confirm."""
    return {
        "TableName": table,
        "Key": _key(link_id),
        "UpdateExpression": "SET #result = :result",
        "ConditionExpression": "consumed_by = :attempt AND attribute_not_exists(#result)",
        "ExpressionAttributeNames": {"#result": "result"},
        "ExpressionAttributeValues": {":result": s(result), ":attempt": s(attempt_id)},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def confirming(table: str, link_id: str, tenant: str, *, now: int) -> dict[str, object]:
    """The write that ends a link with its connection; to be sent in a transaction with the connection's."""
    return {
        "TableName": table,
        "Key": _key(link_id),
        "UpdateExpression": f"SET #result = :connected REMOVE {_SET}",
        "ConditionExpression": "#result = :waiting AND confirm_until > :now AND #tenant = :tenant",
        "ExpressionAttributeNames": {"#result": "result", "#tenant": "tenant"},
        "ExpressionAttributeValues": {
            ":connected": s(CONNECTED),
            ":waiting": s(TO_BE_CONFIRMED),
            ":now": n(now),
            ":tenant": s(tenant),
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def dropping(table: str, link_id: str, result: str) -> dict[str, object]:
    """The write that takes away what waits, and says why; to be sent alone or in a transaction."""
    return {
        "TableName": table,
        "Key": _key(link_id),
        "UpdateExpression": f"SET #result = :result REMOVE {_SET}",
        "ConditionExpression": "#result = :waiting",
        "ExpressionAttributeNames": {"#result": "result"},
        "ExpressionAttributeValues": {":result": s(result), ":waiting": s(TO_BE_CONFIRMED)},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def refused_put(
    table: str, connection_id: str, reason: Refusal, link: ConnectLink, clock: Callable[[], float] = time.time
) -> dict[str, object]:
    """The Put that announces that a business was not connected to the tenant of `link`."""
    return event_put(
        table, "connection.refused", connection_id=connection_id, reason=reason, tenant=link.tenant, clock=clock
    )


def link_from_item(item: Item) -> ConnectLink:
    """The link that an item of the table describes."""
    connection_id, grant_id, tokens = text(item, "connection_id"), text(item, "grant_id"), from_item(item)
    waiting = None
    if tokens is not None:
        waiting = Waiting(connection_id=connection_id or "", grant_id=grant_id or "", tokens=tokens)
    return ConnectLink(
        id=(text(item, "pk") or "").removeprefix("LINK#"),
        key=text(item, "key") or "",
        tenant=text(item, "tenant") or "",
        return_url=text(item, "return_url") or "",
        expires_at=number(item, "expires_at") or 0,
        expected_connection=text(item, "expected_connection"),
        consumed_by=text(item, "consumed_by"),
        confirm_until=number(item, "confirm_until"),
        result=text(item, "result"),
        connection_id=connection_id,
        grant_id=grant_id,
        waiting=waiting,
    )


def _key(link_id: str) -> dict[str, AttributeValue]:
    return {"pk": s(f"LINK#{link_id}"), "sk": s("LINK")}
