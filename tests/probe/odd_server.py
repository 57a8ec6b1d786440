"""A small authorization server with the oddities that the simulator has no switch for. Consents by itself."""

import base64
import hashlib
import json
import math
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
    kills_access: bool = False
    """Whether the access tokens end with it."""
    rotation: str = "new"
    """`new`, `same` (the same token comes back), or `none`."""
    issues_refresh_token: bool = True
    changes: dict[str, Any] = field(default_factory=dict)
    """Members of token answers, `...` to leave one out."""
    errors: Callable[[str, dict[str, str]], tuple[int, str, str]] | None = None
    """Status, content type and body of an error, from its code and the form."""
    demands_challenge: bool = False
    checks_challenge: bool = True
    missing_verifier_passes: bool = False
    checks_secret: str = "first"
    """`first`: before the token is looked at; `last`: after it was spent; `never`."""
    compares_redirect_uri: bool = True
    code_works_again: bool = False
    second_code_kills: bool = False
    failed_exchange_burns: bool = True
    issuers: list[str | None] = field(default_factory=lambda: [None])
    """`iss` of the callbacks, one after the other."""
    callback: Callable[[dict[str, str]], dict[str, str]] = lambda parameters: parameters
    access_dies_on_refresh: bool = False
    stumbles: Mapping[int, tuple[int, str]] = field(default_factory=dict)
    """Status and body that these token requests get, by their number from 1, without being looked at."""
    loses: Collection[int] = ()
    """Token requests, by their number from 1, that are done and then answered with a 503."""
    api_stumbles: Mapping[int, int] = field(default_factory=dict)
    """The status that these requests to the business API get whatever their token, by their number from 1."""
    answers_api: bool = True
    """Whether the business API takes any token at all."""
    ends_earlier_consents: bool = False
    refuses_challenges: str | None = None
    """The login's error where a challenge was sent."""
    token_lives: float = math.inf
    """Seconds from its issue in which a refresh token is good."""


