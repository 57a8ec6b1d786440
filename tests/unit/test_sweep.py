"""The tick: soonest deadline first, never more than the allowance, spread over the minute."""

import itertools
import json
import math
import random
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowaccount_connect.domain.schedule import DUE_SHARDS
from flowaccount_connect.rotation.permits import Kind
from flowaccount_connect.scheduling.due_index import Due, DueIndex, Page
from flowaccount_connect.scheduling.rate import Rate, Rule
from flowaccount_connect.scheduling.refresh_queue import RefreshQueue
from flowaccount_connect.scheduling.sweep import MARKS, Sweep, Tick
from flowaccount_connect.storage.connections import ConnectionStore, due_shard, key_of
from flowaccount_connect.storage.counts import Counts
from flowaccount_connect.storage.dynamodb import StoreUnavailable, n, s
from flowaccount_connect.storage.shared_item import SharedItem
from tests.unit.fakes import NOW, Clock, FakeSqs
from tests.unit.tables import Fault, Table, client_error

HOUR = 3_600


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def sqs() -> FakeSqs:
    return FakeSqs()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fill(table: Table, count: int, *, refresh_at: int = NOW - 30) -> list[str]:
    """`count` due connections, each with another deadline; their ids, soonest deadline first."""
    names = [f"N{1_000_000 + i}" for i in range(count)]
    for i, name in enumerate(names):
        # Spread about, so that neither the table's order nor the index's is the deadlines'.
        table.put(
            "CONNECTION",
            name,
            due_shard=due_shard(name),
            refresh_at=refresh_at - i,
            deadline=NOW + 15 * HOUR + (i * 7_919) % 10_007,
            status="active",
            generation=1,
        )
    return sorted(names, key=lambda name: int(table.item("CONNECTION", name)["deadline"]))


def fall_due(table: Table, **left: int) -> None:
    """Connections that are due, with so many seconds left to their deadlines."""
    for name, seconds in left.items():
        table.put("CONNECTION", name, due_shard=due_shard(name), refresh_at=NOW - 10, deadline=NOW + seconds)


def sweep(table: Table, sqs: FakeSqs, limit: int = 110, clock: Clock | None = None) -> Sweep:
    """A sweep that may dispatch a little less than `limit` a minute."""
    clock = clock or Clock()
    return Sweep(
        page=DueIndex(table, "table").page,
        queue=RefreshQueue(sqs, "https://sqs.example/refresh"),
        rate=rate(table, clock, limit),
        mark_at_risk=ConnectionStore(table, "table").mark_at_risk,
        counts=Counts(table, "table").get,
        clock=clock,
    )


def tick(table: Table, sqs: FakeSqs, limit: int = 110) -> Tick:
    return sweep(table, sqs, limit).tick(remaining=lambda: 50.0)


def rate(table: Table, clock: Clock | None = None, limit: int = 110) -> Rate:
    clock = clock or Clock()
    return Rate(SharedItem(table, "table", "RATE"), Rule(limit), clock=clock, sleep=clock.sleep)


def room(limit: int) -> int:
    """How many slots begin within a minute."""
    return len(range(0, 60_000_000, Rule(limit).least_interval))


def ids(sqs: FakeSqs) -> list[str]:
    return [json.loads(message["MessageBody"])["connection_id"] for message in sqs.sent]


def test_everything_due_is_found_over_all_shards_and_pages(table: Table, sqs: FakeSqs) -> None:
    table.page_size = 3
    names = fill(table, 60)
    assert {due_shard(name) for name in names} == {str(i) for i in range(DUE_SHARDS)}
    found = tick(table, sqs)
    assert (found.due, found.dispatched, found.failed, found.whole) == (60, 60, 0, True)
    assert sorted(ids(sqs)) == sorted(names)
    assert table.calls.count("query") > DUE_SHARDS


