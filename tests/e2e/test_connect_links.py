"""Links on the deployed stack: opened by browsers, ended by the app's confirmation and by nothing else."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.e2e import callers
from tests.e2e.conftest import Simulator, change, delete_connections
from tests.e2e.links import confirmation_of, link_in
from tests.e2e.tampering import denied
from tools.local import service
from tools.local.stack import Stack
from tools.local.visit import Arrived, HttpVisitor

RETURN_URL = "https://app.example.com/accounting/done"
BUSINESS, OTHER_BUSINESS = "N1000001", "N1000002"


def make(up: Stack, tenant: str, **fields: str) -> dict[str, Any]:
    """What the app gets for a user of the tenant `tenant`, and the confirmation, which only the browser will get."""
    answer = service.call(up, "POST", "/connect-links", body={"tenant": tenant, "return_url": RETURN_URL} | fields)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert set(made) == {"connect_url", "expires_at"}
    return made | {"confirmation": confirmation_of(up, made["connect_url"])}


def confirm(up: Stack, confirmation: str, tenant: str) -> requests.Response:
    return service.call(up, "POST", "/connect-links/confirm", body={"confirmation": confirmation, "tenant": tenant})


def refused(up: Stack, confirmation: str, tenant: str) -> tuple[int, str, str | None]:
    """Status, code and ending of a confirmation that is refused."""
    answer = confirm(up, confirmation, tenant)
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"], answer.json().get("ending")


def returned(arrived: Arrived) -> dict[str, str]:
    """What the browser brought back to the app."""
    assert arrived.url.startswith(RETURN_URL + "?"), arrived.url
    return {name: value for name, (value,) in parse_qs(urlsplit(arrived.url).query).items()}


def linked_back(arrived: Arrived) -> dict[str, str]:
    """What the button of the page brings back to the app."""
    assert arrived.page in ("wrong_business", "business_taken")
    assert arrived.status == 409
    (link,) = set(re.findall(r'<a href="([^"]+)" rel="noreferrer">', arrived.html))
    return returned(replace(arrived, url=unescape(link)))


def items(up: Stack, kind: str) -> list[dict[str, Any]]:
    """All items of a kind."""
    table = service.client(up, "dynamodb")
    found: list[dict[str, Any]] = table.scan(
        TableName=up.table, FilterExpression="sk = :kind", ExpressionAttributeValues={":kind": {"S": kind}}
    )["Items"]
    return found


def refusals(up: Stack, tenant: str) -> list[str]:
    """Why businesses were refused that came through links for a tenant."""
    return [item["reason"]["S"] for item in items(up, "EVENT") if item.get("tenant", {}).get("S") == tenant]


def link_of(up: Stack, confirmation: str) -> dict[str, Any]:
    """The item of the link that a confirmation belongs to."""
    (found,) = [item for item in items(up, "LINK") if item["pk"]["S"] == f"LINK#{confirmation.partition('.')[0]}"]
    return found


def set_link(up: Stack, confirmation: str, **values: int) -> None:
    """Change times of a link's item, as time would."""
    change(up, f"LINK#{confirmation.partition('.')[0]}", "LINK", **values)


def expire(up: Stack, confirmation: str) -> None:
    """Let an hour pass for a link and for the tabs that it was opened in."""
    link, past = confirmation.partition(".")[0], {"N": str(int(time.time()) - 1)}
    for item in [link_of(up, confirmation), *items(up, "ATTEMPT")]:
        if link in (item["pk"]["S"].partition("#")[2], item.get("link", {}).get("S")):
            service.client(up, "dynamodb").put_item(TableName=up.table, Item=item | {"expires_at": past})


@pytest.fixture(autouse=True)
def nobodys(up: Stack) -> None:
    """No business belongs to anybody yet."""
    delete_connections(up, BUSINESS, OTHER_BUSINESS)


