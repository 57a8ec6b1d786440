"""The tick of the schedule: finds what is due through the index, soonest deadline first, and dispatches it.

docs/scheduling.md ("The schedule") says what a tick dispatches, and in which order. Duplicates and overlapping ticks do
no harm: a claim of what is no longer due is refused.

The work of a tick grows with what is due and not with what exists. It reads the shards of the sparse index at the same
time, page by page, each item once. After the first page of each shard it asks only for items that can still matter:
those with a sooner deadline than the last one kept so far, or at risk and not marked. So it finds the soonest
deadlines of any backlog exactly, and reading past tens of thousands of items costs little.

An item of the index that cannot be read is skipped and reported. It never fails the tick of the others.
"""

import heapq
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice

from flowaccount_connect.domain.schedule import DUE_SHARDS, TICK, Schedule
from flowaccount_connect.rotation.permits import Kind
from flowaccount_connect.scheduling.due_index import Due, Page, Wanted
from flowaccount_connect.scheduling.rate import ONE_IN, Rate, State
from flowaccount_connect.scheduling.refresh_queue import Message, QueueUnavailable, RefreshQueue
from flowaccount_connect.storage.dynamodb import AttributeValue, StoreUnavailable

MARKS = 500
"""How many connections one tick marks at risk, at most; the next ticks mark the others."""

PLANNED_LOAD = 0.7
"""Plan for this share of what a stack can keep alive."""

_SPREAD = 50
"""Over how many seconds of the tick its refreshes are spread where there are few."""

_LATENESS = 10
"""How many seconds later than planned a refresh may be sent, because others hold the slots before it. Until then it is
not dispatched again. A deadline before then may be missed, so nothing is planned for it."""

_REMEMBERED = 120
"""How many seconds after its planned time a message may still be in SQS' count: a minute until it is done, at most, and
a minute until the count shows it."""

_NAMED = 20
_RESERVE = 10.0
_BATCH = 10
_SENDERS = 16
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What one tick found and did. Durations in seconds."""

    due: int
    """How many are due, those in the queue included."""
    waiting: int | None
    """How many messages wait in the queue, or are being worked on; `None` if the queue did not say."""
    dispatched: int
    failed: int
    """How many the queue did not take, or there was no time to send."""
    oldest_due: int
    """The age of what has been due longest; 0 where nothing is due."""
    soonest_deadline: int | None
    """The least time to a connection's deadline that is still ahead; `None` where none is due."""
    at_risk: int
    """How many are at risk; only a lower bound while more are due than a tick dispatches."""
    marked: int
    """How many of them this tick has marked."""
    connections: int | None
    """How many active connections there are; `None` if that is not known."""
    capacity: int
    """How many the stack can keep alive, at its rate and interval."""
    paused: int
    """How long nothing is sent because of a 429."""
    slowdown: float
    """By how much 429s have stretched the interval between refreshes: 1 and more."""
    complete: bool
    """Whether the whole index was seen before time ran short."""
    queue_error: str | None = None
    """The code of an error of the queue, if there was one."""
    unreadable: tuple[str, ...] = ()
    """Keys of due items that could not be read or marked; at most `_NAMED` of them."""

    @property
    def whole(self) -> bool:
        """Whether the tick did all that it had to: saw what is due and what waits, and dispatched what it could."""
        return self.complete and self.waiting is not None and not self.failed

    @property
    def overloaded(self) -> bool:
        """Whether there are more connections than `PLANNED_LOAD` allows."""
        return self.connections is not None and self.connections > self.capacity * PLANNED_LOAD


