"""The simulator's clock: real time plus an offset that only ever grows."""

from __future__ import annotations

import threading
import time

FURTHEST = 32_503_680_000
"""Seconds that one order may move the clock: a thousand years."""


class ClockError(ValueError):
    """A clock order that cannot be followed; the message says what to do instead."""


class Clock:
    """Seconds since the epoch as FlowAccount would see them. Nothing in the simulator waits for it."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        """The simulated time, in seconds since the epoch."""
        return time.time() + self._offset

    @property
    def offset(self) -> float:
        """Seconds that the simulated time is ahead of the real one."""
        return self._offset

    def advance(self, seconds: float) -> None:
        """Move the clock forward. Raises `ClockError` for seconds that are too many, or that would turn it back."""
        if not 0 <= seconds <= FURTHEST:
            raise ClockError(
                f"The clock only goes forward: 'advance' must be 0 to {FURTHEST:,}. POST /_control/reset goes back."
            )
        with self._lock:
            self._offset += seconds
