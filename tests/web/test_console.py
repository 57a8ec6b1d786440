"""The console in Chromium: what is dangerous stands first, actions ask, and nobody but this browser gets in."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from flowaccount_connect_client import Connection, FlowAccountConnect
from flowaccount_connect_client.console import app, serving
from flowaccount_connect_client.console.stack import Facts
from flowaccount_connect_client.testing import FakeFlowAccountConnect
from tests.support.accessibility import CONFORMANCE, SPILLS

UNWELL = Facts(unwell_since=1_764_000_000, cause="FlowAccount refuses the stack's configuration")
RETURN_URL = "https://app.example/done"


@dataclass
class Running:
    """A console beside a fake of the stack."""

    fake: FakeFlowAccountConnect
    console: app.Console
    url: str


@contextmanager
def running(facts: Facts | None = None) -> Iterator[Running]:
    with FakeFlowAccountConnect().running() as fake:
        console = app.Console(FlowAccountConnect(patience=0), (lambda: facts) if facts else None, RETURN_URL)
        server, url = serving.server(app.make(console), 0)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Running(fake, console, url)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
def here() -> Iterator[Running]:
    with running(UNWELL) as one:
        one.fake.add("N3", tenant="shop-3")
        one.fake.add("N2", tenant="shop-2")
        one.fake.add("N1", tenant="ร้านน้ำ กาแฟ")
        one.fake.add("N4")
        one.fake._connections["N2"] |= {"deadline": int(time.time()) + 600, "at_risk_since": int(time.time())}
        one.fake.require_consent("N3")
        yield one


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1000, "height": 800})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield context.new_page()
    context.close()


def rows(page: Page) -> Locator:
    """The connections' ids in the table. After a click the page may still be on its way: `expect` waits for it."""
    return page.locator("tbody th")


def test_the_soonest_deadline_stands_first_and_groups_count(here: Running, page: Page) -> None:
    page.goto(here.url)
    expect(rows(page).first).to_have_text("N2")
    assert page.locator("nav a.at_risk").inner_text().split("\n") == ["1", "At risk"]
    page.locator("nav a.needs_consent").click()
    expect(rows(page)).to_have_text(["N3"])
    for words in ("กาแฟ", "น้ำ", "น้\u0e4dา", "น้ำ กาแฟ", "n1"):
        page.goto(here.url)
        page.get_by_label("Connection or tenant").fill(words)
        page.keyboard.press("Enter")
        page.wait_for_url("**q=*")
        expect(rows(page), words).to_have_text(["N1"])


def test_a_connection_has_its_history_a_link_and_an_end(here: Running, page: Page) -> None:
    page.goto(here.url)
    page.get_by_role("link", name="N3").click()
    expect(page.locator(".timeline b")).to_have_text(["Needs a new consent", "Connected"])
    page.get_by_role("button", name="Make a link").click()
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("Copied").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert here.fake.visit(link, business="N3").startswith(RETURN_URL)
    page.goto(f"{here.url}connections/N1")
    page.get_by_role("link", name="Disconnect …").click()
    assert ("DELETE", "/connections/N1") not in here.fake.requests
    page.get_by_role("button", name="Disconnect").click()
    page.get_by_text("Disconnected").first.wait_for()
    assert ("DELETE", "/connections/N1") in here.fake.requests
    expect(page.get_by_role("link", name="Disconnect …")).to_have_count(0)


