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
from typing import Any
from urllib.parse import urlencode

import requests
from flask import Flask, redirect, request
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

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


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        """Nothing: the URLs hold codes."""


class OddServer:
    """The server; one lock around each request."""

    def __init__(self, oddities: Oddities) -> None:
        app = Flask(__name__)
        app.add_url_rule("/login", view_func=self.login)
        app.add_url_rule("/oauth/token", view_func=self.token, methods=["POST"])
        self.wsgi = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
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
        url = f"http://127.0.0.1:{self.wsgi.port}"
        return Target(
            authorize_endpoint=f"{url}/login",
            token_endpoint=f"{url}/oauth/token",
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            redirect_uri=REDIRECT_URI,
        )

    def advance(self, seconds: float) -> None:
        self.offset += seconds

    def login(self) -> Response:
        asked = request.args.to_dict()
        with self.lock:
            return redirect(f"{asked['redirect_uri']}?{urlencode(self.authorize(asked))}")

    def token(self) -> tuple[str, int]:
        form = request.form.to_dict()
        with self.lock:
            self.token_requests += 1
            if self.token_requests in self.oddities.stumbles:
                status, body = self.oddities.stumbles[self.token_requests]
                return body, status
            status, answer = self.answer(form)
            if self.token_requests in self.oddities.loses:
                status, answer = 503, {}
        if "error" in answer and self.oddities.errors is not None:
            status, body = self.oddities.errors(answer["error"], form)
            return body, status
        return json.dumps({name: value for name, value in answer.items() if value is not ...}), status

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


class OddConsents:
    """Its user."""

    def ask(self, url: str, *, why: str, cancel: bool = False) -> str | None:  # noqa: ARG002 - for people
        """Where the login sends the browser."""
        answer = requests.get(f"{url}{'&cancel=1' if cancel else ''}", allow_redirects=False, timeout=10)
        return answer.headers.get("Location")


@contextmanager
def odd_server(oddities: Oddities) -> Iterator[OddServer]:
    """A server that runs for as long as the block."""
    server = OddServer(oddities)
    with server.wsgi:
        threading.Thread(target=server.wsgi.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.wsgi.shutdown()
