"""The rate: never more than the limit in any sixty seconds, what dies first, a share for each, and slower on a 429."""

import bisect
import contextlib
import itertools
import math
import random
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowaccount_connect.rotation.permits import FIRST_PAUSE, Kind, NoPermit
from flowaccount_connect.scheduling.rate import (
    FARTHEST,
    HALF_LIFE,
    LATENESS,
    LONGEST_PAUSE,
    LONGEST_RETRY_AFTER,
    LONGEST_STRETCH,
    NEWS,
    ONE_IN,
    REACH,
    RELAPSE,
    SLOWEST,
    TOLERANCE,
    Permit,
    Rate,
    Rule,
    State,
)
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.shared_item import SharedItem
from tests.unit.fakes import NOW, Clock
from tests.unit.tables import Fault, Table, client_error

S = 1_000_000
LIMITS = (1, 2, 15, 75, 420, 60_000)


@dataclass
class Stack:
    """One item, and any number of processes that keep to it."""

    limit: int = 60
    """With 60, a slot comes every 62/60 of a second."""
    clock: Clock = field(default_factory=Clock)
    table: Table = field(default_factory=Table)

    def process(self, clock: Clock | None = None) -> Rate:
        clock = clock or self.clock
        item = SharedItem(self.table, "table", "RATE")
        return Rate(item, Rule(self.limit), clock=clock, sleep=clock.sleep)

    @cached_property
    def rate(self) -> Rate:
        """The first of the processes."""
        return self.process()

    @property
    def item(self) -> State:
        return Rate(SharedItem(self.table.quiet(), "table", "RATE"), Rule(self.limit), clock=self.clock).look()


@pytest.fixture
def stack() -> Stack:
    return Stack()


def use(rate: Rate, patience: float = 16.0, kind: Kind = Kind.URGENT) -> float:
    """Use a permit of some kind; when it could be used."""
    rate.permit(kind).use(patience)
    return rate.clock()


def background(rate: Rate, count: int) -> list[Permit]:
    """Permits for the schedule, as many as there are."""
    return [permit for permit in rate.permits([Kind.SCHEDULED] * count) if permit is not None]


def busiest(times: list[float]) -> int:
    """The most that fell into any sixty seconds."""
    ordered = sorted(times)
    return max((i + 1 - bisect.bisect_right(ordered, at - 60) for i, at in enumerate(ordered)), default=0)


# The limit


class Crowd:
    """Workers over one table, none of which gets far: at each of its calls, and while it sleeps, others come between.

    A worker may be killed with its slots in hand, lose the acknowledgement of a write, take its time to prepare what
    it sends, be throttled, and be replaced by one with another limit. `skews` are the clocks' distances from the time.
    """

    TRAVEL = (0.0, 0.3, 1.0)

    def __init__(self, limits: list[int], skews: list[float], seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - repeatable
        self.now = float(NOW)
        self.table = Table()
        self.table.on_call = lambda _: self.others_come_between()
        self.limits = limits
        self.skews = skews
        self.workers = [self.started(skew) for skew in skews]
        self.steps, self.depth = 150, 0
        self.arrived: list[tuple[float, int]] = []
        """When each request arrived, and the limit by which it was sent."""

    def started(self, skew: float) -> Rate:
        item, rule = SharedItem(self.table, "table", "RATE"), Rule(self.limits[0])
        # Whoever comes between is a thread of the same process, too, and the write that it came into hangs.
        return Rate(item, rule, clock=lambda: self.now + skew, sleep=self.sleep, turn=0.0)

    def run(self) -> None:
        while self.steps:
            self.act()
            self.now += self.chance.choice((0, 0, 0.01, 1, 8))

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        self.others_come_between()
        self.now = max(self.now, end)

    def others_come_between(self) -> None:
        while self.steps and self.depth < 5 and self.chance.random() < 0.4:
            self.now += self.chance.choice((0, 0, 0, 0.3, 3))
            self.depth += 1
            self.act()
            self.depth -= 1

    def act(self) -> None:
        """Whatever one of them does next."""
        self.steps -= 1
        if self.steps == 75 and self.limits[1:]:
            # A deployment: from now on new processes have the new limit, while the old ones go on with what they do.
            self.limits = self.limits[1:]
        place = self.chance.randrange(len(self.workers))
        if self.chance.random() < 0.1:
            self.workers[place] = self.started(self.skews[place])
        rate = self.workers[place]
        if self.chance.random() < 0.05:
            self.table.faults["update_item"].append(Fault(client_error("RequestTimeout"), written=True))
        try:
            kind = self.chance.choice((*Kind, Kind.SCHEDULED, None))
            if kind is None:
                if self.chance.random() < 0.1:
                    rate.throttled(self.now + self.skews[place], self.chance.choice((None, 1, 5)))
            elif kind in (Kind.SCHEDULED, Kind.URGENT):
                self.send(rate, rate.permits([kind] * self.chance.choice((1, 2, 10, 50))))
            else:
                self.send(rate, [rate.permit(kind)])
        except StoreUnavailable:
            return

    def send(self, rate: Rate, permits: Sequence[Permit | None]) -> None:
        for permit in permits:
            if permit is None:
                continue
            if self.chance.random() < 0.05:
                return  # Killed, with slots in hand.
            permit.wait(0.2)
            self.now += self.chance.choice((0, 0, 0.1, 0.3, 0.9, 2))
            # Twice, where a refresh sends again because its client secret was replaced.
            for _ in range(self.chance.choice((1, 1, 1, 2))):
                with contextlib.suppress(NoPermit):
                    permit.use(16.0, urgent=self.chance.random() < 0.2)
                    self.arrived.append((self.now + self.chance.choice(self.TRAVEL), rate.rule.limit))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([1, 2, 15, 75, 600]), min_size=1, max_size=2),
    st.sampled_from([0.0, 0.25, 1.0, 3.0]),
    st.integers(2, 6),
    st.integers(0, 2**32),
)
def test_no_interleaving_of_workers_sends_more_than_the_limit(
    limits: list[int], skew: float, workers: int, seed: int
) -> None:
    """Nor does a deployment of another limit; and clocks that are further apart add what the limit lets through in as
    much time, and nothing else."""
    skews = [-skew + 2 * skew * i / (workers - 1) for i in range(workers)]
    crowd = Crowd(limits, skews, seed)
    crowd.run()
    assert busiest([at for at, _ in crowd.arrived]) <= allowed(max(limits), 2 * skew)
    old = [at for at, limit in crowd.arrived if limit != limits[-1]]
    later = [at for at, _ in crowd.arrived if at > max(old, default=0) + Crowd.TRAVEL[-1]]
    assert busiest(later) <= allowed(limits[-1], 2 * skew)


