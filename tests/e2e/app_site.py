"""The app's own site, as small as can be: what the browser returns to, and what an attacker can put on a page."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass(frozen=True, slots=True)
class AppSite:
    """A site on another host name than the stack's, so that browsers take the two for strangers."""

    url: str
    pages: dict[str, str] = field(default_factory=dict)
    """Markup by path; any other path answers with a word."""
    visits: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """What browsers asked for, with the headers (in lower case) that they sent."""

    @property
    def return_url(self) -> str:
        """Where the browser comes back to; it is on the stack's list."""
        return f"{self.url}/done"

    def returned(self) -> list[tuple[str, dict[str, str]]]:
        """The visits that came back from a connect."""
        return [visit for visit in self.visits if visit[0].startswith("/done")]


@contextmanager
def served() -> Iterator[AppSite]:
    """The site, for as long as the block runs."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            site.visits.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            body = site.pages.get(self.path.partition("?")[0], "<!doctype html><title>App</title>welcome").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    # With threads, since Chromium also opens connections on which it may never send anything.
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.block_on_close = False
        site = AppSite(f"http://localhost:{server.server_port}")
        Thread(target=server.serve_forever, daemon=True).start()
        yield site
        server.shutdown()
