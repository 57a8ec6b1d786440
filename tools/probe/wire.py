"""What the probe sends, and what it saw come back.

Requests go out through the product's own `TokenEndpoint` and are judged by its own rules; beside the verdict the probe
keeps what the product never does: which fields an answer had, and how it looked. Bodies are described, never quoted.
"""

import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import requests

from flowaccount_connect.oauth.token_answer import BODY_LIMIT, Answer, Outcome, TokenSet, classify, json_object
from flowaccount_connect.oauth.token_endpoint import NO_ANSWER, TokenEndpoint
from tools.probe.target import Target

WINDOW = 60
"""Seconds that a server's rate limit most likely counts over."""

LONGEST_WAIT = 120
"""Seconds that the probe waits for a throttling server before it gives a question up."""

_TRIES = 3

REFUSALS = frozenset({"invalid_grant", "invalid_request"})
"""Error codes that refuse the code or the token that was sent."""

CLIENT_REFUSALS = REFUSALS | {"invalid_client", "unauthorized_client"}
"""Error codes that refuse a request with a wrong client secret."""

_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z_]{0,31}")


type Heard = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body of an answer."""


type Kind = tuple[int | None, str | None, str]
"""What answers of one sort share: status, error code, content type."""


class Unanswered(Exception):
    """A question stays open; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One answer: the product's verdict, the tokens in it even if the product would refuse them, and how it looked."""

    answer: Answer
    tokens: TokenSet | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    fields: Mapping[str, object] = field(default_factory=dict, repr=False)
    look: str = "no answer"
    wrong_secret: bool = False
    """Whether it was asked for with another client secret than the right one."""

    @property
    def outcome(self) -> Outcome:
        """The product's verdict."""
        return self.answer.outcome

    @property
    def refused(self) -> bool:
        """Whether it is a clear no: an error code that fits what was sent.

        A 403 without one may come from a gateway, and `invalid_client` under the right secret tells nothing of a token.
        """
        fits = self.answer.error in (CLIENT_REFUSALS if self.wrong_secret else REFUSALS)
        return self.tokens is None and fits and self.outcome in (Outcome.REJECTED, Outcome.CONFIGURATION_ERROR)

    @property
    def kind(self) -> Kind:
        """What it shares with other answers of its sort."""
        return self.answer.status, self.answer.error, self.headers.get("content-type", "")

    @property
    def unusable(self) -> bool:
        """Whether nothing can be told from it."""
        return self.tokens is None and not self.refused


@dataclass(slots=True)
class Books:
    """What the whole probe remembers beside its findings."""

    secrets: set[str] = field(default_factory=set, repr=False)
    """Everything that must not be in a report."""
    surprises: list[str] = field(default_factory=list)
    """Answers of no use, in words, each once, in the order they came."""
    throttled: list[Seen] = field(default_factory=list, repr=False)
    """Every 429."""
    sent: deque[float] = field(default_factory=deque, repr=False)
    """When the requests of the last minute went out."""
    let_in: list[float] = field(default_factory=list)
    """When the token endpoint said yes or no."""
    total: int = 0
    """Requests sent."""

    def surprise(self, words: str) -> None:
        """Note an answer of no use."""
        if words not in self.surprises:
            self.surprises.append(words)