def allowed(limit: int, apart: float) -> int:
    """How many may arrive in any 60 seconds where clocks lie so far apart: those whose slots may lie as far apart."""
    if apart <= TOLERANCE - LATENESS - Crowd.TRAVEL[-1]:
        return limit
    return math.ceil((60 + LATENESS + Crowd.TRAVEL[-1] + apart) * S / Rule(limit).least_interval)


def test_the_crowd_gets_through_what_the_limit_lets_through() -> None:
    """Else it would show nothing."""
    most = 0
    for seed in range(20):
        crowd = Crowd([15], [0.0] * 4, seed)
        crowd.run()
        most = max(most, busiest([at for at, _ in crowd.arrived]))
    assert most >= 13


@pytest.mark.parametrize("limit", LIMITS)
def test_so_many_slots_fit_into_the_window_and_not_one_more(limit: int) -> None:
    interval = Rule(limit).least_interval
    # Half-open, as every sliding window is: the slot that lies a whole window later belongs to the next one.
    assert (limit - 1) * (interval - 1) < (60 + TOLERANCE) * S <= limit * interval
    assert limit * 0.96 <= Rule(limit).per_minute <= limit


def test_the_tolerance_covers_what_it_is_made_of() -> None:
    clocks, travelling = 0.5, 1.0
    assert LATENESS + clocks + travelling <= TOLERANCE


@pytest.mark.parametrize("limit", [15, 75, 600])
def test_a_steady_demand_gets_the_whole_rate(limit: int) -> None:
    stack = Stack(limit)
    sent = []
    while stack.clock.now < NOW + 600:
        for permit in background(stack.rate, 50):
            permit.use(0.0)
            sent.append(stack.clock.now)
        stack.clock.sleep(0.01)
    assert len(sent) >= 10 * limit * 0.96
    assert busiest(sent) <= limit


def test_slots_that_nobody_took_are_gone(stack: Stack) -> None:
    use(stack.rate)
    stack.clock.sleep(3_600)
    assert len(background(stack.rate, 50)) == int(REACH[Kind.SCHEDULED] / (62 / 60)) + 1


# A clock that falls back


@pytest.mark.parametrize("kind", [Kind.URGENT, Kind.SCHEDULED, Kind.CONNECT])
def test_a_process_whose_clock_was_ahead_goes_on_at_once(kind: Kind) -> None:
    stack = Stack(15)
    stack.clock.now = NOW + 3_600
    use(stack.rate)
    stack.clock.now = NOW
    assert use(stack.rate, kind=kind) == NOW


