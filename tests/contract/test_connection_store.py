"""What each write of a connection promises, and under which condition."""

from dataclasses import replace
from functools import partial

import pytest

from flowaccount_connect.domain.connection import Attempt, Connection, Reason, Sealed, Status
from flowaccount_connect.domain.schedule import shard_of
from flowaccount_connect.scheduling.due_index import DueIndex
from flowaccount_connect.storage.connections import ConnectionStore, from_item, key_of
from flowaccount_connect.storage.dynamodb import ConditionRefused, n, s
from tests.contract.conftest import NOW, Table, attempt, refused

LEASE = NOW + 180


def test_an_unknown_connection_is_none(store: ConnectionStore, table: Table) -> None:
    assert store.get(table.connection_id) is None
    assert refused(lambda: store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)) is None
    assert refused(lambda: store.commit(table.commit("g1", 1, "a1", "x"))) is None
    assert store.get(table.connection_id) is None


def test_a_grant_connects_with_generation_one(store: ConnectionStore, table: Table) -> None:
    table.grant()
    found = table.connection()
    assert found.status is Status.ACTIVE
    assert (found.grant_id, found.generation, found.committed_by) == ("g1", 1, "a0")
    assert found.sealed == Sealed(b"g1 tokens", b"key")
    assert (found.requested_at, found.deadline, found.refresh_at) == (NOW - 100, NOW + 86_300, NOW - 50)


def test_grants_are_ordered(store: ConnectionStore, table: Table) -> None:
    table.grant("g2")
    for older in ("g1", "g2"):
        with pytest.raises(ConditionRefused) as caught:
            table.grant(older)
        item = caught.value.items[0]
        assert item is not None
        assert from_item(item).grant_id == "g2"
    table.grant("g3")
    found = table.connection()
    assert (found.grant_id, found.generation) == ("g3", 2)


def test_a_grant_revives_and_clears(store: ConnectionStore, table: Table) -> None:
    table.grant()
    store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    store.require_reauthorization(table.connection_id, 1, "a1", Reason.WRONG_CONNECTION, now=NOW)
    table.grant("g2", NOW)
    found = table.connection()
    assert found == Connection(
        id=table.connection_id,
        status=Status.ACTIVE,
        environment="sandbox",
        grant_id="g2",
        generation=2,
        connected_at=NOW,
        sealed=Sealed(b"g2 tokens", b"key"),
        requested_at=NOW,
        access_expires_at=NOW + 3_600,
        deadline=NOW + 86_400,
        refresh_at=NOW + 50,
        committed_by="a0",
    )
    assert not {"quarantine", "quarantine_key", "ttl"} & set(table.item())


def test_a_claim_returns_the_item_it_claimed(store: ConnectionStore, table: Table) -> None:
    table.grant()
    claimed = store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    assert claimed.attempt == attempt("a1")
    assert claimed == store.get(table.connection_id)
    assert claimed.refresh_at == NOW - 50


def test_a_claim_needs_what_is_due_and_free(store: ConnectionStore, table: Table) -> None:
    table.grant(at=NOW)
    not_due = refused(lambda: store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW + 49))
    assert not_due is not None
    assert not_due.attempt is None
    other = refused(lambda: store.claim(table.connection_id, attempt("a1"), generation=2, now=NOW))
    assert other is not None
    assert other.generation == 1
    store.claim(table.connection_id, attempt("a1"), generation=1, now=NOW)
    held = refused(lambda: store.claim(table.connection_id, attempt("a2"), generation=None, now=LEASE + 1))
    assert held is not None
    assert held.attempt == attempt("a1")


def test_a_repeated_claim_shows_its_own_attempt(store: ConnectionStore, table: Table) -> None:
    table.grant()
    store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    own = refused(lambda: store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW))
    assert own is not None
    assert own.attempt == attempt("a1")


def test_while_a_failed_attempt_waits_nobody_claims_on_demand(store: ConnectionStore, table: Table) -> None:
    table.grant()
    store.claim(table.connection_id, attempt("a1"), generation=1, now=NOW)
    store.release(table.connection_id, 1, "a1", refresh_at=NOW + 60, retries=1)
    refused(lambda: store.claim(table.connection_id, attempt("a2"), generation=1, now=NOW + 59))
    assert store.claim(table.connection_id, attempt("a2"), generation=1, now=NOW + 60).retries == 1


