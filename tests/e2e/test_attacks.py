"""What an attacker tries, in a real browser where a browser is what protects; `docs/security.md` says against what."""

import copy
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urljoin, urlsplit

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, BrowserContext, Page

from tests.e2e.app_site import AppSite
from tests.e2e.conftest import Simulator
from tests.e2e.links import confirmation_of, link_in
from tests.e2e.test_connect_links import link_of, refusals, refused
from tools.local import service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor

ALLOWED = json.loads((Path(__file__).parents[1] / "cases" / "return-urls.json").read_text())["allowed"]
SCRIPT = "<script>window.ran=1</script><img src=x onerror=window.ran=2>\"'>"


@pytest.fixture
def person(chromium: Any) -> Iterator[BrowserContext]:
    """A person's browser."""
    assert isinstance(chromium, Browser), "install a Chromium: what protects here is the browser"
    context = chromium.new_context(locale="en-US")
    yield context
    context.close()


@pytest.fixture
def stranger(chromium: Any) -> Iterator[BrowserContext]:
    """Somebody else's browser, or the same person's on another device."""
    context = chromium.new_context(locale="th-TH")
    yield context
    context.close()


def to_businesses(page: Page, url: str, user: str = "somchai") -> None:
    """Open `url` and log in at FlowAccount, as far as the choice of a business."""
    page.goto(url)
    page.click(f'[data-user="{user}"]')
    page.wait_for_selector("[data-business]")


def choose(page: Page, business: str, end: str) -> None:
    """Choose a business and wait until the browser is where `end` begins."""
    page.click(f'[data-business="{business}"]')
    page.wait_for_url(f"{end}**")


def connect(page: Page, url: str, business: str, end: str) -> None:
    """The whole way through FlowAccount."""
    to_businesses(page, url)
    choose(page, business, end)


def shown(page: Page) -> str | None:
    """Which page of the stack's the browser shows."""
    return page.locator("main").get_attribute("data-page")


def callback_of(page: Page, business: str) -> str:
    """Choose a business; FlowAccount's redirect, which the browser does not follow."""
    attempt = page.locator('[name="attempt"]').first.input_value()
    answer = page.request.post(
        urljoin(page.url, "/connect/consent"), form={"attempt": attempt, "business": business}, max_redirects=0
    )
    return answer.headers["location"]


def to_the_app(up: Stack, app: AppSite, state: str = "apps-own") -> str:
    return f"{up.authorize_url}?{urlencode({'return_url': app.return_url, 'state': state})}"


# ---- in a browser ----------------------------------------------------------------------------------------------------


def test_the_app_learns_nothing_but_how_it_ended(
    up: Stack, simulator: Simulator, app: AppSite, person: BrowserContext
) -> None:
    """No Referer, no cookie, no code and no state of FlowAccount's; and the browser's history has none either."""
    app.visits.clear()
    page = person.new_page()
    connect(page, to_the_app(up, app), "N1000001", app.return_url)
    ((path, headers),) = app.returned()
    assert dict(parse_qsl(urlsplit(path).query)) == {"connection": "N1000001", "state": "apps-own"}
    assert "referer" not in headers
    assert "cookie" not in headers
    assert page.evaluate("document.referrer") == ""
    history = person.new_cdp_session(page).send("Page.getNavigationHistory")["entries"]
    assert history[-1]["url"] == app.url + path
    assert not [entry["url"] for entry in history if "code=" in entry["url"] or "/callback" in entry["url"]]


def test_a_link_on_a_page_of_ours_sends_no_referer(up: Stack, app: AppSite, person: BrowserContext) -> None:
    """The page at the callback has `state` in its address; whatever is clicked there, nobody is told it."""
    app.visits.clear()
    page = person.new_page()
    page.goto(f"{up.callback_url}?code=abc&state=never-issued")
    page.evaluate(
        "url => { const a = document.createElement('a'); a.href = url; document.body.append(a); a.click() }",
        app.return_url,
    )
    page.wait_for_url(app.return_url)
    ((_, headers),) = app.returned()
    assert "referer" not in headers