class _Found:
    """What the shards have shown so far: the `count` first connections in line, as many imports, and the soonest that
    are at risk and not marked.

    Which of those that die within the tick can be saved is not known yet: all of them are kept as well.
    """

    def __init__(self, count: int, now: int, at_risk_before: int, schedule: Schedule) -> None:
        self._schedule = schedule
        self._count = count
        self._now = now
        self._before = at_risk_before
        self._at_risk = now + at_risk_before
        self._lock = threading.Lock()
        # Heaps of the first in line. On top is the last of them: whatever comes before it replaces it.
        self._first: list[_Last] = []
        self._imports: list[_Last] = []
        self._dying: list[Due] = []
        self._unmarked: list[_Last] = []
        self.seen = 0
        self.at_risk = 0
        self.oldest: int | None = None
        self.unreadable: list[str] = []

    def add(self, page: Page) -> None:
        """Take in a page."""
        with self._lock:
            self.seen += page.seen
            self.unreadable += page.unreadable
            for due in page.due:
                if self.oldest is None or due.refresh_at < self.oldest:
                    self.oldest = due.refresh_at
                if due.is_import:
                    # It puts nothing at risk that works.
                    _keep(self._imports, self._count, due, self._now)
                    continue
                if self._now < due.deadline <= self._now + TICK + _LATENESS:
                    self._dying.append(due)
                else:
                    _keep(self._first, self._count, due, self._now)
                if due.deadline <= self._at_risk:
                    self.at_risk += 1
                    # An older mark is about the end of the consent.
                    if due.at_risk is None or due.at_risk <= due.deadline - self._before:
                        _keep(self._unmarked, MARKS, due, self._now)

    def wanted(self) -> Wanted | None:
        """What can still matter; `None`: everything."""
        with self._lock:
            if len(self._first) < self._count or self._first[0].due.deadline <= self._now:
                return None
            enough = len(self._unmarked) >= MARKS
            return Wanted(soonest=self._first[0].due.deadline, at_risk=None if enough else self._at_risk)

    def first(self) -> list[Due]:
        """The first in line, in order: while connections wait, imports have their share of the places, as in the rate.

        An import's deadline is assumed: else thousands would go before every connection, for half a day. Connections
        that die within the hour go first.
        """
        connections = self._in_order(chain(self._dying, (last.due for last in self._first)))
        urgent = [one for one in connections if self._schedule.urgent(self._now, one.deadline)]
        connections = connections[len(urgent) :]
        imports = iter(self._in_order(last.due for last in self._imports))
        apart = ONE_IN[Kind.IMPORT] - 1
        line = urgent
        for place in range(0, len(connections), apart):
            line += [*connections[place : place + apart], *islice(imports, 1)]
        return [*line, *imports]

    def unmarked(self) -> list[Due]:
        """What is at risk and not marked, in order."""
        return self._in_order(last.due for last in self._unmarked)

    def _in_order(self, found: Iterable[Due]) -> list[Due]:
        return sorted(found, key=lambda due: due.rank(self._now))


class _Last:
    """Turns the order round, so that the top of a heap is what comes last."""

    __slots__ = ("due", "rank")

    def __init__(self, due: Due, now: int) -> None:
        self.due = due
        self.rank = due.rank(now)

    def __lt__(self, other: "_Last") -> bool:
        return self.rank > other.rank