def test_the_keyboard_alone_reaches_every_action(here: Running, page: Page) -> None:
    page.goto(f"{here.url}connections/N3")
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.innerText || document.activeElement.name"))
    assert {"tenant", "return_url", "Make a link", "Disconnect …"} <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_axe_finds_nothing_and_nothing_spills(here: Running, chromium: Browser, scheme: str, width: int) -> None:
    context = chromium.new_context(
        viewport={"width": width, "height": 700}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    try:
        for path in ("", "?group=needs_consent", "connections/N3", "connections/N1/disconnect", "connections/none"):
            page.goto(here.url + path)
            result = Axe().run(page, options=CONFORMANCE)
            assert result.violations_count == 0, result.generate_report()
            wide = [
                one
                for one in page.evaluate(SPILLS)
                if width == 1280 or not one.startswith(('<div class="wide"', "<t", "<caption"))
            ]
            assert wide == []
    finally:
        context.close()


def test_a_thousand_scroll_and_more_come_in_pages(page: Page) -> None:
    with running() as one:
        for number in range(1_000):
            one.fake.add(f"N{number:05}")
        page.goto(one.url)
        expect(rows(page)).to_have_count(1_000)
        for number in range(1_000, 2_050):
            one.fake.add(f"N{number:05}")
        page.get_by_role("button", name="Read again").click()
        page.get_by_text("page 1 of 21").wait_for()
        expect(rows(page)).to_have_count(100)
        page.get_by_role("link", name="Next page").click()
        expect(rows(page).first).to_have_text("N00100")


def test_a_hundred_thousand_come_in_pages_that_ask_the_api_for_nothing(page: Page) -> None:
    with running() as one:
        for number in range(100_000):
            one.fake.add(f"N{number:06}", tenant=f"ร้าน {number}")
        # The API lists it last, and it dies first.
        one.fake._connections["N099999"]["deadline"] -= 80_000
        page.goto(one.url)
        page.get_by_text("of those that are read so far").wait_for()
        assert rows(page).count() <= 1_000
        one.console.snapshot.wait(300)
        page.goto(one.url)
        assert page.get_by_text("100,000 connections, the soonest deadline first; page 1 of 1,000").count() == 1
        expect(rows(page).first).to_have_text("N099999")
        asked = len(one.fake.requests)
        assert asked == 1_000, "a hundred at a time, once"
        for path in ("?page=500", "?page=1000", "?q=ร้าน+777", "?group=needs_consent"):
            page.goto(one.url + path)
            assert rows(page).count() <= 1_000
        page.goto(f"{one.url}?q=ร้าน+4242")
        expect(rows(page).first).to_have_text("N004242")
        expect(rows(page)).to_have_count(11)
        assert len(one.fake.requests) == asked


def test_a_long_reading_shows_how_far_it_is(here: Running, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()
    every = here.console.api.connections

    def slowly() -> Iterator[Connection]:
        for number, one in enumerate(every()):
            if number == 2:
                goes_on.wait(30)
            yield one

    monkeypatch.setattr(here.console.snapshot, "_connections", slowly)
    monkeypatch.setattr(app, "FIRST_LOOK", 0.5)
    page.goto(here.url)
    page.get_by_text("2 connections are read so far").wait_for()
    expect(page.get_by_text("the soonest deadline first of those that are read so far")).to_have_count(1)
    result = Axe().run(page, options=CONFORMANCE)
    assert result.violations_count == 0, result.generate_report()
    goes_on.set()
    page.get_by_text("As of").wait_for()
    expect(rows(page)).to_have_count(4)


def test_a_reading_that_fails_keeps_the_list_and_says_why(here: Running, page: Page) -> None:
    page.goto(here.url)
    here.fake.fail(times=1)
    page.get_by_role("button", name="Read again").click()
    expect(page.get_by_role("alert")).to_contain_text("Not all connections could be read")
    expect(rows(page)).to_have_count(4)


def test_a_role_that_may_only_read_sees_no_actions(here: Running, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = here.fake.answer

    def reading_only(method: str, *rest: Any) -> tuple[int, Any, int]:
        if method == "GET":
            return answer(method, *rest)
        return 403, {"Message": "User: arn:aws:iam::1:user/x is not authorized to perform: execute-api:Invoke"}, 0

    monkeypatch.setattr(here.fake, "answer", reading_only)
    page.goto(f"{here.url}connections/N1")
    assert page.locator("h1").inner_text() == "N1"
    assert page.get_by_role("button").count() == page.get_by_role("link", name="Disconnect …").count() == 0


def test_while_the_stack_does_not_say_what_the_role_may_do_nothing_is_offered(
    here: Running, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = here.fake.answer

    def reading_only(method: str, *rest: Any) -> tuple[int, Any, int]:
        return answer(method, *rest) if method == "GET" else (503, {"code": "store_unavailable", "detail": "x"}, 0)

    with monkeypatch.context() as patch:
        patch.setattr(here.fake, "answer", reading_only)
        page.goto(f"{here.url}connections/N1")
        assert page.get_by_role("button").count() == page.get_by_role("link", name="Disconnect …").count() == 0
    page.goto(f"{here.url}connections/N1")
    assert page.get_by_role("button", name="Make a link").count() == 1


def test_looking_changes_nothing(here: Running, page: Page) -> None:
    before = {name: dict(one) for name, one in here.fake._connections.items()}
    for path in ("", "connections/N1", "connections/N1/disconnect"):
        page.goto(here.url + path)
    assert here.fake._connections == before


@pytest.mark.parametrize("path", ["", "connections/N1/disconnect"])
def test_no_other_site_gets_in(here: Running, path: str) -> None:
    """Without the path, by another host name (DNS rebinding), or by a form of another site."""
    root = here.url.rsplit("/", 2)[0] + "/"
    port = root.rsplit(":")[-1].strip("/")
    secret = here.url.rsplit("/", 2)[1]
    for guess in (
        "",
        "x/",
        f"{secret[:-1]}/",
        f"{secret}x/",
        f"{secret.swapcase()}/",
        f"x/../{secret}/",
    ):
        raw = requests.Request("GET", root).prepare()
        raw.url = root + guess + path
        assert requests.Session().send(raw, timeout=5).status_code == 404, guess
    for host in (f"evil.example:{port}", "127.0.0.1", f"localhost:{port}", f"127.0.0.1:{port}.evil.example", ""):
        assert requests.get(here.url + path, headers={"Host": host}, timeout=5).status_code in (400, 404)
    for origin in ("https://evil.example", "null", f"http://localhost:{port}", f"http://127.0.0.1:{port}0"):
        sent = requests.post(here.url + path, headers={"Origin": origin}, timeout=5)
        assert sent.status_code == 403
    assert requests.post(here.url + path, timeout=5).status_code == 403
    assert here.fake._connections["N1"]["status"] == "active"


def test_nothing_that_lies_in_the_stack_is_markup(here: Running, page: Page) -> None:
    here.fake._connections["N1"] |= {"tenant": "<img src=x onerror=alert(1)>", "status": "<b>odd", "reason": '"><s>'}
    page.goto(here.url)
    assert page.locator("img, s").count() == 0
    page.goto(f"{here.url}connections/N1")
    assert page.locator("img, s").count() == 0
    answer = requests.get(here.url, timeout=5)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"
