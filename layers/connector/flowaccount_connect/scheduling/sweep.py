"""The tick of the schedule: what is due is found through the index, soonest deadline first, and dispatched.

A tick dispatches what the pace lets through until the next one, less what still waits in the queue, so that a backlog
drains at the allowed rate and never as a storm. Duplicates and overlapping ticks are harmless: a claim of what is no
longer due is refused.

Its work grows with what is due and not with what exists: the shards of the sparse index are read at the same time, in
pages, each item once. After the first page of each, only those items are handed over that can still matter: sooner
than the worst of the best seen so far, or at risk and not marked. So the soonest deadlines of any backlog are found
exactly, and tens of thousands that are due cost no more than being read past.

Where more dies than can be sent, each moment to send goes to the soonest deadline that it still comes in time for. That
keeps as many alive as can be kept; soonest first alone would send each token a moment after its end, and lose them all.
"""

import heapq
import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

from flowaccount_connect.domain.error_code import error_code
from flowaccount_connect.domain.schedule import DUE_SHARDS, TICK, Schedule
from flowaccount_connect.scheduling.pacing import Rule, State
from flowaccount_connect.storage.dynamodb import AttributeValue, Client, StoreUnavailable, call, n, number, s, text
from flowaccount_connect.storage.imports import ImportStore

MARKS = 500
"""How many connections one tick marks at risk, at most; the next ticks mark the others."""

PLANNED_LOAD = 0.7
"""The share of what a stack can keep alive that one plans with."""

_SPREAD = 50
"""Over how many seconds of the tick its refreshes are spread where there are few."""

_LATENESS = 10
"""By how many seconds a refresh may be sent later than planned, since slots are taken up to `ON_DEMAND` ahead. Until
then it is not dispatched again, and a deadline before then may be missed, so that nothing is planned for it."""

_RESERVE = 10.0
_BATCH = 10
_SENDERS = 16
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """A connection that is due, ordered by its deadline. Times in epoch seconds."""

    deadline: int
    refresh_at: int
    connection_id: str
    generation: int = field(default=0, compare=False)
    at_risk: int | None = field(default=None, compare=False)
    """Since when it is marked as being at risk."""
    is_import: bool = field(default=False, compare=False)
    """Whether it is the import of that connection that is due."""

    def rank(self, now: int) -> "tuple[bool, Due]":
        """Its place in the line: past its deadline a token is tried only in case it lives on, so that comes last."""
        return self.deadline <= now, self


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a page is to hand over of what is due: live deadlines up to `soonest`, and those at risk and not marked."""

    soonest: int
    at_risk: int | None
    """Deadlines up to here are at risk; `None`: enough of them have been seen."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a shard: what it hands over, how many it has seen, and where the next one begins, if there is one."""

    due: list[Due]
    seen: int
    next: Mapping[str, AttributeValue] | None


class Index(Protocol):
    """Where connections wait until they are due; see `DueIndex`."""

    def page(
        self,
        shard: int,
        *,
        now: int,
        limit: int | None = None,
        wanted: Wanted | None = None,
        start: Mapping[str, AttributeValue] | None = None,
    ) -> Page: ...


class QueueUnavailable(Exception):
    """The queue did not answer: what was sent may be in it or not. The message is the error's code alone."""


class Queue(Protocol):
    """Where what is due goes; see `RefreshQueue`."""

    def waiting(self) -> int: ...
    def send(self, messages: "list[Message]") -> int: ...


class Looks(Protocol):
    """The pace; see `pacing.Pace`."""

    rule: Rule

    def look(self) -> State: ...


class Marks(Protocol):
    """Marks connections at risk; see `store.ConnectionStore`."""

    def mark_at_risk(self, connection_id: str, *, generation: int, deadline: int, now: int) -> bool: ...


