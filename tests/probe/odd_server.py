"""A small authorization server with the oddities that the simulator has no switch for. Consents by itself."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import requests

from tools.probe.target import Target

CLIENT_ID, CLIENT_SECRET = "odd client", 'an "odd" secret with spaces'
REDIRECT_URI = "http://127.0.0.1:9/callback"


@dataclass(kw_only=True)
class Oddities:
    """How this server differs from a strict one. `grace`: seconds in which a rotated token may be used again."""

    grace: float = 0
    grace_answer: str = "same"
    """`same`: the same successor again; `new`: yet another one."""
    kills: bool = False
    """Whether a reuse out of grace ends the consent."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Members of token answers, `...` to leave one out."""
    refresh_changes: dict[str, Any] = field(default_factory=dict)
    """The same for the answers to refreshes alone."""
    errors: Callable[[str, dict[str, str]], tuple[int, str]] | None = None
    """Status and body of an error, from its code and the form."""
    demands_challenge: bool = False
    checks_challenge: bool = True
    checks_secret: bool = True
    issuers: list[str | None] = field(default_factory=lambda: [None])
    """`iss` of the callbacks, one after the other."""
    stumbles: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    """Status and body that these token requests get, by their number from 1, without being looked at."""
    loses: Collection[int] = ()
    """Token requests, by their number from 1, that are done and then answered with a 503."""


@dataclass
class Consent:
    """One consent's tokens."""

    alive: bool = True
    rotated: dict[str, tuple[float, str]] = field(default_factory=dict)


class OddServer(ThreadingHTTPServer):
    """The server; one lock around each request."""

    def __init__(self, oddities: Oddities) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.oddities = oddities
        self.codes: dict[str, dict[str, Any]] = {}
        self.owners: dict[str, Consent] = {}
        self.offset = 0.0
        self.lock = threading.Lock()
        self.callbacks = 0
        self.token_requests = 0
        self.tried: list[str] = []
        """Codes that somebody wanted to exchange."""

    @property
    def now(self) -> float:
        return time.time() + self.offset

    @property
    def target(self) -> Target:
        url = f"http://127.0.0.1:{self.server_address[1]}"
        return Target(
            authorize_endpoint=f"{url}/login",
            token_endpoint=f"{url}/oauth/token",
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            redirect_uri=REDIRECT_URI,
        )

    def advance(self, seconds: float) -> None:
        self.offset += seconds

    def authorize(self, asked: dict[str, str]) -> dict[str, str]:
        issuer = self.oddities.issuers[min(self.callbacks, len(self.oddities.issuers) - 1)]
        self.callbacks += 1
        back = {"state": asked["state"]} | ({"iss": issuer} if issuer is not None else {})
        if "cancel" in asked:
            return back | {"error": "access_denied"}
        if self.oddities.demands_challenge and "code_challenge" not in asked:
            return back | {"error": "invalid_request"}
        code = secrets.token_urlsafe(30)
        self.codes[code] = {"asked": asked, "consent": Consent(), "used": False}
        return back | {"code": code}

    def answer(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        known = form.get("client_id") == CLIENT_ID and form.get("client_secret") == CLIENT_SECRET
        if not known and self.oddities.checks_secret:
            return 401, {"error": "invalid_client"}
        return self.exchange(form) if "code" in form else self.refresh(form)

    def exchange(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        self.tried.append(form["code"])
        code = self.codes.get(form["code"])
        if code is None or code["used"]:
            return 400, {"error": "invalid_grant"}
        code["used"] = True
        challenge = code["asked"].get("code_challenge")
        made = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if challenge is not None and self.oddities.checks_challenge and made.decode().rstrip("=") != challenge:
            return 400, {"error": "invalid_grant"}
        return 200, self.issue(code["consent"])

    def refresh(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        odd, token = self.oddities, form.get("refresh_token", "")
        consent, now = self.owners.get(token), self.now
        if consent is None or not consent.alive:
            return 400, {"error": "invalid_grant"}
        if token in consent.rotated:
            at, successor = consent.rotated[token]
            if now - at < odd.grace:
                return 200, self.issue(consent, successor if odd.grace_answer == "same" else "")
            consent.alive = not odd.kills
            return 400, {"error": "invalid_grant"}
        answer = self.issue(consent) | odd.refresh_changes
        consent.rotated[token] = now, answer["refresh_token"]
        return 200, answer

    def issue(self, consent: Consent, token: str = "") -> dict[str, Any]:
        """A token answer, with a new refresh token unless one is given."""
        token = token or secrets.token_urlsafe(40)
        self.owners[token] = consent
        answer = {"access_token": secrets.token_urlsafe(30), "refresh_token": token, "supportCode": "N42"}
        return answer | {"expires_in": 3_600} | self.oddities.changes


class _Handler(BaseHTTPRequestHandler):
    server: OddServer

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        with self.server.lock:
            back = urlencode(self.server.authorize(asked))
        self.reply(302, "", Location=f"{asked['redirect_uri']}?{back}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        with self.server.lock:
            self.server.token_requests += 1
            stumbles = self.server.oddities.stumbles.get(self.server.token_requests)
            if stumbles is not None:
                self.reply(*stumbles)
                return
            status, answer = self.server.answer(form)
            if self.server.token_requests in self.server.oddities.loses:
                status, answer = 503, {}
        errors = self.server.oddities.errors
        if "error" in answer and errors is not None:
            self.reply(*errors(answer["error"], form))
        else:
            self.reply(status, json.dumps({name: value for name, value in answer.items() if value is not ...}))

    def reply(self, status: int, body: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Nothing: its URLs hold codes."""


class OddConsents:
    """Its user."""

    def ask(self, url: str, *, why: str, cancel: bool = False) -> str | None:  # noqa: ARG002 - for people
        """Where the login sends the browser."""
        answer = requests.get(f"{url}{'&cancel=1' if cancel else ''}", allow_redirects=False, timeout=10)
        return answer.headers.get("Location")


@contextmanager
def odd_server(oddities: Oddities) -> Iterator[OddServer]:
    """A server that runs for as long as the block."""
    with OddServer(oddities) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()
