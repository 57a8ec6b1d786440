"""An ordinary OAuth server, as far from the simulator as the RFCs allow, that sends `supportCode` along.

It asks nobody (its user is logged in and consents always), demands PKCE, names itself in its callbacks, keeps its
refresh tokens, answers errors with 400, sends `expires_in` as a number and `token_type` as `bearer`, and names its
paths otherwise.
"""

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

CLIENT_ID, CLIENT_SECRET = "shop & co", "s3cr3t/+= with spaces"


class _Handler(BaseHTTPRequestHandler):
    server: "OrdinaryServer"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        code = secrets.token_hex(40)
        assert asked["code_challenge_method"] == "S256"
        self.server.codes[code] = asked["redirect_uri"], asked["code_challenge"]
        named = {"iss": self.server.issuer} if self.server.issuer is not None else {}
        back = urlencode({"state": asked["state"], "code": code, "session_state": "whatever"} | named)
        self._answer(303, b"", Location=f"{asked['redirect_uri']}?{back}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        status, answer = self._grant(form)
        self.server.posts.append((form["grant_type"], status))
        self._answer(status, json.dumps(answer).encode(), **{"Content-Type": "application/json"})

    def _grant(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}
        if form["grant_type"] == "authorization_code":
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            if self.server.codes.pop(form["code"], None) != (form["redirect_uri"], challenge):
                return 400, {"error": "invalid_grant", "error_description": "no such code"}
            refresh = {"refresh_token": self.server.refresh_token}
        else:
            if form["refresh_token"] != self.server.refresh_token:
                return 400, {"error": "invalid_grant"}
            refresh = {}
        tokens = {"access_token": secrets.token_hex(64), "token_type": "bearer", "expires_in": 900}
        return 200, tokens | refresh | {"scope": "everything", "supportCode": "shop-42"}

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: its URLs hold codes."""


class OrdinaryServer(ThreadingHTTPServer):
    """The server, its codes, and what was asked of its token endpoint."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.codes: dict[str, tuple[str, str]] = {}
        """Redirect URI and challenge by code."""
        self.issuer: str | None = self.url
        self.refresh_token = secrets.token_urlsafe(200)
        self.posts: list[tuple[str, int]] = []

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def ordinary_server() -> Iterator[OrdinaryServer]:
    """A server that runs for as long as the block."""
    with OrdinaryServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
