"""How fast the stack sends refresh tokens: one sequence of slots for all workers, kept in one item of the table.

A refresh needs a permit, which is a moment (its slot) at which it may be sent. Slots lie `Rule.interval` apart, and
taking the next ones is one conditional write, for a whole batch too: `next_slot` moves on by as many intervals. Nobody
can take a slot twice, whatever the workers' clocks say, and slots that nobody took in time are gone, so nothing is
ever sent in a burst. **In any 60 seconds at most `limit` requests arrive**: those that can arrive in one such window
have slots within 60 seconds and `TOLERANCE`, and slots are (60 s + `TOLERANCE`) / limit apart.

On demand goes first, by patience: background work takes slots only `BACKGROUND` seconds ahead, a caller's refresh up to
`ON_DEMAND`; so once callers queue up beyond the former, background work gets nothing until they are through.

A 429 pauses the whole stack (`Retry-After`, or else 15 s, doubling while 429s go on) and stretches the interval, which
comes back by itself, half of what is left in `HALF_LIFE`: a limit lower than ours is found, and kept close to, down to
a quarter of ours. Where even less is accepted, or nothing, only the pauses grow, so that the rate is back soon after
that has ended. All 429s of what was sent before the pause ended are one. Where a connection would die of the pause, its
refresh is sent all the same, in its turn. A process that has slots in hand hears of a pause of another's within a
second (`NEWS`).

Clocks that lie further apart than `TOLERANCE` allows for let through, at worst, what the limit lets through in as much
time: two seconds more between two workers, and `limit` / 30 requests more may arrive in 60 seconds. While a deployment
changes the limit, workers with the old and with the new one are at work, and the higher of both holds.

The item is `pk=PACE, sk=token-endpoint`; its times are epoch microseconds, so that even a thousand slots a second are
whole numbers. Whoever cannot write it has no permit, and sends nothing. What is no number there, or a time further
ahead than any worker writes, as a hand or a wrong clock may leave it, counts as absent and stops nothing.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from flowaccount_connect.rotation.permits import FIRST_PAUSE, Paced
from flowaccount_connect.storage.dynamodb import Client, ConditionRefused, Item, call, n, number, s

WINDOW = 60
"""Seconds over which FlowAccount counts, wherever they begin."""

LATENESS = 0.5
"""How long after its slot a permit is still good, in seconds; later, another one has to be taken."""

TOLERANCE = 2.0
"""By how much two requests may come closer together than their slots, in seconds: `LATENESS`, half a second between
the clocks of two workers, and one second between the times that two requests travel."""

BACKGROUND = 5.0
"""How far ahead the schedule's refreshes take slots, in seconds."""

ON_DEMAND = 10.0
"""How far ahead a refresh does for which a caller waits, or without which its connection dies, in seconds."""

LONGEST_PAUSE = 240
"""What that doubles to, at most, while 429s go on."""

NEWS = 1.0
"""How old what a process knows of pauses may be when it sends, in seconds; else it looks once more before."""

LONGEST_RETRY_AFTER = 3_600
"""The longest pause that a `Retry-After` can ask for, in seconds."""

RELAPSE = 60
"""A 429 within so many seconds after a pause says that the pause, and the interval, were too short by far."""

HALF_LIFE = 600
"""Seconds in which half of a slowdown is gone."""

LONGEST_STRETCH = 5
"""By how much the interval is stretched at most. What this costs beyond the end of what caused it is `HALF_LIFE` times
the binary logarithm of it at full rate, 23 minutes, of a budget of one hour at full load."""

FARTHEST = 300
"""A slot that lies further ahead than so many seconds was never taken: no slot is taken later than `ON_DEMAND`, and the
next one comes a minute and a few seconds after it at most."""