def test_a_process_whose_clock_was_ahead_hears_of_a_pause(stack: Stack) -> None:
    permits = background(stack.process(), 3)
    stack.clock.now = NOW + 120
    with contextlib.suppress(NoPermit):
        permits[0].use(0)
    stack.clock.now = NOW
    stack.process().throttled(NOW, 30)
    with pytest.raises(NoPermit):
        permits[1].use(10)


def test_nobody_waits_longer_because_a_clock_falls_back_meanwhile(stack: Stack) -> None:
    _, permit = background(stack.process(), 2)
    falls = iter([600.0])
    stack.clock.on_sleep = lambda: setattr(stack.clock, "now", stack.clock.now - next(falls, 0.0))
    permit.wait(0.2)
    permit.use(16)
    # Another slot, since nobody knows whether the first one had come.
    assert sum(stack.clock.slept) <= 62 / 60 + 62 / 60


def test_over_a_slow_table_a_pause_is_noticed_within_a_second_and_what_a_call_takes() -> None:
    stack = Stack(15)
    rate, other = stack.process(), stack.process()
    _, permit = background(rate, 2)
    stack.clock.sleep(1.0)
    rate._takes = SLOWEST
    # It knows the item of a second ago, and reads it again two seconds before the slot.
    stack.clock.sleep(0.1)
    other.throttled(stack.clock.now, 30)
    with pytest.raises(NoPermit):
        permit.use(5)


# Calls


def test_a_batch_takes_its_slots_in_one_write() -> None:
    stack = Stack(60_000)
    kinds = [Kind.SCHEDULED] * 30 + [Kind.IMPORT] + [Kind.URGENT] * 19
    slots = [permit._slot or 0 for permit in stack.process().permits(kinds) if permit is not None]
    assert stack.table.calls == ["update_item"]
    assert [b - a for a, b in itertools.pairwise(sorted(slots))] == [Rule(60_000).least_interval] * 49
    # What is urgent is sent first.
    assert max(slots[31:]) < min(slots[:31])


def test_one_process_alone_never_needs_a_second_write(stack: Stack) -> None:
    for idle in (0, 0, 30, 0, 0.5, 90, 0):
        stack.clock.sleep(idle)
        use(stack.rate)
    assert stack.table.calls.count("update_item") == 7


def test_threads_of_one_process_do_not_refuse_each_others_writes(stack: Stack) -> None:
    rate = Rate(SharedItem(stack.table, "table", "RATE"), Rule(60), clock=stack.clock, turn=60.0)
    other = threading.Thread(target=lambda: rate.take(Kind.URGENT, 10))

    def meanwhile(_: str) -> None:
        stack.table.on_call = lambda _: None
        other.start()
        other.join(0.2)

    stack.table.on_call = meanwhile
    rate.take(Kind.URGENT, 10)
    other.join()
    assert stack.table.calls == ["update_item"] * 2


SLOW = (0.3, 0.55, 0.8, 1.5, 2.0)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("limit", [15, 75, 600])
@pytest.mark.parametrize("seconds", SLOW)
def test_a_table_that_answers_slowly_costs_no_permit(kind: Kind, limit: int, seconds: float) -> None:
    stack = Stack(limit)
    stack.table.on_call = lambda _: stack.clock.sleep(seconds)
    sent = [use(stack.rate, kind=kind)]
    # The next slot of a kind may be ten slots away.
    stack.clock.sleep(60)
    sent += [use(stack.rate, kind=kind), use(stack.rate, kind=Kind.URGENT)]
    interval = stack.rate.rule.least_interval / S
    # What a call takes is known after the first one; until then a slot may pass.
    assert sent[0] - NOW <= interval + 3 * seconds
    assert sent[1] - sent[0] <= 60 + 3 * seconds
    assert sent[2] - sent[1] <= max(interval, 3 * seconds) + 0.1


@pytest.mark.parametrize("limit", [15, 75])
@pytest.mark.parametrize("seconds", SLOW)
def test_a_table_that_answers_slowly_costs_a_batch_no_slot(limit: int, seconds: float) -> None:
    """As the refresh function goes: a slot is waited for, then claims and reads take their time, then it is used."""
    stack = Stack(limit)
    stack.table.on_call = lambda _: stack.clock.sleep(seconds)
    stack.rate.look()
    permit = background(stack.rate, 50)[-1]
    calls, slot = len(stack.table.calls), permit._slot or 0
    permit.wait(0.2)
    stack.clock.sleep(seconds)
    permit.use(16)
    assert stack.table.calls[calls:].count("update_item") == 0
    assert stack.clock.now <= slot / S + LATENESS