@dataclass
class Consent:
    """One consent's tokens."""

    newest: str | None = None
    alive: bool = True
    rotated: dict[str, tuple[float, str]] = field(default_factory=dict)
    access: set[str] = field(default_factory=set)
    issued: dict[str, float] = field(default_factory=dict)
    """When its refresh tokens were."""


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
        self.api_requests = 0
        self.tried: list[str] = []
        """Codes that somebody wanted to exchange."""

    @property
    def now(self) -> float:
        """Its own time."""
        return time.time() + self.offset

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def target(self) -> Target:
        """It as a target."""
        return Target(
            authorize_endpoint=f"{self.url}/login",
            token_endpoint=f"{self.url}/oauth/token",
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            redirect_uri=REDIRECT_URI,
            business_api=f"{self.url}/api",
        )

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.offset += seconds

    def authorize(self, asked: dict[str, str]) -> dict[str, str]:
        """The parameters of the callback."""
        issuer = self.oddities.issuers[min(self.callbacks, len(self.oddities.issuers) - 1)]
        self.callbacks += 1
        back = {"state": asked["state"]} | ({"iss": issuer} if issuer is not None else {})
        if "cancel" in asked:
            return self.oddities.callback(back | {"error": "access_denied"})
        if self.oddities.demands_challenge and "code_challenge" not in asked:
            return self.oddities.callback(back | {"error": "invalid_request"})
        if self.oddities.refuses_challenges and "code_challenge" in asked:
            return self.oddities.callback(back | {"error": self.oddities.refuses_challenges})
        if self.oddities.ends_earlier_consents:
            for consent in self.consents():
                consent.alive = False
        code = secrets.token_urlsafe(30)
        self.codes[code] = {"asked": asked, "consent": Consent(), "used": False}
        return self.oddities.callback(back | {"code": code})

    def answer(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """What a token request gets."""
        known = form.get("client_id") == CLIENT_ID and form.get("client_secret") == CLIENT_SECRET
        if not known and self.oddities.checks_secret == "first":
            return 401, {"error": "invalid_client"}
        status, body = self.exchange(form) if "code" in form else self.refresh(form)
        if not known and self.oddities.checks_secret == "last":
            return 401, {"error": "invalid_client"}
        return status, body

    def exchange(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """The code grant."""
        self.tried.append(form["code"])
        odd, code = self.oddities, self.codes.get(form["code"])
        refused = 400, {"error": "invalid_grant"}
        if code is None:
            return refused
        if code["used"] and not odd.code_works_again:
            code["consent"].alive = code["consent"].alive and not odd.second_code_kills
            return refused
        wrong = odd.compares_redirect_uri and form["redirect_uri"] != code["asked"]["redirect_uri"]
        challenge, verifier = code["asked"].get("code_challenge"), form.get("code_verifier")
        if challenge is not None and odd.checks_challenge:
            made = base64.urlsafe_b64encode(hashlib.sha256((verifier or "").encode()).digest()).decode().rstrip("=")
            wrong = wrong or (made != challenge and not (verifier is None and odd.missing_verifier_passes))
        code["used"] = not wrong or odd.failed_exchange_burns
        return refused if wrong else (200, self.issue(code["consent"]))

    def refresh(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """The refresh grant."""
        odd, token = self.oddities, form.get("refresh_token", "")
        consent, now = self.owners.get(token), self.now
        if consent is None or not consent.alive or now - consent.issued[token] > odd.token_lives:
            return 400, {"error": "invalid_grant"}
        if odd.rotation != "new":
            return 200, self.issue(consent, token if odd.rotation == "same" else None)
        if token in consent.rotated:
            at, successor = consent.rotated[token]
            if now - at < odd.grace:
                return 200, self.issue(consent, successor if odd.grace_answer == "same" else "")
            consent.alive = not odd.kills
            if odd.kills and odd.kills_access:
                consent.access.clear()
            return 400, {"error": "invalid_grant"}
        if odd.access_dies_on_refresh:
            consent.access.clear()
        answer = self.issue(consent)
        consent.rotated[token] = now, answer["refresh_token"]
        return 200, answer

    def issue(self, consent: Consent, token: str | None = "") -> dict[str, Any]:
        """A token answer; an empty `token` stands for a new one."""
        access = secrets.token_urlsafe(30)
        consent.access.add(access)
        answer: dict[str, Any] = {"access_token": access, "expires_in": 3_600, "token_type": "Bearer"}
        answer["supportCode"] = "N42"
        if token == "":
            token = secrets.token_urlsafe(40)
        if token is not None and self.oddities.issues_refresh_token:
            self.owners[token] = consent
            consent.issued[token] = self.now
            answer["refresh_token"] = token
        answer |= self.oddities.changes
        return {name: value for name, value in answer.items() if value is not ...}

    def lives(self, access: str) -> bool:
        """Whether an access token works."""
        return self.oddities.answers_api and any(access in consent.access for consent in self.consents())

    def stumble(self) -> tuple[int, str] | None:
        """What the next token request gets without being looked at, if it is to stumble."""
        return self.oddities.stumbles.get(self.token_requests)

    def consents(self) -> list[Consent]:
        """All consents."""
        return [code["consent"] for code in self.codes.values()]


class _Handler(BaseHTTPRequestHandler):
    server: OddServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        with self.server.lock:
            if parts.path == "/login":
                asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
                back = urlencode(self.server.authorize(asked))
                self.reply(302, "text/plain", "", Location=f"{asked['redirect_uri']}?{back}")
            else:
                self.server.api_requests += 1
                works = self.server.lives(self.headers.get("Authorization", "").removeprefix("Bearer "))
                stumbles = self.server.oddities.api_stumbles.get(self.server.api_requests)
                status = stumbles or (200 if works else 401)
                self.reply(status, "application/json", json.dumps({"status": status == 200}))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        with self.server.lock:
            self.server.token_requests += 1
            stumbles = self.server.stumble()
            if stumbles is not None:
                self.reply(stumbles[0], "application/json", stumbles[1])
                return
            status, answer = self.server.answer(form)
            if self.server.token_requests in self.server.oddities.loses:
                status, answer = 503, {}
        errors = self.server.oddities.errors
        if "error" in answer and errors is not None:
            self.reply(*errors(answer["error"], form))
        else:
            self.reply(status, "application/json", json.dumps(answer))

    def reply(self, status: int, kind: str, body: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
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
def odd_server(oddities: Oddities, kind: type[OddServer] = OddServer) -> Iterator[OddServer]:
    """A server that runs for as long as the block."""
    with kind(oddities) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()
