"""How fast the stack sends: one sequence of slots for everything that goes to the token endpoint.

A request needs a permit. A permit is a slot: a moment at which one request may be sent. All workers take slots from one
item of the table. The next slot is always at least `Rule.interval` after the last one, and a slot that nobody used is
gone. So nothing is sent in a burst, and **at most `limit` requests arrive in any 60 seconds**: requests that arrive
within 60 seconds have slots within 60 seconds and `TOLERANCE`, and slots are (60 s + `TOLERANCE`) / limit apart.

Who gets a slot, and what a 429 does, is in docs/scheduling.md, "The rate". All 429s to requests that were sent before a
pause ended count as one. A worker that already has slots notices the pause of another worker within one second
(`NEWS`), or within three (`NEWS` and `SLOWEST`) if the table is slow.

Clocks may differ as far as `TOLERANCE` allows. Each extra second of difference allows one more second's worth of
requests. While a deployment changes the limit, old and new workers run together, and the higher limit holds.

The item is `pk=RATE, sk=token-endpoint`. Its times are epoch microseconds. A worker that cannot write it gets no
permit. Content that no worker can have written, such as text or a time far ahead, counts as absent.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace

from flowaccount_connect.rotation.permits import FIRST_PAUSE, Kind, NoPermit
from flowaccount_connect.storage.dynamodb import Item, n, number
from flowaccount_connect.storage.shared_item import Changed, Shared

WINDOW = 60
"""The seconds over which FlowAccount counts requests."""

LATENESS = 0.5
"""How long after its slot a request may still be sent, in seconds. Later it needs another slot."""

TOLERANCE = 2.0
"""By how much two requests may come closer together than their slots, in seconds: `LATENESS`, half a second between the
clocks of two workers, and one second of difference between the ways of two requests."""

REACH = {
    Kind.URGENT: 15.0,
    Kind.CANARY: 10.0,
    Kind.CALLER: 10.0,
    Kind.CONNECT: 10.0,
    Kind.IMPORT: 5.0,
    Kind.SCHEDULED: 5.0,
}
"""How far ahead each kind may take a slot, in seconds. The longer reach goes first where slots are scarce: what is
urgent finds a slot at once. Where slots are further apart than that, it waits for the next one."""

ONE_IN = {Kind.CALLER: 5, Kind.CONNECT: 5, Kind.IMPORT: 10}
"""The shares: a kind gets one slot in so many while others want slots too."""

LONGEST_PAUSE = 240
"""The longest pause after a 429 without `Retry-After`, in seconds."""

NEWS = 1.0
"""The greatest age of the item as a worker knows it, in seconds. Before it sends, it reads an older one again."""

LONGEST_RETRY_AFTER = 3_600
"""The longest pause that a `Retry-After` can ask for, in seconds."""

RELAPSE = 60
"""Seconds after a pause in which a 429 means: both the pause and the interval were too short."""

HALF_LIFE = 600
"""Seconds after which half of a slowdown is gone."""

LONGEST_STRETCH = 5
"""The greatest factor by which the interval grows. Recovering from a fivefold slowdown costs as many requests
as 23 minutes at full speed (`HALF_LIFE` times the binary logarithm of 5)."""

FARTHEST = 300
"""Seconds ahead beyond which no worker ever takes a slot."""

SLOWEST = 2.0
"""The most time that a call of the table is expected to take, in seconds, however long the last one took."""

_SECOND = 1_000_000
_LONGEST_WAIT = int((max(REACH.values()) + SLOWEST) * _SECOND)
"""No slot is further ahead of who takes it."""
_TRIES = 20
"""How often a write is tried while other workers write first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the item holds. Times in epoch microseconds; all is 0 before the first request."""

    next_slot: int = 0
    """The first slot that nobody has taken."""
    caller: int = 0
    """The last slot that a caller took; the same for `connect` and `import_`."""
    connect: int = 0
    import_: int = 0
    paused_until: int = 0
    pause: int = 0
    """The length of the last pause in seconds, without regard to `Retry-After`."""
    slowdown: int = 1_000
    """How much the interval was stretched at `slowed_at`, in thousandths."""
    slowed_at: int = 0


_SHARED = {Kind.CALLER: "caller", Kind.CONNECT: "connect", Kind.IMPORT: "import_"}


@dataclass(frozen=True, slots=True)
class Rule:
    """The arithmetic for at most `limit` requests in any 60 seconds. Pure; `now` in epoch microseconds."""

    limit: int

    @property
    def least_interval(self) -> int:
        """Microseconds between two slots while nothing is slowed down."""
        return math.ceil((WINDOW + TOLERANCE) * _SECOND / self.limit)

    @property
    def per_minute(self) -> float:
        """How many slots a minute has at best. This is 3 % below `limit`."""
        return 60 * _SECOND / self.least_interval

    def slowdown(self, state: State, now: int) -> float:
        """How much the interval is stretched at present; 1 is not at all."""
        halves = max(now - state.slowed_at, 0) / (HALF_LIFE * _SECOND)
        # The slowdown may come from a higher limit, before a deployment. For this limit it may be too much.
        stretched = min(state.slowdown / 1_000, self._slowest)
        return 1 + max(stretched - 1, 0) * math.pow(0.5, halves)

    @property
    def _slowest(self) -> float:
        """Never slower than one request a minute: somebody must notice that there is room again."""
        return min(max(60 * _SECOND / self.least_interval, 1), LONGEST_STRETCH)

    def interval(self, state: State, now: int) -> int:
        """Microseconds between two slots at present."""
        return math.ceil(self.least_interval * self.slowdown(state, now))

    def take(self, state: State, kind: Kind, patience: float, now: int) -> tuple[State, int]:
        """Give the next slot to `kind`, who waits `patience` seconds at most; the state after that, and the slot.

        Raises `NoPermit`.
        """
        interval, urgent = self.interval(state, now), kind is Kind.URGENT
        slot = max(now, state.next_slot, 0 if urgent else state.paused_until)
        reach = REACH[kind] * _SECOND
        if not urgent:
            # The slot after this one must still be within the reach of what is urgent.
            reach = max(min(reach, REACH[Kind.URGENT] * _SECOND - interval), 0)
        shared = _SHARED.get(kind)
        when = soonest = slot
        if shared is not None:
            # Others get it only after the schedule, which reaches less far, could ask for it for one interval.
            free = max(slot, state.next_slot + interval - int(REACH[Kind.SCHEDULED] * _SECOND))
            share = getattr(state, shared) + ONE_IN[kind] * interval
            soonest = max(slot, min(share, free))
            when = share if slot > now else soonest
        if when > slot or slot - now > min(reach, patience * _SECOND):
            raise NoPermit(max(math.ceil((soonest - now) / _SECOND), 1))
        return replace(state, next_slot=slot + interval, **{shared: slot} if shared else {}), slot

    @staticmethod
    def credible(state: State, now: int) -> State:
        """The state without times that lie further ahead than any worker can have written them."""
        farthest = now + FARTHEST * _SECOND
        longest = {"paused_until": farthest + LONGEST_RETRY_AFTER * _SECOND}
        times = ("next_slot", "paused_until", "slowed_at", *_SHARED.values())
        wrong = {name: 0 for name in times if getattr(state, name) > longest.get(name, farthest)}
        return replace(state, **wrong) if wrong else state

    def throttled(self, state: State, *, sent_at: int, retry_after: int | None, now: int) -> State:
        """The state after a 429: paused and slowed down, or the same object if the 429 is no news.

        `sent_at` is when the refused request was sent, `retry_after` the seconds that the answer asked for.
        """
        asked = min(max(retry_after or 0, 0), LONGEST_RETRY_AFTER)
        if sent_at <= state.paused_until:
            until = now + asked * _SECOND
            longer = asked and until > state.paused_until + _SECOND
            return replace(state, paused_until=until) if longer else state
        relapse = state.pause > 0 and now <= state.paused_until + RELAPSE * _SECOND
        pause = min(state.pause * 2, LONGEST_PAUSE) if relapse else FIRST_PAUSE
        slowdown = min(self.slowdown(state, now) * (2 if relapse else 1.25), self._slowest)
        return replace(
            state,
            paused_until=now + (asked or pause) * _SECOND,
            pause=pause,
            slowdown=round(slowdown * 1_000),
            slowed_at=now,
        )


class Rate:
    """The stack's rate as one process knows it. Safe for several threads.

    A process remembers what it last saw of the item, so that nearly every permit costs one write. If the item has
    changed meanwhile, the refused write brings its new content. A thread lets another one of its process write first,
    for `turn` seconds at most.
    """

    def __init__(
        self,
        item: Shared,
        rule: Rule,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        turn: float = 0.5,
    ) -> None:
        self.rule = rule
        self._item = item
        self.clock = clock
        self.sleep = sleep
        self._seen: tuple[Item, State, int] = {}, State(), 0
        """The item as it was last seen, what it says, and when that was."""
        self._lock, self._turn = threading.Lock(), turn
        self._takes = 0.0
        """The seconds that a call of the table takes at present."""

    def look(self) -> State:
        """The state, read now. Raises `StoreUnavailable`."""
        with self._timed():
            item = self._item.get()
        return self._saw(item)

    def permit(self, kind: Kind) -> "Permit":
        """A permit that takes its slot when it is used."""
        return Permit(self, kind)

    def permits(self, kinds: Sequence[Kind]) -> "list[Permit | None]":
        """A permit with a slot for each of a batch, in one write; `None` for those for whom there is no room.

        What is urgent gets the first slots. Raises `StoreUnavailable`.
        """
        order = sorted(range(len(kinds)), key=lambda place: kinds[place] is not Kind.URGENT)
        slots = dict(zip(order, self._take([kinds[place] for place in order], REACH[Kind.URGENT]), strict=True))
        return [
            None if isinstance(slot := slots[place], NoPermit) else Permit(self, kind, slot)
            for place, kind in enumerate(kinds)
        ]

    def take(self, kind: Kind, patience: float) -> int:
        """Take one slot. Raises `NoPermit`, `StoreUnavailable`."""
        (slot,) = self._take([kind], patience)
        if isinstance(slot, NoPermit):
            raise slot
        return slot

    def throttled(self, sent_at: float, retry_after: int | None) -> int:
        """Report a 429 to what was sent at `sent_at` (epoch seconds); how many seconds of the pause are left.

        Raises `StoreUnavailable`; then no other worker knows of it.
        """
        sent = int(sent_at * _SECOND)
        with self._one_by_one():
            for _ in range(_TRIES):
                item, state, _ = self._seen
                after = self.rule.throttled(state, sent_at=sent, retry_after=retry_after, now=self._now())
                if after is state or self._write(item, after):
                    break
        return math.ceil(max(self._seen[1].paused_until - self._now(), 0) / _SECOND)

    def wait_until(self, slot: int, before: float = 0.0, *, calls: int = 1) -> None:
        """Sleep until `before` seconds before a slot, and before that what so many calls of the table take."""
        self._sleep_until(slot - int((before + calls * self._takes) * _SECOND))

    def wait_for(self, slot: int, *, urgent: bool) -> bool:
        """Sleep until a slot has come; whether it may still be used. Raises `StoreUnavailable`."""
        if not urgent:
            # A slow table answers by the time of the slot.
            self.wait_until(slot)
            if self._is_old():
                self.look()
        self._sleep_until(slot)
        now = self._now()
        if slot - now > _LONGEST_WAIT:
            # The clock has fallen back. Nobody knows how much of the wait is over.
            return False
        return now <= slot + LATENESS * _SECOND and (urgent or self._seen[1].paused_until <= now)

    def _sleep_until(self, moment: int) -> None:
        # Once, and no longer than any slot is ahead: a clock that has fallen back makes nobody wait for as long.
        if 0 < (left := moment - self._now()) <= _LONGEST_WAIT:
            self.sleep(left / _SECOND)

    def _is_old(self) -> bool:
        """Whether the item has to be read again; also if it was seen in a future, by a clock that has fallen back."""
        seen = self._seen[2]
        return not 0 <= self._now() - seen <= NEWS * _SECOND

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Note how long a call of the table takes: as long as this one, or half of what one took before."""
        began = self.clock()
        try:
            yield
        finally:
            self._takes = max(min(self.clock() - began, SLOWEST), self._takes / 2)

    def _take(self, kinds: Sequence[Kind], patience: float) -> list[int | NoPermit]:
        """A slot for each kind, in this order, or why not. Raises `StoreUnavailable`."""
        until = self.clock() + patience
        with self._one_by_one():
            return self._taken(kinds, until)

    def _taken(self, kinds: Sequence[Kind], until: float) -> list[int | NoPermit]:
        for tries in range(_TRIES):
            # A process that does not know the item learns it from its first write, so a second one is always tried.
            if tries > 1 and self.clock() >= until:
                break
            if self._seen[2] > self._now():
                self.look()
            item, before, _ = self._seen
            # A slot is known once it is written. It must not have passed by then.
            state, now = before, self._now() + int(self._takes * _SECOND)
            patience = max(until - now / _SECOND, 0.0)
            slots: list[int | NoPermit] = []
            full: dict[Kind, NoPermit] = {}
            for kind in kinds:
                if kind not in full:
                    try:
                        state, slot = self.rule.take(state, kind, patience, now)
                        slots.append(slot)
                        continue
                    except NoPermit as refused:
                        full[kind] = refused
                slots.append(full[kind])
            if state is before and self._is_old():
                # No room, but that was seen a while ago. The item may have changed since: a pause may be over.
                self.look()
                continue
            if state is before or self._write(item, state):
                return slots
        return [NoPermit(1) for _ in kinds]

    @contextmanager
    def _one_by_one(self) -> Iterator[None]:
        """The threads of a process write in turn: of writes at the same time one succeeds, and each costs money.

        If one hangs, the others wait for `turn` seconds at most. What keeps the limit is the condition of each write.
        """
        alone = self._lock.acquire(timeout=self._turn)
        try:
            yield
        finally:
            if alone:
                self._lock.release()

    def _write(self, seen: Item, state: State) -> bool:
        """Whether the state could be written over what was seen. In both cases the item is known afterwards."""
        try:
            with self._timed():
                written = self._item.replace(seen, {name: n(value) for name, value in asdict(state).items()})
            self._saw(written)
        except Changed as changed:
            self._saw(changed.item)
            return False
        return True

    def _saw(self, item: Item) -> State:
        now = self._now()
        stored = {name: value for name in _NAMES if (value := number(item, name)) is not None}
        state = self.rule.credible(State(**stored), now)
        self._seen = item, state, now
        return state

    def _now(self) -> int:
        return int(self.clock() * _SECOND)


