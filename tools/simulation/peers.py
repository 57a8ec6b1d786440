"""How others decide when to refresh, each as a small policy on the same trace and the same server.

What is taken from each is its schedule, and nothing that would make it worse: what they store is never lost, what is
due is found at once, a failed refresh is simply due again at the next round, and what is lost is not tried again. Their
best case is a trace without troubles, which is simulated too.
"""

import heapq
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from tools.simulation.authorization_server import AuthorizationServer, Verdict
from tools.simulation.record import Record
from tools.simulation.trace import DAY, HOUR, START, Trace, Trouble

_PATIENCE = 30.0
"""How long each of them waits for an answer, in seconds."""

Numbers = NDArray[np.int64]
Times = NDArray[np.float64]


class Peer(ABC):
    """A policy: a round every `interval` seconds, and what a read does in between."""

    name: str
    interval: int
    reads_refresh: float = 0.0
    """A read refreshes a token that lives for less than this, in seconds."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.server = AuthorizationServer(trace)
        self._stopped = trace.periods(Trouble.PAUSED, Trouble.TABLE)
        self._crashing = trace.periods(Trouble.CRASHES)
        self._chance = np.random.default_rng(trace.seed + 2)
        self.deadlines: Times = np.frombuffer(self.server.deadlines)
        self.periods: Times = np.array([period for period, _ in trace.reads])
        self._phases: Times = np.array([phase for _, phase in trace.reads])
        self.connected_at: Times = np.full(trace.connections, np.inf)
        self.refused = np.zeros(trace.connections, bool)
        self._record = Record(trace, self.name)

    @abstractmethod
    def round(self, now: float) -> None:
        """What the scheduler does at `now`."""

    def run(self) -> Record:
        """All of it."""
        newcomers = list(reversed(self.trace.newcomers))
        now = float(START)
        while now < self.trace.end:
            if (now - START) % HOUR == 0:
                self._record.sample(self.server, now)
            if self._stopped.at(now) is None:
                self.round(now)
            now += self.interval
            self._reads(now - self.interval, now)
            while newcomers and newcomers[-1].at < now:
                newcomer = newcomers.pop()
                self.server.connect(newcomer.number, newcomer.at - newcomer.token_age)
                self.connected_at[newcomer.number] = newcomer.at
        return self._record.finish(self.server)

    def refresh(self, number: int, now: float) -> tuple[bool, float]:
        """One refresh: whether it succeeded, and the seconds it took."""
        crashing = self._crashing.at(now) is not None
        if crashing and self._chance.random() < 0.2:
            return False, 0.0
        token = self.server.tokens[number]
        verdict, took, _ = self.server.refresh(number, token, now, _PATIENCE)
        self.refused[number] = verdict is Verdict.REFUSED
        return verdict is Verdict.TOKENS, took

    def expiring(self, now: float, within: float) -> Numbers:
        """The living connections whose tokens expire within so many seconds, the soonest first."""
        left = self.deadlines - now
        found = np.nonzero((left > 0) & (left <= within))[0]
        return found[np.argsort(left[found], kind="stable")]

    def last_read(self, now: float) -> Times:
        """When each connection was last read before `now`; 0 if it never was."""
        with np.errstate(divide="ignore", invalid="ignore"):
            last = now - (now - self._phases) % self.periods
        return np.where((self.periods > 0) & (last > self.connected_at), last, 0.0)

    def _reads(self, begin: float, end: float) -> None:
        """The reads from `begin` to `end` that find a token about to expire, in their order."""
        if not self.reads_refresh or self._stopped.at(begin) is not None:
            return
        left = self.deadlines - begin
        soon = (left > 0) & (left < self.reads_refresh + end - begin) & (self.periods > 0)
        reads: list[tuple[float, int]] = []
        for number in map(int, np.nonzero(soon)[0]):
            wait = float((self._phases[number] - begin) % self.periods[number])
            heapq.heappush(reads, (begin + wait, number))
        while reads and reads[0][0] < end:
            at, number = heapq.heappop(reads)
            left_then = self.deadlines[number] - at
            if 0 < left_then < self.reads_refresh:
                self.refresh(number, at)
            heapq.heappush(reads, (at + float(self.periods[number]), number))


class Nango(Peer):
    """Nango 0.71: every 10 minutes, one after the other, what was last fetched over 24 hours ago.

    What it picks it refreshes only where the access token expires within 15 minutes, or has expired; a read refreshes
    under the same condition, and counts as a fetch.
    """

    name = "Nango"
    interval = 600
    reads_refresh = 900.0

    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        self._fetched: Times = np.zeros(trace.connections)
        self._busy_until = 0.0

    def round(self, now: float) -> None:
        """The cron, unless the one before is still at it."""
        if now < self._busy_until:
            return
        fetched = np.maximum(np.maximum(self._fetched, self.last_read(now)), self.connected_at)
        picked = np.nonzero((fetched < now - DAY) & ~self.refused)[0]
        at = now
        for number in picked[np.argsort(fetched[picked], kind="stable")]:
            done = True
            if self.deadlines[number] - at < self.reads_refresh:
                done, took = self.refresh(int(number), at)
                at += took
            if done:
                self._fetched[number] = at
        self._busy_until = at


class _BeforeExpiry(Peer):
    """Refreshes a fixed time before the access token expires, as many at once as there are."""

    before: float

    def round(self, now: float) -> None:
        """What expires before long."""
        for number in self.expiring(now, self.before):
            self.refresh(int(number), now)


class Vault(_BeforeExpiry):
    """Vault's oauthapp plugin: every 60 seconds, what expires within 72 seconds."""

    name = "Vault plugin"
    interval = 60
    before = 72.0


class Authproxy(_BeforeExpiry):
    """authproxy: every 10 minutes, what expires within 10 minutes.

    A token that was refreshed by one round lives for 10 minutes to the second at the round before its last: taken here
    as within, every day anew.
    """

    name = "authproxy"
    interval = 600
    before = 600.0


class OnDemand(Peer):
    """No schedule: a read refreshes a token that lives for less than 5 minutes."""

    name = "on demand"
    interval = 600
    reads_refresh = 300.0

    def round(self, now: float) -> None:
        """There is none."""


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Nango, Vault, Authproxy, OnDemand)}
