"""Histories and counts: one transaction counts a change once, and pages are read by their keys."""

from concurrent.futures import ThreadPoolExecutor

from flowaccount_connect.domain.events import Entry, Kind
from flowaccount_connect.storage.history import KEPT, Counts, History, Moved
from tests.contract.conftest import Table

NOW = 1_800_000_000


def entry(table: Table, number: int, kind: Kind = Kind.REFRESHED, at: int = NOW) -> Entry:
    return Entry(
        id=f"c{number}-{kind}",
        kind=kind,
        at=at,
        connection_id=table.connection_id,
        environment="sandbox",
        status="active",
        generation=number,
        attempt_id="a1",
    )


def counted(table: Table, status: str) -> int:
    return Counts(table.client, table.name).get().get(status, 0)


def test_a_change_that_is_told_again_is_counted_once(table: Table) -> None:
    history, status = History(table.client, table.name), f"status-of-{table.connection_id}"
    both = [entry(table, 1), entry(table, 1, Kind.RECOVERED)]
    for _ in range(3):
        history.write(both, "1", Moved(None, status))
    assert counted(table, status) == 1
    history.write([entry(table, 2, Kind.DISCONNECTED)], "2", Moved(status, f"{status}-next"))
    assert (counted(table, status), counted(table, f"{status}-next")) == (0, 1)
    history.write([entry(table, 3, Kind.REMOVED)], "3", Moved(f"{status}-next", None))
    assert (counted(table, status), counted(table, f"{status}-next")) == (0, 0)
    page = history.page(table.connection_id, limit=10, now=NOW)
    assert [one.kind for one in page.entries] == ["removed", "disconnected", "recovered", "refreshed"]


def test_many_tellers_at_once_count_every_change_once(table: Table) -> None:
    # The model is not made for threads.
    writers = 1 if table.engine == "model" else 4
    history, status = History(table.client, table.name), f"status-of-{table.connection_id}"
    told = [entry(table, number, Kind.CONNECTED) for number in range(8)] * 2
    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(lambda one: history.write([one], str(one.generation), Moved(None, status)), told))
    assert counted(table, status) == 8


def test_pages_are_newest_first_and_end(table: Table) -> None:
    history = History(table.client, table.name)
    history.write([entry(table, 0, at=NOW - KEPT - 1)], "0", None)
    made = [entry(table, number) for number in range(1, 8)]
    for one in made:
        history.write([one], f"{one.generation:021}", None)
    found: list[Entry] = []
    next_ = None
    for pages in (1, 2, 3):
        page = history.page(table.connection_id, limit=3, now=NOW, next_=next_)
        found += page.entries
        next_ = page.next
        assert (next_ is None) == (pages == 3)
    assert found == made[::-1]