class Wire:
    """Sends requests at a polite pace, waits where it is told to, and keeps the books."""

    def __init__(
        self,
        target: Target,
        books: Books,
        *,
        pace: int,
        patience: float,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float, str], None] = lambda seconds, _why: time.sleep(seconds),
    ) -> None:
        """`pace`: requests a minute, 0 for no limit. `patience`: seconds that an answer may take.

        `sleep` takes seconds, and what for.
        """
        self._target = target
        self._books = books
        self._pace = pace
        self._patience = patience
        self._lock = threading.Lock()
        self.clock = clock
        self.sleep = sleep

    def exchange(self, what: str, code: str, *, redirect_uri: str | None = None, verifier: str | None = None) -> Seen:
        """Exchange a code. `what` says in the books what this was."""

        def send(endpoint: TokenEndpoint) -> Answer:
            return endpoint.exchange_code(
                code,
                redirect_uri or self._target.redirect_uri,
                self._target.client_secret,
                budget=self._patience,
                verifier=verifier,
            )

        return self._until_let_in(what, send)

    def refresh(
        self, what: str, token: str, *, support_code: str = "", secret: str | None = None, at_once: bool = False
    ) -> Seen:
        """Refresh once. `secret` is another client secret than the right one.

        `at_once`: without any pause, for which `reserve` makes room; raises `Unanswered` if the server throttles.
        """
        send = self._refresh(token, support_code, secret)
        if not at_once:
            return self._until_let_in(what, send, wrong_secret=secret is not None)
        seen = self._once(what, send, paced=False)
        if seen.outcome is Outcome.THROTTLED:
            raise Unanswered(f"The server throttled what had to be sent at once ({seen.look}).")
        return seen

    def knock(self, token: str) -> Seen:
        """Refresh at no pace and without waiting for a throttling server: for measuring the rate limit."""
        return self._once("rate limit", self._refresh(token, "", None), paced=False)

    def reserve(self, turns: int) -> None:
        """Wait until so many requests can go out without a pause. Raises `Unanswered` if the pace never allows that."""
        if 0 < self._pace < turns:
            raise Unanswered(f"It takes {turns} requests in a row, and PACE is {self._pace}.")
        with self._lock:
            self._wait_for(turns)

    def busiest(self) -> int:
        """The most token requests that were answered within a minute so far."""
        times, most, first = self._books.let_in, 0, 0
        for last, moment in enumerate(times):
            # A little less than a minute, since the server saw them at other moments than we did.
            while times[first] <= moment - WINDOW * 0.9:
                first += 1
            most = max(most, last - first + 1)
        return most

    def company(self, access_token: str) -> tuple[bool | None, str]:
        """Whether the business API takes an access token, `None` if that cannot be told; and how the answer looked.

        A no counts if it is said twice.
        """
        if self._target.business_api is None:
            return None, "no business API was given"
        taken, looks = self._takes(access_token)
        return self._takes(access_token) if taken is False else (taken, looks)

    def _takes(self, access_token: str) -> tuple[bool | None, str]:
        said = None
        for _ in range(_TRIES):
            self._wait_for_turn()
            said = self._company(access_token)
            if said is None or said[0] != HTTPStatus.TOO_MANY_REQUESTS:
                break
            throttled = _seen(classify(*said, now=self.clock()), said, self.clock())
            self._books.throttled.append(throttled)
            self.pause(throttled)
        if said is None:
            self._books.surprise("The business API gave no answer.")
            return None, "no answer"
        status, headers, body = said
        looks = look(status, headers, body, None)
        state = json_object(body).get("status")
        if status == HTTPStatus.OK and state is True:
            return True, looks
        if status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.OK and state is False):
            return False, looks
        self._books.surprise(f"The business API answered neither yes nor no: {looks}.")
        return None, looks

    def _company(self, access_token: str) -> Heard | None:
        """What `company/info` says; `None`: nothing, in time."""
        said: list[Heard] = []

        def ask() -> None:
            session = requests.Session()
            session.trust_env = False
            try:
                with session.get(
                    f"{self._target.business_api}/company/info",
                    headers={"Authorization": f"Bearer {access_token}", "Accept": "application/json"},
                    timeout=self._patience,
                    allow_redirects=False,
                    stream=True,
                ) as response:
                    body = response.raw.read(BODY_LIMIT + 1, decode_content=True)
                    said.append((response.status_code, dict(response.headers), body))
            except Exception:  # noqa: S110 - whatever it was: nothing was said
                pass

        # On a thread, since the timeouts of `requests` do not bound a dripping answer.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(self._patience)
        return said[0] if said else None

    def pause(self, throttled: Seen) -> None:
        """Wait as long as the server asks for, within reason."""
        self.sleep(min(max(throttled.answer.retry_after or WINDOW, 1), LONGEST_WAIT), "since the server throttles")

    def _refresh(self, token: str, support_code: str, secret: str | None) -> Callable[[TokenEndpoint], Answer]:
        def send(endpoint: TokenEndpoint) -> Answer:
            return endpoint.refresh(
                token, secret or self._target.client_secret, connection_id=support_code, budget=self._patience
            )

        return send

    def _until_let_in(self, what: str, send: Callable[[TokenEndpoint], Answer], *, wrong_secret: bool = False) -> Seen:
        """Send; a 429 spent nothing, so wait and send again. Raises `Unanswered` where it goes on."""
        for _ in range(_TRIES):
            seen = self._once(what, send, wrong_secret=wrong_secret)
            if seen.outcome is not Outcome.THROTTLED:
                return seen
            self.pause(seen)
        raise Unanswered(f"The server went on throttling ({seen.look}).")

    def _once(
        self,
        what: str,
        send: Callable[[TokenEndpoint], Answer],
        *,
        paced: bool = True,
        wrong_secret: bool = False,
    ) -> Seen:
        """One request, noted in the books."""
        self._wait_for_turn(paced=paced)
        heard: list[Heard] = []

        def judge(status: int, headers: Mapping[str, str], body: bytes, **known: Any) -> Answer:
            heard.append((status, headers, body))
            return classify(status, headers, body, **known)

        answer = send(TokenEndpoint(self._target.token_endpoint, self._target.client_id, clock=self.clock, judge=judge))
        seen = replace(_seen(answer, heard[0] if heard else None, self.clock()), wrong_secret=wrong_secret)
        if seen.tokens is not None:
            self._books.secrets |= {seen.tokens.access_token, seen.tokens.refresh_token or ""}
        self._books.secrets |= {text for text in seen.fields.values() if isinstance(text, str) and len(text) > 32}
        if seen.outcome is Outcome.THROTTLED:
            self._books.throttled.append(seen)
            return seen
        if seen.unusable:
            self._books.surprise(f"{what}: {seen.look}.")
        else:
            self._books.let_in.append(self.clock())
        return seen

    def _wait_for_turn(self, *, paced: bool = True) -> None:
        """Keep to the pace, or only count what goes out at none."""
        with self._lock:
            if paced:
                self._wait_for(1)
            self._books.sent.append(self.clock())
            self._books.total += 1

    def _wait_for(self, turns: int) -> None:
        """Wait until so many more requests keep what went out within the last minute at or below the pace."""
        sent, now = self._books.sent, self.clock()
        while sent and sent[0] <= now - WINDOW:
            sent.popleft()
        over = len(sent) + turns - self._pace
        pause = sent[over - 1] + WINDOW - now if self._pace and over > 0 else 0.0
        if pause > 0:
            self.sleep(pause, "to keep the pace")


