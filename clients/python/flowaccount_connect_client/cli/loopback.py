"""A return URL of the terminal's own: it waits on this machine for the browser that comes back from a connect."""

import http.server
import time
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

LOOPBACK = ("127.0.0.1", "::1", "localhost")

_PAGE = (
    b"<!doctype html><meta charset=utf-8><title>FlowAccount Connect</title>"
    b"<p>You can close this page and go back to the terminal.\n"
)


class NotLoopback(ValueError):
    """The return URL does not lead to this machine, so the terminal could not hear of the browser's return."""


class ReturnUrl:
    """Listens at a return URL such as `http://localhost:8000/done`, from `with` on.

    Raises `NotLoopback`, and `OSError` if something else listens there.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname not in LOOPBACK:
            raise NotLoopback("the return URL must be http on a loopback host, as in http://localhost:8000/done")
        self._path = parts.path or "/"
        self._brought: dict[str, str] | None = None
        host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
        self._server = http.server.HTTPServer((host, parts.port or 80), self._handler())

    def __enter__(self) -> "ReturnUrl":
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        self._server.server_close()

    def wait(self, until: float) -> "dict[str, str] | None":
        """The parameters that the browser brings, or `None` if nobody came by `until` (epoch seconds)."""
        while self._brought is None and (left := until - time.time()) > 0:
            self._server.timeout = min(left, 1.0)
            self._server.handle_request()
        return self._brought

    def _handler(self) -> "type[http.server.BaseHTTPRequestHandler]":
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                """Take what the browser brings, once."""
                parts = urlsplit(self.path)
                query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                if parts.path != outer._path or not query.keys() & {"confirmation", "error"}:
                    self.send_error(404)
                    return
                outer._brought = query
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Cache-Control", "no-store")
                self.send_header("Referrer-Policy", "no-referrer")
                self.end_headers()
                self.wfile.write(_PAGE)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Write nothing: the request's line holds the confirmation."""

        return Handler