def test_a_business_is_connected_once_its_app_confirms_it(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    made = make(up, "tenant-1", state="my own")
    assert made["connect_url"].startswith(up.authorize_url + "?link=")
    assert made["confirmation"] not in made["connect_url"]
    assert refused(up, made["confirmation"], "tenant-1") == (409, "not_finished", None)
    arrived = visitor.connect(
        f"{made['connect_url']}&fbclid=x&openExternalBrowser=1", user="somchai", business=BUSINESS
    )
    assert returned(arrived) == {"confirmation": made["confirmation"], "state": "my own"}
    assert service.connection_item(up, BUSINESS) is None
    assert service.call(up, "GET", f"/connections/{BUSINESS}/token").status_code == 404
    answer = confirm(up, made["confirmation"], "tenant-1")
    assert answer.status_code == 200, answer.text
    assert answer.json() == service.call(up, "GET", f"/connections/{BUSINESS}").json()
    assert (answer.json()["support_code"], answer.json()["tenant"]) == (BUSINESS, "tenant-1")
    again = confirm(up, made["confirmation"], "tenant-1")
    assert (again.status_code, again.json()["generation"]) == (200, answer.json()["generation"])
    token = service.call(up, "GET", f"/connections/{BUSINESS}/token").json()
    assert token["support_code"] == BUSINESS
    assert len(simulator.posts()) == 1


def test_a_set_that_waits_is_ciphertext_and_the_confirmation_is_a_hash(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    made = make(up, "tenant-1")
    visitor.connect(made["connect_url"], user="somchai", business=BUSINESS)
    item = link_of(up, made["confirmation"])
    stored = repr([items(up, "LINK"), items(up, "ATTEMPT")])
    assert link_in(made["connect_url"]) not in stored
    assert made["confirmation"].partition(".")[2] not in stored
    assert made["confirmation"] not in stored
    assert not {"due_shard", "listed_as"} & item.keys()
    assert int(item["ttl"]["N"]) <= time.time() + 900
    confirm(up, made["confirmation"], "tenant-1")
    assert "tokens" not in link_of(up, made["confirmation"])
    token = service.call(up, "GET", f"/connections/{BUSINESS}/token").json()["access_token"]
    assert token.encode() not in bytes(item["tokens"]["B"])


def test_a_link_opened_by_previews_and_in_two_tabs_is_used_once(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    made = make(up, "tenant-2")
    preview = {"User-Agent": "facebookexternalhit/1.1;line-poker/1.0"}
    assert requests.get(made["connect_url"], headers=preview, allow_redirects=False, timeout=30).status_code == 200
    assert requests.head(made["connect_url"], allow_redirects=False, timeout=30).status_code == 200
    tabs = [visitor.consent(made["connect_url"], user="somchai", business=BUSINESS) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        arrived = list(pool.map(visitor.follow, tabs))
    ends = [tuple(sorted(returned(one).items())) for one in arrived]
    assert sorted(ends) == [(("confirmation", made["confirmation"]),), (("error", "attempt_used"),)]
    assert len(simulator.posts("authorization_code")) == 1
    assert confirm(up, made["confirmation"], "tenant-2").status_code == 200
    opened = visitor.get(made["connect_url"], Accept="application/json")
    assert (opened.status_code, opened.json()["code"]) == (409, "already_connected")


def test_a_set_nobody_confirmed_in_time_is_dropped(up: Stack, simulator: Simulator, visitor: HttpVisitor) -> None:
    made = make(up, "tenant-4")
    visitor.connect(made["connect_url"], user="somchai", business=BUSINESS)
    set_link(up, made["confirmation"], confirm_until=int(time.time()) - 1)
    assert refused(up, made["confirmation"], "tenant-4") == (409, "confirmation_expired", "confirmation_expired")
    assert "tokens" not in link_of(up, made["confirmation"])
    set_link(up, made["confirmation"], confirm_until=int(time.time()) + 900)
    assert refused(up, made["confirmation"], "tenant-4") == (409, "confirmation_expired", "confirmation_expired")
    assert service.connection_item(up, BUSINESS) is None


def test_dead_ends_help_the_user_and_the_app(up: Stack, simulator: Simulator, visitor: HttpVisitor) -> None:
    cancelled = make(up, "tenant-5")
    arrived = visitor.follow(visitor.consent(cancelled["connect_url"], user="somchai", business=None))
    assert returned(arrived) == {"confirmation": cancelled["confirmation"], "error": "access_denied"}
    assert refused(up, cancelled["confirmation"], "tenant-5") == (409, "connect_failed", "access_denied")
    late = make(up, "tenant-5")
    back = visitor.consent(late["connect_url"], user="somchai", business=BUSINESS)
    expire(up, late["confirmation"])
    assert returned(visitor.follow(back)) == {"error": "attempt_expired"}
    assert refused(up, late["confirmation"], "tenant-5") == (409, "confirmation_expired", "confirmation_expired")
    assert visitor.follow(late["connect_url"]).page == "link_expired"
    assert visitor.follow(f"{up.authorize_url}?link=unheard-of").page == "unknown_link"
    assert simulator.posts() == []


def test_a_callback_opened_again_after_its_end_is_a_page_and_exchanges_nothing(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    made = make(up, "tenant-6")
    back = visitor.consent(made["connect_url"], user="somchai", business=BUSINESS)
    first = returned(visitor.follow(back))
    assert confirm(up, made["confirmation"], "tenant-6").status_code == 200
    assert first == {"confirmation": made["confirmation"]}
    assert visitor.follow(back).page == "attempt_used"
    assert len(simulator.posts()) == 1


def test_a_business_of_another_tenant_or_another_than_expected_is_refused(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    mine = make(up, "tenant-7")
    visitor.connect(mine["connect_url"], user="somchai", business=BUSINESS)
    before = confirm(up, mine["confirmation"], "tenant-7").json()
    theirs = make(up, "tenant-8")
    arrived = visitor.connect(theirs["connect_url"], user="somchai", business=BUSINESS)
    assert linked_back(arrived) == {"confirmation": theirs["confirmation"], "error": "wrong_business"}
    assert refused(up, theirs["confirmation"], "tenant-8") == (409, "connect_failed", "wrong_business")
    assert refusals(up, "tenant-8") == ["other_tenant"]
    other = make(up, "tenant-7", expected_connection=BUSINESS)
    arrived = visitor.connect(other["connect_url"], user="somchai", business=OTHER_BUSINESS)
    assert linked_back(arrived) == {"confirmation": other["confirmation"], "error": "wrong_business"}
    assert refusals(up, "tenant-7") == ["other_business"]
    assert service.connection_item(up, OTHER_BUSINESS) is None
    assert service.call(up, "GET", f"/connections/{BUSINESS}").json() == before
    assert (
        not {"tokens", "data_key"}
        & link_of(up, theirs["confirmation"]).keys()
        & link_of(up, other["confirmation"]).keys()
    )


def test_reconnecting_through_a_link_counts_on_and_keeps_the_tenant(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    generations = []
    for _ in range(2):
        made = make(up, "tenant-9", expected_connection=BUSINESS)
        visitor.connect(made["connect_url"], user="somchai", business=BUSINESS)
        shown = confirm(up, made["confirmation"], "tenant-9").json()
        assert shown["tenant"] == "tenant-9"
        generations.append(shown["generation"])
    assert generations == [1, 2]
    assert visitor.connect(up.authorize_url, user="somchai", business=BUSINESS).page == "connected"
    shown = service.call(up, "GET", f"/connections/{BUSINESS}").json()
    assert (shown["tenant"], shown["generation"]) == ("tenant-9", 3)


def test_while_the_table_cannot_be_written_the_set_waits_in_the_salvage_queue_and_is_confirmed(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    made = make(up, "tenant-10")
    back = visitor.consent(made["connect_url"], user="somchai", business=BUSINESS)
    began = int(time.time() * 1000) - 1
    with denied(up, "callback", "dynamodb:ConditionCheckItem"):
        assert returned(visitor.follow(back)) == {"confirmation": made["confirmation"]}
    group = f"/aws/lambda/{up.functions['callback']}"
    logged = service.client(up, "logs").filter_log_events(logGroupName=group, startTime=began)["events"]
    assert [line for line in logged if '"note":"pending"' in line["message"]]
    until = time.monotonic() + 60
    while confirm(up, made["confirmation"], "tenant-10").status_code != 200:
        assert time.monotonic() < until, confirm(up, made["confirmation"], "tenant-10").text
        time.sleep(0.5)
    assert service.call(up, "GET", f"/connections/{BUSINESS}/token").status_code == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "invalid_body"),
        ("[]", "invalid_body"),
        ('{"tenant": "t"}', "invalid_body"),
        ({"tenant": "t", "return_url": RETURN_URL, "redirect_uri": "https://evil.example"}, "invalid_body"),
        ('{"tenant": "t", "tenant": "u", "return_url": "' + RETURN_URL + '"}', "invalid_body"),
        ({"tenant": "", "return_url": RETURN_URL}, "invalid_tenant"),
        ({"tenant": "t", "return_url": "https://evil.example/"}, "return_url_not_allowed"),
        ({"tenant": "t", "return_url": RETURN_URL, "expected_connection": "a/b"}, "invalid_connection_id"),
    ],
)
def test_bad_input_makes_no_link(up: Stack, body: object, code: str) -> None:
    before = len(items(up, "LINK"))
    answer = service.call(up, "POST", "/connect-links", body=body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert "evil" not in answer.text
    assert len(items(up, "LINK")) == before


def test_a_links_address_comes_from_the_configuration_whatever_a_header_says(up: Stack) -> None:
    answer = service.call(up, "POST", "/connect-links", body={"tenant": "t", "return_url": RETURN_URL})
    assert answer.json()["connect_url"].startswith(up.authorize_url + "?")
    spoofed = requests.get(
        answer.json()["connect_url"],
        headers={"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"},
        allow_redirects=False,
        timeout=30,
    )
    sent = parse_qs(urlsplit(spoofed.headers["Location"]).query)
    assert sent["redirect_uri"] == [up.callback_url]


def test_who_may_make_links_may_not_confirm_them(up: Stack, simulator: Simulator, visitor: HttpVisitor) -> None:
    body = {"tenant": "tenant-11", "return_url": RETURN_URL}
    with callers.user(up, callers.calling(up, "POST/connect-links")) as keys:
        made = service.call(up, "POST", "/connect-links", body=body, credentials=keys).json()
        arrived = visitor.connect(made["connect_url"], user="somchai", business=BUSINESS)
        wanted = {"confirmation": returned(arrived)["confirmation"], "tenant": "tenant-11"}
        denied_ = service.call(up, "POST", "/connect-links/confirm", body=wanted, credentials=keys)
        assert denied_.status_code == 403
    unsigned = requests.post(f"{up.api_url}/connect-links/confirm", json=wanted, timeout=30)
    assert unsigned.status_code == 403
    assert service.connection_item(up, BUSINESS) is None
