"""The app's side of connecting through the functions, with the events that API Gateway really sends."""

import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.oauth.authorization_url import challenge
from tests.unit.fakes import CONNECTION
from tests.unit.handlers import (
    RETURN_URL,
    Event,
    Functions,
    event,
    page,
    problem,
    returning,
    sent,
    with_headers,
    with_query,
)
from tests.unit.servers import Server
from tests.unit.worlds import TENANT, World


@pytest.fixture
def functions(functions: Functions) -> Functions:
    """The functions of a stack where only links connect."""
    functions.set(DIRECT_CONNECT="refused")
    return functions


def saying(of: Event, **fields: object) -> Event:
    """The event with another body."""
    return of | {"body": json.dumps(fields)}


def make(functions: Functions, **fields: object) -> dict[str, Any]:
    """A new link for the sample tenant, or one that is asked for with these fields."""
    asked = event("connect-link")
    if fields:
        asked = saying(asked, **{"tenant": TENANT, "return_url": RETURN_URL} | fields)
    answer = functions.call("connections", asked)
    assert answer["statusCode"] == 201
    assert answer["headers"]["Cache-Control"] == "no-store"
    made: dict[str, Any] = json.loads(answer["body"])
    return made


def link_in(made: dict[str, Any]) -> list[str]:
    """The value of the parameter `link` in the address of a link."""
    return parse_qs(urlsplit(made["connect_url"]).query)["link"]


def opening(made: dict[str, Any]) -> Event:
    """The request of a browser that opens the link."""
    query = parse_qs(urlsplit(made["connect_url"]).query)
    return with_query(event("authorize"), return_url=None, state=None, **query)


def opened(functions: Functions, made: dict[str, Any]) -> Event:
    """The request of a browser that opened the link and comes back from FlowAccount."""
    return returning(functions.call("authorize", opening(made)))


def brought(answer: dict[str, Any]) -> dict[str, str]:
    """What the browser brings to the app's return URL."""
    assert answer["statusCode"] == 303
    url, _, query = answer["headers"]["Location"].partition("?")
    assert url == RETURN_URL
    return dict(parse_qsl(query))


def confirming(confirmation: object, tenant: str = TENANT) -> Event:
    """The event of a confirmation."""
    return saying(event("connect-link-confirm"), confirmation=confirmation, tenant=tenant)


def test_a_link_is_opened_comes_back_and_is_confirmed_and_no_log_tells_what_opens_or_ends_it(
    functions: Functions, world: World, server: Server
) -> None:
    made = make(functions)
    assert made.keys() == {"connect_url", "expires_at"}
    (link,) = link_in(made)
    assert made["connect_url"] == event("connect-link")["stageVariables"]["callbackUrl"].replace(
        "/callback", f"/authorize?link={link}"
    )
    began = functions.call("authorize", opening(made))
    query = brought(functions.call("callback", returning(began)))
    assert query == {"confirmation": query["confirmation"], "state": "app-7f3a"}
    assert not [key for key in world.table.items if key[1] == "CONNECTION"]
    confirmed = functions.call("connections", confirming(query["confirmation"]))
    assert confirmed["statusCode"] == 200
    shown = json.loads(confirmed["body"])
    assert (shown["support_code"], shown["tenant"], shown["status"]) == (CONNECTION, TENANT, "active")
    assert functions.call("connections", confirming(query["confirmation"]))["body"] == confirmed["body"]
    assert world.opened() == ("access-CANARY-2", "refresh-CANARY-2")
    for secret in (link, query["confirmation"], sent(began)["state"]):
        assert secret not in functions.logs()


def test_with_pkce_the_verifier_of_the_challenge_goes_with_the_code(functions: Functions, server: Server) -> None:
    functions.set(PKCE="enabled")
    began = functions.call("authorize", opening(make(functions)))
    functions.call("callback", returning(began))
    form = dict(parse_qsl(server.asked[0].body.decode()))
    assert challenge(form["code_verifier"]) == sent(began)["code_challenge"]


def test_an_error_goes_back_to_the_app_with_the_confirmation(functions: Functions) -> None:
    callback = opened(functions, make(functions))
    query = brought(functions.call("callback", with_query(callback, code=None, error=["access_denied"])))
    assert (query["error"], query["state"]) == ("access_denied", "app-7f3a")
    answer = functions.call("connections", confirming(query["confirmation"]))
    assert problem(answer) == (409, "connect_failed")
    assert json.loads(answer["body"])["ending"] == "access_denied"


