"""A business owner at a browser: opens a link, logs in at the simulator, picks a business, and comes back.

Through a real Chromium where one is installed, and through plain HTTP otherwise; both end with what the user sees.
"""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urljoin, urlsplit

import requests

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
_FLAGS = ("--disable-gpu", "--disable-quic")
"""Beside those that Playwright gives."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """The end of a visit: the address, the status, and the page's HTML."""

    url: str
    status: int
    html: str

    @property
    def page(self) -> str | None:
        """Which of the stack's or the simulator's pages it is (`data-page`)."""
        found = re.search(r'data-page="([a-z_-]+)"', self.html)
        return found.group(1) if found else None


class Visitor(Protocol):
    """A user who connects a business."""

    def connect(self, url: str, *, user: str, business: str) -> Arrived:
        """Open `url`, log in as `user`, choose `business`, and return the page where that ends."""


def chromium() -> str | None:
    """The path of an installed Chromium or Chrome, or `None`."""
    return next((path for name in CHROMIUM if (path := shutil.which(name))), None)


class HttpVisitor:
    """Walks the pages over plain HTTP, like a browser. Keeps cookies by host, and `Secure` cookies on loopback too."""

    def __init__(self) -> None:
        self.cookies: dict[str, dict[str, str]] = {}

    def get(self, url: str, **headers: str) -> requests.Response:
        """One GET with this visitor's cookies; redirects are not followed."""
        return self._request("GET", url, headers=headers)

    def connect(self, url: str, *, user: str, business: str) -> Arrived:
        """Open `url`, log in as `user`, choose `business`, and follow the way back."""
        return self.follow(self.consent(url, user=user, business=business))

    def consent(self, url: str, *, user: str, business: str | None) -> str:
        """Log in and choose; `None` cancels. Returns the address to which FlowAccount sends the browser back."""
        at, answer = self._walk(url)
        for step in ({"user": user}, {"business": business} if business else {"action": "cancel"}):
            attempt = re.search(r'name="attempt" value="([^"]+)"', answer.text)
            if attempt is None:
                raise RuntimeError(f"this is not a page of the simulator: {answer.status_code}")
            target = urljoin(at, "/connect/login" if "user" in step else "/connect/consent")
            answer = self._request("POST", target, data={"attempt": attempt.group(1), **step})
            if "user" in step:
                at, answer = self._walk(urljoin(target, answer.headers["Location"]))
        return urljoin(at, answer.headers["Location"])

    def follow(self, url: str) -> Arrived:
        """Open `url` and follow redirects while they lead to a server that answers on loopback."""
        at, answer = self._walk(url)
        return Arrived(at, answer.status_code, answer.text)

    def _walk(self, url: str) -> tuple[str, requests.Response]:
        for _ in range(10):
            answer = self.get(url, Accept="text/html", **{"Accept-Language": "th"})
            if "Location" not in answer.headers:
                return url, answer
            target = urljoin(url, answer.headers["Location"])
            if urlsplit(target).hostname not in ("127.0.0.1", "localhost"):
                return target, answer
            url = target
        raise RuntimeError("too many redirects")

    def _request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        data: dict[str, str] | None = None,
    ) -> requests.Response:
        host = urlsplit(url).netloc
        kept = self.cookies.setdefault(host, {})
        sent = dict(headers or {})
        if kept:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in kept.items())
        answer = requests.request(method, url, headers=sent, data=data, allow_redirects=False, timeout=60)
        for line in answer.raw.headers.getlist("Set-Cookie"):
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    kept.pop(name, None)
                else:
                    kept[name] = morsel.value
        return answer


class ChromiumVisitor:
    """Drives a real browser. Each visit has a profile of its own unless the caller gives a context."""

    def __init__(self, browser: "Browser", *, watch: Callable[[str], None] = lambda _: None) -> None:
        self._browser = browser
        self._watch = watch

    def connect(self, url: str, *, user: str, business: str) -> Arrived:
        """Open `url`, log in as `user`, choose `business` by clicking, and wait for the last page."""
        context = self._browser.new_context(locale="th-TH")
        try:
            page = context.new_page()
            page.goto(url)
            self._watch(page.title())
            page.click(f'[data-user="{user}"]')
            page.wait_for_selector(f'[data-business="{business}"]')
            self._watch(page.title())
            origin = urlsplit(page.url).netloc
            with page.expect_response(
                lambda answer: (
                    answer.request.resource_type == "document"
                    and urlsplit(answer.url).netloc != origin
                    and not 300 <= answer.status < 400
                )
            ) as arrived:
                page.click(f'[data-business="{business}"]')
            page.wait_for_url(lambda at: urlsplit(at).netloc != origin)
            self._watch(page.title())
            return Arrived(page.url, arrived.value.status, page.content())
        finally:
            context.close()


@contextmanager
def browser() -> Iterator["Browser | None"]:
    """A headless Chromium, or `None` where none is installed, or none that starts (such as Ubuntu's stub of a snap)."""
    path = chromium()
    if path is None:
        yield None
        return
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            launched = playwright.chromium.launch(executable_path=path, args=list(_FLAGS), chromium_sandbox=False)
        except Error:
            print(f"{path} does not start: install Chromium or Chrome", file=sys.stderr)
            yield None
            return
        try:
            yield launched
        finally:
            launched.close()


@contextmanager
def visitor(watch: Callable[[str], None] = lambda _: None) -> Iterator[Visitor]:
    """A user with a real browser if one is installed, otherwise over plain HTTP."""
    with browser() as launched:
        yield ChromiumVisitor(launched, watch=watch) if launched else HttpVisitor()