class Counts(Protocol):
    """How many connections there are, by status; see `history.Counts`."""

    def get(self) -> Mapping[str, int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One dispatch: a connection, in how many seconds, and whether it dies unless it is refreshed now."""

    connection_id: str
    refresh_at: int
    delay: int
    urgent: bool = False
    is_import: bool = False


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
    """How many are at risk; while more are due than a tick dispatches, at least so many."""
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
    """The code of an error of the queue, where there was one."""

    @property
    def whole(self) -> bool:
        """Whether the tick did all that it had to: saw what is due and what waits, and dispatched what it could."""
        return self.complete and self.waiting is not None and not self.failed

    @property
    def overloaded(self) -> bool:
        """Whether there are more connections than one plans with."""
        return self.connections is not None and self.connections > self.capacity * PLANNED_LOAD


class DueIndex:
    """The sharded, sparse index of what is to be refreshed. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def page(
        self,
        shard: int,
        *,
        now: int,
        limit: int | None = None,
        wanted: Wanted | None = None,
        start: Mapping[str, AttributeValue] | None = None,
    ) -> Page:
        """One page of what is due in a shard, longest due first, all of it or what is `wanted`.

        It looks at `limit` items, or as many as fit into a page of DynamoDB's. Raises `StoreUnavailable`.
        """
        values: dict[str, AttributeValue] = {":shard": s(str(shard)), ":now": n(now)}
        request: dict[str, Any] = {}
        if wanted is not None:
            # What is past its deadline is behind everything that is not, of which there is enough by now.
            filters = ["deadline > :now AND deadline <= :soonest"]
            values[":soonest"] = n(wanted.soonest)
            if wanted.at_risk is not None:
                filters.append("attribute_not_exists(at_risk) AND deadline <= :at_risk")
                values[":at_risk"] = n(wanted.at_risk)
            request["FilterExpression"] = " OR ".join(f"({one})" for one in filters)
        if limit is not None:
            request["Limit"] = limit
        if start is not None:
            request["ExclusiveStartKey"] = start
        page = call(
            self._client.query,
            TableName=self._table,
            IndexName="due",
            KeyConditionExpression="due_shard = :shard AND refresh_at <= :now",
            ExpressionAttributeValues=values,
            **request,
        )
        due = [
            Due(
                deadline=number(item, "deadline") or 0,
                refresh_at=number(item, "refresh_at") or 0,
                connection_id=(text(item, "pk") or "").removeprefix("CONNECTION#"),
                generation=number(item, "generation") or 0,
                at_risk=number(item, "at_risk"),
                is_import=text(item, "sk") == ImportStore.sort_key,
            )
            for item in page["Items"]
        ]
        return Page(due, page["ScannedCount"], page.get("LastEvaluatedKey"))


class Sqs(Protocol):
    """What is used of an SQS client."""

    def get_queue_attributes(self, **kwargs: Any) -> Any: ...
    def send_message_batch(self, **kwargs: Any) -> Any: ...


class RefreshQueue:
    """The queue between `sweep` and `refresh`. Its messages name connections and carry nothing secret.

    Both methods raise `QueueUnavailable`.
    """

    def __init__(self, sqs: Sqs, url: str) -> None:
        self._sqs = sqs
        self._url = url

    def waiting(self) -> int:
        """About how many messages wait, are delayed, or are being worked on."""
        names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ]
        try:
            answer = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)
        except Exception as error:
            raise QueueUnavailable(error_code(error)) from None
        return sum(int(answer["Attributes"].get(name, 0)) for name in names)

    def send(self, messages: list[Message]) -> int:
        """Send at most ten messages; how many the queue did not take."""
        entries = [
            {
                "Id": str(i),
                "DelaySeconds": message.delay,
                "MessageBody": json.dumps(
                    {"connection_id": message.connection_id}
                    | ({"urgent": True} if message.urgent else {})
                    | ({"import": True} if message.is_import else {})
                ),
            }
            for i, message in enumerate(messages)
        ]
        try:
            answer = self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)
        except Exception as error:
            raise QueueUnavailable(error_code(error)) from None
        return len(entries) - len(answer.get("Successful", []))