def test_a_table_that_was_slow_once_delays_nobody_for_long() -> None:
    stack = Stack(600)
    stack.table.on_call = lambda _: stack.clock.sleep(20)
    with contextlib.suppress(NoPermit):
        use(stack.rate)
    stack.table.on_call = lambda _: None
    begun = stack.clock.now
    for _ in range(10):
        use(stack.rate)
    assert stack.clock.now - begun <= 2 * SLOWEST + 10 * stack.rate.rule.least_interval / S


@pytest.mark.parametrize("batch", [False, True])
def test_a_table_that_refuses_slowly_is_asked_until_patience_is_over(batch: bool) -> None:
    """Others write first, each time."""
    stack = Stack(600)
    rate, other = stack.process(), Rate(SharedItem(stack.table.quiet(), "table", "RATE"), Rule(600), clock=stack.clock)

    def slowly(_: str) -> None:
        stack.clock.sleep(1.5)
        other.take(Kind.URGENT, 10)

    stack.table.on_call = slowly
    if batch:
        assert rate.permits([Kind.URGENT] * 2) == [None, None]
    else:
        with pytest.raises(NoPermit):
            rate.permit(Kind.URGENT).use(16)
    assert stack.clock() - NOW <= 16 + 1.5


def test_a_permit_does_not_outlast_its_patience() -> None:
    """A slot that passes at the end of it, as on a busy machine, is followed by none that is as far ahead again."""
    stack = Stack(15)
    for _ in range(4):
        stack.rate.take(Kind.URGENT, 16)
    late = iter([LATENESS + 0.1])
    stack.clock.on_sleep = lambda: setattr(stack.clock, "now", stack.clock.now + next(late, 0.0))
    with pytest.raises(NoPermit):
        stack.rate.permit(Kind.URGENT).use(16.6)
    assert stack.clock() - NOW <= 17.2


def test_a_thread_waits_for_no_write_that_hangs(stack: Stack) -> None:
    rate = Rate(SharedItem(stack.table, "table", "RATE"), Rule(60), clock=stack.clock, turn=0.0)
    slots = []

    def meanwhile(_: str) -> None:
        stack.table.on_call = lambda _: None
        slots.append(rate.take(Kind.URGENT, 10))

    stack.table.on_call = meanwhile
    slots.append(rate.take(Kind.URGENT, 10))
    assert slots == [NOW * S, NOW * S + Rule(60).least_interval]


def test_a_process_that_knows_less_learns_it_from_its_refused_write(stack: Stack) -> None:
    first, second = stack.process(), stack.process()
    slots = [first.take(Kind.URGENT, 10), second.take(Kind.URGENT, 10)]
    assert slots == [NOW * S, NOW * S + Rule(60).least_interval]
    assert stack.table.calls == ["update_item"] * 3


@pytest.mark.parametrize("patience", [0.0, -10.0])
def test_who_has_no_patience_gets_a_slot_that_is_free_now_though_its_process_is_new(
    stack: Stack, patience: float
) -> None:
    stack.table.on_call = lambda _: stack.clock.sleep(0.01)
    use(stack.process())
    stack.clock.sleep(60)
    begun = stack.clock.now
    assert use(stack.process(), patience, kind=Kind.CALLER) - begun <= 0.1


def test_a_write_whose_answer_was_lost_takes_one_slot(stack: Stack) -> None:
    """The client repeats it, and the repeat finds what the first one wrote."""
    write = stack.table.model.update_item

    def twice(**kwargs: Any) -> Any:
        write(**kwargs)
        return write(**kwargs)

    stack.table.model.update_item = twice  # type: ignore[method-assign]
    assert stack.process().take(Kind.URGENT, 10) == NOW * S
    assert stack.item.next_slot == NOW * S + Rule(60).least_interval


def test_what_is_known_to_be_full_costs_no_call(stack: Stack) -> None:
    stack.rate.permits([Kind.URGENT] * 50)
    stack.table.calls.clear()
    with pytest.raises(NoPermit):
        stack.rate.take(Kind.URGENT, 15)
    assert background(stack.rate, 5) == []
    assert stack.table.calls == []


def test_without_the_table_there_is_no_permit(stack: Stack) -> None:
    stack.table.faults["update_item"] = [Fault(client_error("InternalServerError"))] * 2
    with pytest.raises(StoreUnavailable):
        stack.process().permits([Kind.SCHEDULED])
    with pytest.raises(StoreUnavailable):
        stack.process().permit(Kind.CALLER).use(10)


# Who goes first


def taken(rate: Rate, *kinds: Kind) -> list[bool]:
    """Which of these got a slot, one after the other, without waiting."""
    return [permit is not None for kind in kinds for permit in rate.permits([kind])]