def test_back_and_choosing_again_shows_the_same_and_exchanges_nothing(
    up: Stack, simulator: Simulator, person: BrowserContext
) -> None:
    page = person.new_page()
    connect(page, up.authorize_url, "N1000001", up.callback_url)
    assert shown(page) == "connected"
    page.go_back()
    page.wait_for_selector('[data-business="N1000002"]')
    choose(page, "N1000002", up.callback_url)
    # The attempt has ended, and its cookie with it.
    assert shown(page) == "attempt_used"
    page.reload()
    assert shown(page) == "attempt_used"
    assert len(simulator.posts("authorization_code")) == 1


def test_somebody_elses_browser_cannot_finish_and_spoils_nothing(
    up: Stack, simulator: Simulator, person: BrowserContext, stranger: BrowserContext
) -> None:
    """An intercepted redirect, the link opened on another device, and login CSRF all look like this."""
    page, other = person.new_page(), stranger.new_page()
    to_businesses(page, up.authorize_url)
    url = callback_of(page, "N1000001")
    # The stranger has an attempt of his own, and so a cookie of the same kind.
    other.goto(up.authorize_url)
    other.goto(url)
    assert shown(other) == "attempt_unknown"
    assert simulator.posts() == []
    page.goto(url)
    assert shown(page) == "connected"
    other.goto(url)
    assert shown(other) == "attempt_used"
    assert len(simulator.posts("authorization_code")) == 1


def test_an_attackers_callback_put_on_a_page_connects_nothing_of_his(
    up: Stack, simulator: Simulator, app: AppSite, person: BrowserContext, stranger: BrowserContext
) -> None:
    """Login CSRF: the victim's browser is made to open a callback that belongs to the attacker's attempt."""
    attackers = stranger.new_page()
    to_businesses(attackers, up.authorize_url, user="anong")
    url = callback_of(attackers, "N1000005")
    app.pages["/evil"] = f'<img src="{url}"><iframe src="{url}"></iframe><a id="go" href="{url}">prize</a>'
    page = person.new_page()
    page.goto(up.authorize_url)
    page.goto(f"{app.url}/evil")
    page.click("#go")
    page.wait_for_url(f"{up.callback_url}**")
    assert shown(page) == "attempt_unknown"
    assert simulator.posts() == []


def test_two_tabs_connect_two_businesses_and_neither_disturbs_the_other(
    up: Stack, simulator: Simulator, person: BrowserContext
) -> None:
    first, second = person.new_page(), person.new_page()
    to_businesses(first, up.authorize_url)
    to_businesses(second, up.authorize_url)
    choose(second, "N1000002", up.callback_url)
    choose(first, "N1000003", up.callback_url)
    assert (shown(first), shown(second)) == ("connected", "connected")
    assert len(simulator.posts("authorization_code")) == 2
    assert service.connection_item(up, "N1000002") is not None
    assert service.connection_item(up, "N1000003") is not None


def test_the_cookie_is_this_hosts_alone_and_no_script_reads_it(up: Stack, person: BrowserContext) -> None:
    page = person.new_page()
    page.goto(up.authorize_url)
    (cookie,) = [one for one in person.cookies() if one["name"].startswith("__Host-connect-")]
    kept = (cookie["domain"], cookie["path"], cookie["secure"], cookie["httpOnly"], cookie["sameSite"])
    assert kept == ("127.0.0.1", "/", True, True, "Lax")
    assert re.fullmatch(r"[A-Za-z0-9_.-]{43,}", cookie["value"])
    page.goto(f"{up.callback_url}?error=access_denied&state=never-issued")
    assert page.evaluate("document.cookie") == ""


