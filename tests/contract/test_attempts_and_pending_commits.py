"""Connect attempts, pending commits, and the transaction that ends a connect."""

import pytest

from flowaccount_connect.domain.connection import Reason, Status
from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.rotation.pending_commits import (
    PendingCommit,
    PendingCommits,
    PendingOutcome,
    Target,
)
from flowaccount_connect.storage.attempts import AttemptRefused, AttemptStore, ConnectAttempt
from flowaccount_connect.storage.connections import ConnectionStore
from flowaccount_connect.storage.dynamodb import ConditionRefused, StoreUnavailable, call
from tests.contract.conftest import NOW, Table
from tests.contract.conftest import attempt as refreshing


def attempt(table: Table) -> ConnectAttempt:
    return ConnectAttempt(
        id=fingerprint(table.connection_id),
        binding=fingerprint("browser"),
        redirect_uri="https://api.example/callback",
        expires_at=NOW + 10,
        return_url="https://app.example/",
        app_state="app",
    )


def test_an_attempt_is_consumed_once_in_time_and_by_its_browser(table: Table) -> None:
    attempts, made = AttemptStore(table.client, table.name, "sandbox"), attempt(table)
    attempts.create(made)
    assert attempts.get(made.id) == made
    for secret, now in (("another", NOW), ("browser", NOW + 10)):
        with pytest.raises(AttemptRefused) as caught:
            attempts.consume(made.id, secret=secret, callback_id="a1", now=now)
        assert caught.value.attempt == made
    for _ in range(2):  # A retry of the SDK recognises its own write.
        assert attempts.consume(made.id, secret="browser", callback_id="a1", now=NOW + 9).consumed_by == "a1"
    with pytest.raises(AttemptRefused):
        attempts.consume(made.id, secret="browser", callback_id="a2", now=NOW)
    with pytest.raises(AttemptRefused) as caught:
        attempts.consume("unknown", secret="browser", callback_id="a2", now=NOW)
    assert caught.value.attempt is None


def test_an_attempt_that_is_gone_is_not_finished(table: Table) -> None:
    attempts, made = AttemptStore(table.client, table.name, "sandbox"), attempt(table)
    with pytest.raises(ConditionRefused):
        attempts.finish(made.id, "connected")
    attempts.create(made)
    attempts.finish(made.id, "connected")
    found = attempts.get(made.id)
    assert found is not None
    assert found.result == "connected"


def test_the_transaction_writes_both_or_none(table: Table) -> None:
    attempts, made = AttemptStore(table.client, table.name, "sandbox"), attempt(table)
    store = ConnectionStore(table.client, table.name)
    writes = [{"Update": table.granting()}, {"Update": attempts.finishing(made.id, "connected")}]
    with pytest.raises(ConditionRefused) as caught:
        call(table.client.transact_write_items, TransactItems=writes, ClientRequestToken=f"1{table.connection_id}")
    assert caught.value.items == [None, None]
    assert store.get(table.connection_id) is None
    attempts.create(made)
    call(table.client.transact_write_items, TransactItems=writes, ClientRequestToken=f"2{table.connection_id}")
    found, finished = store.get(table.connection_id), attempts.get(made.id)
    assert found is not None
    assert finished is not None
    assert (found.generation, finished.result) == (1, "connected")


def test_a_refused_transaction_shows_what_stood_in_its_way(table: Table) -> None:
    attempts, made = AttemptStore(table.client, table.name, "sandbox"), attempt(table)
    attempts.create(made)
    table.grant("g2", NOW)
    writes = [{"Update": table.granting("g1")}, {"Update": attempts.finishing(made.id, "connected")}]
    with pytest.raises(ConditionRefused) as caught:
        call(table.client.transact_write_items, TransactItems=writes)
    there, other = caught.value.items
    assert there is not None
    assert there["grant_id"] == {"S": "g2"}
    assert other is None
    finished = attempts.get(made.id)
    assert finished is not None
    assert finished.result is None


def test_a_repeated_transaction_succeeds_and_writes_nothing(table: Table) -> None:
    token, writes = f"3{table.connection_id}", [{"Update": table.granting()}]
    call(table.client.transact_write_items, TransactItems=writes, ClientRequestToken=token)
    table.grant("g2", NOW)
    call(table.client.transact_write_items, TransactItems=writes, ClientRequestToken=token)
    found = table.connection()
    assert (found.grant_id, found.generation) == ("g2", 2)
    other = [{"Update": table.granting("g3")}]
    with pytest.raises(StoreUnavailable, match="IdempotentParameterMismatch"):
        call(table.client.transact_write_items, TransactItems=other, ClientRequestToken=token)


def test_a_pending_refresh_is_applied_once_and_in_any_order(table: Table) -> None:
    salvage = PendingCommits(table.client, table.name)
    first = PendingCommit(target=Target.CONNECTION, commit=table.commit("g1", 1, "a1", "first")).to_json()
    second = PendingCommit(target=Target.CONNECTION, commit=table.commit("g1", 2, "a2", "second")).to_json()
    # Nothing is there: the table may have been lost, and is waited for as long as the token may be of use.
    with pytest.raises(StoreUnavailable):
        salvage.apply(first, now=NOW)
    assert salvage.apply(first, now=NOW + 2 * 86_400)[0] is PendingOutcome.UNKNOWN
    table.grant(at=NOW)
    assert salvage.apply(second, now=NOW)[0] is PendingOutcome.TOO_LATE
    assert salvage.apply(first, now=NOW)[0] is PendingOutcome.APPLIED
    assert salvage.apply(first, now=NOW)[0] is PendingOutcome.APPLIED_BEFORE
    assert salvage.apply(second, now=NOW)[0] is PendingOutcome.APPLIED
    assert salvage.apply(first, now=NOW)[0] is PendingOutcome.TOO_LATE
    found = table.connection()
    assert found.sealed is not None
    assert (found.generation, found.sealed.ciphertext) == (3, b"second")


def test_a_pending_consent_is_applied_once_and_never_over_a_later_one(table: Table) -> None:
    salvage = PendingCommits(table.client, table.name)
    first = PendingCommit(target=Target.CONSENT, commit=table.commit("g1", 0, "a1", "first")).to_json()
    second = PendingCommit(target=Target.CONSENT, commit=table.commit("g2", 0, "a2", "second")).to_json()
    assert salvage.apply(first, now=NOW)[0] is PendingOutcome.APPLIED
    assert salvage.apply(first, now=NOW)[0] is PendingOutcome.APPLIED_BEFORE
    assert salvage.apply(second, now=NOW)[0] is PendingOutcome.APPLIED
    assert salvage.apply(first, now=NOW)[0] is PendingOutcome.TOO_LATE


def test_a_pending_set_revives_what_failed_meanwhile(table: Table, store: ConnectionStore) -> None:
    table.grant(at=NOW)
    pending = PendingCommit(target=Target.CONNECTION, commit=table.commit("g1", 1, "a1", "pending")).to_json()
    store.claim(table.connection_id, refreshing("a2"), generation=1, now=NOW)
    store.require_reauthorization(table.connection_id, 1, "a2", Reason.ROTATION_LOST, now=NOW)
    assert PendingCommits(table.client, table.name).apply(pending, now=NOW)[0] is PendingOutcome.APPLIED
    found = table.connection()
    assert (found.status, found.reason, found.generation) == (Status.ACTIVE, None, 2)
