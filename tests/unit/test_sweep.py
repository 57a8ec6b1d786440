"""The tick: soonest deadline first, never more than the allowance, spread over the minute."""

import json

import pytest

from flowaccount_connect.dynamodb import StoreUnavailable
from flowaccount_connect.schedule import DUE_SHARDS
from flowaccount_connect.store import due_shard
from flowaccount_connect.sweep import DueIndex, RefreshQueue, Sweep, Tick
from tests.unit.fakes import NOW, Clock, FakeSqs
from tests.unit.tables import Fault, Table, client_error


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
            deadline=NOW + 1_000 + (i * 7_919) % 10_007,
        )
    return sorted(names, key=lambda name: int(table.item("CONNECTION", name)["deadline"]))


def sweep(table: Table, sqs: FakeSqs, allowance: int = 100, clock: Clock | None = None) -> Sweep:
    return Sweep(
        index=DueIndex(table, "table"),
        queue=RefreshQueue(sqs, "https://sqs.example/refresh"),
        refreshes_per_minute=allowance,
        clock=clock or Clock(),
    )


def tick(table: Table, sqs: FakeSqs, allowance: int = 100) -> Tick:
    return sweep(table, sqs, allowance).tick(remaining=lambda: 50.0)


def ids(sqs: FakeSqs) -> list[str]:
    return [json.loads(message["MessageBody"])["connection_id"] for message in sqs.sent]


def test_everything_due_is_found_over_all_shards_and_pages() -> None:
    table, sqs = Table(page_size=3), FakeSqs()
    names = fill(table, 60)
    assert {due_shard(name) for name in names} == {str(i) for i in range(DUE_SHARDS)}
    found = tick(table, sqs)
    assert (found.due, found.dispatched, found.failed, found.complete) == (60, 60, 0, True)
    assert sorted(ids(sqs)) == sorted(names)
    assert table.calls.count("query") > DUE_SHARDS


def test_what_is_not_due_or_not_in_the_index_is_left_alone() -> None:
    table, sqs = Table(), FakeSqs()
    fill(table, 5, refresh_at=NOW + 100)
    table.put("CONNECTION", "N2", deadline=NOW + 100)
    assert tick(table, sqs) == Tick(
        due=0, waiting=0, dispatched=0, failed=0, oldest_due=None, soonest_deadline=None, complete=True
    )
    assert sqs.sent == []


def test_the_soonest_deadlines_go_first() -> None:
    table, sqs = Table(), FakeSqs()
    names = fill(table, 40)
    tick(table, sqs, allowance=15)
    assert ids(sqs) == names[:15]


def test_what_can_still_be_saved_goes_before_what_is_past_its_deadline() -> None:
    table, sqs = Table(), FakeSqs()
    for name, deadline in (("N1", NOW - 500), ("N2", NOW), ("N3", NOW + 9_000), ("N4", NOW + 5)):
        table.put("CONNECTION", name, due_shard=due_shard(name), refresh_at=NOW - 10, deadline=deadline)
    tick(table, sqs, allowance=3)
    assert ids(sqs) == ["N4", "N3", "N1"]


def test_what_still_waits_counts_against_the_allowance() -> None:
    table = Table()
    names = fill(table, 40)
    sqs = FakeSqs(
        waiting={
            "ApproximateNumberOfMessages": "5",
            "ApproximateNumberOfMessagesNotVisible": "3",
            "ApproximateNumberOfMessagesDelayed": "4",
        }
    )
    found = tick(table, sqs, allowance=20)
    assert (found.waiting, found.dispatched) == (12, 8)
    assert ids(sqs) == names[:8]


def test_a_backlog_beyond_the_allowance_dispatches_nothing() -> None:
    table, sqs = Table(), FakeSqs(waiting={"ApproximateNumberOfMessages": "500"})
    fill(table, 40)
    found = tick(table, sqs)
    assert (found.due, found.dispatched) == (40, 0)
    assert sqs.batches == []


def test_refreshes_are_spread_over_the_whole_tick() -> None:
    table, sqs = Table(), FakeSqs()
    fill(table, 100)
    tick(table, sqs)
    delays = [message["DelaySeconds"] for message in sqs.sent]
    assert delays == sorted(delays)
    assert delays[0] == 0
    # Evenly: what comes faster than the slots of the pace finds none, and in a gap at the end slots would go unused.
    assert max(delays) == 59
    assert max(delays.count(delay) for delay in delays) == 2


def test_a_single_refresh_is_not_delayed() -> None:
    table, sqs = Table(), FakeSqs()
    fill(table, 1)
    tick(table, sqs)
    assert sqs.sent[0]["DelaySeconds"] == 0


def test_messages_go_in_batches_of_ten_and_carry_nothing_but_an_id() -> None:
    table, sqs = Table(), FakeSqs()
    fill(table, 25)
    tick(table, sqs)
    assert sqs.batches == [10, 10, 5]
    assert all(json.loads(message["MessageBody"]).keys() == {"connection_id"} for message in sqs.sent)


def test_what_the_queue_did_not_take_is_counted() -> None:
    table, sqs = Table(), FakeSqs(refused=frozenset({0, 7}))
    fill(table, 20)
    found = tick(table, sqs)
    assert (found.due, found.dispatched, found.failed) == (20, 16, 4)


def test_a_tick_says_how_late_and_how_close_it_is() -> None:
    table, sqs = Table(), FakeSqs()
    table.put("CONNECTION", "N1", due_shard=due_shard("N1"), refresh_at=NOW - 700, deadline=NOW + 900)
    table.put("CONNECTION", "N2", due_shard=due_shard("N2"), refresh_at=NOW - 10, deadline=NOW - 5)
    found = tick(table, sqs)
    assert (found.oldest_due, found.soonest_deadline) == (700, -5)


def test_short_of_time_a_tick_dispatches_what_it_has_seen_and_says_that_it_is_not_all() -> None:
    table, sqs, clock = Table(page_size=1), FakeSqs(), Clock()
    fill(table, 40)
    table.on_call = lambda _: clock.sleep(1)
    found = sweep(table, sqs, clock=clock).tick(remaining=clock.remaining(25))
    assert not found.complete
    assert 0 < found.due < 40
    assert found.dispatched == found.due == len(sqs.sent)


def test_an_index_that_cannot_be_read_is_said_and_nothing_is_sent() -> None:
    table, sqs = Table(), FakeSqs()
    fill(table, 20)
    table.faults["query"] = [Fault(client_error("InternalServerError"))]
    with pytest.raises(StoreUnavailable):
        tick(table, sqs)
    assert sqs.sent == []
