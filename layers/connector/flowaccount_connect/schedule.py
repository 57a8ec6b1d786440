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

    def retry_at(self, now: int, deadline: int, retries: int, *, not_before: int = 0) -> int:
        """When to try again after `retries` failures in a row: exponential backoff with full jitter.

        Never sleeps past the deadline while that is ahead: the last try comes a sixtieth of the lifetime before it.
        `not_before` (epoch) holds back a retry, unless it lies beyond the deadline. Always later than `now`.
        """
        longest = max(self.refresh_after // 24, 1)
        ceiling = min(longest, max(longest // 30, 1) << min(retries, 16))
        at = max(now + 1 + int(ceiling * self.fraction()), not_before)
        last_try = self._last_try(deadline)
        if now < last_try:
            at = min(at, last_try if not_before >= deadline else max(last_try, not_before))
        elif now < deadline:
            at = min(at, deadline - 1)
        return max(at, now + 1)

    def resume_at(self, now: int, deadline: int, pause: int) -> int:
        """When to go on after the whole stack had to wait: when the pause ends, in seconds from `now`.

        No pause sleeps past the deadline either: while that is ahead, a try is left before it. Always later than `now`.
        """
        last_try = self._last_try(deadline)
        latest = last_try if now < last_try else deadline - 1
        return max(min(now + pause, latest) if now < deadline else now + pause, now + 1)

    def _last_try(self, deadline: int) -> int:
        return deadline - max(self.refresh_token_lifetime // 60, 1)

    def given_up(self, now: int, deadline: int) -> bool:
        """Whether a full lifetime has passed after the deadline: without any answer until here, none will come."""
        return now >= deadline + self.refresh_token_lifetime
