"""A return URL on this machine: where the operator's own browser comes back to after a connect.

The browser comes with the confirmation and a `state` of ours. Nothing else is listened to, and nothing is logged: the
confirmation is a secret. RFC 8252 section 7.3 describes loopback redirects.
"""

import hmac
import queue
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PATH = "/flowaccount-connected"
PORT = 8767

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>FlowAccount Connect</title>
<p>You are back. The terminal shows the result; you can close this window.
<p lang="th">กลับมาแล้ว ดูผลลัพธ์ได้ที่หน้าต่างเทอร์มินัล และปิดหน้านี้ได้เลย
"""


class ReturnUrl:
    """Waits on 127.0.0.1 for one browser."""

    def __init__(self, port: int) -> None:
        self.url: str = f"http://127.0.0.1:{port}{PATH}"
        """The return URL, which must be one of the stack's allowed ones."""
        self.state: str = secrets.token_urlsafe()
        """What the browser must bring back."""
        self.came: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        """The parameters of each browser that came back with the state."""


@contextmanager
def listening(port: int) -> Iterator[ReturnUrl]:
    """Listen while the block runs. Raises `OSError` if the port is taken."""
    back = ReturnUrl(port)

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            given = {name: values[0] for name, values in parse_qs(parts.query).items()}
            known = parts.path == PATH and self.headers.get("Host") == f"127.0.0.1:{port}"
            if not (known and hmac.compare_digest(given.get("state", "").encode(), back.state.encode())):
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            back.came.put(given)
            page = _PAGE.encode()
            self.send_response(HTTPStatus.OK)
            for name, value in (
                ("Content-Type", "text/html; charset=utf-8"),
                ("Content-Length", str(len(page))),
                ("Content-Security-Policy", "default-src 'none'"),
                ("Cache-Control", "no-store"),
                ("Referrer-Policy", "no-referrer"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Nothing: a path holds the confirmation."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield back
        finally:
            server.shutdown()
            thread.join()