_NAMES = [field.name for field in fields(State)]


class Permit:
    """Allows one request: by a slot taken beforehand, or taken in `use`. Each further request takes another slot."""

    def __init__(self, rate: Rate, kind: Kind, slot: int | None = None) -> None:
        self._rate = rate
        self._kind = kind
        self._slot = slot

    def wait(self, before: float = 0.0) -> None:
        """Sleep until `before` seconds before the slot, if one was taken, less what two calls of the table take."""
        if self._slot is not None:
            self._rate.wait_until(self._slot, before, calls=2)

    def use(self, patience: float, *, urgent: bool = False) -> None:
        """Return when one request may be sent, by a slot that is `patience` seconds ahead at most.

        A slot that passed unused, or lies in a pause that began meanwhile, is given up for another one, until
        `patience` is over. A kind that has used its share first waits for a free slot, within its reach. A refresh of a
        connection becomes `urgent` in the last hour before its deadline; an import does not. Raises `NoPermit`,
        `StoreUnavailable`; then nothing may be sent.
        """
        if urgent and self._kind in (Kind.SCHEDULED, Kind.CALLER):
            self._kind = Kind.URGENT
        until, left = self._rate.clock() + patience, min(patience, REACH[self._kind])
        for tries in range(_TRIES):
            slot, self._slot = self._slot, None
            if slot is None:
                if tries and self._rate.clock() >= until:
                    break
                try:
                    slot = self._rate.take(self._kind, max(until - self._rate.clock(), 0.0))
                except NoPermit as full:
                    left -= full.retry_after
                    if self._kind not in ONE_IN or left < 0:
                        raise
                    self._rate.sleep(full.retry_after)
                    continue
            if self._rate.wait_for(slot, urgent=self._kind is Kind.URGENT):
                return
        raise NoPermit(1)

    def throttled(self, sent_at: float, retry_after: int | None) -> int:
        """See `Rate.throttled`."""
        return self._rate.throttled(sent_at, retry_after)