def test_what_dies_within_the_hour_finds_a_slot_when_all_others_find_none() -> None:
    stack = Stack(75)
    others = [kind for kind in Kind if kind is not Kind.URGENT]
    while any(taken(stack.rate, *others)):
        pass
    assert taken(stack.process(), *others, Kind.URGENT) == [False] * 5 + [True]


@pytest.mark.parametrize("slowdown", [1_000, 3_000])
@pytest.mark.parametrize("limit", [5, 7, 8, 10, 15, 75, 600])
def test_nobody_pushes_the_next_slot_out_of_the_reach_of_what_is_urgent(limit: int, slowdown: int) -> None:
    rule, state, now = Rule(limit), State(slowdown=slowdown, slowed_at=NOW * S), NOW * S
    for kind in (Kind.SCHEDULED, Kind.CONNECT, Kind.CALLER, Kind.IMPORT, Kind.CANARY) * 2_000:
        with contextlib.suppress(NoPermit):
            state, _ = rule.take(state, kind, math.inf, now)
    if rule.interval(state, now) <= REACH[Kind.URGENT] * S:
        _, slot = rule.take(state, Kind.URGENT, math.inf, now)
        assert slot - now <= REACH[Kind.URGENT] * S


@pytest.mark.parametrize("kind", list(ONE_IN))
def test_a_kind_gets_its_share_of_the_slots_that_others_want(kind: Kind) -> None:
    """Whoever comes first; the schedule wants every slot, and comes after."""
    stack = Stack(75)
    rate, slots = stack.process(), {kind: 0, Kind.SCHEDULED: 0}
    background(rate, 50)
    for _ in range(6_000):
        stack.clock.sleep(0.1)
        for each in slots:
            slots[each] += taken(rate, each)[0]
    share = slots[kind] / sum(slots.values())
    assert 0.8 / ONE_IN[kind] < share < 1 / ONE_IN[kind] + 0.01


@pytest.mark.parametrize("kind", list(ONE_IN))
def test_beyond_its_share_a_kind_gets_what_nobody_else_wants(kind: Kind) -> None:
    stack = Stack(75)
    rate, got = stack.process(), 0
    for _ in range(600):
        stack.clock.sleep(0.1)
        got += taken(rate, kind)[0]
    assert got >= 65


def test_the_shares_leave_half_to_the_schedule() -> None:
    assert sum(1 / one_in for one_in in ONE_IN.values()) <= 0.5
    assert REACH[Kind.SCHEDULED] <= min(REACH[kind] for kind in ONE_IN)


@pytest.mark.parametrize("limit", [1, 4, 12])
def test_where_slots_are_rare_the_schedule_has_an_interval_to_ask_for_each(limit: int) -> None:
    """A caller who asks all the time would get every free slot otherwise, and the schedule hardly any."""
    stack, interval, reach = Stack(limit), 62 / limit, REACH[Kind.SCHEDULED]
    assert taken(stack.rate, Kind.CALLER) == [True]
    stack.clock.sleep(2 * interval - reach - 0.1)
    assert taken(stack.rate, Kind.CALLER, Kind.SCHEDULED) == [False, True]
    stack.clock.sleep(2 * interval - reach + 0.1)
    assert taken(stack.rate, Kind.CALLER) == [True]


def test_a_caller_of_a_dying_connection_is_urgent_and_an_import_never() -> None:
    stack = Stack(15)
    stack.rate.throttled(NOW, 600)
    stack.rate.permit(Kind.CALLER).use(16, urgent=True)
    for kind in (Kind.IMPORT, Kind.CONNECT, Kind.CANARY):
        with pytest.raises(NoPermit):
            stack.rate.permit(kind).use(16, urgent=True)


def test_who_gets_no_permit_learns_when_to_come_again() -> None:
    stack = Stack(1)
    use(stack.rate)
    with pytest.raises(NoPermit) as caught:
        use(stack.rate)
    assert caught.value.retry_after == 62
    stack.clock.sleep(62)
    assert use(stack.rate) == NOW + 62


def test_a_kind_that_had_its_share_learns_when_its_turn_comes(stack: Stack) -> None:
    use(stack.rate, kind=Kind.CONNECT)
    with pytest.raises(NoPermit) as caught:
        use(stack.rate, 1.0, kind=Kind.CONNECT)
    assert caught.value.retry_after == 2  # The next slot, if nobody else takes it.
    background(stack.rate, 50)
    assert use(stack.rate, kind=Kind.CONNECT) - NOW >= 4.99 * 62 / 60  # Its fifth slot.