@pytest.mark.parametrize("target", ["callback", "authorize"])
def test_no_page_can_be_framed(up: Stack, app: AppSite, person: BrowserContext, target: str) -> None:
    url = f"{up.callback_url}?error=access_denied&state=x" if target == "callback" else up.authorize_url
    app.pages["/frame"] = f'<iframe src="{url}"></iframe>'
    refused: list[str] = []
    page = person.new_page()
    page.on("console", lambda message: refused.append(message.text) if "frame" in message.text.lower() else None)
    page.goto(f"{app.url}/frame")
    page.wait_for_load_state("networkidle")
    assert page.frames[1].locator("main").count() == 0
    assert refused


def test_script_in_a_parameter_never_runs_and_is_never_shown(
    up: Stack, simulator: Simulator, person: BrowserContext
) -> None:
    page = person.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    urls = [f"{up.authorize_url}?{urlencode({name: SCRIPT})}" for name in ("return_url", "link")]
    parameters = {
        "code": "c",
        "state": "s",
        "error": "e",
        "error_description": "d",
        "scope": "x",
        "iss": "i",
        "zz": "z",
    }
    urls += [f"{up.callback_url}?{urlencode(parameters | {name: SCRIPT})}" for name in parameters]
    for url in urls:
        page.goto(url)
        assert shown(page) in ("invalid_request", "unknown_link", "attempt_unknown"), url
        assert page.evaluate("window.ran") is None
        assert "window.ran" not in page.content()
    assert {urlsplit(url).path.rsplit("/", 1)[1] for url in asked} <= {
        "authorize",
        "callback",
        "favicon.ico",
    }


def test_the_policy_of_a_page_stops_a_script_that_got_onto_it(up: Stack, person: BrowserContext) -> None:
    page = person.new_page()
    page.goto(f"{up.callback_url}?error=access_denied&state=x")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran=1'}))"
    )
    assert page.evaluate("window.ran") is None


def test_flowaccounts_own_words_are_neither_shown_nor_handed_on(
    up: Stack, simulator: Simulator, app: AppSite, person: BrowserContext
) -> None:
    """An `error_description` is whatever somebody put into a link; so is an `error` that no specification knows."""
    app.visits.clear()
    page = person.new_page()
    to_businesses(page, to_the_app(up, app))
    state = parse_qs(urlsplit(callback_of(page, "N1000001")).query)["state"][0]
    query = urlencode(
        {"error": SCRIPT, "error_description": SCRIPT, "error_uri": "https://evil.example", "state": state}
    )
    page.goto(f"{up.callback_url}?{query}")
    page.wait_for_url(f"{app.return_url}**")
    ((path, _),) = app.returned()
    assert dict(parse_qsl(urlsplit(path).query)) == {"error": "authorization_failed", "state": "apps-own"}
    assert simulator.posts() == []


def test_a_forwarded_link_in_two_browsers_connects_nothing(
    up: Stack, simulator: Simulator, app: AppSite, person: BrowserContext, stranger: BrowserContext
) -> None:
    """The attacker asks the app for a link, the victim opens it and consents; the app confirms for the victim."""
    app.visits.clear()
    tenant = f"the-attacker-{time.monotonic_ns()}"
    made = service.call(up, "POST", "/connect-links", body={"tenant": tenant, "return_url": app.return_url}).json()
    confirmation = confirmation_of(up, made["connect_url"])
    attackers, victims = stranger.new_page(), person.new_page()
    to_businesses(attackers, made["connect_url"])
    to_businesses(victims, made["connect_url"], user="anong")
    choose(victims, "N1000005", app.return_url)
    choose(attackers, "N1000001", app.return_url)
    brought = [dict(parse_qsl(urlsplit(path).query)) for path, _ in app.returned()]
    assert brought == [{"confirmation": confirmation}, {"error": "attempt_used"}]
    # The app confirms for who is logged in where the confirmation arrived: the victim. Then it is too late for both.
    for who in ("the-victim", tenant):
        assert refused(up, confirmation, who) == (409, "tenant_mismatch", "tenant_mismatch")
    assert service.connection_item(up, "N1000005") is None
    assert "tokens" not in link_of(up, confirmation)
    assert refusals(up, tenant) == ["tenant_mismatch"]
    assert len(simulator.posts("authorization_code")) == 1