class _Found:
    """What the shards have shown so far: the `count` first in line, and the soonest that are at risk and not marked.

    Of what dies within the tick it is not known yet which can be saved: all of that is kept beside the first in line.
    """

    def __init__(self, count: int, now: int, at_risk: int) -> None:
        self._count = count
        self._now = now
        self._at_risk = at_risk
        self._lock = threading.Lock()
        # Heaps of what comes first, the last of it at the top, to be dropped for what comes before it.
        self._first: list[_Last] = []
        self._dying: list[Due] = []
        self._unmarked: list[_Last] = []
        self.seen = 0
        self.at_risk = 0
        self.oldest: int | None = None

    def add(self, page: Page) -> None:
        """Take in a page."""
        with self._lock:
            self.seen += page.seen
            for due in page.due:
                if self.oldest is None or due.refresh_at < self.oldest:
                    self.oldest = due.refresh_at
                if self._now < due.deadline <= self._now + TICK + _LATENESS:
                    self._dying.append(due)
                else:
                    _keep(self._first, self._count, due, self._now)
                # An import puts nothing at risk that works.
                if due.deadline <= self._at_risk and not due.is_import:
                    self.at_risk += 1
                    if due.at_risk is None:
                        _keep(self._unmarked, MARKS, due, self._now)

    def wanted(self) -> Wanted | None:
        """What can still matter; `None`: everything."""
        with self._lock:
            if len(self._first) < self._count or self._first[0].due.deadline <= self._now:
                return None
            enough = len(self._unmarked) >= MARKS
            return Wanted(soonest=self._first[0].due.deadline, at_risk=None if enough else self._at_risk)

    def first(self) -> list[Due]:
        """The first in line, in order."""
        first = chain(self._dying, (last.due for last in self._first))
        return sorted(first, key=lambda due: due.rank(self._now))

    def unmarked(self) -> list[Due]:
        """What is at risk and not marked, in order."""
        return sorted((last.due for last in self._unmarked), key=lambda due: due.rank(self._now))


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
    """Finds and dispatches what is due. One for a process: it remembers what it dispatched a moment ago."""

    index: Index
    queue: Queue
    pace: Looks
    marks: Marks
    counts: Counts
    schedule: Schedule = field(default_factory=Schedule)
    at_risk_before: int = 43_200
    """With less than so many seconds to its deadline a connection that is due is at risk."""
    clock: Callable[[], float] = time.time
    _planned: dict[tuple[str, int], float] = field(default_factory=dict, repr=False)
    """When what was dispatched, and was due since when, is to be refreshed. Forgotten with the process: a message more
    is harmless."""

    def tick(self, *, remaining: Callable[[], float]) -> Tick:
        """One tick, within the invocation's time. Raises `StoreUnavailable` if index or pace cannot be read.

        A queue that fails costs what it did not take, until the next tick, and no early warning.
        """
        clock = self.clock()
        now = int(clock)

        def more() -> bool:
            return remaining() > _RESERVE

        state = self.pace.look()
        rule, moment = self.pace.rule, int(clock * _MICROSECONDS)
        interval = rule.interval(state, moment)
        for done in [one for one, at in self._planned.items() if at + _LATENESS <= clock]:
            del self._planned[done]
        room = TICK * _MICROSECONDS // interval + 1
        found = _Found(room + len(self._planned), now, now + self.at_risk_before)
        errors: list[str] = []
        with ThreadPoolExecutor(DUE_SHARDS) as pool:
            first_page = max(2 * room // DUE_SHARDS, 100)
            seen = [pool.submit(self._read, shard, now, first_page, found, more) for shard in range(DUE_SHARDS)]
            waiting, connections = self._waiting(errors), self._connections()
            complete = [shard.result() for shard in seen].count(False) == 0
        first = [due for due in found.first() if (due.connection_id, due.refresh_at) not in self._planned]
        messages = self._planned_messages(first, found.seen, waiting or 0, interval, state, moment)
        with ThreadPoolExecutor(1) as beside:
            # Neither waits for the other: whatever is slow then, nobody is warned or refreshed later for it.
            marking = beside.submit(self._mark, found.unmarked(), now, more)
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
        )

    def _read(self, shard: int, now: int, first_page: int, found: _Found, more: Callable[[], bool]) -> bool:
        """Read a shard, page by page; whether to its end."""
        start: Mapping[str, AttributeValue] | None = None
        while more():
            # The first page as it is: it tells what has been due longest, and how soon is soon.
            wanted = None if start is None else found.wanted()
            limit = first_page if wanted is None else None
            page = self.index.page(shard, now=now, limit=limit, wanted=wanted, start=start)
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
            return self.counts.get().get("active")
        except StoreUnavailable:
            return None

    def _planned_messages(
        self, due: list[Due], seen: int, waiting: int, interval: int, state: State, moment: int
    ) -> list[Message]:
        """What the pace lets through until the next tick, and when: behind what waits, and after a pause.

        At each moment the soonest deadline that it comes in time for; what is too late for all of them is tried with
        what is left of the tick, in case it lives on. What dies unless it is refreshed now waits for no pause.
        """
        now, end = moment // _MICROSECONDS, moment + TICK * _MICROSECONDS
        # What waits may have its slots already, so that those count once.
        slot = max(moment + waiting * interval, state.next_slot)
        paced = state.paused_until > moment or waiting
        step = interval if paced else max(interval, _SPREAD * _MICROSECONDS // max(seen, 1))
        messages: list[Message] = []
        late: list[Due] = []
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
                    # Rather early than late: it waits for its slot, and a slot does not wait.
                    delay=(at - moment) // _MICROSECONDS,
                    urgent=urgent,
                    is_import=one.is_import,
                )
            )
            slot = at + step
        return messages

    def _send(self, messages: list[Message], clock: float, more: Callable[[], bool], errors: list[str]) -> int:
        """Dispatch in batches, several at a time where there are many; how many were not taken for certain."""
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
                # After a failure nobody remembers which: those that did go are dispatched twice.
                self._planned.update({(one.connection_id, one.refresh_at): clock + one.delay for one in batch})
            return failed

        return sum(_parallel(send, batches, min(_SENDERS, len(batches) // 8)))

    def _mark(self, unmarked: list[Due], now: int, more: Callable[[], bool]) -> int:
        """Mark connections at risk, once each; how many were."""

        def mark(due: Due) -> bool:
            if not more():
                return False
            try:
                return self.marks.mark_at_risk(
                    due.connection_id, generation=due.generation, deadline=due.deadline, now=now
                )
            except StoreUnavailable:
                return False  # The next tick finds it unmarked again.

        return sum(_parallel(mark, unmarked, min(_SENDERS, len(unmarked) // 8)))


def _parallel[One, Result](run: Callable[[One], Result], many: Iterable[One], workers: int) -> list[Result]:
    """`run` for each, in order unless there are several workers."""
    if workers <= 1:
        return [run(one) for one in many]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, many))
