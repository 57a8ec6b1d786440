"""Sends the probe's requests to the token endpoint, at a polite pace, and waits where the server throttles."""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import requests

from flowaccount_connect.oauth.token_answer import BODY_LIMIT, Outcome
from tools.probe.answers import Received, Seen, Unanswered, judged
from tools.probe.target import Target

WINDOW = 60
"""Seconds that a server's rate limit most likely counts over."""

LONGEST_WAIT = 120
"""Seconds that the probe waits for a throttling server before it leaves a question open."""

TRIES = 3
"""Times that a request is sent to a throttling server."""


class Sender:
    """Sends requests, and remembers what the report needs and what it must not show."""

    def __init__(
        self,
        target: Target,
        *,
        pace: int,
        patience: float = 20,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float, str], None] = lambda seconds, _why: time.sleep(seconds),
    ) -> None:
        """`pace`: requests a minute, 0: no limit. `patience`: seconds for an answer. `sleep`: seconds, and why."""
        self.clock = clock
        self.sleep = sleep
        self.secrets = {target.client_secret}
        """Everything that no report may show."""
        self.surprises: list[str] = []
        """Answers of no use, in words, each once, in the order they came."""
        self.total = 0
        """Requests sent."""
        self._target = target
        self._pace = pace
        self._patience = patience
        self._sent: deque[float] = deque()
        """When the requests of the last minute were sent."""

    def exchange(self, what: str, code: str, *, verifier: str | None = None) -> Seen:
        """Exchange a code (RFC 6749 section 4.1.3). `what` names the request in the report. Raises `Unanswered`."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._target.redirect_uri}
        return self._until_let_in(what, form | ({"code_verifier": verifier} if verifier else {}))

    def refresh(self, what: str, token: str, *, wrong_secret: str | None = None) -> Seen:
        """Refresh once (RFC 6749 section 6). Raises `Unanswered` where the server goes on throttling."""
        form = {"grant_type": "refresh_token", "refresh_token": token}
        return self._until_let_in(what, form, wrong_secret)

    def knock(self, token: str) -> Seen:
        """Refresh at no pace and without a wait for a throttling server: to measure the rate limit."""
        return self._once("The rate limit", {"grant_type": "refresh_token", "refresh_token": token})

    def _until_let_in(self, what: str, form: dict[str, str], wrong_secret: str | None = None) -> Seen:
        """Send; a 429 spent nothing, so wait and send again."""
        for _ in range(TRIES):
            self._wait_for_turn()
            seen = self._once(what, form, wrong_secret)
            if seen.answer.outcome is not Outcome.THROTTLED:
                return seen
            self.sleep(wait_after(seen), "since the server throttles")
        raise Unanswered(f"The server went on throttling ({seen.look}).")

    def _once(self, what: str, form: dict[str, str], wrong_secret: str | None = None) -> Seen:
        """One request, and what has to be remembered of it."""
        self._sent.append(self.clock())
        self.total += 1
        client = {"client_id": self._target.client_id, "client_secret": wrong_secret or self._target.client_secret}
        began = time.monotonic()
        received = _post(self._target.token_endpoint, form | client, self._patience)
        took = time.monotonic() - began
        seen = judged(received, now=self.clock(), seconds=took, wrong_secret=wrong_secret is not None)
        if seen.tokens is not None:
            self.secrets |= {seen.tokens.access_token, seen.tokens.refresh_token or ""}
        words = f"{what}: {seen.look}."
        if seen.unusable and seen.answer.outcome is not Outcome.THROTTLED and words not in self.surprises:
            self.surprises.append(words)
        return seen

    def _wait_for_turn(self) -> None:
        """Wait until one more request keeps the last minute at or below the pace."""
        now = self.clock()
        while self._sent and self._sent[0] <= now - WINDOW:
            self._sent.popleft()
        if self._pace and len(self._sent) >= self._pace:
            self.sleep(self._sent[-self._pace] + WINDOW - now, "to keep the pace")


def wait_after(throttled: Seen) -> int:
    """Seconds to wait after a 429: what the server asks for, a minute where it does not say, within reason."""
    return min(max(throttled.answer.retry_after or WINDOW, 1), LONGEST_WAIT)


def _post(url: str, form: dict[str, str], patience: float) -> Received | None:
    """One POST; `None` where no whole answer came within `patience` seconds. No redirects, proxies or retries."""
    came: list[Received] = []
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}

    def send() -> None:
        with suppress(Exception), requests.Session() as session:
            session.trust_env = False
            with session.post(
                url, data=form, headers=headers, timeout=patience, allow_redirects=False, stream=True
            ) as response:
                body = response.raw.read(BODY_LIMIT + 1, decode_content=True)
                came.append((response.status_code, dict(response.headers), body))

    # On a thread, since the timeouts of `requests` do not bound an answer that drips.
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(patience)
    return came[0] if came else None
