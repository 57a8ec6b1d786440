"""Connect attempts, pending commits, and the transaction that ends a connect."""

from typing import Any

import pytest

from flowaccount_connect.domain.connection import Attempt, Reason, Status
from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.rotation.pending_commits import (
    PendingCommit,
    PendingCommits,
    PendingOutcome,
    PendingQueue,
    Target,
)
from flowaccount_connect.storage.attempts import AttemptRefused, AttemptStore, ConnectAttempt
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import ConnectionStore, grant_update
from flowaccount_connect.storage.dynamodb import ConditionRefused, StoreUnavailable, call
from tests.contract.conftest import Table
from tests.contract.test_connection_store import NOW, rotated
from tests.support.commits import commit_of


class Sent:
    """A salvage queue that remembers the last message."""

    body = ""

    def send_message(self, **message: Any) -> None:
        self.body = message["MessageBody"]


def attempt(table: Table) -> ConnectAttempt:
    return ConnectAttempt(
        id=fingerprint(table.connection_id),
        binding=fingerprint("browser"),
        redirect_uri="https://api.example/callback",
        expires_at=NOW + 10,
        return_url="https://app.example/",
        app_state="app",
    )


def granted(table: Table, grant_id: str = "g1", attempt_id: str = "a0") -> dict[str, Any]:
    return grant_update(
        table.name,
        Commit(
            connection_id=table.connection_id,
            grant_id=grant_id,
            attempt_id=attempt_id,
            environment="sandbox",
            tokens=rotated(f"{grant_id} tokens", NOW),
        ),
        now=NOW,
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
    writes = [{"Update": granted(table)}, {"Update": attempts.finishing(made.id, "connected")}]
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
    call(table.client.update_item, **granted(table, "g2"))
    writes = [{"Update": granted(table, "g1")}, {"Update": attempts.finishing(made.id, "connected")}]
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
    token, store = f"3{table.connection_id}", ConnectionStore(table.client, table.name)
    writes = [{"Update": granted(table)}]
    call(table.client.transact_write_items, TransactItems=writes, ClientRequestToken=token)
    call(table.client.update_item, **granted(table, "g2"))
    call(table.client.transact_write_items, TransactItems=writes, ClientRequestToken=token)
    found = store.get(table.connection_id)
    assert found is not None
    assert (found.grant_id, found.generation) == ("g2", 2)
    other = [{"Update": granted(table, "g3")}]
    with pytest.raises(StoreUnavailable, match="IdempotentParameterMismatch"):
        call(table.client.transact_write_items, TransactItems=other, ClientRequestToken=token)


def test_a_pending_refresh_is_applied_once_and_in_any_order(table: Table) -> None:
    queue, salvage = Sent(), PendingCommits(table.client, table.name)
    store = ConnectionStore(table.client, table.name)
    sends = PendingQueue(queue, "queue")
    sends.send(
        PendingCommit(
            target=Target.CONNECTION, commit=commit_of(table.connection_id, "g1", 1, "a1", rotated("first", NOW))
        )
    )
    first = queue.body
    sends.send(
        PendingCommit(
            target=Target.CONNECTION, commit=commit_of(table.connection_id, "g1", 2, "a2", rotated("second", NOW))
        )
    )
    second = queue.body
    # Nothing is there: the table may have been lost, and is waited for as long as the token may be of use.
    with pytest.raises(StoreUnavailable):
        salvage.apply(first, now=NOW)
    assert salvage.apply(first, now=NOW + 2 * 86_400)[0] is PendingOutcome.UNKNOWN
    call(table.client.update_item, **granted(table))
    assert salvage.apply(second, now=NOW)[0] is PendingOutcome.TOO_LATE
    assert salvage.apply(first, now=NOW)[0] is PendingOutcome.APPLIED
    assert salvage.apply(first, now=NOW)[0] is PendingOutcome.APPLIED_BEFORE
    assert salvage.apply(second, now=NOW)[0] is PendingOutcome.APPLIED
    assert salvage.apply(first, now=NOW)[0] is PendingOutcome.TOO_LATE
    found = store.get(table.connection_id)
    assert found is not None
    assert found.sealed is not None
    assert (found.generation, found.sealed.ciphertext) == (3, b"second")


def test_a_pending_consent_is_applied_once_and_never_over_a_later_one(table: Table) -> None:
    queue, salvage = Sent(), PendingCommits(table.client, table.name)
    sends = PendingQueue(queue, "queue")
    sends.send(
        PendingCommit(
            target=Target.CONSENT, commit=commit_of(table.connection_id, "g1", 0, "a1", rotated("first", NOW))
        )
    )
    first = queue.body
    sends.send(
        PendingCommit(
            target=Target.CONSENT, commit=commit_of(table.connection_id, "g2", 0, "a2", rotated("second", NOW))
        )
    )
    assert salvage.apply(first, now=NOW)[0] is PendingOutcome.APPLIED
    assert salvage.apply(first, now=NOW)[0] is PendingOutcome.APPLIED_BEFORE
    assert salvage.apply(queue.body, now=NOW)[0] is PendingOutcome.APPLIED
    assert salvage.apply(first, now=NOW)[0] is PendingOutcome.TOO_LATE


def test_a_pending_set_revives_what_failed_meanwhile(table: Table) -> None:
    queue, store = Sent(), ConnectionStore(table.client, table.name)
    call(table.client.update_item, **granted(table))
    PendingQueue(queue, "queue").send(
        PendingCommit(
            target=Target.CONNECTION, commit=commit_of(table.connection_id, "g1", 1, "a1", rotated("pending", NOW))
        )
    )
    attempt = Attempt(id="a2", started_at=NOW, lease_until=NOW + 180)
    store.claim(table.connection_id, attempt, generation=1, now=NOW)
    store.require_reauthorization(table.connection_id, 1, "a2", Reason.ROTATION_LOST, now=NOW)
    assert PendingCommits(table.client, table.name).apply(queue.body, now=NOW)[0] is PendingOutcome.APPLIED
    found = store.get(table.connection_id)
    assert found is not None
    assert (found.status, found.reason, found.generation) == (Status.ACTIVE, None, 2)
