"""What listing, ending and importing connections ask of the table."""

from typing import Any

import pytest

from flowaccount_connect.connections.listing import Listed, Listing, read
from flowaccount_connect.domain.connection import Reason, Sealed, Status
from flowaccount_connect.storage import dynamodb
from flowaccount_connect.storage import imports as imports_module
from flowaccount_connect.storage.connections import ConnectionStore, Refused, key_of
from flowaccount_connect.storage.imports import COOLING, ImportStore, NotBegun
from tests.contract.conftest import NOW, Table, attempt, refused


@pytest.fixture
def imports(table: Table) -> ImportStore:
    return ImportStore(table.client, table.name, "sandbox", clock=lambda: NOW)


def begin(
    table: Table, imports: ImportStore, grant_id: str = "0-g5", *, now: int = NOW, tenant: str | None = None
) -> None:
    sealed = Sealed(b"given", b"key")
    imports.begin(table.connection_id, grant_id, sealed, deadline=now + 86_400, now=now, tenant=tenant)


def test_a_disconnect_leaves_the_tombstone(table: Table, store: ConnectionStore) -> None:
    table.grant("0")
    store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    ended = store.disconnect(table.connection_id, "0", now=NOW)
    assert (ended.status, ended.generation, ended.grant_id > "0", ended.sealed) == (Status.DISCONNECTED, 2, True, None)
    assert set(table.item()) == {
        *("pk", "sk", "status", "listed_as", "environment", "grant_id", "generation", "connected_at", "ended_at", "ttl")
    }
    assert refused(lambda: store.commit(table.commit("0", 1, "a1", "late", NOW + 9))) == ended
    assert refused(lambda: store.disconnect(table.connection_id, "0", now=NOW + 5)) == ended
    again = store.disconnect(table.connection_id, ended.grant_id, now=NOW + 5)
    assert again.grant_id > ended.grant_id


def test_a_disconnect_ends_only_the_consent_it_was_asked_to_end(table: Table, store: ConnectionStore) -> None:
    table.grant("0-g2")
    there = refused(lambda: store.disconnect(table.connection_id, "0-g1", now=NOW))
    assert there is not None
    assert (there.grant_id, there.status) == ("0-g2", Status.ACTIVE)
    table_of_none = ConnectionStore(table.client, table.name)
    assert refused(lambda: table_of_none.disconnect("N-unknown", "0-g1", now=NOW)) is None
    assert store.get("N-unknown") is None


def test_an_import_begins_where_nothing_is_active(table: Table, imports: ImportStore, store: ConnectionStore) -> None:
    begin(table, imports)
    with pytest.raises(NotBegun) as in_the_way:
        begin(table, imports, "0-g6")
    found = imports.get(table.connection_id)
    assert found is not None
    assert (in_the_way.value.connection, in_the_way.value.imported) == (None, found)
    assert (found.grant_id, found.generation, found.sealed) == ("0-g5", 0, Sealed(b"given", b"key"))
    table.grant("0-g1")
    with pytest.raises(NotBegun) as in_the_way:
        begin(table, imports, "0-g6")
    assert in_the_way.value.connection == store.get(table.connection_id)
    assert imports.get(table.connection_id) == found


def test_a_proved_import_becomes_the_connection(table: Table, imports: ImportStore, store: ConnectionStore) -> None:
    begin(table, imports)
    claimed = imports.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    assert claimed.sealed == Sealed(b"given", b"key")
    imports.commit(table.commit("0-g5", 0, "a1", "proved"))
    there = table.connection()
    assert (there.status, there.grant_id, there.generation, there.sealed) == (
        *(Status.ACTIVE, "0-g5", 1),
        Sealed(b"proved", b"key"),
    )
    assert imports.get(table.connection_id) is None
    again = refused(lambda: imports.commit(table.commit("0-g5", 0, "a1", "proved")))
    assert again == there
    imports.commit(table.commit("0-g5", 0, "a2", "later", NOW + 1))
    assert store.get(table.connection_id) is not None
    assert refused(lambda: imports.commit(table.commit("0-g4", 0, "a3", "older", NOW + 2))) is not None


