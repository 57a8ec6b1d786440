"""A refresh token from elsewhere: stored sealed before it is sent, and a connection once a refresh has proved it.

    given ─▶ sealed, beside the connection ─claim─▶ in flight ─POST─▶ tokens ─commit─▶ the connection, the import gone
                                                        │                └─ table unreachable: a pending commit
                                                        ├─ nothing spent, or no usable answer: the schedule goes on
                                                        └─ refused, or of another business: over; the rest as before

An import is an item of its own beside the connection's. To the rotation protocol it is an active connection of
generation 0 that is due at once: what the protocol promises for a connection's token, it promises for this one. So a
worker that is killed between answer and write leaves doubt behind, and no token vanishes silently.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from flowaccount_connect.domain.connection import Connection, Reason, Sealed, Status
from flowaccount_connect.storage.connections import (
    ATTEMPT,
    FREE_OR_SAME,
    HELD,
    IMPORT,
    SCHEDULED,
    ConnectionStore,
    Refused,
    changed,
    disconnect_write,
    due_shard,
    from_item,
    grant_update,
    held,
    in_the_way,
    key_of,
    listed_as,
    tombstone,
    unchanged,
)
from flowaccount_connect.storage.dynamodb import (
    Client,
    ConditionRefused,
    StoreUnavailable,
    attributes,
    call,
    get,
    number,
    put,
    write,
)
from flowaccount_connect.storage.event_items import event_put

if TYPE_CHECKING:
    from flowaccount_connect.storage.commits import Commit

IMPORTING = "importing"
"""What an import under way is listed by, and the status that is shown of it."""

COOLING = 600
"""After a refusal no other token is imported for the same business within so many seconds."""

_REFUSAL_KEPT = 30 * 86_400
"""How long the result of a refused import is kept, in seconds."""


class NotBegun(Exception):
    """An import was not begun: `connection` is active or another tenant's; else `imported` is under way, or has ended
    a moment ago."""

    def __init__(self, connection: Connection | None, imported: Connection | None) -> None:
        super().__init__("something stands in its way")
        self.connection = connection
        self.imported = imported


class ImportStore(ConnectionStore):
    """The imports of one table. `client` is a DynamoDB client.

    Claims and releases are a connection's. A success makes the connection, and nothing else ever touches it.
    """

    sort_key = IMPORT

    def __init__(self, client: Client, table: str, environment: str, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(client, table)
        self._environment = environment
        self._clock = clock

    def begin(
        self, connection_id: str, grant_id: str, sealed: Sealed, *, deadline: int, now: int, tenant: str | None = None
    ) -> None:
        """Store a given token, sealed, for a connection that is not active. Times in epoch seconds.

        With a `tenant` the connection is to become that tenant's. Raises `NotBegun`, and `StoreUnavailable`: then it
        may be stored or not.
        """
        free = "" if tenant is None else f" AND {FREE_OR_SAME}"
        check = write(
            self._table,
            key_of(connection_id),
            condition=f"(attribute_not_exists(pk) OR #status <> :active){free}",
            active=Status.ACTIVE,
            tenant=tenant,
        )
        item = self._key(connection_id) | attributes(
            status=Status.ACTIVE,
            listed_as=listed_as(connection_id, IMPORTING),
            environment=self._environment,
            grant_id=grant_id,
            generation=0,
            connected_at=now,
            tokens=sealed.ciphertext,
            data_key=sealed.data_key,
            deadline=deadline,
            due_shard=due_shard(connection_id),
            refresh_at=now,
            tenant=tenant,
        )
        begun = put(
            self._table,
            item,
            # An end that is no time, or lies ahead, cools nothing down.
            condition="attribute_not_exists(pk) OR "
            "(#status <> :active AND NOT (ended_at > :cooled AND ended_at <= :ahead))",
            active=Status.ACTIVE,
            cooled=now - COOLING,
            ahead=now + COOLING,
        )
        try:
            call(self._client.transact_write_items, TransactItems=[{"ConditionCheck": check}, {"Put": begun}])
        except ConditionRefused as refused:
            raise NotBegun(*(from_item(item) if item is not None else None for item in refused.items)) from None

    def commit(self, commit: "Commit") -> Connection:
        """Make the connection, and end its import, in one transaction: fenced by the order of grants only.

        So a later consent of the user wins, and so does a later disconnect; of two answers to the imported token the
        later one wins. A connection that has become another tenant's stays theirs. Raises `Refused`,
        `StoreUnavailable`.
        """
        update = self._grant(commit)
        later = "grant_id = :grant AND requested_at < :requested_at"
        free = "" if commit.tenant is None else f" AND {FREE_OR_SAME}"
        update["ConditionExpression"] = f"{update['ConditionExpression']} OR ({later}{free})"
        mine = self._of_grant(commit.connection_id, commit.grant_id)
        try:
            self._promote(update, mine)
        except Refused:
            # Nobody needs the import any more; left alone it would spend its token once more.
            with contextlib.suppress(StoreUnavailable, ConditionRefused):
                call(self._client.transact_write_items, TransactItems=[{"Delete": mine}])
            raise
        except _NotMine:
            # Given up meanwhile, or followed by another import: the answer is as good as before.
            changed(self._client, update)
        return self._made(commit)

    def commit_kept(self, commit: "Commit") -> Connection:
        """Make the connection of a success that brought no new refresh token: the given one is kept, with its doubt.

        Fenced by generation and attempt, as for a connection, and by the order of grants. Raises `Refused`,
        `StoreUnavailable`.
        """
        mine = write(
            self._table,
            self._key(commit.connection_id),
            condition=f"grant_id = :grant AND {HELD}",
            grant=commit.grant_id,
            **held(commit.generation, commit.attempt_id),
        )
        try:
            self._promote(self._grant(commit), mine)
        except _NotMine as other:
            raise Refused(other.imported) from None
        return self._made(commit)

    def require_reauthorization(
        self, connection_id: str, generation: int, attempt_id: str, reason: Reason, *, now: int
    ) -> Connection:
        """End the import: announce it by an event, and leave the connection as it is. The given token is dropped.

        Fenced by generation and attempt. Raises `Refused`, `StoreUnavailable`.
        """
        update = write(
            self._table,
            self._key(connection_id),
            "SET #status = :over, reason = :reason, ended_at = :now, #ttl = :ttl "
            f"REMOVE {ATTEMPT}, {SCHEDULED}, listed_as, retries, at_risk, tokens, data_key",
            condition=HELD,
            over=Status.REAUTHORIZATION_REQUIRED,
            reason=reason,
            now=now,
            ttl=now + _REFUSAL_KEPT,
            **held(generation, attempt_id),
        )
        announced = event_put(
            self._table,
            "connection.import_refused",
            connection_id=connection_id,
            reason=reason.value,
            clock=self._clock,
        )
        try:
            call(self._client.transact_write_items, TransactItems=[{"Update": update}, {"Put": announced}])
        except ConditionRefused as refused:
            raise Refused(in_the_way(refused)) from None
        return replace(
            _blank(connection_id, self._environment),
            status=Status.REAUTHORIZATION_REQUIRED,
            generation=generation,
            reason=reason,
            ended_at=now,
        )

    def cancel(self, imported: Connection, connection: Connection | None, *, now: float) -> None:
        """End an import, and the `connection` beside it if there is one: a tombstone stands in the way of its answer.

        Raises `Refused` where either is another by now, and `StoreUnavailable`.
        """
        ended = disconnect_write(
            self._table,
            imported.id,
            seen=connection.grant_id if connection is not None else None,
            environment=self._environment,
            imported=imported.grant_id,
            now=now,
        )
        try:
            self._promote(ended, self._of_grant(imported.id, imported.grant_id))
        except _NotMine:
            raise Refused(None) from None

    def clear(self, connection_id: str, *, now: float) -> None:
        """End a connection and its import, whatever lies in the two items: what cannot be understood can be ended.

        A tombstone replaces the connection, and the import is deleted. No sum can be made with a generation that is no
        number: the tombstone's is then the time, which is greater than any count. Raises `Refused` where one of the
        items changes meanwhile, and `StoreUnavailable`.
        """
        keys = [key_of(connection_id, sort_key) for sort_key in (ConnectionStore.sort_key, self.sort_key)]
        there, imported = (get(self._client, self._table, key) for key in keys)
        found = from_item(there) if there is not None else _blank(connection_id, self._environment)
        generation = found.generation + 1 if there is None or number(there, "generation") is not None else int(now)
        left = tombstone(replace(found, id=connection_id), generation=generation, now=now)
        writes: list[dict[str, object]] = [{"Put": {"TableName": self._table, "Item": left, **unchanged(there)}}]
        if imported is not None:
            writes.append({"Delete": {"TableName": self._table, "Key": keys[1], **unchanged(imported)}})
        try:
            call(self._client.transact_write_items, TransactItems=writes)
        except ConditionRefused as refused:
            raise Refused(in_the_way(refused)) from None

    def _grant(self, commit: "Commit") -> dict[str, object]:
        return grant_update(self._table, replace(commit, environment=self._environment), now=int(self._clock()))

    def _of_grant(self, connection_id: str, grant_id: str) -> dict[str, object]:
        """The deletion of an import, if it is still the one of this grant."""
        return write(self._table, self._key(connection_id), condition="grant_id = :grant", grant=grant_id)

    def _promote(self, update: Mapping[str, object], delete: Mapping[str, object]) -> None:
        """Write the connection and delete the import, or neither."""
        try:
            call(self._client.transact_write_items, TransactItems=[{"Update": update}, {"Delete": delete}])
        except ConditionRefused as refused:
            current, imported = (from_item(item) if item else None for item in refused.items)
            if current is None:
                raise _NotMine(imported) from None
            raise Refused(current) from None

    def _made(self, commit: "Commit") -> Connection:
        """What is known of the new connection without reading it; its generation goes on from a former life's."""
        return replace(
            _blank(commit.connection_id, self._environment),
            status=Status.ACTIVE,
            grant_id=commit.grant_id,
            generation=commit.generation + 1,
            deadline=commit.tokens.deadline,
            committed_by=commit.attempt_id,
            in_doubt=commit.in_doubt,
        )


class _NotMine(Exception):
    """The import is over, or is another one by now: `imported`."""

    def __init__(self, imported: Connection | None) -> None:
        super().__init__("not this import")
        self.imported = imported


def _blank(connection_id: str, environment: str) -> Connection:
    return Connection(
        id=connection_id, status=Status.ACTIVE, environment=environment, grant_id="", generation=0, connected_at=0
    )
