"""When a connection falls due: planned by its refresh token's own deadline, with an outage budget before it.

FlowAccount's page: a refresh token generally lives one day from the last token request. All times in epoch seconds,
all durations in seconds.
"""

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass

DUE_SHARDS = 8
"""How many partitions the due index has; the sweep queries each."""

TICK = 60
"""Seconds between two ticks. A connection may be found that much later than it falls due."""

_random = random.SystemRandom()


def random_fraction() -> float:
    """A uniform number in [0, 1)."""
    return _random.random()


def shard_of(connection_id: str) -> int:
    """The partition of a connection, 0 to `DUE_SHARDS` - 1: the same for an id for ever."""
    return zlib.crc32(connection_id.encode()) % DUE_SHARDS


@dataclass(frozen=True, slots=True)
class Schedule:
    """The rules of time: when to refresh, how long to back off, when to give up."""

    refresh_after: int = 6 * 3_600
    refresh_token_lifetime: int = 86_400
    fraction: Callable[[], float] = random_fraction
    """The source of jitter; injected in tests."""
    believe_longer: bool = False
    """Whether an announced lifetime that is longer than `refresh_token_lifetime` counts."""
    consent_lifetime: int | None = None
    """How long a consent lasts, however often it is refreshed; `None`: for ever, unless an answer announces an end."""
    consent_warning: int = 3 * 86_400
    """How long before the end of its consent a connection is at risk."""

    def lifetime(self, announced: int | None = None) -> int:
        """How long a refresh token lives. `announced` is what the answer says of it.

        A shorter life than configured is believed at once, a longer one only where `believe_longer` says so. A life
        below `refusals_apart` is not believed: no tick could keep it, and all connections would be due all the time.
        """
        believed = announced is not None and announced >= self.refusals_apart
        if announced is None or not believed or (announced > self.refresh_token_lifetime and not self.believe_longer):
            return self.refresh_token_lifetime
        return announced

    def deadline(self, requested_at: int, announced: int | None = None, consent_ends_at: int | None = None) -> int:
        """When the refresh token that was issued for a request sent at `requested_at` dies: at the latest with the
        consent."""
        deadline = requested_at + self.lifetime(announced)
        return deadline if consent_ends_at is None else min(deadline, consent_ends_at)

    def refresh_at(self, requested_at: int, announced: int | None = None) -> int:
        """When it falls due: up to a tenth early, so that what was connected together does not fall due together.

        A token that lives shorter than configured falls due sooner in proportion; one that lives longer does not fall
        due later.
        """
        after = min(self.refresh_after, self.refresh_after * self.lifetime(announced) // self.refresh_token_lifetime)
        return requested_at + after - int(after * 0.1 * self.fraction())

    def consent_ends_at(
        self, requested_at: int, announced: int | None, known: int | None = None, *, renewed: bool
    ) -> int | None:
        """When the consent ends, after an answer to a request sent at `requested_at`; `None`: nobody knows an end.

        `announced` is how long the answer says that the consent still lasts, `known` the end known before. Only a
        `renewed` consent, which the user has just given, begins `consent_lifetime`. Of several ends the first counts.
        """
        ends = [known] if known is not None else []
        if renewed and self.consent_lifetime is not None:
            ends.append(requested_at + self.consent_lifetime)
        if announced is not None:
            ends.append(requested_at + announced)
        return min(ends, default=None)

    def consent_ends_soon(self, now: int, consent_ends_at: int | None) -> bool:
        """Whether it is time to ask the user for a new consent."""
        return consent_ends_at is not None and now >= consent_ends_at - self.consent_warning

    def retry_at(self, now: int, deadline: int, retries: int, *, not_before: int = 0, alone: bool = False) -> int:
        """When to try again after `retries` failures in a row: exponential backoff with full jitter.

        Never sleeps past the deadline while that is ahead; see `_latest`. `not_before` (epoch) holds back a retry,
        unless it lies beyond the deadline. Always later than `now`.

        A connection that is refused `alone`, while others are accepted, waits for up to `refresh_after`. Its deadline
        is the soonest, so it would take the slots of the others.
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
        """Whether the deadline is too close to wait for a pause: within a 24th of the lifetime, an hour of a day."""
        return 0 < deadline - now < self.refresh_token_lifetime // 24

    def _latest(self, now: int, deadline: int) -> int:
        """The latest moment for the next try before a deadline that is ahead.

        That is a sixtieth of the lifetime before it. After that moment it is halfway to the deadline, less a tick: the
        tick that finds it then leaves time for another try.
        """
        last_try = deadline - max(self.refresh_token_lifetime // 60, 1)
        return last_try if now < last_try else now + (deadline - now) // 2 - TICK

    @property
    def refusals_apart(self) -> int:
        """How long after a first refusal a second one counts: ten minutes; less where tokens live less than a day."""
        return min(600, self.refresh_token_lifetime // 144)

    def refusal_is_final(self, sent_at: int, deadline: int, refused_at: int | None) -> bool:
        """Whether the refusal of a token that was sent at `sent_at` is final.

        It is the second one and comes late enough after the first (`refused_at`), or the deadline has passed.
        """
        again = refused_at is not None and sent_at >= refused_at + self.refusals_apart
        return again or sent_at >= deadline

    def given_up(self, now: int, deadline: int) -> bool:
        """Whether a full lifetime has passed after the deadline: no answer has come, and none will."""
        return now >= deadline + self.refresh_token_lifetime
