"""When a connection falls due: planned by its refresh token's own deadline, with an outage budget before it.

FlowAccount's page: a refresh token generally lives one day from the last token request. All times in epoch seconds,
all durations in seconds.
"""

import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass

DUE_SHARDS = 8
"""How many partitions the due index has; the sweep queries each."""

TICK = 60
"""Seconds between two ticks: by so much later than it falls due a connection may be found."""

_PRECISION = 1 << 53


def random_fraction() -> float:
    """A uniform number in [0, 1); from `secrets`, since `random` repeats across environments under SnapStart."""
    return secrets.randbelow(_PRECISION) / _PRECISION


def shard_of(connection_id: str, shards: int = DUE_SHARDS) -> int:
    """The partition of a connection, 0 to `shards` - 1: the same for an id for ever."""
    return zlib.crc32(connection_id.encode()) % shards


@dataclass(frozen=True, slots=True)
class Schedule:
    """The rules of time: when to refresh, how long to back off, when to give up."""

    refresh_after: int = 6 * 3_600
    refresh_token_lifetime: int = 86_400
    fraction: Callable[[], float] = random_fraction
    """The source of jitter; injected in tests."""

    def deadline(self, requested_at: int) -> int:
        """When the refresh token that was issued for a request sent at `requested_at` dies."""
        return requested_at + self.refresh_token_lifetime

    def refresh_at(self, requested_at: int) -> int:
        """When it falls due: up to a tenth early, so that what was connected together does not fall due together."""
        return requested_at + self.refresh_after - int(self.refresh_after * 0.1 * self.fraction())

    def retry_at(self, now: int, deadline: int, retries: int, *, not_before: int = 0, alone: bool = False) -> int:
        """When to try again after `retries` failures in a row: exponential backoff with full jitter.

        Never sleeps past the deadline while that is ahead; see `_latest`. `not_before` (epoch) holds back a retry,
        unless it lies beyond the deadline. Always later than `now`.

        What is refused `alone`, while others are accepted, waits up to `refresh_after`. It would take their slots else:
        its deadline is the soonest.
        """
        longest = max(self.refresh_after // 24, 1)
        ceiling = min(self.refresh_after if alone else longest, max(longest // 30, 1) << min(retries, 16))
        at = max(now + 1 + int(ceiling * self.fraction()), not_before)
        if now < deadline:
            latest = self._latest(now, deadline)
            at = min(at, latest if not_before >= deadline else max(latest, not_before))
        return max(at, now + 1)

    def resume_at(self, now: int, deadline: int, pause: int) -> int:
        """When to go on after the whole stack had to wait: when the pause ends, in seconds from `now`.

        No pause sleeps past the deadline either; see `_latest`. Always later than `now`.
        """
        at = now + pause
        return max(min(at, self._latest(now, deadline)) if now < deadline else at, now + 1)

    def urgent(self, now: int, deadline: int) -> bool:
        """Whether the deadline is so close, the last hour of a day, that no pause may be waited for."""
        return 0 < deadline - now < self.refresh_token_lifetime // 24

    def _latest(self, now: int, deadline: int) -> int:
        """The latest moment for the next try before a deadline that is ahead.

        That is a sixtieth of the lifetime before it; and later than that, when half of what is left will have gone by
        the tick that finds it, so that there is always a try left after it.
        """
        last_try = deadline - max(self.refresh_token_lifetime // 60, 1)
        return last_try if now < last_try else now + (deadline - now) // 2 - TICK

    def given_up(self, now: int, deadline: int) -> bool:
        """Whether a full lifetime has passed after the deadline: without any answer until here, none will come."""
        return now >= deadline + self.refresh_token_lifetime
