"""The pages a business owner sees: both languages, no script, nothing loaded, nothing of the request on them."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowaccount_connect.connect.endings import Ending
from flowaccount_connect.http.pages import KINDS, language, page

EVERY = [(kind, lang) for kind in sorted(KINDS) for lang in ("th", "en")]
THAI = re.compile("[\u0e00-\u0e7f]")


class Reader(HTMLParser):
    """Collects elements, their attributes, and the text of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Text."""
        self.text.append(data)


def shown(kind: str, lang: str = "en", reference: str = "ref-1", back: str | None = None) -> dict[str, Any]:
    return page(kind, accept_language=lang, reference=reference, back=back)


def parsed(answer: dict[str, Any]) -> Reader:
    reader = Reader()
    reader.feed(answer["body"])
    return reader


@pytest.mark.parametrize(("kind", "lang"), EVERY)
def test_the_policy_allows_the_pages_own_style_and_nothing_else(kind: str, lang: str) -> None:
    answer = shown(kind, lang)
    style = re.search(r"<style>(.*?)</style>", answer["body"], re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert answer["headers"]["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@pytest.mark.parametrize(("kind", "lang"), EVERY)
def test_a_page_runs_no_script_and_loads_nothing(kind: str, lang: str) -> None:
    reader = parsed(shown(kind, lang, back="https://app.example.com/done"))
    assert {tag for tag, _ in reader.elements} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "p", "a", "small", "span"),
        *("svg", "circle", "path"),
    }
    for _, attributes in reader.elements:
        assert not any(name.startswith("on") or name in ("src", "style", "srcset") for name in attributes)


@pytest.mark.parametrize(("kind", "lang"), EVERY)
def test_a_page_says_its_language_and_speaks_it(kind: str, lang: str) -> None:
    answer = shown(kind, lang)
    assert dict(parsed(answer).elements)["html"]["lang"] == lang
    assert answer["headers"]["Content-Language"] == lang
    heading, step = re.search(r"<h1>(.*?)</h1>\n<p>(.*?)</p>", answer["body"]).groups()  # type: ignore[union-attr]
    title = re.sub("</?span>", "", heading)
    assert bool(THAI.search(title)) is (lang == "th")
    assert bool(THAI.search(step)) is (lang == "th")
    assert f"<title>{title}</title>" in answer["body"]


@pytest.mark.parametrize(("kind", "lang"), EVERY)
def test_no_page_is_kept_framed_sniffed_or_told_of_by_referrer(kind: str, lang: str) -> None:
    headers = shown(kind, lang)["headers"]
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Strict-Transport-Security"] == "max-age=63072000"
    assert headers["Vary"] == "Accept-Language, Accept"


@pytest.mark.parametrize(("kind", "lang"), EVERY)
def test_a_page_has_one_heading_a_viewport_and_is_found_by_no_search(kind: str, lang: str) -> None:
    elements = parsed(shown(kind, lang)).elements
    tags = [tag for tag, _ in elements]
    assert tags.count("h1") == 1
    assert tags.count("main") == 1
    metas = [attributes for tag, attributes in elements if tag == "meta"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    assert {"name": "robots", "content": "noindex"} in metas


def test_every_ending_has_its_page() -> None:
    assert {ending.value for ending in Ending} < KINDS


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_only_success_a_cancel_and_a_preview_look_like_success_to_machines(kind: str) -> None:
    assert (shown(kind)["statusCode"] == 200) is (kind in ("connected", "access_denied", "preview"))


@given(st.text(max_size=40), st.sampled_from(["th", "en"]))
def test_what_comes_from_outside_is_escaped(words: str, lang: str) -> None:
    answer = shown("connected", lang, reference=f'<script>"{words}', back=f"https://app.example.com/?{words}\"'><x>")
    elements = parsed(answer).elements
    assert not {tag for tag, _ in elements} & {"script", "x"}
    assert {name for _, attributes in elements for name in attributes} <= {
        *("lang", "charset", "name", "content", "class", "data-page", "href", "rel", "translate"),
        *("viewbox", "aria-hidden", "d", "cx", "cy", "r"),
    }
    assert "<script>" not in answer["body"]


def test_a_template_in_what_comes_from_outside_stays_text() -> None:
    assert "$style ${title}" in shown("connected", reference="$style ${title}")["body"]


def test_the_way_back_is_there_only_if_there_is_one() -> None:
    assert "<a " not in shown("connected")["body"]
    assert (
        '<a href="https://app.example.com/done?a=1&amp;b=2" rel="noreferrer">'
        in shown("connected", back="https://app.example.com/done?a=1&b=2")["body"]
    )


def test_an_error_shows_its_reference() -> None:
    assert "ref-77" in parsed(shown("configuration_error", reference="ref-77")).text


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "th"),
        ("th", "th"),
        ("en", "en"),
        ("EN-us", "en"),
        ("en-US,en;q=0.9,th;q=0.8", "en"),
        ("th-TH,th;q=0.9,en;q=0.8", "th"),
        ("en;q=0.5, th;q=0.9", "th"),
        ("th;Q=0.5, en;Q=0.9", "en"),
        ("en;q=0.9, th;q=0.5", "en"),
        ("de-DE, fr;q=0.9, en;q=0.2", "en"),
        ("de-DE, fr", "th"),
        ("*", "th"),
        ("en;q=0", "th"),
        ("en;q=0.0, th;q=0", "th"),
        ("en;q=nan, th;q=0.1", "th"),
        ("en;q=inf", "th"),
        ("en;q=2", "th"),
        ("en;q=-1", "th"),
        ("en;q=x, en;q=0.1", "en"),
        ("english", "th"),
        ("th;q=0.7;q=x,en;q=0.6", "en"),
        (" en ; q = 0.5 ", "en"),
        ("x" * 10_000 + ",en", "th"),
    ],
)
def test_the_language_is_the_one_best_liked_and_thai_in_doubt(header: str, expected: str) -> None:
    assert language(header) == expected


@given(st.text(max_size=60) | st.text("thenq=;,.0123456789-* ", max_size=60))
def test_no_accept_language_is_too_odd(header: str) -> None:
    assert language(header) in ("th", "en")


def _luminance(colour: str) -> float:
    digits = colour if len(colour) == 6 else "".join(c * 2 for c in colour)
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground"), [("ink", "card"), ("soft", "card"), ("onbutton", "calm"), ("ink", "ground")]
)
def test_text_has_the_contrast_of_wcag_aa_in_both_schemes(scheme: str, ink: str, ground: str) -> None:
    style = shown("connected")["body"].partition("<style>")[2].partition("</style>")[0]
    light, dark = re.findall(r":root\{([^}]*)\}", style)
    colours = dict(re.findall(r"--(\w+):#(\w+)", light))
    if scheme == "dark":
        colours |= dict(re.findall(r"--(\w+):#(\w+)", dark))
    high, low = sorted((_luminance(colours[ink]), _luminance(colours[ground])), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5