def test_a_claim_over_needs_the_dead_attempt_and_records_doubt_once(store: ConnectionStore, table: Table) -> None:
    table.grant()
    dead = store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW).attempt
    assert dead is not None

    def over(name: str, of: Attempt, at: int, generation: int = 1) -> Connection:
        return store.claim_over(table.connection_id, attempt(name, at), dead=of, generation=generation, now=at)

    refused(lambda: over("a2", dead, LEASE - 1))
    refused(lambda: over("a2", dead, LEASE, generation=2))
    refused(lambda: over("a2", replace(dead, id="a9"), LEASE))
    second = over("a2", dead, LEASE)
    assert (second.in_doubt, second.attempt) == (NOW, attempt("a2", LEASE))
    assert second.refresh_at is not None
    assert second.attempt is not None
    assert over("a3", second.attempt, LEASE + 200).in_doubt == NOW


def test_a_commit_changes_everything_together(store: ConnectionStore, table: Table) -> None:
    table.grant()
    store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    store.release(table.connection_id, 1, "a1", refresh_at=NOW, retries=3, in_doubt=NOW)
    store.claim(table.connection_id, attempt("a2"), generation=None, now=NOW)
    stored = store.commit(table.commit("g1", 1, "a2", "second"))
    assert stored == store.get(table.connection_id)
    assert (stored.generation, stored.committed_by, stored.sealed) == (2, "a2", Sealed(b"second", b"key"))
    assert (stored.requested_at, stored.access_expires_at, stored.deadline) == (NOW, NOW + 3_600, NOW + 86_400)
    assert (stored.attempt, stored.in_doubt, stored.retries, stored.reason) == (None, None, None, None)


def test_a_commit_is_fenced_by_grant_and_generation_only(store: ConnectionStore, table: Table) -> None:
    table.grant()
    store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    for grant_id, generation in (("g0", 1), ("g2", 1), ("g1", 2)):
        late = table.commit(grant_id, generation, "a1", "x", NOW - 100_000)
        refused(partial(store.commit, late))
    store.require_reauthorization(table.connection_id, 1, "a1", Reason.REJECTED, now=NOW)
    won = store.commit(table.commit("g1", 1, "somebody else", "late"))
    assert (won.status, won.generation, won.reason) == (Status.ACTIVE, 2, None)
    own = refused(lambda: store.commit(table.commit("g1", 1, "somebody else", "late")))
    assert own is not None
    assert own.committed_by == "somebody else"


def test_of_two_answers_to_the_same_token_the_later_one_wins(store: ConnectionStore, table: Table) -> None:
    table.grant()
    first = partial(store.commit, table.commit("g1", 1, "a1", "first"))
    replay = partial(store.commit, table.commit("g1", 1, "a2", "replay", NOW + 200))
    assert first().generation == 2
    assert replay().generation == 3
    # Neither comes back: not the earlier one, not by redelivery, and nothing of an earlier request.
    refused(first)
    refused(replay)
    assert store.commit(table.commit("g1", 3, "a3", "next", NOW + 300)).generation == 4
    refused(partial(store.commit, table.commit("g1", 1, "a4", "stale", NOW + 250)))
    refused(partial(store.commit, table.commit("g2", 3, "a4", "another grant", NOW + 400)))
    stored = table.connection()
    assert (stored.generation, stored.sealed) == (4, Sealed(b"next", b"key"))


def test_a_kept_refresh_token_needs_its_attempt_and_leaves_the_doubt(store: ConnectionStore, table: Table) -> None:
    table.grant()
    store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    store.release(table.connection_id, 1, "a1", refresh_at=NOW, retries=1, in_doubt=NOW - 5)
    store.claim(table.connection_id, attempt("a2"), generation=None, now=NOW)
    refused(lambda: store.commit_kept(table.commit("g1", 1, "a1", "kept")))
    refused(lambda: store.commit_kept(table.commit("g1", 2, "a2", "kept")))
    stored = store.commit_kept(table.commit("g1", 1, "a2", "kept"))
    assert (stored.generation, stored.in_doubt, stored.attempt, stored.retries) == (2, NOW - 5, None, None)


