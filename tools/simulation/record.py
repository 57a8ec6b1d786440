"""What is kept of one simulation: the figures of the table, and by the hour what the picture shows."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tools.simulation.authorization_server import AuthorizationServer
from tools.simulation.trace import LIFETIME, START, Trace


@dataclass(slots=True)
class Record:
    """One policy on one trace."""

    trace: Trace
    policy: str
    lost: int = 0
    """Connections whose newest refresh token died unused, or was refused."""
    ended: int | None = None
    """Connections that our stack itself takes for lost."""
    refreshed: int = 0
    sent: int = 0
    swallowed: list[int] = field(default_factory=list)
    """New tokens that were lost in each brown-out, whatever was done afterwards."""
    peak: int = 0
    """The most requests in any 60 seconds."""
    worst: float = LIFETIME
    """The least time to its deadline of any connection that was refreshed, in seconds."""
    seconds: float = 0.0
    days: list[float] = field(default_factory=list)
    least: list[float] = field(default_factory=list)
    median: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    alive: list[int] = field(default_factory=list)
    connected: list[int] = field(default_factory=list)
    """By the hour: hours to the deadline of those alive, how many are, and how many ever were."""
    _began: float = field(default_factory=time.monotonic)

    def sample(self, server: AuthorizationServer, now: float) -> None:
        """Look at everybody."""
        left = server.left(now)
        alive = left[left > 0] / 3_600
        self.days.append((now - START) / 86_400)
        self.connected.append(len(left))
        self.alive.append(len(alive))
        spread = np.percentile(alive, (0, 50, 100)) if len(alive) else (0.0, 0.0, 0.0)
        for series, value in zip((self.least, self.median, self.most), spread, strict=True):
            series.append(round(float(value), 3))

    def finish(self, server: AuthorizationServer, ended: int | None = None) -> "Record":
        """The end of the simulation."""
        self.lost = int((server.left(self.trace.end) <= 0).sum())
        self.ended, self.refreshed, self.sent, self.peak = ended, server.refreshed, server.sent, server.peak
        self.worst = server.worst
        self.swallowed = [server.swallowed.get(period.begin, 0) for period in self.trace.brown_outs]
        self.seconds = time.monotonic() - self._began
        return self

    def figures(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "trace": self.trace.name,
            "seed": self.trace.seed,
            "days": self.trace.days,
            "connections": self.trace.connections,
            "refreshes_per_minute": self.trace.refreshes_per_minute,
            "accepted_per_minute": self.trace.accepted,
            "policy": self.policy,
            "lost": self.lost,
            "ended": self.ended,
            "refreshed": self.refreshed,
            "sent": self.sent,
            "peak": self.peak,
            "swallowed": self.swallowed,
            "worst_seconds_to_deadline": round(self.worst, 1),
            "seconds": round(self.seconds, 1),
        }
