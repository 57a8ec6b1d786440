"""The cookie that binds a browser to its attempt, in Chromium, against whoever has a page on the same domain.

`localhost` counts as secure, so cookies with `__Host-` work there without TLS. `shop.localhost` is one site with two
hosts: the stack's, and an attacker's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page

from flowaccount_connect.http.request import read
from flowaccount_connect.storage.attempts import cookie, cookie_name

NAME = cookie_name("0123456789abcdef" * 4)
CONNECT, SIBLING = "connect.shop.localhost", "evil.shop.localhost"

TOSSED = {
    "the domain's": f"{NAME}=evil; Domain=shop.localhost; Path=/; Secure",
    "the domain's, for the callback's path": f"{NAME}=evil; Domain=shop.localhost; Path=/live; Secure",
    "the other host's": f"{NAME}=evil; Domain={CONNECT}; Path=/; Secure",
    "without a name": f"={NAME}=evil; Domain=shop.localhost; Path=/live; Secure",
    "in capitals": f"{NAME.replace('__Host', '__HOST')}=evil; Domain=shop.localhost; Path=/; Secure",
    "behind a blank": f"\u00a0{NAME}=evil; Domain=shop.localhost; Path=/live; Secure",
    "behind a tab": f"\t{NAME}=evil; Domain=shop.localhost; Path=/live; Secure",
    "in quotes": f'"{NAME}"=evil; Domain=shop.localhost; Path=/; Secure',
    "in another's value": f'a="x; {NAME}=evil"; Domain=shop.localhost; Path=/; Secure',
}
"""What a page on a sibling host can try to set."""

HERE = {
    "on a longer path": f"{NAME}=evil; Path=/live; Secure",
    "on a path beside": f"{NAME}=evil; Path=/other; Secure",
    "not secure": f"{NAME}=evil; Path=/",
    "of the domain": f"{NAME}=evil; Domain={CONNECT}; Path=/; Secure",
}
"""What another application on the stack's own host can try to set."""


@dataclass(frozen=True, slots=True)
class Site:
    """The two hosts, served from one port."""

    port: int
    tossed: list[str] = field(default_factory=list)
    """The headers `Set-Cookie` of the next page `/toss` of any host."""
    came: list[str] = field(default_factory=list)
    """The header `Cookie` of each callback."""

    def url(self, host: str, path: str) -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            self.send_response(200)
            if self.path == "/live/authorize":
                self.send_header("Set-Cookie", cookie(NAME, "own", 3_600))
            if self.path == "/live/callback":
                made.came.append(self.headers.get("Cookie", ""))
            if self.path.endswith("/toss"):
                for header in made.tossed:
                    self.send_header("Set-Cookie", header)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.block_on_close = False
        made = Site(server.server_port)
        Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


def returned(page: Page, site: Site) -> str | None:
    """The cookie that the callback reads when this browser comes back."""
    page.goto(site.url(CONNECT, "/live/callback"))
    return read({"headers": {"Cookie": site.came[-1]}}, "r").cookie(NAME)


def toss(page: Page, site: Site, host: str, path: str, *headers: str) -> None:
    """Let a page of a host set cookies, by header and by script."""
    site.tossed[:] = headers
    page.goto(site.url(host, path))
    for header in headers:
        page.evaluate("header => { document.cookie = header }", header)


@pytest.mark.parametrize("how", TOSSED)
def test_a_sibling_host_cannot_toss_our_cookie(page: Page, site: Site, how: str) -> None:
    toss(page, site, SIBLING, "/toss", TOSSED[how])
    assert returned(page, site) is None
    page.goto(site.url(CONNECT, "/live/authorize"))
    assert returned(page, site) == "own"
    toss(page, site, SIBLING, "/toss", TOSSED[how])
    assert returned(page, site) == "own"


@pytest.mark.parametrize("how", HERE)
def test_another_path_of_our_host_cannot_toss_our_cookie(page: Page, site: Site, how: str) -> None:
    toss(page, site, CONNECT, "/other/toss", HERE[how])
    assert returned(page, site) is None
    page.goto(site.url(CONNECT, "/live/authorize"))
    toss(page, site, CONNECT, "/other/toss", HERE[how])
    assert returned(page, site) == "own"


def test_a_sibling_that_overflows_the_jar_can_at_most_end_a_connect(page: Page, site: Site) -> None:
    """Browsers keep some 180 cookies of a domain. Whoever pushes ours out puts nothing in its place."""
    page.goto(site.url(CONNECT, "/live/authorize"))
    for first in range(0, 240, 40):
        numbers = range(first, first + 40)
        toss(page, site, SIBLING, "/toss", *(f"c{n}=x; Domain=shop.localhost; Path=/; Secure" for n in numbers))
    assert returned(page, site) in ("own", None)
    assert "c239=x" in site.came[-1]


def test_what_is_tossed_does_reach_the_callback(page: Page, site: Site) -> None:
    """So the tests above attack: the same header with a name of its own does arrive."""
    toss(page, site, SIBLING, "/toss", TOSSED["the domain's"].replace("__Host-", "host-"))
    returned(page, site)
    assert "evil" in site.came[-1]
