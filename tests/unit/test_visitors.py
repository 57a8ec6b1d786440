"""Links as people and programs really open them: trackers, previews, prefetches, many tabs, late returns."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.oauth.client_secret import RETRY_AFTER
from flowaccount_connect.storage.attempts import CODE_LIFETIME, COOKIES_KEPT, cookie_name
from tests.support.browsers import AGENTS
from tests.unit.handlers import RETURN_URL, Event, Functions, event, page, returning, sent, with_headers, with_query
from tests.unit.servers import Server
from tests.unit.tables import client_error
from tests.unit.worlds import World

APPENDED = {
    "openExternalBrowser": ["1"],
    "fbclid": ["IwAR0x"],
    "gclid": ["x"],
    "_gl": ["1*abc*_ga*MTIz"],
    "utm_source": ["line", "line"],
    "": ["_=_"],
}

PREVIEWS = [
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "facebookexternalhit/1.1;line-poker/1.0",
    "Mozilla/5.0 (Macintosh) Version/9.0.1 Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0",
    "meta-externalagent/1.1 (+https://developers.facebook.com/docs/sharing/webmasters/crawler)",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html) Chrome/138 Safari/537.36",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Twitterbot/1.0",
    "WhatsApp/2.23.20.0",
    "TelegramBot (like TwitterBot)",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
]
"""Services that show a link before somebody opens it."""

PREFETCHES = {
    "Chrome, prerender": {"Sec-Purpose": "prefetch;prerender", "Sec-Fetch-Mode": "navigate"},
    "Chrome, speculation": {"Sec-Purpose": "prefetch;anonymous-client-ip"},
    "Chrome before 2022": {"Purpose": "prefetch"},
    "Safari, Top Sites": {"X-Purpose": "preview"},
    "Firefox": {"X-Moz": "prefetch"},
}
"""Browsers that ask ahead of their user."""


def link_of(functions: Functions) -> list[str]:
    """A new link."""
    made = json.loads(functions.call("connections", event("connect-link"))["body"])
    return [dict(parse_qsl(urlsplit(made["connect_url"]).query))["link"]]


def opening(link: list[str], **more: list[str]) -> Event:
    return with_query(event("authorize"), return_url=None, state=None, link=link, **more)


@pytest.fixture
def link(functions: Functions) -> list[str]:
    """A link that nobody has opened."""
    return link_of(functions)


@pytest.fixture
def began(functions: Functions, link: list[str]) -> dict[str, Any]:
    """The answer to a browser that opened the link."""
    answer: dict[str, Any] = functions.call("authorize", opening(link))
    return answer


def attempts(world: World) -> list[Any]:
    return [item for (_, sk), item in world.table.items.items() if sk == "ATTEMPT"]


def back(functions: Functions, began: dict[str, Any], **more: list[str] | None) -> dict[str, Any]:
    """The answer to the browser that comes back from FlowAccount."""
    answer: dict[str, Any] = functions.call("callback", returning(began, **more))
    return answer


def cleared(answer: dict[str, Any]) -> list[str]:
    """The names of the cookies that an answer clears."""
    headers = answer.get("multiValueHeaders", {}).get("Set-Cookie", [])
    return [header.partition("=")[0] for header in headers if header.endswith("; Max-Age=0")]


# Parameters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
def test_what_apps_and_trackers_append_changes_nothing(functions: Functions, link: list[str], agent: str) -> None:
    opened = with_headers(opening(link, **APPENDED), **{"User-Agent": agent})
    began = functions.call("authorize", opened)
    assert began["statusCode"] == 302
    assert "fbclid" not in began["headers"]["Location"]
    answer = back(functions, began, **APPENDED)
    assert answer["statusCode"] == 303
    assert answer["headers"]["Location"].startswith(f"{RETURN_URL}?confirmation=")


@pytest.mark.parametrize("behind", ["ค่ะ", " ", "\n", ".", ")", "%20", "\u200b", "。", "กดลิงก์นี้", "abc"])
@pytest.mark.parametrize("before", ["", " ", "\n"])
def test_what_a_chat_app_takes_for_a_part_of_the_link_changes_nothing(
    functions: Functions, link: list[str], before: str, behind: str
) -> None:
    began = functions.call("authorize", opening([f"{before}{link[0]}{behind}"]))
    assert began["statusCode"] == 302
    assert back(functions, began)["headers"]["Location"].startswith(f"{RETURN_URL}?confirmation=")


# Previews ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", PREVIEWS)
def test_a_preview_begins_nothing_and_the_link_stays_good(
    functions: Functions, world: World, link: list[str], agent: str
) -> None:
    world.table.calls.clear()
    answer = functions.call("authorize", with_headers(opening(link), **{"User-Agent": agent}))
    assert page(answer) == (200, "preview")
    assert "multiValueHeaders" not in answer
    assert world.table.calls == []
    assert functions.call("authorize", opening(link))["statusCode"] == 302


@pytest.mark.parametrize("browser", PREFETCHES)
def test_a_prefetch_begins_nothing_and_is_not_shown_to_who_comes_later(
    functions: Functions, world: World, link: list[str], browser: str
) -> None:
    """A browser discards an answer with an error, and asks again when its user comes."""
    world.table.calls.clear()
    answer = functions.call("authorize", with_headers(opening(link), **PREFETCHES[browser]))
    assert page(answer) == (403, "preview")
    assert '<a href="" rel="noreferrer">' in answer["body"]
    assert "multiValueHeaders" not in answer
    assert world.table.calls == []
    assert functions.call("authorize", opening(link))["statusCode"] == 302


@pytest.mark.parametrize("browser", PREFETCHES)
def test_a_prefetch_of_the_callback_consumes_nothing_although_it_has_the_cookie(
    functions: Functions, world: World, server: Server, began: dict[str, Any], browser: str
) -> None:
    world.table.calls.clear()
    answer = functions.call("callback", with_headers(returning(began), **PREFETCHES[browser]))
    assert page(answer) == (403, "preview")
    assert cleared(answer) == []
    assert (world.table.calls, server.connections) == ([], 0)
    assert functions.call("callback", returning(began))["statusCode"] == 303


@pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
def test_a_person_is_never_taken_for_a_robot(functions: Functions, link: list[str], agent: str) -> None:
    opened = with_headers(opening(link), **{"User-Agent": agent})
    assert functions.call("authorize", opened)["statusCode"] == 302


@pytest.mark.parametrize("agent", PREVIEWS)
def test_who_has_just_tapped_is_a_person_whatever_the_browser_is_called(
    functions: Functions, link: list[str], agent: str
) -> None:
    tapped = with_headers(opening(link), **{"User-Agent": agent, "Sec-Fetch-User": "?1"})
    assert functions.call("authorize", tapped)["statusCode"] == 302


def test_a_head_request_begins_nothing_and_has_no_body(functions: Functions, world: World, link: list[str]) -> None:
    world.table.calls.clear()
    answer = functions.call("authorize", opening(link) | {"httpMethod": "HEAD"})
    assert (answer["statusCode"], answer["body"]) == (200, "")
    assert world.table.calls == []


# Cookies -----------------------------------------------------------------------------------------------------------


def test_attempts_beyond_ten_in_one_browser_clear_the_oldest(functions: Functions, link: list[str]) -> None:
    jar: dict[str, str] = {}
    for _ in range(81):
        header = "; ".join(["theme=dark", *(f"{name}={value}" for name, value in jar.items())])
        answer = functions.call("authorize", with_headers(opening(link), Cookie=header))
        for name in cleared(answer):
            assert name == next(iter(jar))
            del jar[name]
        name, _, value = answer["multiValueHeaders"]["Set-Cookie"][0].partition(";")[0].partition("=")
        jar[name] = value
        assert len(jar) <= COOKIES_KEPT
    assert len(jar) == COOKIES_KEPT
    assert sum(len(f"{name}={value}; ") for name, value in jar.items()) < 2_000


def test_a_jar_of_hundreds_is_emptied_within_what_the_gateway_lets_through(
    functions: Functions, link: list[str]
) -> None:
    jar = [f"__Host-connect-{number:016x}" for number in range(300)]
    while len(jar) > COOKIES_KEPT:
        header = "; ".join(f"{name}=x" for name in jar)
        answer = functions.call("authorize", with_headers(opening(link), Cookie=header))
        headers = answer["multiValueHeaders"]["Set-Cookie"]
        assert sum(len(f"Set-Cookie: {one}\r\n") for one in headers) < 8_000
        assert cleared(answer) == jar[: len(cleared(answer))] != []
        jar = [name for name in jar if name not in cleared(answer)] + [headers[0].partition("=")[0]]
    assert len(jar) == COOKIES_KEPT


@pytest.mark.parametrize(
    "name",
    [
        *(
            "__Host-connect-",
            "__Host-connect-ABCDEF0123456789",
            "__Host-connect-0123456789abcde",
            "__host-connect-" + "0" * 16,
        ),
        *(
            "__Host-connect-" + "0" * 17,
            "__Host-connect-\u0e01" + "0" * 15,
            "__Host-connect-0,Set-Cookie",
            "__Secure-connect-x",
        ),
    ],
)
def test_a_cookie_of_another_form_is_neither_counted_nor_repeated(
    functions: Functions, link: list[str], name: str
) -> None:
    ours = [f"__Host-connect-{number:016x}" for number in range(COOKIES_KEPT - 1)]
    header = "; ".join(f"{one}=x" for one in [*(f"{name}{blank}" for blank in ("", " ")), *ours])
    answer = functions.call("authorize", with_headers(opening(link), Cookie=header))
    assert answer["statusCode"] == 302
    assert len(answer["multiValueHeaders"]["Set-Cookie"]) == 1


@pytest.mark.parametrize(
    ("more", "page_or_error"),
    [
        ({}, "confirmation"),
        ({"code": None, "error": ["access_denied"]}, "access_denied"),
        ({"code": None, "error": ["server_error"]}, "authorization_failed"),
    ],
)
def test_the_callback_clears_the_cookie_of_its_attempt(
    functions: Functions, began: dict[str, Any], more: dict[str, list[str] | None], page_or_error: str
) -> None:
    answer = back(functions, began, **more)
    assert page_or_error in answer["headers"]["Location"]
    assert cleared(answer) == [began["multiValueHeaders"]["Set-Cookie"][0].partition("=")[0]]


def test_a_reload_without_the_cleared_cookie_is_a_page_that_says_that_it_ended(
    functions: Functions, began: dict[str, Any]
) -> None:
    back(functions, began)
    again = functions.call("callback", with_headers(returning(began), Cookie=None))
    assert page(again) == (409, "attempt_used")
    assert "href" not in again["body"]


def test_where_nothing_was_consumed_the_cookie_stays_and_a_button_loads_the_page_again(
    functions: Functions, began: dict[str, Any]
) -> None:
    module = functions.module("callback")
    object.__setattr__(module._callback, "exchanges_per_minute", 1)
    back(functions, functions.call("authorize", opening(link_of(functions))))
    answer = back(functions, began)
    assert page(answer) == (429, "busy")
    assert cleared(answer) == []
    assert 1 <= int(answer["headers"]["Retry-After"]) <= 60
    assert '<a href="" rel="noreferrer">' in answer["body"]
    object.__setattr__(module._callback, "exchanges_per_minute", 9)
    assert back(functions, began)["statusCode"] == 303


def test_while_the_secret_is_out_of_reach_a_button_loads_the_page_again(
    functions: Functions, world: World, began: dict[str, Any]
) -> None:
    world.secrets.error = client_error("InternalServiceError")
    answer = back(functions, began)
    assert page(answer) == (503, "temporarily_unavailable")
    assert (cleared(answer), answer["headers"]["Retry-After"]) == ([], str(RETRY_AFTER))
    assert '<a href="" rel="noreferrer">' in answer["body"]
    world.secrets.error = None
    functions.forget("callback")  # Another process, or this one after `RETRY_AFTER`.
    assert back(functions, began)["statusCode"] == 303


@pytest.mark.parametrize("blank", ["\u00a0", "\u2003", "\u3000", "\x0b", "\x85"])
def test_a_cookie_with_another_blank_in_front_is_another_cookie(
    functions: Functions, server: Server, began: dict[str, Any], blank: str
) -> None:
    callback = returning(began)
    cookie = callback["headers"]["Cookie"]
    tossed = functions.call("callback", with_headers(callback, Cookie=f"a=b; {blank}{cookie}"))
    assert page(tossed) == (400, "attempt_unknown")
    assert server.connections == 0
    assert functions.call("callback", with_headers(callback, Cookie=f"a=b;\t {cookie} "))["statusCode"] == 303


@pytest.mark.parametrize(
    "form",
    [
        *(
            '{name}="{value}"',
            "{name} ={value}",
            "{name}= {value}",
            "{name}={value}\u00a0",
            "{name}={value}%20",
            "={name}={value}",
        ),
        *(
            "{name}={value}; {name}=other",
            "{name}=; {name}={value}",
            "{name}={value},{name}={value}",
            "{upper}={value}",
        ),
        *("{name}={value}; {name}={value}", "{name}", "{name}={value}x"),
    ],
)
def test_a_cookie_in_another_form_consumes_nothing(
    functions: Functions, server: Server, began: dict[str, Any], form: str
) -> None:
    """Quotes, other blanks and escapes belong to the value (RFC 6265 section 5.4); a repetition is no cookie."""
    returned = returning(began)
    name, _, value = str(returned["headers"]["Cookie"]).partition("=")
    header = form.format(name=name, value=value, upper=name.upper())
    assert page(functions.call("callback", with_headers(returned, Cookie=header))) == (400, "attempt_unknown")
    assert server.connections == 0
    among_others = with_headers(returned, Cookie=f'a={{}}; {name}={value}; b=";"')
    assert functions.call("callback", among_others)["statusCode"] == 303


def test_the_missing_cookie_is_noticed_before_the_secret_is_looked_up(
    functions: Functions, world: World, began: dict[str, Any]
) -> None:
    world.secrets.text = None
    without = with_headers(returning(began), Cookie=None)
    assert page(functions.call("callback", without)) == (400, "attempt_unknown")


def taken(world: World) -> bool:
    """Whether somebody took room in the rate of what is sent to the token endpoint."""
    return ("RATE", "token-endpoint") in world.table.items


def test_a_flood_of_strangers_callbacks_sends_nothing_and_the_user_still_finishes(
    functions: Functions, world: World, server: Server, began: dict[str, Any]
) -> None:
    returned = returning(began)
    name, _, value = str(returned["headers"]["Cookie"]).partition("=")
    for number in range(60):
        cookie = (None, f"{name}={number}", f"{name}={value[:-1]}")[number % 3]
        assert page(functions.call("callback", with_headers(returned, Cookie=cookie))) == (400, "attempt_unknown")
    assert server.connections == 0
    assert not taken(world)
    assert functions.call("callback", returned)["statusCode"] == 303
    assert taken(world)


# Late returns ------------------------------------------------------------------------------------------------------


def test_who_comes_back_too_late_but_while_the_code_lives_is_led_to_the_app(
    functions: Functions, world: World, server: Server, began: dict[str, Any]
) -> None:
    cookie = began["multiValueHeaders"]["Set-Cookie"][0]
    assert int(cookie.rpartition("=")[2]) >= CODE_LIFETIME
    (attempt,) = attempts(world)
    assert attempt["ttl"] >= attempt["expires_at"] + CODE_LIFETIME
    attempt_id = fingerprint(sent(began)["state"])
    world.table.change("ATTEMPT", attempt_id, expires_at=1)
    answer = back(functions, began)
    assert answer["headers"]["Location"] == f"{RETURN_URL}?error=attempt_expired&state=app-7f3a"
    assert cleared(answer) == [cookie_name(attempt_id)]
    assert server.connections == 0