def test_who_had_its_share_waits_for_a_free_slot_while_it_has_patience(stack: Stack) -> None:
    """Two people who connect in the same second; nobody else wants to send."""
    first, second = stack.process(), stack.process()
    assert use(first, 5.0, kind=Kind.CONNECT) == NOW
    assert NOW < use(second, 5.0, kind=Kind.CONNECT) <= NOW + 2


def test_nobody_waits_longer_than_there_is_time() -> None:
    stack = Stack(15)
    use(stack.rate, 16)
    with pytest.raises(NoPermit):
        use(stack.rate, 4.0)
    with pytest.raises(NoPermit):
        use(stack.rate, -3.0)
    assert stack.clock.now == NOW
    assert use(stack.rate, 4.2) == pytest.approx(NOW + 62 / 15)


# Late permits


def test_a_permit_that_passed_is_let_go_and_another_one_taken(stack: Stack) -> None:
    (permit,) = background(stack.rate, 1)
    stack.clock.sleep(LATENESS + 0.1)
    permit.use(16)
    assert stack.clock.now == pytest.approx(NOW + 62 / 60, abs=1e-3)
    assert stack.table.calls == ["update_item"] * 2


def test_a_permit_is_good_for_one_request(stack: Stack) -> None:
    (permit,) = background(stack.rate, 1)
    permit.use(16)
    permit.use(16)
    assert stack.clock.now == pytest.approx(NOW + 62 / 60, abs=1e-3)


def test_a_permit_is_waited_for(stack: Stack) -> None:
    first, second = background(stack.process(), 2)
    first.use(0)
    assert stack.clock.now == NOW
    second.wait(0.2)
    assert stack.clock.now == pytest.approx(NOW + 62 / 60 - 0.2, abs=1e-3)
    second.use(0)
    assert stack.clock.now == pytest.approx(NOW + 62 / 60, abs=1e-3)


# 429


def test_a_429_pauses_everybody_for_as_long_as_was_asked(stack: Stack) -> None:
    other = stack.process()
    assert stack.process().throttled(NOW, 240) == 240
    with pytest.raises(NoPermit) as caught:
        other.take(Kind.CALLER, 10)
    assert caught.value.retry_after == 240
    stack.clock.sleep(239)
    assert other.take(Kind.SCHEDULED, 10) == (NOW + 240) * S


def test_no_pause_is_longer_than_an_hour() -> None:
    assert Stack().process().throttled(NOW, 86_400 * 365) == 3_600


@pytest.mark.parametrize("asked", [None, 0, -1, -3_600])
def test_pauses_double_while_429s_go_on_and_are_short_again_afterwards(asked: int | None) -> None:
    stack = Stack(60_000)
    pauses = []
    for _ in range(7):
        pauses.append(stack.process().throttled(stack.clock.now, asked))
        stack.clock.sleep(pauses[-1] + 1)
    assert pauses == [FIRST_PAUSE, 30, 60, 120, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    stack.clock.sleep(RELAPSE)
    assert stack.process().throttled(stack.clock.now, asked) == FIRST_PAUSE


def test_all_429s_of_one_burst_are_one(stack: Stack) -> None:
    processes = [stack.process() for _ in range(20)]
    for process in processes:
        process.throttled(NOW - 2, None)
    after = stack.item
    assert (after.slowdown, after.pause) == (1_250, FIRST_PAUSE)
    # Answers that come when the pause is over are still of that burst.
    stack.clock.sleep(FIRST_PAUSE + 5)
    processes[0].throttled(NOW - 1, None)
    assert stack.item == after


def test_a_burst_pauses_for_the_longest_that_it_was_asked_for(stack: Stack) -> None:
    for asked in (None, 30, 600, 60):
        stack.process().throttled(NOW, asked)
    assert stack.item.paused_until == (NOW + 600) * S
    assert stack.item.slowdown == 1_250


def test_a_permit_from_before_a_pause_is_not_used_in_it(stack: Stack) -> None:
    _, permit = background(stack.rate, 2)
    stack.rate.throttled(NOW, 5)
    permit.use(16)
    assert stack.clock.now == NOW + 5


def test_a_process_hears_of_a_pause_while_it_has_slots_in_hand(stack: Stack) -> None:
    permits = background(stack.process(), 4)
    permits[0].use(0)
    stack.clock.sleep(NEWS / 2)
    stack.process().throttled(stack.clock.now, 30)
    over = stack.clock.now + 30
    for permit in permits[1:]:
        with pytest.raises(NoPermit):
            permit.use(10)
    assert stack.clock.now < over
    stack.clock.now = over
    permits[1].use(10)
    assert stack.clock.now == over


def test_a_batch_looks_for_pauses_once_a_second_at_most() -> None:
    stack = Stack(600)
    permits = background(stack.process(), 40)
    for permit in permits:
        permit.use(0)
    assert 3 <= stack.table.calls.count("get_item") <= 4
    assert stack.clock.now < NOW + 4.1


def test_what_would_die_of_the_pause_is_sent_in_its_turn(stack: Stack) -> None:
    stack.rate.throttled(NOW, 3_600)
    assert background(stack.rate, 1) == []
    permits = stack.rate.permits([Kind.URGENT] * 2)
    for permit in permits:
        assert permit is not None
        permit.use(0)
    assert NOW + 1 < stack.clock.now < NOW + 2
    # Its own 429 tells nothing new, so that tries in a pause do not make it longer and longer.
    before = stack.item
    stack.rate.throttled(stack.clock.now, None)
    assert stack.item == before


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(-(10**12), 10**12) | st.none()), max_size=20))
@example([(0, 10**12), (0, -(10**12)), (0, None)])
def test_whatever_429s_ask_for_the_stack_goes_on_within_the_hour(told: list[tuple[int, int | None]]) -> None:
    stack = Stack(15)
    for later, asked in told:
        stack.clock.now += later
        assert 0 <= stack.rate.throttled(stack.clock.now, asked) <= LONGEST_RETRY_AFTER
    stack.clock.now += LONGEST_RETRY_AFTER
    assert stack.rate.take(Kind.SCHEDULED, 10) >= NOW * S


