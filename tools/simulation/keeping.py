"""Our stack under a virtual clock: the real tick, schedule, rate, health and rotation, in simulated surroundings.

Simulated are the table, the queue and the workers that take from it, the scheduler, and FlowAccount. A refresh runs to
its end at the moment it begins, on a clock of its own that its answer moves on. Only what the endpoint's health learns
of it is learnt when the answer arrives. What refreshes do to each other in between is the matter of `make explore`.
"""

import contextlib
import gc
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import numpy as np

from flowaccount_connect.domain.connection import Status
from flowaccount_connect.domain.schedule import TICK, Schedule
from flowaccount_connect.oauth.token_answer import Answer, Outcome, TokenSet
from flowaccount_connect.rotation.canary import Canary
from flowaccount_connect.rotation.health import Change, Health
from flowaccount_connect.rotation.new_tokens import timed
from flowaccount_connect.rotation.outcomes import Refresh
from flowaccount_connect.rotation.pending_commits import PendingCommit
from flowaccount_connect.rotation.permits import Kind, NoPermit
from flowaccount_connect.rotation.protocol import Rotation
from flowaccount_connect.scheduling import sweep
from flowaccount_connect.scheduling.rate import Permit, Rate, Rule
from flowaccount_connect.scheduling.refresh_queue import Message, RefreshQueue
from flowaccount_connect.scheduling.sweep import Sweep
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.sealing import TokenPair
from flowaccount_connect.tokens.serving import DEFAULT_MIN_TTL
from tools.simulation.authorization_server import AuthorizationServer, Verdict
from tools.simulation.memory import ItemMemory, KnownSecret, Memory, Unsealed
from tools.simulation.record import Record
from tools.simulation.trace import HOUR, START, Newcomer, Trace, Trouble

WORKERS = 5
BATCH = 50
TIMEOUT = 45.0
VISIBILITY = 280.0
"""Of template.yaml: refresh workers at once, messages in a batch, the function's timeout, the queue's visibility."""

_AHEAD = 0.2
"""Of functions/refresh: how long before its slot a refresh begins, in seconds."""

_SALVAGE_VISIBILITY = 120.0
_UNANSWERED = 7.0
"""What a call of a table that cannot be reached takes, in seconds; see `LONGEST_WRITE` in `rotation/time_left.py`."""

_CRASHES = 0.001
"""The share of batches that die at any time."""

_COLD_STARTS = 0.02
"""The share of ticks that are the first of a new process."""

_STALE = 60.0
"""Up to so many seconds old is the queue's count of its messages."""

_FLOOD = 0.5
"""Seconds between two attempts of everybody in a flood."""

_FIRST = 1_000_000


class _Killed(BaseException):
    """A worker dies."""


class _InTurn(Executor):
    """Stands for the sweep's threads: a million of them would take longer than all they do."""

    def __init__(self, _workers: int) -> None:
        pass

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **_: Any) -> "Future[Any]":
        """The same at once."""
        done: Future[Any] = Future()
        try:
            done.set_result(function(*arguments))
        except StoreUnavailable as error:
            done.set_exception(error)
        return done


