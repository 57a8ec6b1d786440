"""Every page in Chromium: accessible, readable on the smallest phone, without script, and its policy in force."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page

from flowaccount_connect.http import pages
from tools.local.gallery import LOCALES, SCHEMES, Exhibit, exhibits, screen
from tools.local.visit import browser

CONFORMANCE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
"""WCAG 2.2 A and AA, and what axe recommends beyond them."""

SPILLS = """() => [...document.querySelectorAll("body *")]
  .filter(element => element.getBoundingClientRect().right > innerWidth + 0.5 || element.scrollWidth > innerWidth)
  .map(element => element.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as launched:
        assert launched is not None, "install a Chromium: what people see is tested in one"
        yield launched


@pytest.fixture(scope="module")
def every() -> Iterator[list[Exhibit]]:
    with exhibits() as shown:
        yield shown


def in_language(every: list[Exhibit], language: str) -> list[Exhibit]:
    return [exhibit for exhibit in every if language in exhibit.languages]


def test_every_page_is_shown(every: list[Exhibit]) -> None:
    ours = {exhibit.name for exhibit in every if exhibit.owner == "connect" and exhibit.languages == tuple(LOCALES)}
    assert ours == pages.KINDS
    assert {exhibit.name for exhibit in every if exhibit.owner == "stand-in"} == {
        *("sign-in", "sign-in-refused", "businesses", "cancelled", "error", "ended"),
    }


@pytest.mark.parametrize("language", LOCALES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing(chromium: Browser, every: list[Exhibit], language: str, scheme: str) -> None:
    found = {}
    with screen(chromium, language, scheme, "320") as show:
        for exhibit in in_language(every, language):
            result = Axe().run(show(exhibit), options=CONFORMANCE)
            assert len(result.response["passes"]) > 10
            if result.violations_count:
                found[str(exhibit)] = result.generate_report()
    assert found == {}


@pytest.mark.parametrize("language", LOCALES)
@pytest.mark.parametrize("size", ["320", "320-large-text", "390", "1280"])
def test_nothing_spills_over_the_screen(chromium: Browser, every: list[Exhibit], language: str, size: str) -> None:
    with screen(chromium, language, "light", size) as show:
        spilled = {str(exhibit): show(exhibit).evaluate(SPILLS) for exhibit in in_language(every, language)}
    assert {name: what for name, what in spilled.items() if what} == {}


@pytest.mark.parametrize("size", ["320", "320-large-text", "390"])
def test_no_line_ends_within_a_thai_compound(chromium: Browser, every: list[Exhibit], size: str) -> None:
    broken = (
        "() => [...document.querySelectorAll('h1 span, p span')].filter(e => e.getClientRects().length != 1).length"
    )
    with screen(chromium, "th", "light", size) as show:
        ours = [exhibit for exhibit in every if exhibit.owner == "connect"]
        assert {str(exhibit): show(exhibit).evaluate(broken) for exhibit in ours} == dict.fromkeys(map(str, ours), 0)


@pytest.mark.parametrize("language", LOCALES)
def test_a_page_speaks_the_language_of_the_browser(chromium: Browser, every: list[Exhibit], language: str) -> None:
    with screen(chromium, language, "light", "390") as show:
        for exhibit in in_language(every, language):
            assert show(exhibit).evaluate("document.documentElement.lang") == language, exhibit


def test_the_way_back_is_reached_by_the_keyboard_and_seen(chromium: Browser, every: list[Exhibit]) -> None:
    with screen(chromium, "th", "dark", "320") as show:
        page = show(next(exhibit for exhibit in every if exhibit.name == "wrong_business"))
        page.keyboard.press("Tab")
        focused = "getComputedStyle(document.activeElement)"
        assert page.evaluate("document.activeElement.rel") == "noreferrer"
        assert page.evaluate(f"{focused}.outlineStyle") == "solid"
        assert page.evaluate(f"parseFloat({focused}.outlineWidth)") >= 2
        assert page.evaluate("document.activeElement.getBoundingClientRect().height") >= 44


def test_no_page_has_script_or_complains(chromium: Browser, every: list[Exhibit]) -> None:
    said: list[str] = []
    with screen(chromium, "th", "light", "390") as show:
        chromium.contexts[0].on("console", lambda message: said.append(message.text))
        for exhibit in in_language(every, "th"):
            assert show(exhibit).locator("script").count() == 0, exhibit
    # Chromium notes every answer of 400 and above; that is the page's own status.
    assert [line for line in said if "the server responded with a status of" not in line] == []


@pytest.mark.parametrize("owner", ["connect", "stand-in"])
def test_an_injected_script_does_not_run(chromium: Browser, every: list[Exhibit], owner: str) -> None:
    """Chromium refuses it by the page's policy: a script element, an event handler, an image from elsewhere."""
    refused: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            refused.append(message.text)

    with screen(chromium, "en" if owner == "connect" else "th", "light", "390") as show:
        page: Page = show(next(exhibit for exhibit in every if exhibit.owner == owner))
        page.on("console", note)
        page.evaluate(
            """async () => {
              const script = document.createElement("script");
              script.textContent = "window.ran = 'script'";
              document.body.append(script);
              const button = document.createElement("button");
              button.setAttribute("onclick", "window.ran = 'handler'");
              document.body.append(button);
              button.click();
              const image = document.createElement("img");
              const ended = new Promise(resolve => { image.onload = image.onerror = resolve; });
              image.src = location.origin + "/elsewhere.png";
              document.body.append(image);
              await ended;
            }"""
        )
        assert page.evaluate("window.ran") is None
        page.wait_for_timeout(0)
    assert len(refused) == 3, refused