def test_a_release_needs_its_attempt_and_never_clears_doubt(store: ConnectionStore, table: Table) -> None:
    table.grant()
    store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    refused(lambda: store.release(table.connection_id, 1, "a2", refresh_at=NOW, retries=1))
    refused(lambda: store.release(table.connection_id, 2, "a1", refresh_at=NOW, retries=1))
    released = store.release(table.connection_id, 1, "a1", refresh_at=NOW, retries=1, in_doubt=NOW)
    assert (released.in_doubt, released.attempt, released.sealed) == (NOW, None, Sealed(b"g1 tokens", b"key"))
    store.claim(table.connection_id, attempt("a2"), generation=None, now=NOW)
    assert store.release(table.connection_id, 1, "a2", refresh_at=NOW, retries=2, in_doubt=NOW + 9).in_doubt == NOW
    store.claim(table.connection_id, attempt("a3"), generation=None, now=NOW)
    assert store.release(table.connection_id, 1, "a3", refresh_at=NOW, retries=3).in_doubt == NOW


def test_a_failure_needs_its_attempt_and_keeps_the_tokens(store: ConnectionStore, table: Table) -> None:
    table.grant()
    store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)

    def end(generation: int, attempt_id: str) -> Connection:
        return store.require_reauthorization(table.connection_id, generation, attempt_id, Reason.REJECTED, now=NOW)

    refused(lambda: end(1, "a2"))
    refused(lambda: end(2, "a1"))
    ended = end(1, "a1")
    assert (ended.status, ended.reason, ended.ended_at) == (Status.REAUTHORIZATION_REQUIRED, Reason.REJECTED, NOW)
    assert (ended.generation, ended.sealed, ended.refresh_at) == (1, Sealed(b"g1 tokens", b"key"), None)
    again = refused(lambda: end(1, "a1"))
    assert again is not None
    assert again.reason is Reason.REJECTED


def test_the_due_index_has_what_is_active_and_due(table: Table, store: ConnectionStore) -> None:
    table.grant(at=NOW)
    index = DueIndex(table.client, table.name)

    def due(now: int) -> list[str]:
        found = (d for shard in range(8) for d in index.page(shard, now=now).due)
        return [d.connection_id for d in found if d.connection_id == table.connection_id]

    assert due(NOW + 49) == []
    assert due(NOW + 50) == [table.connection_id]
    store.claim(table.connection_id, attempt("a1", NOW + 50), generation=None, now=NOW + 50)
    assert due(NOW + 50) == [table.connection_id]
    store.require_reauthorization(table.connection_id, 1, "a1", Reason.REJECTED, now=NOW + 50)
    assert due(NOW + 10**6) == []


def test_the_status_index_follows_the_status(table: Table, store: ConnectionStore) -> None:
    table.grant()

    def listed(status: str) -> bool:
        shard = s(f"{status}#{shard_of(table.connection_id)}")
        page = table.client.query(
            TableName=table.name,
            IndexName="status",
            KeyConditionExpression="listed_as = :status",
            ExpressionAttributeValues={":status": shard},
        )
        return key_of(table.connection_id)["pk"] in [item["pk"] for item in page["Items"]]

    assert listed("active")
    store.claim(table.connection_id, attempt("a1"), generation=None, now=NOW)
    store.require_reauthorization(table.connection_id, 1, "a1", Reason.REJECTED, now=NOW)
    assert listed("reauthorization_required")
    assert not listed("active")


def test_numbers_stay_whole(table: Table) -> None:
    table.client.put_item(TableName=table.name, Item=key_of(table.connection_id) | {"count": n(0)})
    answer = table.client.update_item(
        TableName=table.name,
        Key=key_of(table.connection_id),
        UpdateExpression="SET generation = if_not_exists(generation, :zero) + :one",
        ExpressionAttributeValues={":zero": n(0), ":one": n(1)},
        ReturnValues="ALL_NEW",
    )
    assert answer["Attributes"]["generation"] == {"N": "1"}
