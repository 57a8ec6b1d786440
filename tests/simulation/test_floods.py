"""Floods of callers, imports and callbacks against one rate, in a virtual clock: what dies first gets through."""

import bisect
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

from flowaccount_connect.domain.schedule import TICK
from flowaccount_connect.rotation.permits import Kind, NoPermit
from flowaccount_connect.scheduling.rate import Rate, Rule
from tools.simulation.memory import ItemMemory

START = 1_800_000_000.0
MINUTES = 15


@dataclass
class World:
    """One rate, and crowds that want of it. Each actor is a process of its own."""

    limit: int
    now: float = START
    item: ItemMemory = field(default_factory=ItemMemory)
    sent: list[tuple[float, Kind]] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    """How long each urgent refresh waited for its slot since it came into its last hour, in seconds."""
    dying: list[float] = field(default_factory=list)
    """Since when each connection in its last hour waits to be dispatched."""
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    order: "itertools.count[int]" = field(default_factory=itertools.count)
    chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311 - repeatable

    def process(self) -> Rate:
        """One that knows nothing yet."""
        return Rate(self.item, Rule(self.limit), clock=lambda: self.now)

    def later(self, seconds: float, happen: Callable[[], None]) -> None:
        """Let something happen."""
        heapq.heappush(self.events, (self.now + seconds, next(self.order), happen))

    def run(self) -> None:
        """All of it."""
        while self.events and self.events[0][0] < START + MINUTES * 60:
            self.now, _, happen = heapq.heappop(self.events)
            happen()

    def take(self, rate: Rate, kind: Kind, patience: float) -> float:
        """The seconds until the slot that was taken. Raises `NoPermit`."""
        slot = rate.take(kind, patience) / 1_000_000
        self.sent.append((slot, kind))
        return slot - self.now

    def greedy(self, kind: Kind, patience: float, rate: Rate | None = None) -> None:
        """One that asks again as soon as it is done, or half a second after it got nothing."""
        rate = rate or self.process()
        try:
            wait = self.take(rate, kind, patience)
        except NoPermit:
            wait = 0.5 * (1 + self.chance.random())
        self.later(wait, lambda: self.greedy(kind, patience, rate))

    def tick(self) -> None:
        """Dispatch what dies within the hour, and of an endless backlog what the rate lets through besides.

        Each message asks once. What is urgent and gets no slot is dispatched again by the next tick.
        """
        rate = self.process()
        dying, self.dying = self.dying, []
        for place in range(int(rate.rule.per_minute)):
            since = dying[place] if place < len(dying) else None
            self.later(place * rate.rule.least_interval / 1_000_000, partial(self._once, rate, since))
        self.dying += dying[int(rate.rule.per_minute) :]
        self.later(TICK, self.tick)

    def _once(self, rate: Rate, since: float | None) -> None:
        try:
            wait = self.take(rate, Kind.SCHEDULED if since is None else Kind.URGENT, 16.0)
        except NoPermit:
            if since is not None:
                self.dying.append(since)
            return
        if since is not None:
            self.waited.append(self.now + wait - since)

    def dies(self) -> None:
        """A connection comes into its last hour."""
        self.dying.append(self.now)


def flooded(limit: int, *, callers: int, imports: int, callbacks: int, urgent: float) -> World:
    """A time in which everybody wants everything, and a part `urgent` of the rate is needed for what dies."""
    world = World(limit)
    for kind, count, patience in (
        (Kind.CALLER, callers, 16.0),
        (Kind.IMPORT, imports, 16.0),
        (Kind.CONNECT, callbacks, 5.0),
    ):
        for _ in range(count):
            world.later(world.chance.random(), partial(world.greedy, kind, patience))
    world.tick()
    for _ in range(int(MINUTES * limit * urgent)):
        world.later(world.chance.random() * (MINUTES - 3) * 60, world.dies)
    world.run()
    return world


FLOODS = pytest.mark.parametrize(
    ("callers", "imports", "callbacks"), [(0, 0, 0), (10, 0, 0), (100, 0, 0), (0, 8, 0), (0, 0, 2), (100, 8, 50)]
)


@FLOODS
@pytest.mark.parametrize("limit", [15, 75])
def test_no_flood_keeps_what_dies_waiting_or_takes_the_schedules_half(
    limit: int, callers: int, imports: int, callbacks: int
) -> None:
    world = flooded(limit, callers=callers, imports=imports, callbacks=callbacks, urgent=0.1)
    times = sorted(at for at, _ in world.sent)
    assert max(i + 1 - bisect.bisect_right(times, at - 60) for i, at in enumerate(times)) <= limit
    assert len(world.waited) == int(MINUTES * limit * 0.1)
    assert max(world.waited) <= TICK + 60  # It waits for its tick, and a minute for its slot at most.
    got = Counter(kind for _, kind in world.sent)
    # Its half, and every other half that nobody takes.
    assert got[Kind.SCHEDULED] + got[Kind.URGENT] >= MINUTES * Rule(limit).per_minute * 0.5
    assert len(times) >= MINUTES * Rule(limit).per_minute * 0.93
    # And nobody starves: each has most of its share.
    for kind, count, share in (
        (Kind.CALLER, callers, 0.2),
        (Kind.IMPORT, imports, 0.1),
        (Kind.CONNECT, callbacks, 0.2),
    ):
        assert not count or got[kind] >= MINUTES * Rule(limit).per_minute * share * 0.5


@pytest.mark.parametrize("limit", [15, 75])
def test_when_half_of_the_rate_is_urgent_it_still_waits_for_nobody(limit: int) -> None:
    world = flooded(limit, callers=100, imports=8, callbacks=50, urgent=0.5)
    assert len(world.waited) == int(MINUTES * limit * 0.5)
    assert max(world.waited) <= TICK + 60  # It waits for its tick, and a minute for its slot at most.