def test_what_is_not_due_or_not_in_the_index_is_left_alone(table: Table, sqs: FakeSqs) -> None:
    fill(table, 5, refresh_at=NOW + 100)
    table.put("CONNECTION", "N2", deadline=NOW + 100)
    assert tick(table, sqs) == Tick(
        due=0,
        waiting=0,
        dispatched=0,
        failed=0,
        oldest_due=0,
        soonest_deadline=None,
        at_risk=0,
        marked=0,
        connections=None,
        capacity=int(Rule(110).per_minute * 360),
        paused=0,
        slowdown=1.0,
        complete=True,
    )
    assert sqs.sent == []


def test_the_soonest_deadlines_go_first(table: Table, sqs: FakeSqs) -> None:
    names = fill(table, 40)
    tick(table, sqs, limit=15)
    assert ids(sqs) == names[: room(15)]
    assert room(15) == 15


@pytest.mark.parametrize(
    ("left", "limit", "sent"),
    [
        ({"N1": -500, "N2": 0, "N3": 9_000, "N4": 50}, 3, {"N4": 0, "N3": 20, "N1": 41}),
        ({"N1": 8, "N2": 15, "N3": 25, "N4": 55, "N5": 60, "N6": 70}, 3, {"N2": 0, "N4": 20, "N5": 41}),
        ({"N1": 8, "N2": 25, "N3": 9_000}, 110, {"N2": 0, "N3": 16, "N1": 33}),
    ],
    ids=["what can be saved before what is dead", "nothing that comes too late", "what is left to what comes too late"],
)
def test_each_moment_goes_to_the_soonest_deadline_that_it_comes_in_time_for(
    table: Table, sqs: FakeSqs, left: dict[str, int], limit: int, sent: dict[str, int]
) -> None:
    """Soonest first alone would send what is dead by its moment, and lose what could have had that moment."""
    fall_due(table, **left)
    tick(table, sqs, limit)
    delays = [message["DelaySeconds"] for message in sqs.sent]
    assert list(zip(ids(sqs), delays, strict=True)) == list(sent.items())


def imported(table: Table, count: int, *, left: int = 12 * HOUR) -> None:
    """So many imports that are due, with `left` seconds to the deadline that is assumed of them."""
    for i in range(count):
        name = f"N8{i:05}"
        times = {"refresh_at": n(NOW - 5), "deadline": n(NOW + left)}
        item = key_of(name, "IMPORT") | times | {"due_shard": s(due_shard(name))}
        table.model.put_item(TableName="table", Item=item)


@pytest.mark.parametrize("left", [30, 12 * HOUR], ids=["within the tick", "in half a day"])
def test_a_thousand_imports_leave_the_schedule_nine_moments_of_ten(table: Table, sqs: FakeSqs, left: int) -> None:
    """Their deadlines are only assumed, and sooner than those of all connections that have just fallen due."""
    table.page_size = 20
    names = fill(table, 200)
    imported(table, 1_000, left=left)
    found = tick(table, sqs)
    assert found.dispatched == room(110)
    connections = [one for one in ids(sqs) if one in names]
    assert len(connections) >= math.ceil(room(110) * 9 / 10)
    assert connections == names[: len(connections)]


def test_what_connections_leave_of_a_tick_is_the_imports(table: Table, sqs: FakeSqs) -> None:
    table.page_size = 20
    names = fill(table, 20)
    imported(table, 1_000)
    assert tick(table, sqs).dispatched == room(110)
    assert set(names) < set(ids(sqs))


def test_no_import_takes_a_moment_of_connections_that_die_within_the_hour(table: Table, sqs: FakeSqs) -> None:
    table.page_size = 20
    fall_due(table, **{f"N{i}": 1_200 + i for i in range(50)})
    names = fill(table, 200)
    imported(table, 1_000)
    tick(table, sqs)
    assert ids(sqs)[:50] == [f"N{i}" for i in range(50)]
    assert [one for one in ids(sqs)[50:] if one not in names], "then they have their share"


