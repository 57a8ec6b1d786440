"""Every page in Chromium: accessible, readable on the smallest phone, without script, and its policy in force."""

import base64
import re
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page

from flowaccount_connect.http import pages
from tests.support.accessibility import CONFORMANCE, SPILLS
from tools.local import gallery
from tools.local.gallery import LOCALES, SCHEMES, SIZES, Exhibit, exhibits, resize, screen


@pytest.fixture(scope="module")
def every() -> Iterator[list[Exhibit]]:
    with exhibits() as shown:
        yield shown


def in_language(every: list[Exhibit], language: str) -> list[Exhibit]:
    return [exhibit for exhibit in every if language in exhibit.languages]


def test_every_page_is_shown(every: list[Exhibit]) -> None:
    for owner in ("connect", "branded"):
        ours = {exhibit.name for exhibit in every if exhibit.owner == owner and exhibit.languages == tuple(LOCALES)}
        assert ours == pages.KINDS
    assert {exhibit.name for exhibit in every if exhibit.owner == "stand-in"} == {
        *("sign-in", "sign-in-refused", "businesses", "cancelled", "error", "ended"),
    }


def test_the_pictures_are_taken_and_their_progress_is_shown(
    every: list[Exhibit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [exhibit for exhibit in every if exhibit.name in ("busy", "sign-in")]
    monkeypatch.setattr(gallery, "exhibits", lambda: nullcontext(some))
    monkeypatch.setattr(gallery, "HERE", tmp_path)
    lines: list[str] = []
    taken = gallery.photograph(lines.append)
    pages_seen = [
        (scheme, language, exhibit) for scheme in SCHEMES for exhibit in some for language in exhibit.languages
    ]
    assert taken == len(pages_seen) * len(SIZES) == len(list(tmp_path.glob("*.jpeg")))
    assert {line.rpartition(",")[0] for line in lines} == {f"{scheme} {lang} {one}" for scheme, lang, one in pages_seen}
    assert {line.rpartition(", ")[2] for line in lines} == {f"{left} to go" for left in range(len(lines))}
    linked = re.findall('href="([^"]+)"', (tmp_path / "index.html").read_text())
    shown = [name for sheet in linked for name in re.findall('src="([^"]+)"', (tmp_path / sheet).read_text())]
    assert sorted(shown) == sorted(path.name for path in tmp_path.glob("*.jpeg"))


@pytest.mark.parametrize(("language", "scheme"), list(zip(LOCALES, SCHEMES, strict=True)))
def test_axe_finds_nothing(chromium: Browser, every: list[Exhibit], language: str, scheme: str) -> None:
    found = {}
    with screen(chromium, language, scheme, "320") as show:
        for exhibit in in_language(every, language):
            result = Axe().run(show(exhibit), options=CONFORMANCE)
            assert len(result.response["passes"]) > 10
            if result.violations_count:
                found[str(exhibit)] = result.generate_report()
    assert found == {}


BREAKS = """() => {
  const segmenter = new Intl.Segmenter("th", {granularity: "word"}), found = [];
  const blocks = "main > section[lang=th] :is(h1, p, small a), body[data-page] :is(h1, p:not(:has(code)))";
  for (const block of document.querySelectorAll(blocks)) {
    const nodes = document.createTreeWalker(block, NodeFilter.SHOW_TEXT), letters = [];
    while (nodes.nextNode()) {
      for (let at = 0; at < nodes.currentNode.length; at++) {
        const range = document.createRange();
        range.setStart(nodes.currentNode, at);
        range.setEnd(nodes.currentNode, at + 1);
        letters.push([nodes.currentNode.data[at], range.getClientRects()[0]?.bottom]);
      }
    }
    const text = letters.map(([letter]) => letter).join("");
    const words = new Set([...segmenter.segment(text)].map(({index}) => index));
    let line;
    letters.forEach(([letter, bottom], at) => {
      if (bottom === undefined) return;
      if (line !== undefined && bottom > line + 8) {
        found.push([text.slice(0, at), text.slice(at), words.has(at)]);
      }
      line = bottom;
    });
  }
  return found;
}"""
"""Where the lines of the Thai section end: the text before, the text behind, and whether a dictionary ends a word."""

_TOGETHER = """
    เชื่อมต่อ (?<!ต้อง)การเชื่อมต่อ หมายเลขอ้างอิง อ้างอิง ด้านล่าง เบราว์เซอร์ ทีมงาน เข้าสู่ระบบ ดำเนินการ
    ถูกต้อง ไม่ถูกต้อง สิทธิ์ ให้สิทธิ์ สำเร็จ ยกเลิก กดยกเลิก ธุรกิจ ตรวจสอบ
    ขั้นตอน หมดอายุ จำนวนมาก ตั้งแต่ต้น กลับไป ใช้งาน ข้อมูล ต้องการ กรุณา
    แก้ไข ตั้งค่า ยืนยัน แน่ใจ เริ่มใหม่ อีกครั้ง หรือยัง อยู่แล้ว เหมือนเดิม
    สักครู่ ผู้ใช้ ของคุณ ขั้นตอนเดียว ครบถ้วน ไม่ครบ เพิ่ม หน้านี้ ร้านค้า
"""
WORDS = _TOGETHER.split()
"""Words that a Thai reader reads as one, as patterns. Dictionaries know some of them only in pieces."""


@pytest.mark.parametrize("language", LOCALES)
def test_nothing_spills_over_any_screen_and_no_line_ends_within_a_thai_word(
    chromium: Browser, every: list[Exhibit], language: str
) -> None:
    spilled, broken, ends = [], [], 0
    with screen(chromium, language, "light", "320") as show:
        for exhibit in in_language(every, language):
            page = show(exhibit)
            for size in SIZES:
                resize(page, size)
                spilled += [(str(exhibit), size, what) for what in page.evaluate(SPILLS)]
                for before, behind, ends_a_word in page.evaluate(BREAKS):
                    ends += 1
                    whole, at = before + behind, len(before)
                    found = [one for word in WORDS for one in re.finditer(word, whole)]
                    cut = [one[0] for one in found if one.start() < at < one.end()]
                    if cut or not ends_a_word:
                        broken.append((str(exhibit), size, f"{before[-12:]}|{behind[:12]}", cut))
    assert spilled == []
    assert broken == []
    assert (ends > 1_000) is (language == "th")


NAMES = ("My Very Long Application Name For Accountants in Chiang Mai", "W" * 60, "กาแฟ", "i")
WORDS_CUT = """() => [...document.querySelectorAll("bdi")].flatMap(bdi => {
  const range = document.createRange(), text = bdi.firstChild;
  return [...bdi.textContent.matchAll(/[^ ]+/g)].filter(word => {
    range.setStart(text, word.index);
    range.setEnd(text, word.index + word[0].length);
    return new Set([...range.getClientRects()].map(one => one.top)).size > 1;
  });
})"""
"""The words of the app's name that a line end cuts."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", LOCALES)
def test_a_long_name_beside_a_wide_logo_spills_nowhere_and_ends_its_lines_at_spaces(
    chromium: Browser, every: list[Exhibit], monkeypatch: pytest.MonkeyPatch, language: str, name: str
) -> None:
    wide = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 9"><rect width="90" height="9"/></svg>'
    logo = "data:image/svg+xml;base64," + base64.b64encode(wide).decode()
    monkeypatch.setattr(gallery, "BRAND", replace(gallery.BRAND, name=name, logo=logo))
    with screen(chromium, language, "light", "320") as show:
        page = show(next(one for one in every if (one.owner, one.name) == ("branded", "wrong_business")))
        for size in SIZES:
            resize(page, size)
            assert page.evaluate(SPILLS) == [], size
            if name != "W" * 60 and not size.endswith("large-text"):
                assert page.evaluate(WORDS_CUT) == [], size


@pytest.mark.parametrize("language", LOCALES)
def test_a_page_speaks_the_language_of_the_browser(chromium: Browser, every: list[Exhibit], language: str) -> None:
    with screen(chromium, language, "light", "390") as show:
        for exhibit in in_language(every, language):
            assert show(exhibit).evaluate("document.documentElement.lang") == language, exhibit


def test_the_way_back_is_reached_by_the_keyboard_and_seen(chromium: Browser, every: list[Exhibit]) -> None:
    with screen(chromium, "th", "dark", "320") as show:
        page = show(next(exhibit for exhibit in every if exhibit.name == "wrong_business"))
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        focused = "getComputedStyle(document.activeElement)"
        assert page.evaluate("document.activeElement.rel") == "noreferrer"
        assert page.evaluate(f"{focused}.outlineStyle") == "solid"
        assert page.evaluate(f"parseFloat({focused}.outlineWidth)") >= 2
        assert page.evaluate("document.activeElement.getBoundingClientRect().height") >= 44


@pytest.mark.parametrize(("language", "other"), [("th", "en"), ("en", "th")])
@pytest.mark.parametrize("way", ["keyboard", "touch"])
def test_the_language_is_switched_without_a_request(
    chromium: Browser, every: list[Exhibit], language: str, other: str, way: str
) -> None:
    asked: list[str] = []
    with screen(chromium, language, "light", "360") as show:
        for exhibit in [one for one in every if one.owner == "connect"][:: 1 if way == "keyboard" else 6]:
            page = show(exhibit)
            if exhibit is every[0]:
                page.on("request", lambda request: asked.append(request.url))
            asked.clear()
            address = page.url
            names = {"th": "ไทย", "en": "English"}
            switch = page.get_by_role("radio", name=names[other])
            if way == "keyboard":
                page.keyboard.press("Tab")
                assert page.evaluate("document.activeElement.id") == language
                outline = "getComputedStyle(document.querySelector(':focus-visible + label')).outlineStyle"
                assert page.evaluate(outline) == "solid"
                page.keyboard.press("ArrowRight")
            else:
                page.get_by_text(names[other], exact=True).click()
            assert switch.is_checked()
            assert page.locator(f"section[lang={other}]").is_visible()
            assert page.locator(f"section[lang={language}]").is_hidden()
            assert page.url == address
            assert asked == []


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
