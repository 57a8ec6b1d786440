"""Histories and counts: one transaction counts a change once, and pages are read by their keys."""

from concurrent.futures import ThreadPoolExecutor

from flowaccount_connect.domain.events import Entry, Kind
from flowaccount_connect.storage.counts import Counts
from flowaccount_connect.storage.history import KEPT, History, Moved
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


def test_a_count_that_is_no_number_keeps_no_entry_back(table: Table) -> None:
    history, status = History(table.client, table.name), f"status-of-{table.connection_id}"
    table.client.update_item(
        TableName=table.name,
        Key={"pk": {"S": "COUNT"}, "sk": {"S": "connections"}},
        UpdateExpression="SET #status = :text",
        ExpressionAttributeNames={"#status": status},
        ExpressionAttributeValues={":text": {"S": "many"}},
    )
    for _ in range(2):
        history.write([entry(table, 1), entry(table, 1, Kind.RECOVERED)], "1", Moved(None, status))
    assert counted(table, status) == 0
    assert len(history.page(table.connection_id, limit=10, now=NOW).entries) == 2


def test_a_next_of_what_has_expired_since_is_the_end(table: Table) -> None:
    history = History(table.client, table.name)
    for number in (1, 2):
        history.write([entry(table, number)], f"{number:021}", None)
    page = history.page(table.connection_id, limit=1, now=NOW)
    assert page.next is not None
    later = history.page(table.connection_id, limit=1, now=NOW + KEPT + 1, next_=page.next)
    assert (later.entries, later.next) == ((), None)


def test_entries_that_nobody_understands_are_shown_as_such_and_paged_through(table: Table) -> None:
    history = History(table.client, table.name)
    history.write([entry(table, 1)], "1", None)
    for sort, kind in (("zzz", {"S": "strange"}), ("ก", {"N": "7"}), (f"{NOW:012d}", {"S": "refreshed"})):
        item = {
            "pk": {"S": f"HISTORY#{table.connection_id}"},
            "sk": {"S": sort},
            "kind": kind,
            "id": {"S": "x" * 9_000},
        }
        table.client.put_item(TableName=table.name, Item=item)
    found: list[Entry] = []
    next_ = None
    for _ in range(4):
        page = history.page(table.connection_id, limit=1, now=NOW, next_=next_)
        found += page.entries
        next_ = page.next
    assert next_ is None
    assert [one.kind for one in found].count(Kind.UNREADABLE) == 3


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
    made = [entry(table, number) for number in range(6, 12)]
    for one in made:
        history.write([one], f"{one.generation}", None)
    found: list[Entry] = []
    next_ = None
    for pages in (1, 2):
        page = history.page(table.connection_id, limit=3, now=NOW, next_=next_)
        found += page.entries
        next_ = page.next
        assert (next_ is None) == (pages == 2)
    assert found == made[::-1]