class _Clock:
    """The virtual clock, which everything reads."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = float(START)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class _Endpoint:
    """FlowAccount as a worker meets it; one that is to die dies here, before anything is sent."""

    def __init__(self, server: AuthorizationServer, clock: _Clock) -> None:
        self._server = server
        self._clock = clock
        self.deadly = False

    def refresh(self, refresh_token: str, client_secret: str, *, connection_id: str, budget: float) -> Answer:  # noqa: ARG002
        """One POST."""
        if self.deadly:
            raise _Killed
        clock, made_up = self._clock, connection_id == "canary"
        number, token = (-1, 0) if made_up else (int(connection_id[1:]) - _FIRST, int(refresh_token))
        verdict, took, wait = self._server.refresh(number, token, clock.now, budget)
        clock.now += took
        if verdict is Verdict.TOKENS:
            return Answer(Outcome.TOKENS, TokenSet("access", str(token + 1), 86_400, connection_id), status=200)
        if verdict is Verdict.THROTTLED:
            return Answer(Outcome.THROTTLED, error="unknown", retry_after=wait, status=429)
        return _ANSWERS[verdict]


_ANSWERS = {
    Verdict.REFUSED: Answer(Outcome.REJECTED, error="invalid_grant", status=400),
    Verdict.INVALID: Answer(Outcome.CONFIGURATION_ERROR, error="invalid_request", status=400),
    Verdict.NOT_SENT: Answer(Outcome.NOT_SENT, error="not_sent"),
    Verdict.NO_ANSWER: Answer(Outcome.IN_DOUBT, error="no_answer"),
}


class _Queue(RefreshQueue):
    """The refresh queue and the queue of pending commits; see `RefreshQueue` and `PendingQueue`."""

    def __init__(self, simulation: "Keeping") -> None:
        self._simulation = simulation
        self._hidden = 0
        self.ready: deque[Message] = deque()
        """Messages that may be taken; `hidden` counts those that are delayed or being worked on."""
        self._counts: deque[tuple[float, int]] = deque([(0.0, 0)])
        """How many messages there were from when on."""

    @property
    def hidden(self) -> int:
        return self._hidden

    @hidden.setter
    def hidden(self, hidden: int) -> None:
        self._hidden, now = hidden, self._simulation.clock.now
        self._counts.append((now, hidden + len(self.ready)))
        while len(self._counts) > 1 and self._counts[1][0] <= now - _STALE:
            self._counts.popleft()

    def waiting(self) -> int:
        """As many as there were some time ago."""
        then = self._simulation.clock.now - self._simulation.chance.random() * _STALE
        return next((count for since, count in reversed(self._counts) if since <= then), 0)

    def send(self, messages: list[Message]) -> int:
        at = self._simulation.clock.now
        for delay, of_delay in itertools.groupby(messages, key=lambda each: each.delay):
            self.hide(list(of_delay), at + delay)
        return 0

    def hide(self, messages: list[Message], until: float) -> None:
        """Nobody may take them before that."""
        self.hidden += len(messages)
        self._simulation.later(until, self._simulation.arrive, messages)


class _Pending:
    """The queue of pending commits; see `rotation.pending_commits.PendingQueue`."""

    def __init__(self, simulation: "Keeping") -> None:
        self._simulation = simulation

    def send(self, pending: PendingCommit) -> None:
        self._simulation.later(self._simulation.clock.now, self._simulation.salvage, pending.commit)


@dataclass(frozen=True, slots=True)
class _Process:
    """What one process knows of the rate and of the endpoint's health."""

    rate: Rate
    health: Health


@dataclass(slots=True)
class _Batch:
    """One invocation of `refresh`."""

    process: _Process
    messages: list[Message]
    begin: float
    dies: bool
    left: int
    last: float
    again: list[Message] = field(default_factory=list)


