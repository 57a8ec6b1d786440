"""Histories say what happened, newest first; counts count each change once, however often it is told."""

from typing import Any

import pytest

from flowaccount_connect.domain.events import Entry, Kind
from flowaccount_connect.storage.counts import Counts
from flowaccount_connect.storage.cursor import InvalidNext
from flowaccount_connect.storage.dynamodb import StoreUnavailable, s
from flowaccount_connect.storage.history import KEPT, REFRESHES_KEPT, History, Moved
from tests.unit.fakes import CONNECTION, NOW, Clock
from tests.unit.tables import Fault, Table, client_error


def entry(number: int, at: int = NOW, kind: Kind = Kind.REFRESHED, connection_id: str = CONNECTION) -> Entry:
    return Entry(
        id=f"c{number}-{kind}",
        kind=kind,
        at=at,
        connection_id=connection_id,
        environment="sandbox",
        tenant="shop-7",
        status="active",
        generation=number,
        attempt_id="a1",
        reason="rejected",
        since=at - 1,
        deadline=at + 1,
        consent_ends_at=at + 2,
        retries=2,
        recovered_from="in_doubt",
    )


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def history(table: Table) -> History:
    return History(table, "table", sleep=Clock().sleep)


def filled(history: History, count: int) -> list[Entry]:
    """Entries within one second, so that their sequence alone orders them; newest first."""
    made = [entry(number) for number in range(count)]
    for one in made:
        history.write([one], f"{one.generation}", None)
    return made[::-1]


def test_an_entry_is_read_as_it_was_written(history: History) -> None:
    made = entry(1)
    history.write([made], "1", None)
    assert history.page(CONNECTION, limit=10, now=NOW).entries == (made,)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 12, 13])
def test_pages_hold_every_entry_once_newest_first(history: History, limit: int) -> None:
    made = filled(history, 12)
    history.write([entry(99, connection_id="N9")], "99", None)
    found: list[Entry] = []
    next_: str | None = None
    for _ in range(13):
        page = history.page(CONNECTION, limit=limit, now=NOW, next_=next_)
        assert 0 < len(page.entries) <= limit
        found += page.entries
        next_ = page.next
        if next_ is None:
            break
    assert found == made
    assert next_ is None


def test_what_has_expired_is_not_shown_though_it_is_there(history: History, table: Table) -> None:
    history.write([entry(1, at=NOW - KEPT - 1, kind=Kind.IN_DOUBT)], "1", None)
    history.write([entry(2, at=NOW - KEPT, kind=Kind.IN_DOUBT)], "2", None)
    assert [one.generation for one in history.page(CONNECTION, limit=10, now=NOW).entries] == [2]
    assert {item["ttl"] for item in table.items.values()} == {NOW - 1, NOW}


def test_an_ordinary_refresh_is_kept_for_a_shorter_time(history: History, table: Table) -> None:
    for number, kind in enumerate(Kind):
        history.write([entry(number, kind=kind)], f"{number}", None)
    ends = {str(item["kind"]): item["ttl"] for item in table.items.values()}
    assert ends.pop(Kind.REFRESHED) == NOW + REFRESHES_KEPT < NOW + KEPT
    assert set(ends.values()) == {NOW + KEPT}


@pytest.mark.parametrize("next_", ["", "x", "🙈", "____", "A" * 3_000])
def test_a_next_that_no_page_gave_is_refused(history: History, next_: str) -> None:
    with pytest.raises(InvalidNext):
        history.page(CONNECTION, limit=10, now=NOW, next_=next_)


def test_a_next_of_one_connection_leads_to_no_other(history: History) -> None:
    filled(history, 3)
    next_ = history.page(CONNECTION, limit=1, now=NOW).next
    assert history.page("N9", limit=10, now=NOW, next_=next_).entries == ()


def test_a_refresh_costs_one_put_and_told_again_is_the_same_item(history: History, table: Table) -> None:
    history.write([entry(1)], "1", None)
    assert table.calls == ["put_item"]
    before = table.items
    history.write([entry(1)], "1", None)
    assert table.items == before


def test_a_change_of_status_is_counted_once_with_its_entries(history: History, table: Table) -> None:
    both = [entry(1, kind=Kind.REFRESHED), entry(1, kind=Kind.RECOVERED)]
    for _ in range(3):
        history.write([entry(0, kind=Kind.CONNECTED)], "0", Moved(None, "active"))
        history.write([entry(5, kind=Kind.CONNECTED)], "5", Moved(None, "active"))
        history.write(both, "1", Moved("active", "reauthorization_required"))
    assert Counts(table, "table").get() == {"active": 1, "reauthorization_required": 1}
    kinds = [one.kind.value for one in history.page(CONNECTION, limit=10, now=NOW).entries]
    assert kinds == ["connected", "recovered", "refreshed", "connected"]
    history.write([entry(6, kind=Kind.REMOVED)], "6", Moved("active", None))
    assert Counts(table, "table").get() == {"active": 0, "reauthorization_required": 1}


def test_a_stack_without_connections_counts_none(table: Table) -> None:
    assert Counts(table, "table").get() == {}


def test_an_unacknowledged_transaction_counts_once(history: History, table: Table) -> None:
    table.faults["transact_write_items"] = [Fault(client_error("RequestTimeout"), written=True)]
    with pytest.raises(StoreUnavailable):
        history.write([entry(0)], "0", Moved(None, "active"))
    history.write([entry(0)], "0", Moved(None, "active"))
    assert Counts(table, "table").get() == {"active": 1}


def conflict() -> Fault:
    reasons: list[dict[str, Any]] = [{"Code": "None"}, {"Code": "TransactionConflict"}]
    return Fault(client_error("TransactionCanceledException", CancellationReasons=reasons))


def test_a_conflict_at_the_count_is_waited_out(history: History, table: Table) -> None:
    table.faults["transact_write_items"] = [conflict(), conflict()]
    history.write([entry(0)], "0", Moved(None, "active"))
    assert Counts(table, "table").get() == {"active": 1}
    table.faults["transact_write_items"] = [conflict() for _ in range(6)]
    with pytest.raises(StoreUnavailable):
        history.write([entry(1)], "1", Moved(None, "active"))


def test_other_faults_are_told_at_once(history: History, table: Table) -> None:
    table.faults["transact_write_items"] = [Fault(client_error("InternalServerError"))]
    with pytest.raises(StoreUnavailable):
        history.write([entry(0)], "0", Moved(None, "active"))
    assert table.calls == ["transact_write_items"]


@pytest.mark.parametrize("change", [{"kind": s("strange")}, {"at": s("soon")}, {"tenant": s("x" * 600)}], ids=str)
def test_an_entry_that_is_not_understood_is_shown_as_such_and_hides_no_other(
    table: Table, history: History, change: dict[str, Any]
) -> None:
    first, other = filled(history, 2)
    (key,) = (key for key, item in table.items.items() if item["id"] == first.id)
    item = table.model.get_item(TableName="table", Key=dict(zip(("pk", "sk"), map(s, key), strict=True)))["Item"]
    table.model.put_item(TableName="table", Item=item | change)
    shown = history.page(CONNECTION, limit=10, now=NOW).entries
    assert (shown[0].kind, shown[1:]) == (Kind.UNREADABLE, (other,))


def test_a_count_that_is_no_number_costs_no_entry(table: Table, history: History) -> None:
    item = {"pk": s("COUNT"), "sk": s("connections"), "active": s("many")}
    table.model.put_item(TableName="table", Item=item)
    history.write([entry(1)], "1", Moved(None, "active"))
    assert history.page(CONNECTION, limit=10, now=NOW).entries == (entry(1),)