def test_back_to_the_start_from_a_wrong_business_is_one_click(
    up: Stack, simulator: Simulator, app: AppSite, person: BrowserContext
) -> None:
    """A refused business is a page, and its way back leads to the app, which gets no Referer either."""
    app.visits.clear()
    fields = {"tenant": "t", "return_url": app.return_url, "expected_connection": "N9999999"}
    made = service.call(up, "POST", "/connect-links", body=fields).json()
    page = person.new_page()
    connect(page, made["connect_url"], "N1000002", up.callback_url)
    assert shown(page) == "wrong_business"
    page.click("a")
    page.wait_for_url(f"{app.return_url}**")
    ((path, headers),) = app.returned()
    assert dict(parse_qsl(urlsplit(path).query)) == {
        "confirmation": confirmation_of(up, made["connect_url"]),
        "error": "wrong_business",
    }
    assert "referer" not in headers


# ---- without one -----------------------------------------------------------------------------------------------------


def test_an_attempt_is_worth_nothing_with_another_attempts_cookie(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    """Swapped cookies: two attempts of the same browser, each with the other's cookie value."""
    first = visitor.consent(up.authorize_url, user="somchai", business="N1000001")
    second = visitor.consent(up.authorize_url, user="somchai", business="N1000002")
    host = urlsplit(up.authorize_url).netloc
    jar = visitor.cookies[host]
    own = dict(jar)
    (one, a), (two, b) = jar.items()
    jar |= {one: b, two: a}
    assert [visitor.follow(first).page, visitor.follow(second).page] == ["attempt_unknown"] * 2
    assert simulator.posts() == []
    jar |= own
    assert [visitor.follow(first).page, visitor.follow(second).page] == ["connected"] * 2


def test_a_repeated_parameter_consumes_nothing_and_the_order_does_not_matter(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    back = visitor.consent(up.authorize_url, user="somchai", business="N1000001")
    pairs = parse_qsl(urlsplit(back.partition("#")[0]).query)
    for polluted in ([("code", "other"), *pairs], [*pairs, ("code", "other")], [*pairs, ("state", "other")], pairs * 2):
        assert visitor.follow(f"{up.callback_url}?{urlencode(polluted)}").page == "invalid_request"
    assert simulator.posts() == []
    assert visitor.follow(f"{up.callback_url}?{urlencode(pairs[::-1])}").page == "connected"


def test_no_header_changes_where_anything_leads(up: Stack, simulator: Simulator, app: AppSite) -> None:
    evil = "evil.example"
    headers = {
        "Host": evil,
        "X-Forwarded-Host": evil,
        "X-Forwarded-Proto": "http",
        "Forwarded": f"host={evil};proto=http",
        "X-Original-URL": f"https://{evil}/callback",
        "Referer": f"https://{evil}/",
        "Origin": f"https://{evil}",
    }
    answer = requests.get(to_the_app(up, app), headers=headers, allow_redirects=False, timeout=30)
    assert answer.status_code == 302
    assert evil not in repr(answer.headers)
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["redirect_uri"] == [up.callback_url]


@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r", "\u2028", "\x00", "\u560d\u560a"])
def test_no_parameter_writes_a_header(
    up: Stack, simulator: Simulator, visitor: HttpVisitor, app: AppSite, line_end: str
) -> None:
    """CR and LF in either parameter, and the characters that lose bytes on their way to becoming such."""
    injected = f"x{line_end}Set-Cookie: evil=1{line_end}{line_end}<script>"
    answer = visitor.get(f"{up.authorize_url}?{urlencode({'return_url': app.return_url + injected})}")
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (400, False)
    url = to_the_app(up, app, injected)
    answer = visitor.get(url)
    if answer.status_code == 400:
        assert "Set-Cookie" not in answer.headers
        return
    # Printable all the same: it can be the app's state, and goes back to it percent-encoded.
    back = visitor.get(visitor.consent(url, user="somchai", business="N1000001").partition("#")[0])
    assert "evil" not in back.headers.get("Set-Cookie", "")
    assert back.headers["Location"].isascii()
    assert dict(parse_qsl(urlsplit(back.headers["Location"]).query))["state"] == injected


def test_a_forged_return_confirms_nothing(up: Stack, simulator: Simulator, app: AppSite) -> None:
    """A return that no callback made: before anything came of the link, with another's end, with the link itself."""
    fields = {"tenant": "tenant", "return_url": app.return_url}
    made, other = (service.call(up, "POST", "/connect-links", body=fields).json() for _ in range(2))
    link = link_in(made["connect_url"])
    own, secret = confirmation_of(up, made["connect_url"]).split(".")
    forged = {
        f"{own}.{secret}": (409, "not_finished"),
        link: (404, "unknown_confirmation"),
        own: (404, "unknown_confirmation"),
        f"{own}.{link}": (404, "unknown_confirmation"),
        f"{own}.{confirmation_of(up, other['connect_url']).split('.')[1]}": (404, "unknown_confirmation"),
        f"{own}.{secret[:-1]}": (404, "unknown_confirmation"),
    }
    for confirmation, expected in forged.items():
        wanted = {"confirmation": confirmation, "tenant": "tenant"}
        answer = service.call(up, "POST", "/connect-links/confirm", body=wanted)
        assert (answer.status_code, answer.json()["code"]) == expected
    assert simulator.posts() == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(ALLOWED),
    st.sampled_from(
        ["", ".evil.example", "@evil.example/", "//evil.example", "\\", "%2e%2e/", "/..", "?", "&", "#", "%00", " "]
    )
    | st.text(min_size=1, max_size=8),
    st.integers(0, 80),
    st.sampled_from(["append", "insert", "case", "drop", "scheme"]),
)
def test_a_changed_return_url_is_refused(up: Stack, url: str, put: str, at: int, how: str) -> None:
    """Whatever differs from an allowed one by a little; unit tests do thousands of these."""
    at %= len(url)
    changed = {
        "append": url + put,
        "insert": url[:at] + put + url[at:],
        "case": url[:at] + url[at].swapcase() + url[at + 1 :],
        "drop": url[:at] + url[at + 1 :],
        "scheme": re.sub("^https?:", "javascript:", url),
    }[how]
    if changed in up.return_urls or not changed:
        return
    query = "return_url=" + quote(changed.encode("utf-8", "surrogatepass"), safe="")
    answer = requests.get(f"{up.authorize_url}?{query}", allow_redirects=False, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (400, "return_url_not_allowed")
    assert "Location" not in answer.headers


def test_reloads_by_the_dozen_while_the_first_is_under_way_are_one_exchange(
    up: Stack, simulator: Simulator, visitor: HttpVisitor
) -> None:
    """Counted where codes are spent: in FlowAccount's own ledger. A reload that waits in vain says "used"."""
    simulator.fault("delay", seconds=1, when="before")
    back = visitor.consent(up.authorize_url, user="somchai", business="N1000001")
    tabs = [copy.deepcopy(visitor) for _ in range(8)]
    with ThreadPoolExecutor(len(tabs)) as pool:
        ends = list(pool.map(lambda tab: tab.follow(back).page, tabs))
    assert "connected" in ends
    assert set(ends) <= {"connected", "attempt_used"}
    assert visitor.follow(back).page == "connected"
    assert [one["status"] for one in simulator.posts("authorization_code")] == [200]
