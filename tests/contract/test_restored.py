"""What a connection from a backup becomes, and which later writes find it older than what they bring."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from flowaccount_connect.domain.connection import Connection, Reason, Sealed, Status
from flowaccount_connect.domain.ids import new_grant_id
from flowaccount_connect.rotation.pending_commits import (
    PendingCommit,
    PendingCommits,
    PendingOutcome,
    Target,
)
from flowaccount_connect.scheduling.due_index import DueIndex
from flowaccount_connect.storage.connections import LEAP, ConnectionStore, key_of, put_absent, restored
from flowaccount_connect.storage.dynamodb import Item, n
from tests.contract.conftest import NOW, Table, attempt, refused
from tests.support.commits import rotated

BACKUP = NOW + 60
"""The moment that the table is restored to; what happens until `LATER` is forgotten."""

LATER = NOW + 2_000


@pytest.fixture
def put(table: Table) -> Callable[..., Connection]:
    """Put what was connected as it comes back from a backup."""

    def restore(*, disconnected: bool = False) -> Connection:
        backup = table.item()
        table.client.transact_write_items(
            TransactItems=[{"Delete": {"TableName": table.name, "Key": key_of(table.connection_id)}}]
        )
        item = restored(backup, restored_to=BACKUP, now=LATER, disconnected=disconnected)
        assert put_absent(table.client, table.name, item)
        return table.connection()

    return restore


def test_an_active_connection_is_in_doubt_due_at_once_and_of_a_generation_never_seen(
    table: Table, store: ConnectionStore, put: Callable[..., Connection]
) -> None:
    table.grant()
    before = table.connection()
    found = put()
    assert found == replace(before, in_doubt=LATER, refresh_at=LATER, generation=1 + LATER - BACKUP + LEAP)
    page = DueIndex(table.client, table.name).page(int(table.item()["due_shard"]["S"]), now=LATER)
    assert table.connection_id in {due.connection_id for due in page.due}


def test_a_doubt_keeps_its_beginning_and_an_attempt_its_lease(
    table: Table, store: ConnectionStore, put: Callable[..., Connection]
) -> None:
    table.grant()
    store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    store.release(table.connection_id, 1, "a1", refresh_at=NOW + 10, retries=1, in_doubt=NOW)
    held = attempt("a2", LATER - 10)
    store.claim(table.connection_id, held, generation=None, now=NOW + 20)
    found = put()
    assert (found.in_doubt, found.attempt) == (NOW, held)
    # Its worker may still be sending: the next claim waits for the lease.
    assert refused(lambda: store.claim(table.connection_id, attempt("a3"), generation=None, now=LATER)) == found


@pytest.mark.parametrize("end", ["refused", "disconnected"])
def test_what_had_ended_has_ended_and_is_not_due(
    table: Table, store: ConnectionStore, put: Callable[..., Connection], end: str
) -> None:
    table.grant()
    if end == "refused":
        store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
        store.require_reauthorization(table.connection_id, 1, "a1", Reason.REJECTED, now=NOW)
    else:
        store.disconnect(table.connection_id, "g1", now=NOW)
    before = table.connection()
    found = put()
    assert found == replace(before, generation=before.generation + LATER - BACKUP + LEAP)
    assert not table.item().keys() & {"due_shard", "refresh_at", "in_doubt"}


def test_what_was_disconnected_since_comes_back_as_a_tombstone(
    table: Table, store: ConnectionStore, put: Callable[..., Connection]
) -> None:
    table.grant()
    found = put(disconnected=True)
    assert (found.status, found.ended_at) == (Status.DISCONNECTED, LATER)
    # The door is shut to all that was consented to until then.
    assert found.grant_id > new_grant_id(lambda: LATER)
    assert found.generation == 1 + LATER - BACKUP + LEAP
    assert table.item().keys() == {
        *("pk", "sk", "status", "listed_as", "environment", "grant_id", "generation", "connected_at", "ended_at", "ttl")
    }
    assert refused(lambda: store.commit(table.commit("g1", 1, "a1", "late", LATER))) == found


def test_nothing_that_is_stored_is_written_over(table: Table, store: ConnectionStore) -> None:
    table.grant()
    backup = table.item()
    table.grant("g2", NOW)
    now_there = table.item()
    assert not put_absent(table.client, table.name, restored(backup, restored_to=BACKUP, now=LATER))
    assert table.item() == now_there
    # An SDK retry of a put that went through is no refusal.
    assert put_absent(table.client, table.name, now_there)


def test_what_was_pending_before_one_loss_still_counts_after_another(table: Table, store: ConnectionStore) -> None:
    table.grant()
    once = restored(table.item(), restored_to=BACKUP, now=LATER)
    twice = restored(once, restored_to=LATER, now=LATER + 100)
    table.client.put_item(TableName=table.name, Item=twice)
    found = store.commit(table.commit("g1", 1, "a0", "pending", LATER + 1))
    assert found.sealed == rotated("pending", LATER + 1).sealed


def test_a_rotation_ends_the_doubt(table: Table, store: ConnectionStore, put: Callable[..., Connection]) -> None:
    table.grant()
    there = put()
    claimed = store.claim(table.connection_id, attempt("a1", LATER), generation=None, now=LATER)
    assert claimed.generation == there.generation
    found = store.commit(table.commit("g1", there.generation, "a1", "new", LATER))
    assert (found.generation, found.in_doubt) == (there.generation + 1, None)
    late = table.commit("g1", 3, "a0", "pending", LATER - 1)
    assert refused(lambda: store.commit(late)) == found


@pytest.mark.parametrize("refused_before", [False, True])
def test_a_set_that_was_pending_before_the_loss_is_newer_than_the_backup(
    table: Table,
    store: ConnectionStore,
    put: Callable[..., Connection],
    refused_before: bool,
) -> None:
    table.grant()
    there = put()
    if refused_before:
        store.claim(table.connection_id, attempt("a1", LATER), generation=None, now=LATER)
        store.require_reauthorization(table.connection_id, there.generation, "a1", Reason.ROTATION_LOST, now=LATER)
    # The table had gone on to generation 3 when it was lost, after the backup's 1.
    pending = PendingCommit(target=Target.CONNECTION, commit=table.commit("g1", 3, "a4", "newest", NOW + 900))
    outcome, _ = PendingCommits(table.client, table.name).apply(pending.to_json(), now=LATER)
    found = table.connection()
    assert (outcome, found.status) == (PendingOutcome.APPLIED, Status.ACTIVE)
    assert found.sealed == Sealed(b"newest", b"key")
    assert found.generation == there.generation + 1


@pytest.mark.parametrize(
    ("grant_id", "generation", "requested_at"),
    [
        pytest.param("g1", 3, NOW - 100, id="no later than what is stored"),
        pytest.param("g0", 3, NOW + 900, id="of another consent"),
    ],
)
def test_no_other_set_passes_the_fence(
    table: Table,
    store: ConnectionStore,
    put: Callable[..., Connection],
    grant_id: str,
    generation: int,
    requested_at: int,
) -> None:
    table.grant()
    there = put()
    late = table.commit(grant_id, generation, "a4", "another", requested_at)
    assert refused(lambda: store.commit(late)) == there


@pytest.mark.parametrize("write", ["reconnect", "disconnect"])
def test_who_connects_anew_or_disconnects_has_no_more_to_do_with_a_backup(
    table: Table, store: ConnectionStore, put: Callable[..., Connection], write: str
) -> None:
    table.grant()
    there = put()
    if write == "reconnect":
        table.grant("g2", LATER)
    else:
        store.disconnect(table.connection_id, "g1", now=LATER)
    item: Item = table.item()
    assert "restored_from" not in item
    assert item["generation"] == n(there.generation + 1)