def test_a_kept_answer_needs_its_own_attempt(table: Table, imports: ImportStore, store: ConnectionStore) -> None:
    assert refused(lambda: imports.commit_kept(table.commit("0-g5", 0, "a1", "kept"))) is None
    begin(table, imports)
    imports.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    assert refused(lambda: imports.commit_kept(table.commit("0-g5", 0, "a2", "kept"))) is not None
    assert store.get(table.connection_id) is None
    imports.commit_kept(table.commit("0-g5", 0, "a1", "kept"))
    assert (store.get(table.connection_id) is None, imports.get(table.connection_id)) == (False, None)


def test_a_user_who_connected_meanwhile_ends_the_import(
    table: Table, imports: ImportStore, store: ConnectionStore
) -> None:
    begin(table, imports)
    table.grant("0-g9")
    there = refused(lambda: imports.commit(table.commit("0-g5", 0, "a1", "late")))
    assert there == store.get(table.connection_id)
    assert imports.get(table.connection_id) is None


def test_a_refused_import_is_told_and_changes_nothing_else(
    table: Table, imports: ImportStore, store: ConnectionStore
) -> None:
    begin(table, imports)
    imports.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    end = imports.require_reauthorization
    assert refused(lambda: end(table.connection_id, 0, "a2", Reason.REJECTED, now=NOW)) is not None
    end(table.connection_id, 0, "a1", Reason.WRONG_CONNECTION, now=NOW)
    over = imports.get(table.connection_id)
    assert over is not None
    assert (over.reason, over.sealed, over.refresh_at, over.attempt) == (Reason.WRONG_CONNECTION, None, None, None)
    there = refused(lambda: end(table.connection_id, 0, "a1", Reason.WRONG_CONNECTION, now=NOW))
    assert there == over
    assert store.get(table.connection_id) is None
    with pytest.raises(NotBegun) as in_the_way:
        begin(table, imports, "0-g6", now=NOW + COOLING - 1)
    assert (in_the_way.value.connection, in_the_way.value.imported) == (None, over)
    begin(table, imports, "0-g6", now=NOW + COOLING)


def test_who_imports_owns_the_business(table: Table, imports: ImportStore, store: ConnectionStore) -> None:
    begin(table, imports, tenant="tenant-1")
    imports.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    mine = table.commit("0-g5", 0, "a1", "proved", tenant="tenant-1")
    imports.commit(mine)
    there = table.connection()
    assert there.tenant == "tenant-1"
    # It needs a new consent: another tenant can import it as little as connect it.
    store.claim(table.connection_id, attempt("a2"), generation=1, now=NOW)
    store.require_reauthorization(table.connection_id, 1, "a2", Reason.REJECTED, now=NOW)
    with pytest.raises(NotBegun) as in_the_way:
        begin(table, imports, "0-g6", tenant="tenant-2")
    assert in_the_way.value.connection == store.get(table.connection_id)
    assert imports.get(table.connection_id) is None
    theirs = table.commit("0-g7", 0, "a3", "theirs", NOW + 5, tenant="tenant-2")
    assert refused(lambda: imports.commit(theirs)) is not None
    begin(table, imports, "0-g6", tenant="tenant-1")


def test_a_cancelled_import_comes_back_by_nothing(table: Table, imports: ImportStore, store: ConnectionStore) -> None:
    begin(table, imports)
    imported = imports.get(table.connection_id)
    assert imported is not None
    imports.cancel(imported, None, now=NOW)
    tombstone = table.connection()
    assert (tombstone.status, tombstone.grant_id > "0-g5", tombstone.generation) == (Status.DISCONNECTED, True, 1)
    assert refused(lambda: imports.commit(table.commit("0-g5", 0, "a1", "late", NOW + 5))) == tombstone
    with pytest.raises(Refused):
        imports.cancel(imported, None, now=NOW)