class Keeping:
    """One simulation of our stack."""

    def __init__(self, trace: Trace, schedule: Schedule | None = None) -> None:
        self.trace = trace
        self.clock = _Clock()
        self.server = AuthorizationServer(trace)
        self.chance = random.Random(trace.seed + 2)  # noqa: S311 - repeatable, nothing secret
        tables, self._paused = trace.periods(Trouble.TABLE), trace.periods(Trouble.PAUSED)
        self._crashing = trace.periods(Trouble.CRASHES)
        self.store = Memory(lambda: tables.at(self.clock.now) is None)
        self._endpoint = _Endpoint(self.server, self.clock)
        self._queue = _Queue(self)
        self._schedule = schedule or Schedule(fraction=self.chance.random)
        self._sealer = Unsealed()
        self._items = [ItemMemory(lambda: tables.at(self.clock.now) is None) for _ in range(2)]
        self.changes: list[Change] = []
        self._callers = self._process()
        self._flooding = trace.periods(Trouble.FLOOD)
        attempts = itertools.count()
        self._rotation = Rotation(
            store=self.store,
            endpoint=self._endpoint,
            secret=KnownSecret(),
            sealer=self._sealer,
            queue=_Pending(self),
            schedule=self._schedule,
            health=self._process().health,
            clock=self.clock,
            sleep=self.clock.sleep,
            attempt_id=lambda: str(next(attempts)),
        )
        self._sweep = self._new_sweep()
        self._periods = np.array([period for period, _ in trace.reads])
        self._phases = np.array([phase for _, phase in trace.reads])
        self._idle = [self._process() for _ in range(WORKERS)]
        self._events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._order = itertools.count()
        self._record = Record(trace, "ours")

    def _process(self) -> _Process:
        rate_item, health_item = self._items
        rate = Rate(rate_item, Rule(self.trace.refreshes_per_minute), clock=self.clock, sleep=self.clock.sleep)
        canary = Canary(
            endpoint=self._endpoint,
            secret=KnownSecret(),
            permits=lambda: rate.permit(Kind.CANARY),
            clock=self.clock,
        )
        health = Health(health_item, canary, changed=self.changes.append, clock=self.clock)
        return _Process(rate, health)

    def _new_sweep(self) -> Sweep:
        return Sweep(
            page=self.store.page,
            queue=self._queue,
            rate=self._process().rate,
            mark_at_risk=self.store.mark_at_risk,
            counts=dict,
            clock=self.clock,
        )

    def run(self) -> Record:
        """All of it."""
        newcomers = iter(self.trace.newcomers)
        self._next_newcomer(newcomers)
        self.later(START, self._tick, None)
        self.later(START, self._hour, None)
        for period in self.trace.troubles:
            if period.trouble is Trouble.FLOOD:
                self.later(period.begin, self._flood, self._process())
        gc.disable()  # Most of what there is lives for long; collected by the hour.
        try:
            with mock.patch.object(sweep, "ThreadPoolExecutor", _InTurn):
                self._live()
        finally:
            gc.enable()
        return self._record.finish(self.server, self._ended())

    def _live(self) -> None:
        """One event after the other."""
        while self._events and self._events[0][0] < self.trace.end:
            at, _, happen, what = heapq.heappop(self._events)
            self.clock.now = at
            happen(what)

    def later(self, at: float, happen: Callable[[Any], None], what: Any) -> None:
        """Let something happen."""
        heapq.heappush(self._events, (at, next(self._order), happen, what))

    def arrive(self, messages: list[Message]) -> None:
        """Messages become visible."""
        self._queue.hidden -= len(messages)
        self._queue.ready.extend(messages)
        self._work()

    def salvage(self, commit: Commit) -> None:
        """As `salvage` does it: the commit, until the table takes it."""
        try:
            self.store.commit(commit)
        except StoreUnavailable:
            self.later(self.clock.now + _SALVAGE_VISIBILITY, self.salvage, commit)

    # What happens -----------------------------------------------------------------------------------------------

    def _next_newcomer(self, newcomers: Any) -> None:
        newcomer = next(newcomers, None)
        if newcomer is not None:
            self.later(newcomer.at, self._connect, (newcomer, newcomers))

    def _connect(self, what: tuple[Newcomer, Any]) -> None:
        newcomer, newcomers = what
        connection_id, now = f"N{_FIRST + newcomer.number}", self.clock.now
        issued_at = int(now - newcomer.token_age)
        self.server.connect(newcomer.number, issued_at)
        sealed = self._sealer.seal(TokenPair("", "1"), self._sealer.data_key(), owner=connection_id, grant_id="1")
        rotated = timed(sealed, TokenSet("", "1", 86_400, connection_id), issued_at, self._schedule)
        self.store.connect(connection_id, "1", "callback", rotated, now=int(now))
        self._next_newcomer(newcomers)

    def _tick(self, _: None) -> None:
        """A minute begins: the real tick, unless the scheduler is paused; and the reads that may need a refresh."""
        now = self.clock.now
        self.later(now + TICK, self._tick, None)
        if self._paused.at(now) is None:
            if self.chance.random() < _COLD_STARTS:
                self._sweep = self._new_sweep()
            with contextlib.suppress(StoreUnavailable):
                self._sweep.tick(remaining=lambda: 50.0)
        self.clock.now = now
        left = np.frombuffer(self.server.deadlines) - now
        due = (self._periods > 0) & (left > -HOUR) & (left < DEFAULT_MIN_TTL + TICK)
        for number in np.nonzero(due)[0]:
            wait = (self._phases[number] - now) % self._periods[number]
            if wait < TICK:
                self.later(now + float(wait), self._read, f"N{_FIRST + number}")

    def _read(self, connection_id: str) -> None:
        """A service asks for a token; one that expires before long is refreshed on demand, as `serving` does it."""
        with contextlib.suppress(StoreUnavailable):
            connection, end = self.store.get(connection_id), self.clock.now + TIMEOUT
            if connection is not None and connection.access_expires_at - self.clock.now < DEFAULT_MIN_TTL:
                self._refresh(
                    self._callers,
                    connection_id,
                    self._callers.rate.permit(Kind.CALLER),
                    lambda: end - self.clock.now,
                    generation=connection.generation,
                )

    def _flood(self, process: _Process) -> None:
        """Everybody who may send without an end asks for a permit, and sends nonsense."""
        now = self.clock.now
        if self._flooding.at(now) is None:
            return
        for kind in (Kind.CALLER, Kind.CONNECT, Kind.IMPORT):
            with contextlib.suppress(NoPermit, StoreUnavailable):
                slot = process.rate.take(kind, 5.0) / 1_000_000
                self.later(slot, self._nonsense, None)
        self.later(now + _FLOOD, self._flood, process)

    def _nonsense(self, _: None) -> None:
        self.server.refresh(-1, 0, self.clock.now, TIMEOUT)

    def _refresh(
        self,
        process: _Process,
        connection_id: str,
        permit: Permit,
        remaining: Callable[[], float],
        *,
        generation: int | None = None,
        urgent: bool = False,
    ) -> None:
        """As `health.run` does it, but what is learnt of it is learnt when it has ended."""
        tests = process.health.unwell and not urgent
        if process.health.admits(connection_id, urgent=urgent):
            began = int(self.clock.now)
            rotation = replace(self._rotation, health=process.health)
            done = rotation.refresh(connection_id, generation=generation, permit=permit, remaining=remaining)
            self.later(self.clock.now, self._learn, (process.health, done, began, tests))

    def _learn(self, what: tuple[Health, Refresh, int, bool]) -> None:
        health, done, began, tests = what
        health.learn(done, began, tests=tests)

    def _work(self, _: None = None) -> None:
        """Idle workers take what is ready."""
        ready = self._queue.ready
        while ready and self._idle:
            self._batch([ready.popleft() for _ in range(min(BATCH, len(ready)))])

    def _batch(self, messages: list[Message]) -> None:
        """One invocation of `refresh`: its refreshes begin each in its slot, and it ends with the last of them.

        What gets no permit is left to the next tick.
        """
        process, begin = self._idle.pop(), self.clock.now
        crashing = self._crashing.at(begin) is not None
        dies = self.chance.random() < (0.2 if crashing else _CRASHES)
        batch = _Batch(process, messages, begin, dies, left=len(messages), last=begin)
        self._queue.hidden += len(messages)
        try:
            permits = self._permits(process, messages)
        except StoreUnavailable:
            batch.again, batch.left, batch.last = messages, 0, begin + _UNANSWERED
            permits = []
        for message, permit in zip(messages, permits, strict=False):
            if permit is None:
                batch.left -= 1
            else:
                self.clock.now = begin
                permit.wait(_AHEAD)
                self.later(self.clock.now, self._begin, (batch, message, permit))
        self.clock.now = begin
        if not batch.left:
            self.later(batch.last, self._done, batch)

    def _permits(self, process: _Process, messages: list[Message]) -> list[Permit | None]:
        """As `functions/refresh` takes them."""
        rate = process.rate
        kinds = [Kind.URGENT if message.urgent else Kind.SCHEDULED for message in messages]
        if not process.health.unwell:
            return rate.permits(kinds)
        urgent = iter(rate.permits([kind for kind in kinds if kind is Kind.URGENT]))
        return [next(urgent) if kind is Kind.URGENT else rate.permit(kind) for kind in kinds]

    def _begin(self, what: tuple[_Batch, Message, Permit]) -> None:
        """One refresh of a batch."""
        batch, message, permit = what
        until = batch.begin + TIMEOUT
        self._endpoint.deadly = batch.dies and self.chance.random() < 0.5
        try:
            self._refresh(
                batch.process,
                message.connection_id,
                permit,
                lambda: until - self.clock.now,
                urgent=message.urgent,
            )
        except StoreUnavailable:
            self.clock.now += _UNANSWERED
            batch.again.append(message)
        except _Killed:
            batch.again.append(message)
        self._endpoint.deadly = False
        batch.left -= 1
        batch.last = max(batch.last, self.clock.now)
        if not batch.left:
            self.later(batch.last, self._done, batch)

    def _done(self, batch: _Batch) -> None:
        """A worker is idle again."""
        self._queue.hidden -= len(batch.messages)
        if batch.again:
            self._queue.hide(batch.again, batch.begin + VISIBILITY)
        self._idle.append(batch.process)
        self._work()

    def _hour(self, _: None) -> None:
        self.later(self.clock.now + HOUR, self._hour, None)
        self._record.sample(self.server, self.clock.now)
        gc.collect(1)

    def _ended(self) -> int:
        """Connections that the stack itself says need a new consent."""
        return sum(row.status is not Status.ACTIVE for row in self.store.rows.values())