_KEY = {"pk": s("PACE"), "sk": s("token-endpoint")}
_SECOND = 1_000_000
_TRIES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The pace item. Times in epoch microseconds; nothing is there before the first refresh."""

    next_slot: int = 0
    """The first slot that nobody has taken."""
    revision: int = 0
    """Counts the changes of what follows, so that nobody takes slots by an old interval."""
    paused_until: int = 0
    pause: int = 0
    """Seconds of the last pause, had no `Retry-After` said another length."""
    slowdown: int = 1_000
    """By how much the interval was stretched at `slowed_at`, in thousandths."""
    slowed_at: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """The arithmetic: at most `limit` requests in any 60 seconds. Pure; `now` in epoch microseconds."""

    limit: int

    @property
    def least_interval(self) -> int:
        """Microseconds between two slots while nothing is slowed down."""
        return math.ceil((WINDOW + TOLERANCE) * _SECOND / self.limit)

    @property
    def per_minute(self) -> float:
        """How many slots a minute has at best; a little below `limit`."""
        return 60 * _SECOND / self.least_interval

    def slowdown(self, state: State, now: int) -> float:
        """By how much the interval is stretched at present: 1 and more."""
        halves = max(now - state.slowed_at, 0) / (HALF_LIFE * _SECOND)
        # What stretched the short interval of a high limit would stop a low one that came with a deployment.
        stretched = min(state.slowdown / 1_000, self._slowest)
        return 1 + max(stretched - 1, 0) * math.pow(0.5, halves)

    @property
    def _slowest(self) -> float:
        """Never slower than one request a minute: without any, nobody would notice that there is room again."""
        return min(max(60 * _SECOND / self.least_interval, 1), LONGEST_STRETCH)

    def interval(self, state: State, now: int) -> int:
        """Microseconds between two slots at present."""
        return math.ceil(self.least_interval * self.slowdown(state, now))

    @staticmethod
    def credible(state: State, now: int) -> State:
        """The state without times that lie further ahead than any worker could have written them."""
        farthest = now + FARTHEST * _SECOND
        return replace(
            state,
            next_slot=state.next_slot if state.next_slot <= farthest else 0,
            paused_until=state.paused_until if state.paused_until <= farthest + LONGEST_RETRY_AFTER * _SECOND else 0,
            slowed_at=state.slowed_at if state.slowed_at <= farthest else 0,
        )

    def throttled(self, state: State, *, sent_at: int, retry_after: int | None, now: int) -> State:
        """What a 429 makes of the state: paused and slowed down, or as it is where it tells nothing new.

        `sent_at` is when the refused request was sent, `retry_after` the seconds that its answer asked for, if any.
        """
        asked = min(max(retry_after or 0, 0), LONGEST_RETRY_AFTER)
        if sent_at <= state.paused_until:
            until = now + asked * _SECOND
            if not asked or until <= state.paused_until + _SECOND:
                return state
            return replace(state, revision=state.revision + 1, paused_until=until)
        relapse = state.pause > 0 and now <= state.paused_until + RELAPSE * _SECOND
        pause = min(state.pause * 2, LONGEST_PAUSE) if relapse else FIRST_PAUSE
        slowdown = min(self.slowdown(state, now) * (2 if relapse else 1.25), self._slowest)
        return State(
            next_slot=state.next_slot,
            revision=state.revision + 1,
            paused_until=now + (asked or pause) * _SECOND,
            pause=pause,
            slowdown=round(slowdown * 1_000),
            slowed_at=now,
        )


class PaceRefused(Exception):
    """The item is not what a write took it for; `state` is what it is."""

    def __init__(self, state: State) -> None:
        super().__init__("the condition was refused")
        self.state = state


class Store(Protocol):
    """Where the state is kept; see `PaceStore`. All methods raise `StoreUnavailable`, writes also `PaceRefused`."""

    def get(self) -> State: ...
    def advance(self, by: int, *, earliest: int, latest: int, revision: int) -> State: ...
    def restart(self, at: int, *, latest: int, revision: int) -> State: ...
    def throttle(self, state: State) -> State: ...


class PaceStore:
    """The pace item of one table. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def get(self) -> State:
        """The state as it is now (strongly consistent). Raises `StoreUnavailable`."""
        answer = call(self._client.get_item, TableName=self._table, Key=_KEY, ConsistentRead=True)
        return _state(answer.get("Item"))

    def advance(self, by: int, *, earliest: int, latest: int, revision: int) -> State:
        """Move `next_slot` on `by` so much, if it lies from `earliest` to `latest`; what the state is then."""
        return self._update(
            "SET next_slot = next_slot + :by",
            "next_slot >= :earliest AND next_slot <= :latest",
            {":by": n(by), ":earliest": n(earliest), ":latest": n(latest)},
            revision,
        )

    def restart(self, at: int, *, latest: int, revision: int) -> State:
        """Set `next_slot` to `at`, if it is not later than `latest`, or no slot at all; what the state is then."""
        return self._update(
            "SET next_slot = :at",
            # A comparison with what is missing, or no number, does not hold.
            "(NOT next_slot > :latest OR next_slot > :farthest)",
            {":at": n(at), ":latest": n(latest), ":farthest": n(latest + FARTHEST * _SECOND)},
            revision,
        )

    def throttle(self, state: State) -> State:
        """Store pause and slowdown over the revision before; `next_slot` stays. What the state is then."""
        return self._update(
            "SET revision = :next, paused_until = :until, pause = :pause, slowdown = :slowdown, slowed_at = :at",
            "",
            {
                ":next": n(state.revision),
                ":until": n(state.paused_until),
                ":pause": n(state.pause),
                ":slowdown": n(state.slowdown),
                ":at": n(state.slowed_at),
            },
            state.revision - 1,
        )

    def _update(self, update: str, condition: str, values: Item, revision: int) -> State:
        """One write under its condition, and on the revision that the writer has seen."""
        seen = "NOT (revision < :revision OR revision > :revision)"
        try:
            answer = call(
                self._client.update_item,
                TableName=self._table,
                Key=_KEY,
                UpdateExpression=update,
                ConditionExpression=f"{condition} AND {seen}" if condition else seen,
                ExpressionAttributeValues={**values, ":revision": n(revision)},
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionRefused as refused:
            raise PaceRefused(_state(refused.items[0])) from None
        return _state(answer["Attributes"])


class Pace:
    """The stack's pace as one process knows it. Safe for several threads.

    What it saw of the item last makes nearly every permit one write: it knows where `next_slot` must be by now, and
    the item itself says so, at no further call, where it is wrong.
    """

    def __init__(
        self,
        store: Store,
        rule: Rule,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rule = rule
        self._store = store
        self._clock = clock
        self._sleep = sleep
        self._state = State()
        self._seen_at = 0

    def look(self) -> State:
        """The state, read now. Raises `StoreUnavailable`."""
        return self._saw(self._store.get())

    def _saw(self, state: State) -> State:
        self._seen_at = self._now()
        self._state = self.rule.credible(state, self._seen_at)
        return self._state

    def permits(self, count: int, *, urgent: bool = False) -> "list[Permit]":
        """Permits for background work, at most `count`, in the order of their slots; none where there is no room.

        `urgent` is what dies unless it is refreshed now: it waits as long as a caller would, and through no pause.
        Raises `StoreUnavailable`.
        """
        try:
            slots = self.take(count, ON_DEMAND if urgent else BACKGROUND, urgent=urgent)
        except Paced:
            return []
        return [Permit(self, slot, urgent=urgent) for slot in slots]

    def on_demand(self) -> "Permit":
        """A permit that takes its slot when it is used: for a refresh that somebody waits for."""
        return Permit(self, None)

    def throttled(self, sent_at: float, retry_after: int | None) -> int:
        """Tell the stack of a 429 to what was sent at `sent_at` (epoch seconds); the seconds of pause that are left.

        Raises `StoreUnavailable`; then nobody else knows of it.
        """
        for _ in range(_TRIES):
            now = self._now()
            before = self._state
            after = self.rule.throttled(before, sent_at=int(sent_at * _SECOND), retry_after=retry_after, now=now)
            if after is before:
                break
            try:
                self._saw(self._store.throttle(after))
                break
            except PaceRefused as refused:
                self._saw(refused.state)
        return math.ceil(max(self._state.paused_until - self._now(), 0) / _SECOND)

    def take(self, count: int, ahead: float, *, urgent: bool = False) -> list[int]:
        """Take up to `count` slots no later than `ahead` seconds from now. Raises `Paced`, `StoreUnavailable`."""
        for _ in range(_TRIES):
            now, state = self._now(), self._state
            start = now if urgent else max(now, state.paused_until)
            latest = now + int(ahead * _SECOND)
            # It never goes back, so where it is too late already, nobody needs to be asked.
            first = max(start, state.next_slot)
            if first > latest:
                raise Paced(math.ceil((first - now) / _SECOND))
            interval = self.rule.interval(state, now)
            count = min(count, (latest - first) // interval + 1)
            span = count * interval
            try:
                if state.next_slot > start:
                    last_first = latest - (span - interval)
                    after = self._store.advance(span, earliest=start, latest=last_first, revision=state.revision)
                else:
                    after = self._store.restart(start + span, latest=start, revision=state.revision)
            except PaceRefused as refused:
                self._saw(refused.state)
                continue
            self._saw(after)
            return [after.next_slot - span + i * interval for i in range(count)]
        raise Paced(1)

    def _now(self) -> int:
        return int(self._clock() * _SECOND)

    def wait_until(self, slot: int) -> None:
        """Sleep until a slot has come."""
        while (left := slot - self._now()) > 0:
            self._sleep(left / _SECOND)

    def is_good(self, slot: int, *, urgent: bool) -> bool:
        """Whether a slot that has come may still be used. Raises `StoreUnavailable`."""
        if not urgent and self._now() - self._seen_at > NEWS * _SECOND:
            self.look()
        now = self._now()
        return now <= slot + LATENESS * _SECOND and (urgent or self._state.paused_until <= now)


class Permit:
    """What allows one request: a slot taken beforehand, or taken when it is wanted; and another for another request."""

    def __init__(self, pace: Pace, slot: int | None, *, urgent: bool = False) -> None:
        self._pace = pace
        self._slot = slot
        self._urgent = urgent

    def wait(self, before: float = 0.0) -> None:
        """Sleep until `before` seconds before the slot, if there is one."""
        if self._slot is not None:
            self._pace.wait_until(self._slot - int(before * _SECOND))

    def use(self, patience: float, *, urgent: bool = False) -> None:
        """Return at the moment at which one request may be sent, within `patience` seconds.

        A slot that passed unused, or lies in a pause that began meanwhile, is let go, and another one taken. What is
        `urgent` waits through no pause, whatever the permit was taken for. Raises `Paced`, `StoreUnavailable`; then
        nothing may be sent.
        """
        urgent = urgent or self._urgent
        for _ in range(_TRIES):
            slot, self._slot = self._slot, None
            if slot is None:
                (slot,) = self._pace.take(1, min(max(patience, 0.0), ON_DEMAND), urgent=urgent)
            self._pace.wait_until(slot)
            if self._pace.is_good(slot, urgent=urgent):
                return
        raise Paced(1)

    def throttled(self, sent_at: float, retry_after: int | None) -> int:
        """See `Pace.throttled`."""
        return self._pace.throttled(sent_at, retry_after)


def _state(item: Item | None) -> State:
    if not item:
        return State()
    return State(
        next_slot=number(item, "next_slot") or 0,
        revision=number(item, "revision") or 0,
        paused_until=number(item, "paused_until") or 0,
        pause=number(item, "pause") or 0,
        slowdown=number(item, "slowdown") or 1_000,
        slowed_at=number(item, "slowed_at") or 0,
    )
