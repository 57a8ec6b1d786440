"""Connections in the table: every field comes back, and what a write leaves. The rest: tests/contract."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowaccount_connect.domain.connection import Attempt, Connection, Reason, Sealed, Status
from flowaccount_connect.storage.connections import (
    ConnectionStore,
    due_shard,
    from_item,
    grant_update,
)
from flowaccount_connect.storage.dynamodb import ConditionRefused, StoreUnavailable, call
from flowaccount_connect.storage.stored_tokens import StoredTokens
from tests.support.commits import commit_of
from tests.unit.fakes import CONNECTION, GRANT, NOW
from tests.unit.tables import Fault, Table, client_error

ROTATED = StoredTokens(
    sealed=Sealed(b"ciphertext-2", b"key-2"),
    requested_at=NOW,
    access_expires_at=NOW + 86_400,
    deadline=NOW + 86_400,
    refresh_at=NOW + 21_600,
)
OLDER_GRANT, LATER_GRANT = "0198b5a0-0000", "0198b5a0-9999"
TIMES = st.none() | st.integers(0, 253_402_300_799)
TEXTS = st.text(min_size=1, max_size=20)


@pytest.fixture
def table() -> Table:
    table = Table()
    grant(table, GRANT)
    return table


@pytest.fixture
def store(table: Table) -> ConnectionStore:
    return ConnectionStore(table, "table")


def grant(table: Table, grant_id: str, attempt_id: str = "consent") -> None:
    consent = commit_of(CONNECTION, grant_id, 0, attempt_id, replace(ROTATED, requested_at=NOW - 22_000))
    call(table.update_item, **grant_update("table", consent, now=NOW - 22_000))


def claimed(store: ConnectionStore) -> Connection:
    attempt = Attempt(id="attempt-1", started_at=NOW, lease_until=NOW + 180)
    return store.claim(CONNECTION, attempt, generation=1, now=NOW)


@given(
    st.sampled_from(Status),
    st.sampled_from([None, *Reason]),
    st.tuples(TIMES, TIMES, TIMES, TIMES, TIMES),
    st.tuples(TEXTS, TEXTS, st.none() | TEXTS, st.none() | TEXTS, st.none() | TEXTS),
    st.booleans(),
)
def test_every_field_of_an_item_comes_back(
    status: Status,
    reason: Reason | None,
    times: tuple[int | None, ...],
    texts: tuple[str, str, str | None, str | None, str | None],
    sealed: bool,
) -> None:
    refresh_at, retries, in_doubt, at_risk, ended_at = times
    environment, grant_id, tenant, committed_by, attempt_id = texts
    table = Table()
    table.put(
        "CONNECTION",
        CONNECTION,
        status=status.value,
        reason=reason.value if reason else None,
        environment=environment,
        grant_id=grant_id,
        generation=7,
        connected_at=5,
        tenant=tenant,
        tokens=b"ciphertext" if sealed else None,
        data_key=b"key" if sealed else None,
        requested_at=11,
        access_expires_at=12,
        deadline=13,
        refresh_at=refresh_at,
        retries=retries,
        in_doubt=in_doubt,
        at_risk=at_risk,
        committed_by=committed_by,
        attempt_id=attempt_id,
        attempt_started_at=14 if attempt_id else None,
        lease_until=15 if attempt_id else None,
        ended_at=ended_at,
    )
    assert ConnectionStore(table, "table").get(CONNECTION) == Connection(
        id=CONNECTION,
        status=status,
        environment=environment,
        grant_id=grant_id,
        generation=7,
        connected_at=5,
        tenant=tenant,
        sealed=Sealed(b"ciphertext", b"key") if sealed else None,
        requested_at=11,
        access_expires_at=12,
        deadline=13,
        refresh_at=refresh_at,
        retries=retries,
        in_doubt=in_doubt,
        at_risk=at_risk,
        committed_by=committed_by,
        attempt=Attempt(id=attempt_id, started_at=14, lease_until=15) if attempt_id else None,
        reason=reason,
        ended_at=ended_at,
    )


@pytest.mark.parametrize("half", [{}, {"tokens": {"B": b"x"}}], ids=["no tokens", "tokens without their key"])
def test_an_item_that_says_next_to_nothing_is_unreadable_and_half_a_set_is_none(half: dict[str, Any]) -> None:
    found = from_item({"pk": {"S": "CONNECTION#N1"}} | half)
    assert (found.id, found.status, found.sealed, found.generation) == ("N1", Status.UNREADABLE, None, 0)


def test_a_later_consent_beats_everything_and_an_older_one_finds_the_door_shut(
    table: Table, store: ConnectionStore
) -> None:
    claimed(store)
    grant(table, LATER_GRANT, "later")
    item = table.item("CONNECTION", CONNECTION)
    assert (item["grant_id"], item["generation"], item["committed_by"]) == (LATER_GRANT, 2, "later")
    assert not item.keys() & {"attempt_id", "lease_until", "in_doubt", "retries", "reason"}
    for grant_id in (OLDER_GRANT, LATER_GRANT):
        with pytest.raises(ConditionRefused) as refused:
            grant(table, grant_id, "older")
        assert refused.value.items[0] is not None
    assert table.item("CONNECTION", CONNECTION) == item


def test_a_consent_revives_what_was_disconnected_and_its_generation_never_goes_back(table: Table) -> None:
    table.put("CONNECTION", CONNECTION, status="disconnected", grant_id=GRANT, generation=9, ttl=NOW)
    grant(table, LATER_GRANT)
    item = table.item("CONNECTION", CONNECTION)
    assert (item["status"], item["generation"]) == ("active", 10)
    assert "ttl" not in item


def test_a_commit_wins_over_a_failure_recorded_meanwhile(table: Table, store: ConnectionStore) -> None:
    claimed(store)
    ended = store.require_reauthorization(CONNECTION, 1, "attempt-1", Reason.REJECTED, now=NOW)
    assert ended.attempt is None
    assert "due_shard" not in table.item("CONNECTION", CONNECTION)
    stored = store.commit(commit_of(CONNECTION, GRANT, 1, "another", ROTATED))
    assert (stored.status, stored.reason, stored.ended_at) == (Status.ACTIVE, None, None)
    item = table.item("CONNECTION", CONNECTION)
    assert item["due_shard"] == due_shard(CONNECTION)
    assert item["listed_as"].startswith("active#")


def test_a_lease_holds_until_its_last_second() -> None:
    connection = from_item({"pk": {"S": "CONNECTION#N1"}, "attempt_id": {"S": "a"}, "lease_until": {"N": str(NOW)}})
    assert connection.leased(NOW - 1)
    assert not connection.leased(NOW)


def test_an_error_of_the_table_is_told_by_its_code_alone(table: Table, store: ConnectionStore) -> None:
    table.faults["get_item"] = [Fault(client_error("InternalServerError")), Fault(TimeoutError("CANARY"))]
    for code in ("InternalServerError", "TimeoutError"):
        with pytest.raises(StoreUnavailable, match=f"^{code}$") as caught:
            store.get(CONNECTION)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_a_transaction_that_met_another_is_no_refused_condition(table: Table) -> None:
    reasons = [{"Code": "TransactionConflict"}, {"Code": "None"}]
    table.faults["transact_write_items"] = [
        Fault(client_error("TransactionCanceledException", CancellationReasons=reasons))
    ]
    with pytest.raises(StoreUnavailable, match="TransactionCanceledException"):
        call(table.transact_write_items, TransactItems=[], ClientRequestToken="x")
