"""Every page that people see, in a real browser. `make screenshots` takes pictures of them, and tests check them.

The stack's pages are served with the body and headers of the functions' answers. The stand-in serves its own pages.
"""

import base64
import itertools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, cast
from urllib.parse import urlencode

from flowaccount_connect.domain.app import App
from flowaccount_connect.http import pages
from tools.local import ports, processes, stand_in
from tools.local.errors import LocalError
from tools.local.places import LOCAL, shown
from tools.local.visit import browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HERE = LOCAL / "screenshots"
LOCALES = {"th": "th-TH", "en": "en-US"}
SCHEMES = ("light", "dark")
SIZES = {
    "320": (320, 640, 1),
    "320-large-text": (320, 640, 2),
    "360": (360, 740, 1),
    "375": (375, 667, 1),
    "390": (390, 844, 1),
    "412": (412, 915, 1),
    "430": (430, 932, 1),
    "1280": (1280, 800, 1),
}
"""By name: width and height of the window in CSS pixels, and the factor by which text is enlarged."""

BRAND = App(
    name="บัญชีร้านค้า Plus",
    logo="data:image/svg+xml;base64,"
    + base64.b64encode(
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9" rx="2" fill="#7a3fb0"/>'
        b'<path d="M2.5 6.5v-4M4.5 6.5v-2M6.5 6.5v-3" stroke="#fff" stroke-width="1.2"/></svg>'
    ).decode(),
    contact="https://line.me/R/ti/p/@example",
    restart="https://app.example.com/connect",
)
"""An app with all that it can show."""

