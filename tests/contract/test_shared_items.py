"""What the writes of the pace item promise, and how the due index is read in pages."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from flowaccount_connect.rotation.permits import Paced
from flowaccount_connect.scheduling.pacing import Pace, PaceRefused, PaceStore, Rule, State
from flowaccount_connect.scheduling.sweep import Due, DueIndex, Wanted
from flowaccount_connect.storage.connections import ConnectionStore, due_shard, key_of
from flowaccount_connect.storage.dynamodb import n, s
from tests.contract.conftest import Table

S = 1_000_000
NOW = 1_800_000_000


@pytest.fixture
def store(table: Table) -> PaceStore:
    _forget(table, {"pk": s("PACE"), "sk": s("token-endpoint")})
    return PaceStore(table.client, table.name)


def _forget(table: Table, key: Any) -> None:
    if table.engine != "model":  # Which is another one for each test.
        table.client.delete_item(TableName=table.name, Key=key)


def refused(write: Callable[[], object]) -> State:
    with pytest.raises(PaceRefused) as caught:
        write()
    return caught.value.state


def test_the_first_slot_is_there_for_one(store: PaceStore) -> None:
    assert store.get() == State()
    assert refused(lambda: store.advance(5, earliest=0, latest=10**18, revision=0)) == State()
    assert store.restart(NOW * S + 5, latest=NOW * S, revision=0) == State(next_slot=NOW * S + 5)
    assert refused(lambda: store.restart(NOW * S + 5, latest=NOW * S, revision=0)) == State(next_slot=NOW * S + 5)
    assert store.get() == State(next_slot=NOW * S + 5)


def test_slots_go_on_within_their_bounds(store: PaceStore) -> None:
    store.restart(100, latest=0, revision=0)
    assert store.advance(7, earliest=100, latest=100, revision=0) == State(next_slot=107)
    assert refused(lambda: store.advance(7, earliest=108, latest=200, revision=0)) == State(next_slot=107)
    assert refused(lambda: store.advance(7, earliest=0, latest=106, revision=0)) == State(next_slot=107)
    assert store.restart(300, latest=107, revision=0) == State(next_slot=300)


def test_a_429_is_told_once_and_every_writer_must_have_seen_it(store: PaceStore) -> None:
    store.restart(100, latest=0, revision=0)
    told = State(next_slot=100, revision=1, paused_until=900, pause=15, slowdown=1_250, slowed_at=50)
    assert store.throttle(told) == told
    assert refused(lambda: store.throttle(told)) == told
    assert refused(lambda: store.advance(7, earliest=0, latest=200, revision=0)) == told
    assert refused(lambda: store.restart(300, latest=200, revision=0)) == told
    assert store.advance(7, earliest=0, latest=200, revision=1).next_slot == 107


@pytest.mark.parametrize("broken", [{"S": "soon"}, {"B": b"1"}, {"N": str(10**30)}], ids=str)
def test_what_is_no_slot_and_no_revision_hinders_nobody(table: Table, store: PaceStore, broken: Any) -> None:
    item = {"pk": s("PACE"), "sk": s("token-endpoint"), "next_slot": broken}
    if "N" not in broken:
        item["revision"] = broken
    table.client.put_item(TableName=table.name, Item=item)
    assert "N" in broken or store.get() == State()
    refused(lambda: store.advance(7, earliest=0, latest=2 * NOW * S, revision=0))
    assert store.restart(NOW * S, latest=NOW * S, revision=0) == State(next_slot=NOW * S)
    assert store.advance(7, earliest=0, latest=2 * NOW * S, revision=0) == State(next_slot=NOW * S + 7)
    told = State(next_slot=NOW * S + 7, revision=1, paused_until=900, pause=15, slowdown=1_250, slowed_at=50)
    assert store.throttle(told) == told
    # And once it is a revision again, it is kept to.
    assert refused(lambda: store.advance(7, earliest=0, latest=2 * NOW * S, revision=0)) == told


def test_two_processes_never_get_the_same_slot(table: Table, store: PaceStore) -> None:
    paces = [
        Pace(PaceStore(table.client, table.name), Rule(60), clock=lambda: float(NOW), sleep=lambda _: None)
        for _ in range(3)
    ]
    taken: list[int] = []
    for i in range(5):
        taken += paces[i % 3].take(2, 10.0)
    with pytest.raises(Paced):
        paces[0].take(1, 10.0)
    assert {b - a for a, b in itertools.pairwise(taken)} == {Rule(60).least_interval}
    assert store.get().next_slot == taken[-1] + Rule(60).least_interval


def test_a_page_hands_over_what_is_wanted(table: Table) -> None:
    index = DueIndex(table.client, table.name)
    names = [f"{table.connection_id}.{i}" for i in range(60)]
    names = [name for name in names if due_shard(name) == "3"]
    for i, name in enumerate(names):
        item: dict[str, Any] = key_of(name) | {
            "due_shard": s("3"),
            "refresh_at": n(10 + i),
            "deadline": n(NOW + 100 * i),
            "generation": n(2),
        }
        table.client.put_item(TableName=table.name, Item=item | ({"at_risk": n(5)} if i % 2 else {}))
    first = index.page(3, now=1_000, limit=2)
    assert (first.seen, [due.connection_id for due in first.due]) == (2, names[:2])
    assert first.due[1] == Due(NOW + 100, 11, names[1], 2, 5)
    assert (first.due[0].generation, first.due[0].at_risk, first.due[1].at_risk) == (2, None, 5)
    wanted = Wanted(soonest=NOW + 250, at_risk=NOW + 450)
    rest = index.page(3, now=1_000, wanted=wanted, start=first.next)
    assert (rest.seen, rest.next) == (len(names) - 2, None)
    assert [due.connection_id for due in rest.due] == [names[2], names[4]]
    only = index.page(3, now=NOW, wanted=Wanted(soonest=NOW + 350, at_risk=None))
    assert [due.connection_id for due in only.due if due.connection_id in names] == names[1:4]
    for name in names:
        _forget(table, key_of(name))


def test_a_connection_is_marked_at_risk_once(table: Table) -> None:
    store = ConnectionStore(table.client, table.name)
    item = key_of(table.connection_id) | {"status": s("active"), "generation": n(3), "deadline": n(NOW + 9)}
    table.client.put_item(TableName=table.name, Item=item)
    assert not store.mark_at_risk(table.connection_id, generation=2, deadline=NOW + 9, now=NOW)
    assert not store.mark_at_risk(table.connection_id, generation=3, deadline=NOW + 8, now=NOW)
    assert store.mark_at_risk(table.connection_id, generation=3, deadline=NOW + 9, now=NOW)
    assert not store.mark_at_risk(table.connection_id, generation=3, deadline=NOW + 9, now=NOW + 1)
    found = store.get(table.connection_id)
    assert found is not None
    assert found.at_risk == NOW
