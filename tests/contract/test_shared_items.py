"""What the writes of a shared item promise, and how the due index is read in pages."""

import itertools
from typing import Any

import pytest

from flowaccount_connect.rotation.health import Health, Sign, State
from flowaccount_connect.rotation.outcomes import Refresh, RefreshOutcome
from flowaccount_connect.rotation.permits import Kind, NoPermit
from flowaccount_connect.scheduling.due_index import Due, DueIndex, Wanted
from flowaccount_connect.scheduling.rate import Rate, Rule
from flowaccount_connect.storage.connections import ConnectionStore, due_shard, key_of
from flowaccount_connect.storage.dynamodb import n, s
from flowaccount_connect.storage.shared_item import Changed, SharedItem
from tests.contract.conftest import Table

NOW = 1_800_000_000
KEY = {"pk": s("RATE"), "sk": s("token-endpoint")}


@pytest.fixture
def item(table: Table) -> SharedItem:
    _forget(table, KEY)
    return SharedItem(table.client, table.name, "RATE")


def _forget(table: Table, key: Any) -> None:
    if table.engine != "model":  # Which is another one for each test.
        table.client.delete_item(TableName=table.name, Key=key)


def test_of_two_who_saw_the_same_one_writes_and_the_other_sees_what_it_wrote(item: SharedItem) -> None:
    assert item.get() == {}
    first = item.replace({}, {"value": n(1)})
    with pytest.raises(Changed) as caught:
        item.replace({}, {"value": n(2)})
    assert {**caught.value.item, **KEY} == {**first, **KEY}
    second = item.replace(caught.value.item, {"value": n(3)})
    assert {**item.get(), **KEY} == {**second, **KEY}
    with pytest.raises(Changed):
        item.replace(first, {"value": n(4)})
    assert item.get(consistent=False)["value"] == n(3)


@pytest.mark.parametrize("tag", [{"S": "soon"}, {"B": b"1"}, {"N": str(10**30)}, {"N": "-1.5"}], ids=str)
def test_no_tag_hinders_anybody(table: Table, item: SharedItem, tag: Any) -> None:
    table.client.put_item(TableName=table.name, Item=KEY | {"tag": tag, "value": n(1)})
    written = item.replace(item.get(), {"value": n(2)})
    assert item.get()["value"] == n(2)
    assert item.replace(written, {"value": n(3)})["value"] == n(3)


def test_processes_never_get_the_same_slot(table: Table, item: SharedItem) -> None:
    rates = [Rate(item, Rule(60), clock=lambda: float(NOW), sleep=lambda _: None) for _ in range(3)]
    taken = [rates[turn % 3].take(Kind.URGENT, 15.0) for turn in range(15)]
    with pytest.raises(NoPermit):
        rates[0].take(Kind.URGENT, 15.0)
    assert {b - a for a, b in itertools.pairwise(taken)} == {Rule(60).least_interval}
    assert rates[0].look().next_slot == taken[-1] + Rule(60).least_interval


def test_what_one_process_learns_of_the_endpoint_another_one_knows(table: Table) -> None:
    key = {"pk": s("HEALTH"), "sk": s("token-endpoint")}
    _forget(table, key)

    def health() -> Health:
        return Health(SharedItem(table.client, table.name, "HEALTH"), lambda: Sign.DOUBT, clock=lambda: float(NOW))

    for i in range(3):
        assert not health().unwell
        health().learn(Refresh(outcome=RefreshOutcome.IN_DOUBT, connection_id=f"N{i}", exchange_ms=1), NOW)
    assert health().unwell
    health().learn(Refresh(outcome=RefreshOutcome.REFRESHED, connection_id="N9"), NOW)
    assert health()._look() == State()
    _forget(table, key)


def test_a_page_hands_over_what_is_wanted(table: Table) -> None:
    index = DueIndex(table.client, table.name)
    names = [f"{table.connection_id}.{i}" for i in range(60)]
    names = [name for name in names if due_shard(name) == "3"]
    # None, of this time of need, and of another trouble before it.
    marks = (0, 900, 100)
    for i, name in enumerate(names):
        item: dict[str, Any] = key_of(name) | {
            "due_shard": s("3"),
            "refresh_at": n(10 + i),
            "deadline": n(1_000 + 100 * i),
            "generation": n(2),
        }
        table.client.put_item(TableName=table.name, Item=item | ({"at_risk": n(marks[i % 3])} if i % 3 else {}))
    first = index.page(3, now=1_000, limit=2)
    assert (first.seen, [due.connection_id for due in first.due]) == (2, names[:2])
    assert first.due[1] == Due(1_100, 11, names[1], 2, 900)
    assert (first.due[0].generation, first.due[0].at_risk, first.due[1].at_risk) == (2, None, 900)
    wanted = Wanted(soonest=1_250, at_risk=1_550)
    rest = index.page(3, now=1_000, wanted=wanted, start=first.next)
    assert (rest.seen, rest.next) == (len(names) - 2, None)
    assert [due.connection_id for due in rest.due] == [names[2], names[3], names[5]]
    only = index.page(3, now=1_000, wanted=Wanted(soonest=1_350, at_risk=None))
    assert [due.connection_id for due in only.due if due.connection_id in names] == names[1:4]
    for name in names:
        _forget(table, key_of(name))


def test_a_connection_is_marked_at_risk_once(table: Table) -> None:
    store = ConnectionStore(table.client, table.name)
    item = key_of(table.connection_id) | {"status": s("active"), "generation": n(3), "deadline": n(NOW + 9)}
    table.client.put_item(TableName=table.name, Item=item)

    def mark(generation: int, deadline: int, *, near_since: int = NOW - 50, now: int = NOW) -> bool:
        return store.mark_at_risk(
            table.connection_id, generation=generation, deadline=deadline, near_since=near_since, now=now
        )

    assert not mark(2, NOW + 9)
    assert not mark(3, NOW + 8)
    assert mark(3, NOW + 9)
    assert not mark(3, NOW + 9, now=NOW + 1)
    found = store.get(table.connection_id)
    assert found is not None
    assert found.at_risk == NOW
    # It was marked before its deadline came near: because its consent ends.
    assert mark(3, NOW + 9, near_since=NOW, now=NOW + 2)
    assert not mark(3, NOW + 9, near_since=NOW, now=NOW + 3)