REFERENCE = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
BACK = "https://app.example.com/accounting/done?error=access_denied"
_WITH_A_WAY_BACK = ("already_connected", "link_expired", "link_used", "wrong_business", "business_taken")
"""The pages that know the return URL, where an app has given one."""
_REDIRECT_URI = "http://127.0.0.1:9/callback"


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One page: its owner, its name, and the way to it in a browser."""

    owner: str
    name: str
    languages: tuple[str, ...]
    """The languages of the page. A page that shows both languages at once has one entry."""
    visit: Callable[["Page"], object]

    def __str__(self) -> str:
        return f"{self.owner}-{self.name}"


@contextmanager
def exhibits() -> Iterator[list[Exhibit]]:
    """All pages. A browser can visit them while the block runs."""
    port = ports.choose()
    stand_in_process = stand_in.start(port, stand_in.CLIENT_ID, "not used here", [_REDIRECT_URI], {})
    try:
        with _served() as url:
            yield _ours(url) + _stand_ins(f"http://{ports.HOST}:{port}")
    finally:
        processes.stop(stand_in_process)


@contextmanager
def screen(launched: "Browser", language: str, scheme: str, size: str) -> Iterator[Callable[[Exhibit], "Page"]]:
    """A browser on a screen of that size, in that language and colour scheme; call it to see an exhibit."""
    context = launched.new_context(locale=LOCALES[language], color_scheme="dark" if scheme == "dark" else "light")
    page = context.new_page()

    def show(exhibit: Exhibit) -> "Page":
        exhibit.visit(page)
        resize(page, size)
        return page

    try:
        yield show
    finally:
        context.close()


def resize(page: "Page", size: str) -> None:
    """Put what the page shows on a screen of another size. It is not loaded again."""
    width, height, text = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    # This is a reader's own setting. The policy forbids styles of the page, not styles of its reader.
    page.evaluate("times => document.documentElement.style.fontSize = `${100 * times}%`", text)


def photograph(progress: Callable[[str], None] = lambda _: None) -> int:
    """Take a picture of every page in every language, size and scheme, and contact sheets. Returns how many.

    `progress` gets a line for each page. Each scheme has a thread with a browser of its own.
    """
    HERE.mkdir(parents=True, exist_ok=True)
    for old in HERE.iterdir():
        old.unlink()
    with exhibits() as every:
        left = itertools.count(len(SCHEMES) * sum(len(exhibit.languages) for exhibit in every) - 1, -1)

        def told(line: str) -> None:
            progress(f"{line}, {next(left)} to go")

        with ThreadPoolExecutor(len(SCHEMES)) as pool:
            taken = [
                one for some in pool.map(lambda scheme: _photographed(every, scheme, told), SCHEMES) for one in some
            ]
    groups = {group: [name for other, name in sorted(taken) if other == group] for group, _ in sorted(taken)}
    for group, names in groups.items():
        (HERE / f"{group}.html").write_text(_contact_sheet(group, names))
    links = "".join(f'<li><a href="{group}.html">{group}</a></li>' for group in groups)
    (HERE / "index.html").write_text(f"<!doctype html><title>Every page</title><ul>{links}</ul>")
    return len(taken)


def _photographed(every: list[Exhibit], scheme: str, progress: Callable[[str], None]) -> list[tuple[str, str]]:
    """Takes the pictures of a scheme; their groups and their names. A page is loaded once for all its sizes."""
    taken = []
    with browser() as launched:
        if launched is None:
            raise LocalError("No Chromium or Chrome is installed: install one to take screenshots.")
        for language in LOCALES:
            with screen(launched, language, scheme, "320") as show:
                for exhibit in every:
                    if language not in exhibit.languages:
                        continue
                    page = show(exhibit)
                    for size in SIZES:
                        resize(page, size)
                        name = f"{exhibit}-{language}-{size}-{scheme}.jpeg"
                        page.screenshot(path=HERE / name, full_page=True, type="jpeg", quality=80)
                        taken.append((f"{scheme}-{language}-{size}", name))
                    progress(f"{scheme} {language} {exhibit}")
    return taken


def _contact_sheet(title: str, names: list[str]) -> str:
    """The pictures on one page."""
    figures = [f'<figure><img src="{n}" alt=""><figcaption>{n}</figcaption></figure>' for n in names]
    style = (
        "body{font:14px sans-serif;background:#999}"
        "figure{display:inline-block;margin:8px;vertical-align:top}img{max-width:640px}"
    )
    return f"<!doctype html><title>{title}</title><style>{style}</style>\n" + "\n".join(figures)


def _ours(url: str) -> list[Exhibit]:
    def visit(kind: str, app: str) -> Callable[["Page"], object]:
        return lambda page: page.goto(f"{url}/{kind}/{app}")

    return [
        Exhibit(owner, kind, tuple(LOCALES), visit(kind, app))
        for owner, app in (("connect", "plain"), ("branded", "brand"))
        for kind in sorted(pages.KINDS)
    ]


def _stand_ins(url: str) -> list[Exhibit]:
    asked = {
        "response_type": "code",
        "scope": "flowaccount-api offline_access",
        "client_id": stand_in.CLIENT_ID,
        "redirect_uri": _REDIRECT_URI,
        "state": "s",
    }

    def sign_in(page: "Page", **other: str) -> None:
        page.goto(f"{url}/connect/authorize?{urlencode(asked | other)}")

    def refused(page: "Page") -> None:
        sign_in(page)
        page.fill("#username", "somchai")
        page.fill("#password", "wrong")
        page.click("#sign-in")
        page.wait_for_selector("#problem")

    def businesses(page: "Page") -> None:
        sign_in(page)
        page.click('[data-user="somchai"]')
        page.wait_for_selector("[data-business]")

    def cancelled(page: "Page") -> None:
        page.request.post(f"{url}/_control/settings", data={"cancel": "stranded"})
        sign_in(page)
        page.click("#cancel")
        page.wait_for_selector('[data-page="cancelled"]')

    walks = {
        "sign-in": sign_in,
        "sign-in-refused": refused,
        "businesses": businesses,
        "cancelled": cancelled,
        "error": lambda page: sign_in(page, client_id="unheard-of"),
        "ended": lambda page: page.goto(f"{url}/connect/businesses?attempt=unheard-of"),
    }
    return [Exhibit("stand-in", name, ("th",), walk) for name, walk in walks.items()]


class _OurPages(BaseHTTPRequestHandler):
    """Answers `/{kind}/plain` with the page as a function would, and `/{kind}/brand` with that of `BRAND`."""

    timeout = 5

    def do_GET(self) -> None:
        kind, _, app = self.path.strip("/").partition("/")
        if kind not in pages.KINDS:
            self.send_error(404)
            return
        answer = pages.page(
            kind,
            app=BRAND if app == "brand" else App(),
            accept_language=self.headers.get("Accept-Language", ""),
            reference=REFERENCE,
            back=BACK if kind in _WITH_A_WAY_BACK else None,
            retry_after=41 if kind in ("busy", "temporarily_unavailable") else None,
        )
        body = str(answer["body"]).encode()
        self.send_response(cast("int", answer["statusCode"]))
        for name, value in cast("dict[str, str]", answer["headers"]).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _served() -> Iterator[str]:
    # With threads, since Chromium also opens connections on which it may never send anything.
    with ThreadingHTTPServer((ports.HOST, 0), _OurPages) as server:
        server.block_on_close = False
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{ports.HOST}:{server.server_port}"
        server.shutdown()


def main() -> None:
    """Take the pictures and say where they are."""

    def progress(line: str) -> None:
        print(f"\r{line:<60}" if sys.stdout.isatty() else line, end="" if sys.stdout.isatty() else "\n", flush=True)

    try:
        number = photograph(progress)
    except LocalError as error:
        sys.exit(f"error: {error}")
    print(f"\n{number} pictures; {shown(HERE / 'index.html')} links to sheets of them")


if __name__ == "__main__":
    main()