def test_a_wrong_business_is_a_page_with_the_way_back(functions: Functions) -> None:
    callback = opened(functions, make(functions, expected_connection="N9", state="s"))
    answer = functions.call("callback", callback)
    assert page(answer) == (409, "wrong_business")
    back = re.search(r'<a href="([^"]+)" rel="noreferrer">', answer["body"])
    assert back is not None
    pattern = f"{re.escape(RETURN_URL)}\\?error=wrong_business&amp;confirmation=[^&]+&amp;state=s"
    assert re.fullmatch(pattern, back.group(1))
    assert functions.call("callback", callback)["body"] == answer["body"]
    assert CONNECTION not in answer["body"]


def test_a_business_of_another_tenant_is_a_page_that_says_what_to_do_and_a_reload_says_the_same(
    functions: Functions, world: World
) -> None:
    first = opened(functions, make(functions))
    functions.call("connections", confirming(brought(functions.call("callback", first))["confirmation"]))
    callback = opened(functions, make(functions, tenant="another"))
    answer = functions.call("callback", callback)
    assert page(answer) == (409, "business_taken")
    assert f'<a href="{RETURN_URL}?error=wrong_business&amp;confirmation=' in answer["body"]
    assert TENANT not in answer["body"]
    assert functions.call("callback", callback)["body"] == answer["body"]


@pytest.mark.parametrize(("wanted", "more"), [(True, {"openExternalBrowser": ["1"]}), (False, {}), (None, {})])
def test_a_link_whose_app_asks_for_it_is_opened_in_the_phones_own_browser_by_line(
    functions: Functions, wanted: bool | None, more: dict[str, list[str]]
) -> None:
    made = make(functions, external_browser=wanted)
    query = parse_qs(urlsplit(made["connect_url"]).query)
    assert {name: values for name, values in query.items() if name != "link"} == more
    assert "confirmation" in brought(functions.call("callback", opened(functions, made)))


@pytest.mark.parametrize("wanted", [1, 0, "true", "1", "", [], {}, 1.5])
def test_which_browser_opens_a_link_is_true_or_false(functions: Functions, world: World, wanted: object) -> None:
    world.table.calls.clear()
    asked = saying(event("connect-link"), tenant=TENANT, return_url=RETURN_URL, external_browser=wanted)
    assert problem(functions.call("connections", asked)) == (400, "invalid_external_browser")
    assert world.table.calls == []


def test_every_page_shows_the_app_of_the_settings(functions: Functions) -> None:
    functions.set(
        APP_NAME="ร้านค้า <Plus>",
        APP_LOGO="https://cdn.example.com/logo.png",
        APP_CONTACT="mailto:help@example.com",
        RESTART_URL="https://app.example.com/connect",
    )
    unknown = with_query(event("authorize"), return_url=None, state=None, link=["x"])
    lost = with_headers(event("callback"), Cookie=None)
    for function, asked, found in (
        ("authorize", unknown, "unknown_link"),
        ("callback", lost, "attempt_unknown"),
        ("callback", with_query(lost, state=None), "invalid_request"),
    ):
        answer = functions.call(function, asked)
        assert page(answer) == (400, found)
        for shown in (
            "ร้านค้า &lt;Plus&gt;",
            'src="https://cdn.example.com/logo.png"',
            'href="mailto:help@example.com"',
            'href="https://app.example.com/connect"',
        ):
            assert shown in answer["body"]
        assert "img-src https://cdn.example.com/logo.png;" in answer["headers"]["Content-Security-Policy"]


def test_what_a_lost_connection_answers_is_all_that_a_fresh_link_takes(functions: Functions, world: World) -> None:
    world.connect()
    world.change(tenant=TENANT, access_expires_at=1)
    world.end("rejected")
    refused = functions.call("token", event("token"))
    assert problem(refused) == (409, "reauthorization_required")
    made = make(functions, **json.loads(refused["body"])["reconnect"])
    query = brought(functions.call("callback", opened(functions, made)))
    confirmed = json.loads(functions.call("connections", confirming(query["confirmation"]))["body"])
    assert (confirmed["support_code"], confirmed["tenant"], confirmed["status"]) == (CONNECTION, TENANT, "active")


def test_where_the_way_back_is_no_longer_allowed_a_page_says_that_a_step_is_left(
    functions: Functions, world: World
) -> None:
    callback = opened(functions, make(functions))
    functions.set(ALLOWED_RETURN_URLS="https://other.example/")
    assert page(functions.call("callback", callback)) == (409, "to_be_confirmed")