def _seen(answer: Answer, heard: Heard | None, now: float) -> Seen:
    if heard is None:
        words = "the request could not be sent" if answer.outcome is Outcome.NOT_SENT else "no answer in time"
        return Seen(answer=answer, look=words)
    status, headers, body = heard
    whole = answer.error not in NO_ANSWER
    tokens = answer.tokens
    if tokens is None and whole and answer.outcome in (Outcome.INCOMPLETE, Outcome.IN_DOUBT):
        # Read as on a refresh that names no business: the probe needs neither a business nor a new refresh token.
        nameless = json.dumps(dict(json_object(body)) | {"supportCode": None}).encode()
        tokens = classify(status, headers, nameless, connection_id="", now=now).tokens
    words = look(status, headers, body, answer.error)
    return Seen(
        answer=answer,
        tokens=tokens,
        headers={name.lower(): value for name, value in headers.items()},
        fields=json_object(body) if whole else {},
        look=words if whole else f"HTTP {status}, broken off or not ended in time after {len(body):,} bytes",
    )


def look(status: int, headers: Mapping[str, str], body: bytes, error: str | None) -> str:
    """How an answer looked, without a word of the server's: `error` is a known OAuth error code, or `unknown`."""
    fields = json_object(body)
    if fields:
        shown = [f"{_name(name)}: {_value(name, value, error)}" for name, value in list(fields.items())[:12]]
        return f"HTTP {status}, JSON {{{', '.join(shown)}{', …' if len(fields) > 12 else ''}}}"
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "").partition(";")[0]
    kind = kind.strip().lower() if re.fullmatch(r"[\w.+-]{1,40}/[\w.+-]{1,40}", kind.strip()) else "no content type"
    if not body:
        return f"HTTP {status}, empty"
    return f"HTTP {status}, {kind}, {len(body):,} bytes that are no JSON object"


def _name(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else f"a name of {len(name)} characters"


def _value(name: str, value: object, error: str | None) -> str:
    if name == "error" and isinstance(value, str) and error not in (None, "unknown"):
        return f'"{error}"'
    if isinstance(value, str):
        return "an empty string" if not value else f"a string of {len(value):,}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"
