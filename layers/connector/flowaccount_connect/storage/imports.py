"""A refresh token from elsewhere: stored sealed before it is sent, and a connection once a refresh has proved it.

    given ─▶ sealed, beside the connection ─claim─▶ in flight ─POST─▶ tokens ─commit─▶ the connection, the import gone
                                                        │                └─ table unreachable: the salvage queue
                                                        ├─ nothing spent, or no usable answer: the schedule goes on
                                                        └─ refused, or of another business: over; the rest as before

An import is an item of its own beside the connection's. To the rotation protocol it is an active connection of
generation 0 that is due at once: what the protocol promises for a connection's token, it promises for this one.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from flowaccount_connect.domain.connection import Connection, Reason, Sealed, Status
from flowaccount_connect.storage.connections import (
    ATTEMPT,
    SCHEDULED,
    ConnectionStore,
    Refused,
    Rotated,
    burial,
    due_shard,
    grant_update,
    key_of,
    listed_as,
    quarantined,
    stands_there,
)
from flowaccount_connect.storage.dynamodb import (
    AttributeValue,
    Client,
    ConditionRefused,
    StoreUnavailable,
    b,
    call,
    n,
    s,
)
from flowaccount_connect.storage.event_items import event_put

IMPORTING = "importing"
"""What an import under way is listed by, and the status that is shown of it."""

_REFUSAL_KEPT = 30 * 86_400
"""How long it is kept what became of a refused import, with what is in quarantine. Seconds."""


class AlreadyConnected(Exception):
    """The connection is active."""


class UnderWay(Exception):
    """Another import of the same connection has not ended yet."""


class ImportStore(ConnectionStore):
    """The imports of one table. `client` is a DynamoDB client.

    Claims and releases are a connection's. A success makes the connection, and nothing else ever touches it.
    """

    sort_key = "IMPORT"

    def __init__(self, client: Client, table: str, environment: str, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(client, table)
        self._environment = environment
        self._clock = clock

    def begin(self, connection_id: str, grant_id: str, sealed: Sealed, *, deadline: int, now: int) -> None:
        """Store a given token, sealed, for a connection that is not active. Times in epoch seconds.

        Raises `AlreadyConnected`, `UnderWay`, and `StoreUnavailable`: then it may be stored or not.
        """
        idle = {
            "ConditionExpression": "attribute_not_exists(pk) OR #status <> :active",
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": {":active": s(Status.ACTIVE)},
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        item: dict[str, AttributeValue] = {
            **self._key(connection_id),
            "status": s(Status.ACTIVE),
            "listed_as": s(listed_as(connection_id, IMPORTING)),
            "environment": s(self._environment),
            "grant_id": s(grant_id),
            "generation": n(0),
            "connected_at": n(now),
            "tokens": b(sealed.ciphertext),
            "data_key": b(sealed.data_key),
            "deadline": n(deadline),
            "due_shard": s(due_shard(connection_id)),
            "refresh_at": n(now),
        }
        try:
            call(
                self._client.transact_write_items,
                TransactItems=[
                    {"ConditionCheck": {"TableName": self._table, "Key": key_of(connection_id), **idle}},
                    {"Put": {"TableName": self._table, "Item": item, **idle}},
                ],
            )
        except ConditionRefused as refused:
            raise (AlreadyConnected if refused.items[0] is not None else UnderWay) from None

    def commit(
        self, connection_id: str, grant_id: str, generation: int, attempt_id: str, rotated: Rotated
    ) -> Connection:
        """Make the connection, and end its import, in one transaction: fenced by the order of grants only.

        So a later consent of the user wins, and a disconnect that ended this import; and of two answers to the
        imported token the later one wins. Raises `Refused`, `StoreUnavailable`.
        """
        update = self._grant(connection_id, grant_id, attempt_id, rotated)
        update["ConditionExpression"] = (
            f"{update['ConditionExpression']} OR (grant_id = :grant AND requested_at < :requested_at)"
        )
        mine = _of_grant(grant_id)
        try:
            self._promote(update, connection_id, mine)
        except Refused:
            # Nobody needs the import any more; left alone it would spend its token once more.
            with contextlib.suppress(StoreUnavailable, ConditionRefused):
                delete = {"TableName": self._table, "Key": self._key(connection_id), **mine}
                call(self._client.transact_write_items, TransactItems=[{"Delete": delete}])
            raise
        except _NotMine:
            # Given up meanwhile, or followed by another import: the answer is as good as before.
            try:
                call(self._client.update_item, **update)
            except ConditionRefused as refused:
                raise Refused(stands_there(refused)) from None
        return self._made(connection_id, grant_id, generation, attempt_id, rotated)

    def commit_kept(self, connection_id: str, generation: int, attempt_id: str, rotated: Rotated) -> Connection:
        """Make the connection of a success that brought no new refresh token: the given one is kept.

        Fenced by generation and attempt, as for a connection, and by the order of grants. Raises `Refused`,
        `StoreUnavailable`.
        """
        claimed = self.get(connection_id)
        if claimed is None:
            raise Refused(None)
        update = self._grant(connection_id, claimed.grant_id, attempt_id, rotated)
        condition: dict[str, object] = {
            "ConditionExpression": "grant_id = :grant AND #status = :active AND generation = :generation "
            "AND attempt_id = :attempt",
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": {
                ":active": s(Status.ACTIVE),
                ":grant": s(claimed.grant_id),
                ":generation": n(generation),
                ":attempt": s(attempt_id),
            },
        }
        try:
            self._promote(update, connection_id, condition)
        except _NotMine:
            raise Refused(claimed) from None
        return self._made(connection_id, claimed.grant_id, generation, attempt_id, rotated)

    def require_reauthorization(
        self,
        connection_id: str,
        generation: int,
        attempt_id: str,
        reason: Reason,
        *,
        now: int,
        quarantine: Sealed | None = None,
    ) -> Connection:
        """End the import: say so by an event, and leave the connection as it is. The given token is dropped.

        Fenced by generation and attempt. Raises `Refused`, `StoreUnavailable`.
        """
        values = {
            ":over": s(Status.REAUTHORIZATION_REQUIRED),
            ":reason": s(reason),
            ":now": n(now),
            ":ttl": n(now + _REFUSAL_KEPT),
            ":active": s(Status.ACTIVE),
            ":generation": n(generation),
            ":attempt": s(attempt_id),
        }
        kept, sealed = quarantined(quarantine)
        update = {
            "TableName": self._table,
            "Key": self._key(connection_id),
            "UpdateExpression": f"SET #status = :over, reason = :reason, ended_at = :now, #ttl = :ttl{kept} "
            f"REMOVE {ATTEMPT}, {SCHEDULED}, listed_as, retries, at_risk, tokens, data_key",
            "ConditionExpression": "#status = :active AND generation = :generation AND attempt_id = :attempt",
            "ExpressionAttributeNames": {"#status": "status", "#ttl": "ttl"},
            "ExpressionAttributeValues": values | sealed,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        told = event_put(
            self._table,
            "connection.import_refused",
            connection_id=connection_id,
            reason=reason.value,
            clock=self._clock,
        )
        try:
            call(self._client.transact_write_items, TransactItems=[{"Update": update}, {"Put": told}])
        except ConditionRefused as refused:
            raise Refused(stands_there(refused)) from None
        return replace(
            _blank(connection_id, self._environment),
            status=Status.REAUTHORIZATION_REQUIRED,
            generation=generation,
            reason=reason,
            ended_at=now,
        )

    def cancel(self, imported: Connection, connection: Connection | None, *, now: int) -> None:
        """End an import, and the `connection` beside it if there is one: a tombstone stands in the way of its answer.

        Raises `Refused` where either is another by now, and `StoreUnavailable`.
        """
        bury = burial(
            self._table,
            imported.id,
            seen=connection.grant_id if connection is not None else None,
            # Of the two the later one: neither comes back.
            grant_id=max(imported.grant_id, connection.grant_id if connection is not None else ""),
            environment=self._environment,
            now=now,
        )
        try:
            self._promote(bury, imported.id, _of_grant(imported.grant_id))
        except _NotMine:
            raise Refused(None) from None

    def _grant(self, connection_id: str, grant_id: str, attempt_id: str, rotated: Rotated) -> dict[str, object]:
        return grant_update(
            self._table,
            connection_id,
            grant_id=grant_id,
            attempt_id=attempt_id,
            environment=self._environment,
            rotated=rotated,
            now=int(self._clock()),
        )

    def _promote(self, update: Mapping[str, object], connection_id: str, condition: Mapping[str, object]) -> None:
        """Write the connection and delete the import, or neither."""
        delete = {"TableName": self._table, "Key": self._key(connection_id), **condition}
        try:
            call(self._client.transact_write_items, TransactItems=[{"Update": update}, {"Delete": delete}])
        except ConditionRefused as refused:
            there = stands_there(refused)
            if there is None:
                raise _NotMine from None
            raise Refused(there) from None

    def _made(
        self, connection_id: str, grant_id: str, generation: int, attempt_id: str, rotated: Rotated
    ) -> Connection:
        """What is known of the new connection without reading it; its generation goes on from a former life's."""
        return replace(
            _blank(connection_id, self._environment),
            status=Status.ACTIVE,
            grant_id=grant_id,
            generation=generation + 1,
            deadline=rotated.deadline,
            committed_by=attempt_id,
        )


class _NotMine(Exception):
    """The import is over, or is another one by now."""


def _of_grant(grant_id: str) -> dict[str, object]:
    """The condition that an import is still this one."""
    return {"ConditionExpression": "grant_id = :grant", "ExpressionAttributeValues": {":grant": s(grant_id)}}


def _blank(connection_id: str, environment: str) -> Connection:
    return Connection(
        id=connection_id, status=Status.ACTIVE, environment=environment, grant_id="", generation=0, connected_at=0
    )