def test_a_slowdown_is_gone_by_itself_half_of_it_at_a_time() -> None:
    rule = Rule(60)
    state = State(slowdown=3_000, slowed_at=NOW * S)
    after = [rule.slowdown(state, (NOW + i * HALF_LIFE) * S) for i in range(4)]
    assert after == [3.0, 2.0, 1.5, 1.25]
    assert rule.slowdown(state, (NOW - 100) * S) == 3.0


def test_nobody_takes_slots_by_an_interval_that_is_out_of_date(stack: Stack) -> None:
    behind, other = stack.process(), stack.process()
    behind.take(Kind.URGENT, 10)
    other.throttled(NOW, 1)
    stack.clock.sleep(2)
    first, second = behind.take(Kind.URGENT, 10), behind.take(Kind.URGENT, 10)
    assert second - first >= Rule(60).least_interval * 1.24


def refused_for_long(rule: Rule) -> State:
    """After seventeen hours in which every request was answered with a 429."""
    state, now = State(), NOW * S
    while now < (NOW + 17 * 3_600) * S:
        state = rule.throttled(state, sent_at=now, retry_after=None, now=now)
        now = state.paused_until + S
    return state


@pytest.mark.parametrize("limit", LIMITS)
def test_however_long_nothing_is_accepted_most_of_the_rate_is_back_within_half_an_hour(limit: int) -> None:
    """What is missing of the whole rate from then on is less than 24 minutes' worth of it, the last pause apart."""
    rule = Rule(limit)
    state = refused_for_long(rule)
    assert rule.slowdown(state, state.slowed_at) <= LONGEST_STRETCH
    minutes = [1 / rule.slowdown(state, state.slowed_at + minute * 60 * S) for minute in range(180)]
    assert minutes[30] > 0.6
    assert sum(1 - share for share in minutes) < 24


def test_however_slow_one_request_a_minute_is_left() -> None:
    rule = Rule(2)
    state = refused_for_long(rule)
    assert 59 * S < rule.interval(state, state.slowed_at) <= 60 * S + rule.least_interval
    assert Rule(1).throttled(State(), sent_at=1, retry_after=None, now=1).slowdown == 1_000


def test_a_slowdown_of_a_high_limit_does_not_stop_a_low_one() -> None:
    """The interval of the one was a millisecond, that of the other is seconds: a deployment is between them."""
    stack = Stack(60_000)
    rate = stack.process()
    for _ in range(15):
        stack.clock.sleep(rate.throttled(stack.clock.now, None) + 1)
    assert stack.item.slowdown > 4_000
    stack.limit = 2
    rate = stack.process()
    first = use(rate)
    stack.clock.sleep(65)
    assert use(rate) - first <= 65 + REACH[Kind.URGENT]
    assert stack.process().rule.slowdown(stack.item, int(stack.clock.now * S)) < 2


# An item that nobody can have written

FAR = 10**30
BROKEN = [
    {name: value}
    for name in ("next_slot", "tag", "paused_until", "pause", "slowdown", "slowed_at", "caller", "connect", "import_")
    for value in ({"S": "soon"}, {"N": "-7"}, {"N": str(FAR)}, {"B": b"\0"}, {"N": "1.5"})
]


