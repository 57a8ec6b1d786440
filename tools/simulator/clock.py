"""The simulator's clock: real time plus an offset that only ever grows."""

from __future__ import annotations

import threading
import time


class ClockError(ValueError):
    """A clock order that would turn time back; the message says what to do instead."""


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
        """Move the clock forward. Raises `ClockError` for a negative number of seconds."""
        if seconds < 0:
            raise ClockError(
                "The clock only goes forward: 'advance' must be 0 or more. POST /_control/reset goes back."
            )
        with self._lock:
            self._offset += seconds

    def set(self, epoch: float) -> None:
        """Make it *epoch* seconds now. Raises `ClockError` if that is in the simulated past."""
        with self._lock:
            offset = epoch - time.time()
            if offset < self._offset:
                raise ClockError("The clock only goes forward: 'now' lies in its past. POST /_control/reset goes back.")
            self._offset = offset