def test_however_much_dies_within_a_tick_every_moment_saves_one(table: Table, sqs: FakeSqs) -> None:
    table.page_size = 50
    left = {f"N{i}": 1 + i % 75 for i in range(3_000)}
    fall_due(table, **left)
    tick(table, sqs, limit=75)
    saved = zip(ids(sqs), sqs.sent, strict=True)
    assert len(sqs.sent) == room(75)
    assert all(left[name] >= message["DelaySeconds"] + 10 for name, message in saved)


def test_what_still_waits_counts_against_the_allowance(table: Table, sqs: FakeSqs) -> None:
    names = fill(table, 40)
    for kind, count in (("", "5"), ("NotVisible", "3"), ("Delayed", "4")):
        sqs.waiting[f"ApproximateNumberOfMessages{kind}"] = count
    found = tick(table, sqs, limit=20)
    assert (found.waiting, found.dispatched) == (12, room(20) - 12)
    assert ids(sqs) == names[: room(20) - 12]
    # What waits is sent first.
    assert sqs.sent[0]["DelaySeconds"] == pytest.approx(12 * 62 / 20, abs=1)


def test_a_backlog_beyond_the_allowance_dispatches_nothing(table: Table, sqs: FakeSqs) -> None:
    sqs.waiting = {"ApproximateNumberOfMessages": "500"}
    fill(table, 40)
    found = tick(table, sqs)
    assert (found.due, found.dispatched) == (40, 0)
    assert sqs.batches == []


def test_refreshes_are_spread_over_the_tick_and_none_later_than_50_seconds(table: Table, sqs: FakeSqs) -> None:
    fill(table, 100)
    tick(table, sqs)
    delays = [message["DelaySeconds"] for message in sqs.sent]
    assert delays == sorted(delays)
    assert delays[0] == 0
    assert max(delays) <= 60
    assert max(delays.count(delay) for delay in delays) == 2