def test_a_cancel_ends_the_connection_it_saw(table: Table, imports: ImportStore, store: ConnectionStore) -> None:
    begin(table, imports)
    imported = imports.get(table.connection_id)
    assert imported is not None
    table.grant("0-g9")
    with pytest.raises(Refused):
        imports.cancel(imported, None, now=NOW)
    seen = store.get(table.connection_id)
    imports.cancel(imported, seen, now=NOW)
    ended = table.connection()
    assert (ended.status, ended.grant_id > "0-g9", ended.generation) == (Status.DISCONNECTED, True, 2)


def test_what_nobody_understands_is_ended_with_its_import(
    table: Table, imports: ImportStore, store: ConnectionStore
) -> None:
    for number, strange in enumerate(({"SS": ["a", "b"]}, {"L": [{"N": "1"}]}, {"S": "zzzz"}, None)):
        one = Table(table.engine, table.client, table.name, f"{table.connection_id}.{number}")
        begin(one, imports)
        one.grant("0-g1")
        for sort_key in ("CONNECTION", "IMPORT"):
            key = key_of(one.connection_id, sort_key)
            item = dict(table.client.get_item(TableName=table.name, Key=key, ConsistentRead=True)["Item"])
            item["generation"] = {"S": "seven"}
            del item["grant_id"]
            table.client.put_item(TableName=table.name, Item=item | ({"grant_id": strange} if strange else {}))
        imports.clear(one.connection_id, now=NOW)
        ended = store.get(one.connection_id)
        assert ended is not None
        assert (ended.status, ended.generation, ended.sealed) == (Status.DISCONNECTED, NOW, None)
        assert imports.get(one.connection_id) is None
        # The door is of this moment, whatever stood there: an earlier consent finds it shut, a later one opens it.
        with pytest.raises(Refused):
            imports.commit(one.commit("0-g5", 0, "a1", "late", NOW + 5))
        one.grant("01b")
        assert getattr(store.get(one.connection_id), "status", None) is Status.ACTIVE


def test_what_changes_meanwhile_is_not_ended_for_what_it_was(
    table: Table, imports: ImportStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.grant("0-g1")
    get = dynamodb.get

    def changed(client: object, name: str, key: Any) -> object:
        found = get(client, name, key)
        if key == key_of(table.connection_id):
            table.grant("0-g2")
        return found

    monkeypatch.setattr(imports_module, "get", changed)
    there = refused(lambda: imports.clear(table.connection_id, now=NOW))
    assert there is not None
    assert (there.grant_id, there.status) == ("0-g2", Status.ACTIVE)


def test_pages_go_through_the_index_and_read_what_can_be_shown(
    table: Table, imports: ImportStore, store: ConnectionStore
) -> None:
    listing, ids = Listing(table.client, table.name), [f"{table.connection_id}.{i}" for i in range(9)]
    for number, connection_id in enumerate(ids):
        one = Table(table.engine, table.client, table.name, connection_id)
        if number % 3 == 0:
            begin(one, imports)
        else:
            one.grant("0-g1")
        if number % 3 == 1:
            store.disconnect(connection_id, "0-g1", now=NOW)

    def walk(status: Listed | None) -> list[str]:
        found: list[str] = []
        next_: str | None = None
        for _ in range(10_000):
            page = listing.page(status, limit=2, next_=next_)
            found += [one.id for _, one in page.connections if one.id in ids]
            assert all(one.sealed is None for _, one in page.connections)
            next_ = page.next
            if next_ is None:
                return found
        raise AssertionError("pages without end")

    for number, status in enumerate((Listed.IMPORTING, Listed.DISCONNECTED, Listed.ACTIVE)):
        assert sorted(walk(status)) == ids[number::3]
    assert sorted(walk(None)) == ids
    keys = [key_of(ids[0], "IMPORT"), key_of(ids[1]), key_of("N-unknown")]
    assert set(read(table.client, table.name, keys, consistent=True)) == {
        (f"CONNECTION#{ids[0]}", "IMPORT"),
        (f"CONNECTION#{ids[1]}", "CONNECTION"),
    }