@pytest.mark.parametrize("broken", [*BROKEN, {}], ids=str)
@pytest.mark.parametrize("known", [False, True])
def test_an_item_that_nobody_can_have_written_stops_nothing(stack: Stack, broken: dict[str, Any], known: bool) -> None:
    if known:
        use(stack.rate)
        stack.rate.throttled(NOW - 1, 1)
        stack.clock.sleep(20)
    whole = {"pk": {"S": "RATE"}, "sk": {"S": "token-endpoint"}}
    stack.table.model.put_item(TableName="table", Item=whole | broken)
    stack.rate.look()
    sent = []
    for kind in (Kind.SCHEDULED, Kind.CALLER, None, Kind.CONNECT, Kind.IMPORT, Kind.URGENT, Kind.CANARY):
        if kind is None:
            assert 0 <= stack.rate.throttled(stack.clock.now, 2) <= 20
            stack.clock.sleep(20)
        else:
            sent.append(use(stack.rate, kind=kind))
    assert sent == sorted(sent)
    assert min(b - a for a, b in itertools.pairwise(sent)) >= 62 / 60 - 1e-5
    assert stack.clock.now < NOW + 120
    # Another process, which has seen nothing of it, goes on from there.
    assert use(stack.process()) - sent[-1] >= 62 / 60 - 1e-5


def test_a_slot_is_not_credible_where_nobody_can_have_taken_it() -> None:
    rule, now = Rule(1), NOW * S
    longest = int(REACH[Kind.URGENT] * S) + rule.interval(State(slowdown=10**9, slowed_at=now), now)
    taken = State(next_slot=now + longest, paused_until=now + LONGEST_RETRY_AFTER * S, slowed_at=now)
    assert rule.credible(taken, now - S) == taken
    assert longest < FARTHEST * S


def against(limit: int, real: int, *, retry_after: bool) -> list[tuple[float, bool]]:
    """When each request was sent, and whether it was admitted, by a server that admits `real` in any sixty seconds;
    over six hours, with unlimited work."""
    stack = Stack(limit)
    rate = stack.process()
    admitted: deque[float] = deque()
    answers: list[tuple[float, bool]] = []
    while stack.clock.now < NOW + 6 * 3_600:
        for permit in background(rate, 50):
            try:
                permit.use(0.0)
            except NoPermit:
                break
            at = stack.clock.now
            while admitted and admitted[0] <= at - 60:
                admitted.popleft()
            ok = len(admitted) < real
            answers.append((at, ok))
            if ok:
                admitted.append(at)
                continue
            # While it pauses, none of this kind is sent.
            stack.clock.sleep(rate.throttled(at, int(admitted[0] + 60 - at) + 1 if retry_after else None))
            break
        stack.clock.sleep(0.25)
    return answers


@pytest.mark.parametrize("retry_after", [False, True])
@pytest.mark.parametrize(("limit", "real"), [(75, 40), (75, 74), (75, 20), (600, 150)])
def test_a_limit_below_ours_is_found_and_kept_down_to_a_quarter(limit: int, real: int, retry_after: bool) -> None:
    later = [ok for at, ok in against(limit, real, retry_after=retry_after) if at > NOW + 2 * 3_600]
    hours = 4
    assert later.count(False) <= hours * 60 * 0.5
    assert later.count(True) >= min(real, Rule(limit).per_minute) * 60 * hours * 0.7


@pytest.mark.parametrize("retry_after", [False, True])
@pytest.mark.parametrize(("limit", "real"), [(75, 5), (600, 20), (60_000, 100)])
def test_below_a_quarter_of_ours_pauses_keep_the_stack_from_pressing(limit: int, real: int, retry_after: bool) -> None:
    later = [ok for at, ok in against(limit, real, retry_after=retry_after) if at > NOW + 2 * 3_600]
    hours = 4
    # One a minute where it is said when to come again, and one in four minutes where it is not.
    assert later.count(False) <= hours * 60 / (1 if retry_after else 4)
    assert later.count(True) >= real * 60 * hours * (0.95 if retry_after else 0.2)


def test_a_429_that_cannot_be_told_is_said(stack: Stack) -> None:
    stack.table.faults["update_item"] = [Fault(client_error("InternalServerError"))]
    with pytest.raises(StoreUnavailable):
        stack.process().throttled(NOW, 10)


def test_a_worker_that_knows_of_a_pause_sees_that_it_was_ended_early(stack: Stack) -> None:
    worker = stack.process()
    use(worker)
    worker.throttled(stack.clock.now, 600)
    with pytest.raises(NoPermit):
        worker.permit(Kind.SCHEDULED).use(1)
    stack.table.clear()
    stack.clock.now += NEWS + 0.1
    assert use(worker, kind=Kind.SCHEDULED) < NOW + 60
