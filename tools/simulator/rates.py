"""The gateway's rate limit: so many requests of one client in any 60 seconds of the simulator's clock."""

from __future__ import annotations

import math
import threading
from collections import deque

WINDOW = 60.0
"""Seconds of the sliding window."""


class RateLimiter:
    """A sliding window per client. Refused requests do not count: who goes on too fast still gets a share."""

    def __init__(self) -> None:
        self._admitted: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def admit(self, client_id: str, now: float, allowed: int) -> int | None:
        """Count a request at *now*, if fewer than *allowed* were admitted in the 60 seconds before it.

        Returns None if it was admitted, else the whole seconds after which the next one will be.
        """
        with self._lock:
            window = self._admitted.setdefault(client_id, deque())
            while window and window[0] <= now - WINDOW:
                window.popleft()
            if len(window) < allowed:
                window.append(now)
                return None
            # The limit may have been lowered meanwhile: what must leave the window is all beyond allowed - 1.
            return max(1, math.ceil(window[len(window) - allowed] + WINDOW - now))
