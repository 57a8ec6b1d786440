"""What a connection from a backup becomes, and which later writes find it older than what they bring."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flowaccount_connect.domain.connection import Connection, Reason, Sealed, Status
from flowaccount_connect.domain.ids import new_grant_id
from flowaccount_connect.rotation.pending_commits import (
    PendingCommit,
    PendingCommits,
    PendingOutcome,
    PendingQueue,
    Target,
)
from flowaccount_connect.scheduling.due_index import DueIndex
from flowaccount_connect.storage.connections import LEAP, ConnectionStore, key_of, put_absent, restored
from flowaccount_connect.storage.dynamodb import Item, n
from flowaccount_connect.storage.stored_tokens import StoredTokens
from tests.contract.conftest import Table
from tests.contract.test_attempts_and_pending_commits import Sent
from tests.contract.test_connection_store import NOW, attempt, grant, refused, rotated, store
from tests.support.commits import commit_of

__all__ = ["grant", "store"]

BACKUP = NOW + 60
"""The moment that the table is restored to; what happens until `LATER` is forgotten."""

LATER = NOW + 2_000


def stored(table: Table) -> dict[str, Any]:
    answer = table.client.get_item(TableName=table.name, Key=key_of(table.connection_id), ConsistentRead=True)
    item: dict[str, Any] = answer["Item"]
    return item


@pytest.fixture
def put(table: Table, grant: Callable[..., None]) -> Callable[..., Connection]:
    """Put what was connected as it comes back from a backup."""

    def restore(*, disconnected: bool = False) -> Connection:
        backup = stored(table)
        table.client.transact_write_items(
            TransactItems=[{"Delete": {"TableName": table.name, "Key": key_of(table.connection_id)}}]
        )
        item = restored(backup, restored_to=BACKUP, now=LATER, disconnected=disconnected)
        assert put_absent(table.client, table.name, item)
        found = ConnectionStore(table.client, table.name).get(table.connection_id)
        assert found is not None
        return found

    return restore


def test_an_active_connection_is_in_doubt_due_at_once_and_of_a_generation_never_seen(
    table: Table, store: ConnectionStore, grant: Callable[..., None], put: Callable[..., Connection]
) -> None:
    grant()
    before = store.get(table.connection_id)
    assert before is not None
    found = put()
    assert found == replace(before, in_doubt=LATER, refresh_at=LATER, generation=1 + LATER - BACKUP + LEAP)
    page = DueIndex(table.client, table.name).page(int(stored(table)["due_shard"]["S"]), now=LATER)
    assert table.connection_id in {due.connection_id for due in page.due}


def test_a_doubt_keeps_its_beginning_and_an_attempt_its_lease(
    table: Table, store: ConnectionStore, grant: Callable[..., None], put: Callable[..., Connection]
) -> None:
    grant()
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
    table: Table, store: ConnectionStore, grant: Callable[..., None], put: Callable[..., Connection], end: str
) -> None:
    grant()
    if end == "refused":
        store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
        store.require_reauthorization(table.connection_id, 1, "a1", Reason.REJECTED, now=NOW)
    else:
        store.disconnect(table.connection_id, "g1", now=NOW)
    before = store.get(table.connection_id)
    assert before is not None
    found = put()
    assert found == replace(before, generation=before.generation + LATER - BACKUP + LEAP)
    assert not stored(table).keys() & {"due_shard", "refresh_at", "in_doubt"}


def test_what_was_disconnected_since_comes_back_as_a_tombstone(
    table: Table, store: ConnectionStore, grant: Callable[..., None], put: Callable[..., Connection]
) -> None:
    grant()
    found = put(disconnected=True)
    assert (found.status, found.ended_at) == (Status.DISCONNECTED, LATER)
    # The door is shut to all that was consented to until then.
    assert found.grant_id > new_grant_id(lambda: LATER)
    assert found.generation == 1 + LATER - BACKUP + LEAP
    assert stored(table).keys() == {
        *("pk", "sk", "status", "listed_as", "environment", "grant_id", "generation", "connected_at", "ended_at", "ttl")
    }
    assert refused(lambda: store.commit(commit_of(table.connection_id, "g1", 1, "a1", rotated("late", LATER)))) == found


def test_nothing_that_is_stored_is_written_over(
    table: Table, store: ConnectionStore, grant: Callable[..., None]
) -> None:
    grant()
    backup = stored(table)
    grant("g2", NOW)
    now_there = stored(table)
    assert not put_absent(table.client, table.name, restored(backup, restored_to=BACKUP, now=LATER))
    assert stored(table) == now_there
    # An SDK retry of a put that went through is no refusal.
    assert put_absent(table.client, table.name, now_there)


def test_what_was_pending_before_one_loss_still_counts_after_another(
    table: Table, store: ConnectionStore, grant: Callable[..., None]
) -> None:
    grant()
    once = restored(stored(table), restored_to=BACKUP, now=LATER)
    twice = restored(once, restored_to=LATER, now=LATER + 100)
    table.client.put_item(TableName=table.name, Item=twice)
    found = store.commit(commit_of(table.connection_id, "g1", 1, "a0", rotated("pending", LATER + 1)))
    assert found.sealed == rotated("pending", LATER + 1).sealed


def test_a_rotation_ends_the_doubt(
    table: Table, store: ConnectionStore, grant: Callable[..., None], put: Callable[..., Connection]
) -> None:
    grant()
    there = put()
    claimed = store.claim(table.connection_id, attempt("a1", LATER), generation=None, now=LATER)
    assert claimed.generation == there.generation
    found = store.commit(commit_of(table.connection_id, "g1", there.generation, "a1", rotated("new", LATER)))
    assert (found.generation, found.in_doubt) == (there.generation + 1, None)
    late = commit_of(table.connection_id, "g1", 3, "a0", rotated("pending", LATER - 1))
    assert refused(lambda: store.commit(late)) == found


@pytest.mark.parametrize("refused_before", [False, True])
def test_a_set_that_was_pending_before_the_loss_is_newer_than_the_backup(
    table: Table,
    store: ConnectionStore,
    grant: Callable[..., None],
    put: Callable[..., Connection],
    refused_before: bool,
) -> None:
    grant()
    there = put()
    if refused_before:
        store.claim(table.connection_id, attempt("a1", LATER), generation=None, now=LATER)
        store.require_reauthorization(table.connection_id, there.generation, "a1", Reason.ROTATION_LOST, now=LATER)
    sent = Sent()
    # The table had gone on to generation 3 when it was lost, after the backup's 1.
    PendingQueue(sent, "url").send(
        PendingCommit(
            target=Target.CONNECTION, commit=commit_of(table.connection_id, "g1", 3, "a4", rotated("newest", NOW + 900))
        )
    )
    outcome, _ = PendingCommits(table.client, table.name).apply(sent.body, now=LATER)
    found = store.get(table.connection_id)
    assert found is not None
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
    grant: Callable[..., None],
    put: Callable[..., Connection],
    grant_id: str,
    generation: int,
    requested_at: int,
) -> None:
    grant()
    there = put()
    late: StoredTokens = rotated("another", requested_at)
    assert refused(lambda: store.commit(commit_of(table.connection_id, grant_id, generation, "a4", late))) == there


@pytest.mark.parametrize("write", ["reconnect", "disconnect"])
def test_who_connects_anew_or_disconnects_has_no_more_to_do_with_a_backup(
    table: Table, store: ConnectionStore, grant: Callable[..., None], put: Callable[..., Connection], write: str
) -> None:
    grant()
    there = put()
    if write == "reconnect":
        grant("g2", LATER)
    else:
        store.disconnect(table.connection_id, "g1", now=LATER)
    item: Item = stored(table)
    assert "restored_from" not in item
    assert item["generation"] == n(there.generation + 1)