def test_without_a_link_nobody_is_sent_to_flowaccount(functions: Functions, world: World) -> None:
    bare = event("authorize")
    assert problem(functions.call("authorize", with_headers(bare, Accept="*/*"))) == (403, "link_required")
    assert page(functions.call("authorize", bare)) == (403, "link_required")
    assert world.table.calls == []


@pytest.mark.parametrize(("confirmed", "code"), [(False, "link_used"), (True, "already_connected")])
def test_a_used_link_is_a_page_that_leads_back_to_the_app_and_says_whether_it_connected(
    functions: Functions, confirmed: bool, code: str
) -> None:
    made = make(functions)
    query = brought(functions.call("callback", opened(functions, made)))
    if confirmed:
        functions.call("connections", confirming(query["confirmation"]))
    again = opening(made)
    answer = functions.call("authorize", again)
    assert page(answer) == (409, code)
    assert f'href="{RETURN_URL}?error={code}&amp;state=app-7f3a"' in answer["body"]
    program = functions.call("authorize", with_headers(again, Accept="*/*"))
    assert problem(program) == (409, code)
    assert RETURN_URL not in program["body"]
    functions.set(ALLOWED_RETURN_URLS="https://other.example/")
    functions.forget("authorize")
    assert "href" not in functions.call("authorize", again)["body"]


def test_an_expired_link_leads_back_to_the_app_for_a_week(functions: Functions, world: World) -> None:
    made = make(functions)
    name = fingerprint(*link_in(made))
    item = world.table.item("LINK", name)
    assert item["ttl"] == item["expires_at"] + 7 * 86_400
    world.table.change("LINK", name, expires_at=1)
    answer = functions.call("authorize", opening(made))
    assert page(answer) == (410, "link_expired")
    assert f'href="{RETURN_URL}?error=link_expired&amp;state=app-7f3a"' in answer["body"]


def test_a_tenant_gets_so_many_links_a_minute_and_another_tenant_its_own(functions: Functions, world: World) -> None:
    module: Any = functions.module("connections")
    module._confirmation = replace(module._confirmation, links_per_minute=2, clock=lambda: 1_200.0 + 45)
    for _ in range(2):
        make(functions)
    before = repr(world.table.items)
    answer = functions.call("connections", event("connect-link"))
    assert problem(answer) == (429, "too_many_links")
    assert answer["headers"]["Retry-After"] == "15"
    assert repr(world.table.items) == before
    make(functions, tenant="tenant-8")
    module._confirmation = replace(module._confirmation, clock=lambda: 1_260.0)
    make(functions)


@pytest.mark.parametrize(
    "body",
    [
        None,
        '{"tenant": "t"}',
        '{"return_url": "' + RETURN_URL + '"}',
        '{"tenant": "t", "return_url": "' + RETURN_URL + '", "confirmation": "mine"}',
        '{"tenant": null, "return_url": "' + RETURN_URL + '"}',
        '{"tenant": "t", "tenant": "u", "return_url": "' + RETURN_URL + '"}',
    ],
)
def test_a_body_of_another_form_makes_no_link(functions: Functions, world: World, body: str | None) -> None:
    answer = functions.call("connections", event("connect-link") | {"body": body})
    assert problem(answer) == (400, "invalid_body")
    assert world.table.items == {}


@pytest.mark.parametrize(
    "confirmation", ["", "x", ".", "\u0e01.\u0e01", "\ud800", "../connections", "a" * 3_000, 7, []]
)
def test_a_confirmation_that_is_none_is_unknown(functions: Functions, confirmation: object) -> None:
    assert problem(functions.call("connections", confirming(confirmation))) == (404, "unknown_confirmation")


def test_no_header_makes_a_links_address(functions: Functions, world: World) -> None:
    spoofed = with_headers(event("connect-link"), **{"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert "evil" not in functions.call("connections", spoofed)["body"]
    answer = functions.call("connections", spoofed | {"stageVariables": None})
    assert problem(answer) == (503, "configuration_error")


def test_a_links_address_is_beside_a_redirect_uri_of_ones_own(functions: Functions) -> None:
    functions.set(REDIRECT_URI="https://connect.example.com/flowaccount/callback")
    assert make(functions)["connect_url"].startswith("https://connect.example.com/flowaccount/authorize?link=")
