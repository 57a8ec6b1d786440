"""Logins under way: what a client asked for, and who has logged in so far."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

from tools.simulator.clock import Clock
from tools.simulator.people import User

LIFETIME = 3_600.0
"""Seconds that a login page can be left open."""

MAX_ATTEMPTS = 10_000
"""Logins kept; beyond it the oldest have to start over."""


@dataclass(eq=False)
class Attempt:
    """One browser on its way through the pages.

    It is not used up by the choice of a business: whoever presses Back and chooses again gets another code,
    as with any IdentityServer. parameters: those of the authorize request, each once.
    """

    attempt_id: str
    parameters: dict[str, str]
    started_at: float
    user: User | None = None


class Attempts:
    """The logins under way, by an id that nobody can guess."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._attempts: OrderedDict[str, Attempt] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, parameters: dict[str, str]) -> Attempt:
        """A new login for a valid authorize request."""
        attempt = Attempt(secrets.token_urlsafe(24), parameters, self._clock.now())
        with self._lock:
            self._attempts[attempt.attempt_id] = attempt
            while len(self._attempts) > MAX_ATTEMPTS:
                self._attempts.popitem(last=False)
        return attempt

    def find(self, attempt_id: str) -> Attempt | None:
        """The login of that id, or None if there is none or it was left open for too long."""
        attempt = self._attempts.get(attempt_id)
        return attempt if attempt and self._clock.now() < attempt.started_at + LIFETIME else None