def _keep(heap: list[_Last], count: int, due: Due, now: int) -> None:
    last = _Last(due, now)
    if len(heap) < count:
        heapq.heappush(heap, last)
    elif heap[0] < last:
        heapq.heapreplace(heap, last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Finds and dispatches what is due. One for a process: it remembers what it dispatched in the last minutes."""

    page: Callable[..., Page]
    """One page of what is due: `DueIndex.page`."""
    queue: RefreshQueue
    rate: Rate
    mark_at_risk: Callable[..., bool]
    """Marks a connection at risk: `ConnectionStore.mark_at_risk`."""
    counts: Callable[[], Mapping[str, int]]
    """How many connections there are, by status: `Counts.get`."""
    schedule: Schedule = field(default_factory=Schedule)
    at_risk_before: int = 43_200
    """How many seconds before its deadline a connection that is due is at risk."""
    clock: Callable[[], float] = time.time
    _dispatched: dict[tuple[str, int], float] = field(default_factory=dict, repr=False)
    """When each connection that was dispatched is to be refreshed, by its id and since when it was due. A new process
    knows nothing of it, and may dispatch some twice, which does no harm."""

    def tick(self, *, remaining: Callable[[], float]) -> Tick:
        """One tick, within the invocation's time. Raises `StoreUnavailable` if index or rate cannot be read.

        If the queue fails, the rest waits for the next tick; marks of what is at risk are still made.
        """
        clock = self.clock()
        now = int(clock)

        def more() -> bool:
            return remaining() > _RESERVE

        state = self.rate.look()
        rule, moment = self.rate.rule, int(clock * _MICROSECONDS)
        interval = rule.interval(state, moment)
        # What lies further ahead than a tick plans was planned by a clock that has fallen back.
        for past in [one for one, at in self._dispatched.items() if not -_REMEMBERED < at - clock < 2 * TICK]:
            del self._dispatched[past]
        under_way = {one for one, at in self._dispatched.items() if at + _LATENESS > clock}
        room = TICK * _MICROSECONDS // interval + 1
        found = _Found(room + len(under_way), now, self.at_risk_before, self.schedule)
        errors: list[str] = []
        with ThreadPoolExecutor(DUE_SHARDS) as pool:
            first_page = max(2 * room // DUE_SHARDS, 100)
            seen = [pool.submit(self._read, shard, now, first_page, found, more) for shard in range(DUE_SHARDS)]
            waiting, connections = self._waiting(errors), self._connections()
            complete = [shard.result() for shard in seen].count(False) == 0
        first = [due for due in found.first() if (due.connection_id, due.refresh_at) not in under_way]
        messages = self._planned(first, found.seen, self._start(waiting or 0, interval, state, moment), state, moment)
        with ThreadPoolExecutor(1) as beside:
            # Neither waits for the other: whatever is slow then, nobody is warned or refreshed later for it.
            marking = beside.submit(self._mark, found, now, more)
            failed = self._send(messages, clock, more, errors)
            marked = marking.result()
        # An import's is an assumption, and nothing that works dies with it.
        ahead = [due.deadline - now for due in found.first() if due.deadline > now and not due.is_import]
        return Tick(
            due=found.seen,
            waiting=waiting,
            dispatched=len(messages) - failed,
            failed=failed,
            oldest_due=now - found.oldest if found.oldest is not None else 0,
            soonest_deadline=min(ahead, default=None),
            at_risk=found.at_risk,
            marked=marked,
            connections=connections,
            capacity=int(rule.per_minute * self.schedule.refresh_after / 60),
            paused=math.ceil(max(state.paused_until - moment, 0) / _MICROSECONDS),
            slowdown=round(rule.slowdown(state, moment), 3),
            complete=complete,
            queue_error=errors[0] if errors else None,
            unreadable=tuple(found.unreadable[:_NAMED]),
        )

    def _read(self, shard: int, now: int, first_page: int, found: _Found, more: Callable[[], bool]) -> bool:
        """Read a shard, page by page; whether to its end."""
        start: Mapping[str, AttributeValue] | None = None
        while more():
            # The first page has no filter: it shows what has been due longest, and which deadlines are soon.
            wanted = None if start is None else found.wanted()
            limit = first_page if wanted is None else None
            page = self.page(shard, now=now, limit=limit, wanted=wanted, start=start)
            found.add(page)
            start = page.next
            if start is None:
                return True
        return False

    def _waiting(self, errors: list[str]) -> int | None:
        try:
            return self.queue.waiting()
        except QueueUnavailable as error:
            errors.append(str(error))
            return None

    def _connections(self) -> int | None:
        try:
            return self.counts().get("active")
        except StoreUnavailable:
            return None

    def _start(self, waiting: int, interval: int, state: State, moment: int) -> int:
        """The first moment (epoch microseconds) for which nothing is planned or waits yet.

        `waiting` is SQS' count. It is up to a minute old, so it still contains messages that were sent long ago.
        """
        last = max(self._dispatched.values(), default=0.0)
        planned = int(last * _MICROSECONDS) + interval if last else 0
        # The count may contain everything that was dispatched lately. What is beyond that waits for certain.
        beyond = max(waiting - len(self._dispatched), 0)
        return max(moment + beyond * interval, planned, state.next_slot)

    def _planned(self, due: list[Due], seen: int, start: int, state: State, moment: int) -> list[Message]:
        """What the rate lets through from `start` until the next tick, and when.

        Each slot goes to the soonest deadline that can still be met. In the order of the deadlines alone each token
        would be sent a moment too late, and all would be lost. What is too late already is tried in what is left of the
        tick, in case its token still works. What is urgent waits for no pause.
        """
        now, end = moment // _MICROSECONDS, moment + TICK * _MICROSECONDS
        interval = self.rate.rule.interval(state, moment)
        # The few that are due at quiet times are spread over the tick.
        quiet = start == moment and state.paused_until <= moment
        step = max(interval, _SPREAD * _MICROSECONDS // max(seen, 1)) if quiet else interval
        slot = start
        messages: list[Message] = []
        late: list[Due] = []
        # What turns out to be too late joins the end of the line.
        for place, one in enumerate(chain(due, late)):
            urgent = self.schedule.urgent(now, one.deadline)
            at = slot if urgent else max(slot, state.paused_until)
            if place < len(due) and one.deadline * _MICROSECONDS <= at + _LATENESS * _MICROSECONDS:
                late.append(one)
                continue
            if at >= end:
                continue
            messages.append(
                Message(
                    connection_id=one.connection_id,
                    refresh_at=one.refresh_at,
                    # Rounded down: a message that is early waits for its slot, but no slot waits for a message.
                    delay=(at - moment) // _MICROSECONDS,
                    urgent=urgent,
                    is_import=one.is_import,
                )
            )
            slot = at + step
        return messages

    def _send(self, messages: list[Message], clock: float, more: Callable[[], bool], errors: list[str]) -> int:
        """Dispatch in batches, several at a time where there are many; how many may not have been taken."""
        batches = [messages[at : at + _BATCH] for at in range(0, len(messages), _BATCH)]

        def send(batch: list[Message]) -> int:
            if not more():
                return len(batch)
            try:
                failed = self.queue.send(batch)
            except QueueUnavailable as error:
                errors.append(str(error))
                return len(batch)
            if not failed:
                # After a failure nobody knows which were taken: those are dispatched twice.
                self._dispatched.update({(one.connection_id, one.refresh_at): clock + one.delay for one in batch})
            return failed

        return sum(_parallel(send, batches, min(_SENDERS, len(batches) // 8)))

    def _mark(self, found: _Found, now: int, more: Callable[[], bool]) -> int:
        """Mark connections at risk, once each; how many were marked."""

        def mark(due: Due) -> bool:
            if not more():
                return False
            try:
                return self.mark_at_risk(
                    due.connection_id,
                    generation=due.generation,
                    deadline=due.deadline,
                    near_since=due.deadline - self.at_risk_before,
                    now=now,
                )
            except StoreUnavailable:
                return False  # The next tick finds it unmarked again.
            except Exception:
                # Something is wrong with this item alone. The tick of the others goes on.
                found.unreadable.append(due.connection_id)
                return False

        unmarked = found.unmarked()
        return sum(_parallel(mark, unmarked, min(_SENDERS, len(unmarked) // 8)))


def _parallel[One, Result](run: Callable[[One], Result], many: Iterable[One], workers: int) -> list[Result]:
    """`run` for each, in order unless there are several workers."""
    if workers <= 1:
        return [run(one) for one in many]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, many))
