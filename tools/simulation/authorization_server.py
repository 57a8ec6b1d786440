"""A strict rotating authorization server: a refresh token lives a day, works once, and only the newest does.

One for each simulation, the same for every policy. It knows the truth about every connection, keeps the account of what
was sent, and is asked in the order of time, or nearly: what one process sends one after the other is asked for before
what others send meanwhile. For ours these are seconds. For Nango's round it is one request in a hundred, by up to four
minutes, and three in a thousand of its 429s come of it.
"""

import random
from array import array
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from tools.simulation.trace import DAY, HOUR, LIFETIME, START, Trace, Trouble
from tools.simulator.rates import RateLimiter


class Verdict(Enum):
    """What came of one request."""

    TOKENS = 1
    REFUSED = 2
    """The token is spent or has expired: `invalid_grant`."""
    THROTTLED = 3
    NOT_SENT = 4
    """The connection was refused."""
    NO_ANSWER = 5
    """A 503, or nothing. In an outage the request was not processed, in a brown-out it was; its sender cannot know."""
    INVALID = 6
    """This connection is refused: `invalid_request`."""


class AuthorizationServer:
    """The other side. Connections go by their number; a token is the count of rotations, so that 7 follows 6."""

    def __init__(self, trace: Trace) -> None:
        self._chance = random.Random(trace.seed + 1)  # noqa: S311 - repeatable, nothing secret
        self._outages = trace.periods(Trouble.OUTAGE)
        self._slow = trace.periods(Trouble.SLOW)
        self._silent = trace.periods(Trouble.BROWN_OUT)
        self._refusing = trace.periods(Trouble.REFUSING)
        self._limited = trace.periods(Trouble.LIMITED, Trouble.LIMITED_SILENTLY)
        self._accepted = trace.accepted
        self._limiter = RateLimiter()
        self.tokens = array("q", [0]) * trace.connections
        """The newest token of each connection; 0: not connected yet."""
        self.deadlines = array("d", [0.0]) * trace.connections
        """When it dies, if it is not used before."""
        self.worst = float(LIFETIME)
        """The least time to its deadline with which any refresh token was used, in seconds."""
        self.refreshed = 0
        self.swallowed: dict[float, int] = {}
        """By the beginning of each brown-out: how many new tokens were lost in it."""
        self.alone = int(trace.connections * trace.alone)
        """From the third day on the connections with a lower number are answered `alone_by`."""
        self.alone_by = Verdict.INVALID
        self._alone_from = START + 2 * DAY
        self._sent = np.zeros(int(trace.end) - START + HOUR, np.int32)

    def connect(self, number: int, issued_at: float) -> None:
        """A new grant."""
        self.tokens[number] = 1
        self.deadlines[number] = issued_at + LIFETIME

    def refresh(self, number: int, token: int, now: float, patience: float) -> tuple[Verdict, float, int | None]:
        """One request with a refresh token, sent at `now` by someone who waits `patience` seconds at most.

        A `number` below 0 is nobody's: the token is made up.

        Returns the verdict, the seconds it took, and a `Retry-After` where there is one.
        """
        self._sent[int(now) - START] += 1
        dice = self._chance.random()
        if self._outages.at(now) is not None:
            if dice < 0.6:
                return Verdict.NOT_SENT, 0.01, None
            return (Verdict.NO_ANSWER, 0.2, None) if dice < 0.9 else (Verdict.NO_ANSWER, patience, None)
        if self._accepted is not None:
            limited = self._limited.at(now)
            accepted = self._accepted if limited is None else int(self._accepted * limited.share)
            wait = self._limiter.admit("", now, accepted) if accepted else 60
            if wait is not None:
                told = limited is None or limited.trouble is Trouble.LIMITED
                return Verdict.THROTTLED, 0.05, wait if told else None
        took = 4 + 8 * dice if self._slow.at(now) is not None else 0.15 + 0.45 * dice
        if took > patience:
            return Verdict.NO_ANSWER, patience, None
        silent = self._silent.at(now)
        left = self.deadlines[number] - now if number >= 0 else 0
        if number < 0 or token != self.tokens[number] or left <= 0 or self._refusing.at(now) is not None:
            return (Verdict.REFUSED, took, None) if silent is None else (Verdict.NO_ANSWER, patience, None)
        if number < self.alone and now >= self._alone_from:
            return (self.alone_by, took, None) if silent is None else (Verdict.NO_ANSWER, patience, None)
        self.worst = min(self.worst, left)
        self.tokens[number] = token + 1
        self.deadlines[number] = now + LIFETIME
        self.refreshed += 1
        if silent is not None:
            self.swallowed[silent.begin] = self.swallowed.get(silent.begin, 0) + 1
            return Verdict.NO_ANSWER, patience, None
        return Verdict.TOKENS, took, None

    @property
    def sent(self) -> int:
        """Requests, whatever came of them."""
        return int(self._sent.sum())

    @property
    def peak(self) -> int:
        """The most requests in any 60 seconds."""
        return int(np.convolve(self._sent, np.ones(60, np.int32)).max())

    def left(self, now: float) -> NDArray[np.float64]:
        """For each connection that was ever made the time to its deadline at `now`; not above 0: it is lost.

        Those that are refused for ever are not among them.
        """
        connected = np.frombuffer(self.tokens, np.int64) > 0
        connected[: self.alone] = False
        return np.frombuffer(self.deadlines)[connected] - now