@pytest.mark.parametrize("count", [1, 10])
def test_a_few_refreshes_are_spread_too_and_none_is_late(table: Table, sqs: FakeSqs, count: int) -> None:
    fill(table, count)
    tick(table, sqs, limit=60_000)
    assert [message["DelaySeconds"] for message in sqs.sent] == list(range(0, 50, 50 // count))


def test_messages_go_in_batches_of_ten_and_carry_nothing_but_an_id(table: Table, sqs: FakeSqs) -> None:
    fill(table, 25)
    tick(table, sqs)
    assert sqs.batches == [10, 10, 5]
    assert all(json.loads(message["MessageBody"]).keys() == {"connection_id"} for message in sqs.sent)


def test_what_the_queue_did_not_take_is_counted(table: Table, sqs: FakeSqs) -> None:
    sqs.refused = frozenset({0, 7})
    fill(table, 20)
    found = tick(table, sqs)
    assert (found.due, found.dispatched, found.failed) == (20, 16, 4)


def test_how_close_connections_are_is_told_without_what_is_only_assumed_of_an_import(
    table: Table, sqs: FakeSqs
) -> None:
    imported(table, 1, left=10 * HOUR)
    fall_due(table, N2=11 * HOUR)
    found = tick(table, sqs)
    assert ids(sqs) == ["N2", "N800000"]
    assert (found.soonest_deadline, found.at_risk) == (11 * HOUR, 1)


def broken(sqs: FakeSqs, call: str, *which: int) -> None:
    """Lets some of the calls of one kind fail, counted from the first."""
    works, count = getattr(sqs, call), itertools.count()

    def fails(**kwargs: object) -> object:
        if next(count) in which:
            raise client_error("ServiceUnavailable")
        return works(**kwargs)

    setattr(sqs, call, fails)


def test_a_batch_that_the_queue_fails_to_take_costs_no_other_and_no_warning(table: Table, sqs: FakeSqs) -> None:
    fill(table, 30)
    at_risk(table, 3)
    broken(sqs, "send_message_batch", 1)
    found = tick(table, sqs)
    assert (found.due, found.dispatched, found.failed, found.marked) == (33, 23, 10, 3)
    assert (found.queue_error, found.complete, found.whole) == ("ServiceUnavailable", True, False)
    assert len(sqs.sent) == 23


def test_what_the_queue_may_not_have_taken_goes_with_the_next_tick(table: Table, sqs: FakeSqs, clock: Clock) -> None:
    names = fill(table, 3)
    sweeping = sweep(table, sqs, clock=clock)
    broken(sqs, "send_message_batch", 0)
    assert sweeping.tick(remaining=lambda: 50.0).dispatched == 0
    assert sweeping.tick(remaining=lambda: 50.0).dispatched == 3
    assert ids(sqs) == names


@pytest.mark.parametrize("says_nothing", [False, True])
def test_a_queue_that_does_not_say_what_waits_stops_nothing(
    table: Table, sqs: FakeSqs, monkeypatch: pytest.MonkeyPatch, says_nothing: bool
) -> None:
    fill(table, 5)
    if says_nothing:
        monkeypatch.setattr(sqs, "get_queue_attributes", lambda **_: {})
    else:
        broken(sqs, "get_queue_attributes", 0)
    found = tick(table, sqs)
    error = "KeyError" if says_nothing else "ServiceUnavailable"
    assert (found.waiting, found.dispatched, found.queue_error) == (None, 5, error)
    assert not found.whole


def test_while_the_queue_hangs_those_at_risk_are_marked(table: Table, sqs: FakeSqs, clock: Clock) -> None:
    """Until no time is left to the tick."""
    at_risk(table, 5)
    marked: list[int] = []

    def hangs(**_: object) -> object:
        for _try in range(200):
            if sum("at_risk" in item for item in table.items.values()) == 5:
                break
            time.sleep(0.01)
        marked.append(sum("at_risk" in item for item in table.items.values()))
        clock.sleep(50)
        raise client_error("ServiceUnavailable")

    sqs.send_message_batch = hangs  # type: ignore[method-assign]
    found = sweep(table, sqs, clock=clock).tick(remaining=clock.remaining(50))
    assert (marked, found.marked, found.failed) == ([5], 5, 5)


def test_a_tick_says_how_late_and_how_close_it_is(table: Table, sqs: FakeSqs) -> None:
    for name, refresh_at, deadline in (("N1", -700, 900), ("N2", -10, -5), ("N3", -20, 700)):
        table.put("CONNECTION", name, due_shard=due_shard(name), refresh_at=NOW + refresh_at, deadline=NOW + deadline)
    found = tick(table, sqs)
    assert (found.oldest_due, found.soonest_deadline) == (700, 700)


def test_short_of_time_a_tick_dispatches_what_it_has_seen_and_says_that_it_is_not_all(
    table: Table, sqs: FakeSqs, clock: Clock
) -> None:
    table.page_size = 1
    fill(table, 40)
    table.on_call = lambda _: clock.sleep(1)
    found = sweep(table, sqs, clock=clock).tick(remaining=clock.remaining(25))
    assert not found.complete
    assert 0 < found.due < 40
    assert found.dispatched + found.failed == found.due
    assert found.dispatched == len(sqs.sent)


@pytest.mark.parametrize("call", ["query", "get_item"], ids=["the index", "the rate"])
def test_without_the_index_or_the_rate_nothing_is_sent(table: Table, sqs: FakeSqs, call: str) -> None:
    fill(table, 20)
    table.faults[call] = [Fault(client_error("InternalServerError"))]
    with pytest.raises(StoreUnavailable):
        tick(table, sqs)
    assert sqs.sent == []


def test_a_clock_that_was_ahead_keeps_no_later_tick_from_dispatching(table: Table, sqs: FakeSqs, clock: Clock) -> None:
    fill(table, 3)
    sweeping = sweep(table, sqs, clock=clock)
    clock.now = NOW + 1_800
    assert sweeping.tick(remaining=clock.remaining(50)).dispatched == 3
    sqs.sent.clear()
    clock.now = NOW
    assert sweeping.tick(remaining=clock.remaining(50)).dispatched == 3


# Backlogs


def best(backlog: list[Due], limit: int) -> list[Due]:
    """What to send of a backlog: at each moment of the minute the soonest deadline that lies ten seconds after it."""
    step = max(Rule(limit).least_interval, 50_000_000 // max(len(backlog), 1))
    moments = range(0, 60_000_000, step)
    sent, late = list[Due](), list[Due]()
    for due in sorted(backlog, key=lambda due: due.rank(NOW)):
        if len(sent) < len(moments):
            in_time = due.deadline - NOW > moments[len(sent)] / 1_000_000 + 10
            (sent if in_time else late).append(due)
    return (sent + late)[: len(moments)]


@settings(max_examples=30)
@given(st.data())
def test_of_any_backlog_the_soonest_deadlines_are_found(data: st.DataObject) -> None:
    """However deadlines lie in the order of the index: pages, the bound and the shards lose none of them."""
    size = data.draw(st.integers(0, 150))
    chance = random.Random(data.draw(st.integers(0, 10_000)))  # noqa: S311
    spread = data.draw(st.sampled_from([5, 60, 1_000, 80_000]))
    limit = data.draw(st.sampled_from([1, 15, 75, 300]))
    table, sqs = Table(page_size=data.draw(st.sampled_from([1, 7, 1_000]))), FakeSqs()
    backlog = []
    for i in range(size):
        name, refresh_at = f"N{i}", NOW - chance.randrange(80_000)
        due = Due(NOW + chance.randrange(-spread // 4, spread), refresh_at, name)
        backlog.append(due)
        table.put("CONNECTION", name, due_shard=due_shard(name), refresh_at=refresh_at, deadline=due.deadline)
    found = tick(table, sqs, limit)
    expected = best(backlog, limit)
    deadlines = {due.connection_id: due.deadline for due in backlog}
    assert sorted(deadlines[name] for name in ids(sqs)) == sorted(due.deadline for due in expected)
    assert (found.due, found.dispatched, found.complete) == (size, len(expected), True)
    assert found.oldest_due == max((NOW - due.refresh_at for due in backlog), default=0)


class Handed(DueIndex):
    """Counts what pages hand over, and what they have seen."""

    handed = seen = pages = 0

    def page(self, shard: int, **how: Any) -> Page:
        page = super().page(shard, **how)
        self.handed, self.seen, self.pages = self.handed + len(page.due), self.seen + page.seen, self.pages + 1
        return page


def test_of_a_great_backlog_only_what_can_matter_is_handed_over(table: Table, sqs: FakeSqs) -> None:
    for i in range(6_000):
        name = f"N{i}"
        # As a paused schedule leaves it: in the order of the index, but for the jitter.
        refresh_at = NOW - 40_000 + i * 6
        deadline = refresh_at + 64_800 + (i * 7_919) % 2_160
        table.put(
            "CONNECTION", name, due_shard=due_shard(name), refresh_at=refresh_at, deadline=deadline, at_risk=NOW - 5
        )
    index = Handed(table, "table")
    found = replace(sweep(table, sqs, 75), page=index.page).tick(remaining=lambda: 50.0)
    assert (found.due, found.dispatched, found.complete) == (6_000, room(75), True)
    assert index.seen == 6_000
    assert index.handed <= 1_300
    assert index.pages <= 2 * DUE_SHARDS


def test_a_dispatch_is_not_repeated_while_it_is_under_way(table: Table, sqs: FakeSqs, clock: Clock) -> None:
    names = fill(table, 40)
    sweeping = sweep(table, sqs, 15, clock)
    sweeping.tick(remaining=lambda: 50.0)
    clock.sleep(60)
    first = ids(sqs)
    sqs.sent.clear()
    sweeping.tick(remaining=lambda: 50.0)
    # The first that were sent have had their time; the last are still under way, and not sent twice.
    late = {name for name, message in zip(first, range(15), strict=True) if message * 62 / 15 > 50}
    assert late
    assert ids(sqs) == [name for name in names if name not in late][:15]


def test_what_waits_with_its_slots_in_hand_counts_once(table: Table, sqs: FakeSqs) -> None:
    fill(table, 40)
    rate(table, limit=20).permits([Kind.URGENT] * 3)
    # The same three.
    sqs.waiting = {"ApproximateNumberOfMessagesNotVisible": "3"}
    assert tick(table, sqs, 20).dispatched == room(20) - 3


def test_overlapping_ticks_dispatch_one_allowance(table: Table, sqs: FakeSqs) -> None:
    fill(table, 100)
    first = tick(table, sqs, 30)
    sqs.waiting = {"ApproximateNumberOfMessagesDelayed": str(first.dispatched)}
    assert tick(table, sqs, 30).dispatched == 0


# Counts that are late


class LateSqs(FakeSqs):
    """A queue whose messages are gone a second after their time, and whose count is as old as `lag` seconds."""

    def __init__(self, clock: Clock, lag: float) -> None:
        super().__init__()
        self.clock = clock
        self.lag = lag
        self.lives: list[tuple[float, float]] = []
        """From when to when each message was in the queue."""

    def send_message_batch(self, **kwargs: Any) -> Any:
        now = self.clock()
        self.lives += [(now, now + entry["DelaySeconds"] + 1) for entry in kwargs["Entries"]]
        return super().send_message_batch(**kwargs)

    def get_queue_attributes(self, **_: Any) -> Any:
        then = self.clock() - self.lag
        count = sum(begin <= then < end for begin, end in self.lives)
        return {"Attributes": {"ApproximateNumberOfMessagesDelayed": str(count)}}


def drained(lag: float, *, cold: int = 0) -> list[int]:
    """How many each of ten ticks dispatches of a backlog; with a new process before every so many ticks."""
    table, clock = Table(), Clock()
    names = fill(table, 320)
    sqs = LateSqs(clock, lag)
    sweeping, dispatched = sweep(table, sqs, 30, clock), []
    for number in range(10):
        if cold and number % cold == cold - 1:
            sweeping = sweep(table, sqs, 30, clock)
        sqs.sent.clear()
        sweeping.tick(remaining=lambda: 50.0)
        dispatched.append(len(sqs.sent))
        # What was dispatched is refreshed, and no longer due.
        for name in ids(sqs):
            table.put("CONNECTION", name, deadline=NOW + 24 * HOUR, status="active", generation=2)
        clock.sleep(60)
    assert len(names) == 320
    return dispatched


@pytest.mark.parametrize("lag", [0, 1, 30, 45, 59, 60])
def test_a_backlog_drains_at_the_whole_rate_however_late_the_counts_are(lag: int) -> None:
    assert set(drained(lag)) <= {29, 30}


def test_a_new_process_believes_the_count_and_loses_a_tick_at_most() -> None:
    dispatched = drained(59, cold=5)
    assert min(dispatched[:4]) >= 29
    assert sum(dispatched) >= 8 * 29


def test_messages_that_nobody_works_on_stop_the_dispatch() -> None:
    """The workers stand still: no queue of the same messages over and over grows meanwhile."""
    table, clock = Table(), Clock()
    fill(table, 320)
    sqs = LateSqs(clock, 30)
    sweeping, dispatched = sweep(table, sqs, 30, clock), []
    for _ in range(30):
        before = len(sqs.lives)
        sweeping.tick(remaining=lambda: 50.0)
        dispatched.append(len(sqs.lives) - before)
        sqs.lives = [(begin, clock() + 10_000) for begin, _ in sqs.lives]
        clock.sleep(60)
    assert sum(dispatched) < 6 * 30
    assert dispatched[-10:] == [0] * 10


def test_a_tick_goes_on_after_the_last_message_of_the_tick_before(table: Table, sqs: FakeSqs, clock: Clock) -> None:
    fill(table, 40)
    sweeping = sweep(table, sqs, 15, clock)
    sweeping.tick(remaining=lambda: 50.0)
    clock.sleep(45)  # Too early by a quarter.
    sqs.sent.clear()
    sweeping.tick(remaining=lambda: 50.0)
    assert sqs.sent[0]["DelaySeconds"] == pytest.approx(15 * 62 / 15 - 45, abs=1.5)


# Items that nobody can have written


@pytest.mark.parametrize(
    "change",
    [
        {"deadline": None},
        {"deadline": {"S": "soon"}},
        {"deadline": {"N": "1.5"}},
        {"pk": {"S": "CONNECTION#"}},
        {"pk": {"S": "CONNECTION#N 1"}},
        {"pk": {"S": "COUNT"}},
    ],
    ids=str,
)
def test_an_item_that_is_no_connection_is_skipped_and_named(
    table: Table, sqs: FakeSqs, change: dict[str, dict[str, str] | None]
) -> None:
    names = fill(table, 5)
    item = {"pk": {"S": "CONNECTION#N9"}, "sk": {"S": "CONNECTION"}, "due_shard": {"S": "3"}}
    item |= {"refresh_at": {"N": str(NOW - 99)}, "deadline": {"N": str(NOW + 9)}, "status": {"S": "purple"}}
    table.model.put_item(
        TableName="table", Item={name: value for name, value in (item | change).items() if value is not None}
    )
    found = tick(table, sqs)
    assert sorted(ids(sqs)) == sorted(names)
    assert (found.due, found.dispatched, found.complete) == (6, 5, True)
    assert found.unreadable == ((change.get("pk") or item["pk"])["S"],)


def test_a_connection_that_cannot_be_marked_costs_no_other_its_mark(table: Table, sqs: FakeSqs) -> None:
    """What stands in the way of one item is the trouble of that item, whatever it is."""
    at_risk(table, 3)
    sweeping = sweep(table, sqs)
    mark = ConnectionStore(table, "table").mark_at_risk

    def mark_all_but_one(connection_id: str, **how: int) -> bool:
        if connection_id == "N1":
            raise ValueError("'purple' is not a valid Status")
        return mark(connection_id, **how)

    found = replace(sweeping, mark_at_risk=mark_all_but_one).tick(remaining=lambda: 50.0)
    assert (found.dispatched, found.at_risk, found.marked) == (3, 3, 2)
    assert found.unreadable == ("N1",)


# The rate


def test_callers_that_go_first_leave_less_to_the_schedule(table: Table, sqs: FakeSqs) -> None:
    fill(table, 100)
    rate(table, limit=30).permits([Kind.URGENT] * 5)
    assert tick(table, sqs, 30).dispatched == room(30) - 5


def test_in_a_pause_only_what_can_be_sent_after_it_is_dispatched(table: Table, sqs: FakeSqs) -> None:
    fill(table, 100)
    rate(table, limit=60).throttled(NOW, 45)
    found = tick(table, sqs, 60)
    assert (found.paused, found.slowdown) == (45, 1.25)
    assert found.dispatched == len(range(45_000_000, 60_000_000, int(Rule(60).least_interval * 1.25)))
    assert min(message["DelaySeconds"] for message in sqs.sent) == 45


def test_in_a_long_pause_nothing_is_dispatched_but_what_would_die_of_it(table: Table, sqs: FakeSqs) -> None:
    fill(table, 20)
    fall_due(table, N1=50 * 60, N2=61 * 60, N3=-1)
    rate(table).throttled(NOW, 3_600)
    tick(table, sqs)
    assert [json.loads(message["MessageBody"]) for message in sqs.sent] == [{"connection_id": "N1", "urgent": True}]
    assert sqs.sent[0]["DelaySeconds"] == 0


# Early warning


def at_risk(table: Table, count: int, **values: int | str) -> None:
    for i in range(count):
        name = f"N{i}"
        usual: dict[str, Any] = {"deadline": NOW + 11 * HOUR + i, "status": "active", "generation": 3}
        table.put("CONNECTION", name, due_shard=due_shard(name), refresh_at=NOW - 10, **(usual | values))


def test_a_connection_at_risk_is_marked_once(table: Table, sqs: FakeSqs) -> None:
    fill(table, 5)
    at_risk(table, 3)
    before = {key: item for key, item in table.items.items() if item.get("generation") == 3}
    found = tick(table, sqs)
    assert (found.at_risk, found.marked) == (3, 3)
    marked = {key: item for key, item in table.items.items() if "at_risk" in item}
    assert marked == {key: item | {"at_risk": NOW} for key, item in before.items()}
    again = tick(table, sqs)
    assert (again.at_risk, again.marked) == (3, 0)


def test_what_was_disconnected_meanwhile_is_not_marked(table: Table) -> None:
    at_risk(table, 1, status="disconnected")
    before = table.items
    store = ConnectionStore(table, "table")
    assert not store.mark_at_risk("N0", generation=3, deadline=NOW + 11 * HOUR, near_since=NOW - HOUR, now=NOW)
    assert table.items == before


@pytest.mark.parametrize("before", [{}, {"at_risk": NOW - 20 * HOUR}], ids=["no mark", "a mark of its consent's end"])
def test_whoever_comes_at_risk_is_marked_though_sooner_ones_take_all_of_the_tick(
    table: Table, sqs: FakeSqs, before: dict[str, int]
) -> None:
    table.page_size = 20
    at_risk(table, 300, **before)
    found = tick(table, sqs, 1)
    assert (found.dispatched, found.at_risk, found.marked) == (1, 300, 300)
    assert {item["at_risk"] for item in table.items.values() if "deadline" in item} == {NOW}
    assert tick(table, sqs, 1).marked == 0


def test_a_mark_holds_past_the_deadline() -> None:
    """A refresh is tried for a day after the deadline, and nobody is warned of it again."""
    table, sqs = Table(page_size=20), FakeSqs()
    at_risk(table, 300, deadline=NOW - 20 * HOUR, at_risk=NOW - 31 * HOUR)
    assert tick(table, sqs, 1).marked == 0


def test_marks_are_bounded_and_go_on_with_the_next_tick(table: Table, sqs: FakeSqs) -> None:
    at_risk(table, MARKS + 30)
    assert tick(table, sqs, 75).marked == MARKS
    assert "at_risk" not in table.item("CONNECTION", f"N{MARKS}")
    assert tick(table, sqs, 75).marked == 30


def test_a_mark_that_cannot_be_written_is_left_to_the_next_tick(table: Table, sqs: FakeSqs) -> None:
    at_risk(table, 2)
    table.faults["update_item"] = [Fault(client_error("InternalServerError"))]
    found = tick(table, sqs)
    assert (found.dispatched, found.marked) == (2, 1)
    assert tick(table, sqs).marked == 1


def test_capacity_is_told_beside_how_many_connections_there_are(table: Table, sqs: FakeSqs) -> None:
    assert tick(table, sqs).connections is None
    count = {"pk": s("COUNT"), "sk": s("connections"), "active": n(25_000), "reauthorization_required": n(7)}
    table.model.put_item(TableName="table", Item=count)
    found = tick(table, sqs, limit=75)
    assert found.connections == 25_000
    assert found.capacity == pytest.approx(75 * 360 * 60 / 62, abs=1)
    assert found.overloaded
    assert not tick(table, sqs, limit=110).overloaded


def test_a_count_that_cannot_be_read_stops_nothing(table: Table, sqs: FakeSqs) -> None:
    fill(table, 2)
    table.faults["get_item"] = [Fault(client_error("InternalServerError"))]
    found = replace(sweep(table, sqs), rate=rate(table.quiet())).tick(remaining=lambda: 50.0)
    assert (found.connections, found.dispatched) == (None, 2)
