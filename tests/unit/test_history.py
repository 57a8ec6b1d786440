"""Histories, beyond their contract with the table: what an entry keeps, for how long, and what stumbles."""

from typing import Any

import pytest

from flowaccount_connect.domain.events import Entry, Kind
from flowaccount_connect.storage.counts import Counts
from flowaccount_connect.storage.cursor import InvalidNext
from flowaccount_connect.storage.dynamodb import StoreUnavailable
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


def test_an_entry_is_read_as_it_was_written(history: History) -> None:
    made = entry(1)
    history.write([made], "1", None)
    assert history.page(CONNECTION, limit=10, now=NOW).entries == (made,)


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
    for number in range(3):
        history.write([entry(number)], f"{number}", None)
    next_ = history.page(CONNECTION, limit=1, now=NOW).next
    assert history.page("N9", limit=10, now=NOW, next_=next_).entries == ()


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
