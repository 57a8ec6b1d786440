"""Connections in the table: every change is one conditional write, fenced by grant, generation and attempt.

A refused write returns the item that stood in its way, so nothing is read twice. What each condition protects is told
in `rotation`, which is where they are used.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flowaccount_connect.domain.connection import Attempt, Connection, Reason, Sealed, Status
from flowaccount_connect.domain.schedule import shard_of
from flowaccount_connect.storage.dynamodb import (
    AttributeValue,
    Client,
    ConditionRefused,
    Item,
    StoreUnavailable,
    b,
    binary,
    call,
    n,
    number,
    s,
    text,
)

__all__ = ["ConnectionStore", "Refused", "Rotated", "StoreUnavailable"]

ATTEMPT = "attempt_id, attempt_started_at, lease_until"
"""What an item holds while a refresh runs."""

SCHEDULED = "due_shard, refresh_at"
"""What keeps an item in the due index."""

RESTORED = "restored_from"
"""Of what came from a backup: its generation there, until its tokens are known to be new."""

LEAP = 1_000
"""By how much its generation moves on at least."""

TOMBSTONE_KEPT = 30 * 86_400
"""How long the tombstone of a disconnect is kept, in seconds: longer than anything late can be."""


class Refused(Exception):
    """A condition did not hold. `connection` is what is stored instead; `None` where there is no connection."""

    def __init__(self, connection: Connection | None) -> None:
        super().__init__("the condition was refused")
        self.connection = connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """A new token set, ready to be stored: sealed, with every time that goes with it. Epoch seconds."""

    sealed: Sealed
    requested_at: int
    access_expires_at: int
    deadline: int
    refresh_at: int


class ConnectionStore:
    """The connections of one table. `client` is a DynamoDB client."""

    sort_key = "CONNECTION"

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def get(self, connection_id: str) -> Connection | None:
        """The connection as it is now (strongly consistent), or `None`. Raises `StoreUnavailable`."""
        answer = call(self._client.get_item, TableName=self._table, Key=self._key(connection_id), ConsistentRead=True)
        item = answer.get("Item")
        return from_item(item) if item else None

    def claim(self, connection_id: str, attempt: Attempt, *, generation: int | None, now: int) -> Connection:
        """Claim a connection that nobody holds, and return it.

        It must be active and due; or, on demand, still of the `generation` that the caller saw, unless a failed
        attempt waits for its `refresh_at`. Raises `Refused`, `StoreUnavailable`.
        """
        values = {":now": n(now)}
        wanted = "refresh_at <= :now"
        if generation is not None:
            wanted = "generation = :generation AND (attribute_not_exists(retries) OR refresh_at <= :now)"
            values[":generation"] = n(generation)
        return self._update(
            connection_id,
            update="SET attempt_id = :attempt, attempt_started_at = :started, lease_until = :lease",
            condition=f"#status = :active AND attribute_not_exists(attempt_id) AND {wanted}",
            values=values | _attempt_values(attempt) | {":active": s(Status.ACTIVE)},
        )

    def claim_over(
        self, connection_id: str, attempt: Attempt, *, dead: Attempt, generation: int, now: int
    ) -> Connection:
        """Claim over an attempt whose lease ran out, and record the doubt that it leaves behind.

        Its worker may have been killed after its POST, so nobody knows whether the token was spent; only this write
        can know it. Raises `Refused`, `StoreUnavailable`.
        """
        return self._update(
            connection_id,
            update="SET attempt_id = :attempt, attempt_started_at = :started, lease_until = :lease, "
            "in_doubt = if_not_exists(in_doubt, :dead_since)",
            condition="#status = :active AND generation = :generation AND attempt_id = :dead AND lease_until <= :now",
            values=_attempt_values(attempt)
            | {
                ":active": s(Status.ACTIVE),
                ":generation": n(generation),
                ":dead": s(dead.id),
                ":dead_since": n(dead.started_at),
                ":now": n(now),
            },
        )

    def commit(
        self, connection_id: str, grant_id: str, generation: int, attempt_id: str, rotated: Rotated
    ) -> Connection:
        """Store a rotation of `generation`: fenced by grant and generation only.

        A success wins over an expired lease, over another attempt, and over a failure recorded meanwhile. Of two
        answers to the same token the later one wins, in whatever order they get here: on some servers it is the only
        one that works. What came from a backup is older than any answer to a later request, of whatever generation.
        Tokens, expiries and generation change together. Raises `Refused`, `StoreUnavailable`.
        """
        return self._update(
            connection_id,
            update=f"{_SET_TOKENS}, #status = :active, listed_as = :listed, generation = generation + :one "
            f"REMOVE {ATTEMPT}, {RESTORED}, in_doubt, at_risk, retries, reason, ended_at, quarantine, quarantine_key",
            condition="grant_id = :grant AND (generation = :generation "
            f"OR ((generation = :next OR {RESTORED} <= :generation) AND requested_at < :requested_at))",
            values=_token_values(connection_id, attempt_id, rotated)
            | {
                ":active": s(Status.ACTIVE),
                ":listed": s(listed_as(connection_id, Status.ACTIVE)),
                ":grant": s(grant_id),
                ":generation": n(generation),
                ":next": n(generation + 1),
                ":one": n(1),
            },
        )

    def commit_kept(self, connection_id: str, generation: int, attempt_id: str, rotated: Rotated) -> Connection:
        """Store a success that brought no new refresh token, so that the old one is kept.

        It proves nothing about another attempt's rotation, so it is fenced by generation and attempt, and leaves the
        doubt as it is. Raises `Refused`, `StoreUnavailable`.
        """
        return self._update(
            connection_id,
            update=f"{_SET_TOKENS}, generation = :next REMOVE {ATTEMPT}, at_risk, retries",
            condition="#status = :active AND generation = :generation AND attempt_id = :attempt",
            values=_token_values(connection_id, attempt_id, rotated)
            | {
                ":active": s(Status.ACTIVE),
                ":generation": n(generation),
                ":next": n(generation + 1),
            },
        )

    def release(
        self,
        connection_id: str,
        generation: int,
        attempt_id: str,
        *,
        refresh_at: int,
        retries: int,
        in_doubt: int | None = None,
    ) -> Connection:
        """Give a claim back unspent, or in doubt since `in_doubt`; a doubt that is there already stays.

        Fenced by generation and attempt, and never touches tokens. Raises `Refused`, `StoreUnavailable`.
        """
        doubt = ", in_doubt = if_not_exists(in_doubt, :doubt)" if in_doubt is not None else ""
        values: dict[str, AttributeValue] = {":refresh_at": n(refresh_at), ":retries": n(retries)}
        if in_doubt is not None:
            values[":doubt"] = n(in_doubt)
        return self._update(
            connection_id,
            update=f"SET refresh_at = :refresh_at, retries = :retries{doubt} REMOVE {ATTEMPT}",
            condition="#status = :active AND generation = :generation AND attempt_id = :attempt",
            values=values | {":active": s(Status.ACTIVE), ":generation": n(generation), ":attempt": s(attempt_id)},
        )

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
        """Record that only a new consent helps, and leave the due index; the tokens stay as they are.

        Fenced by generation and attempt: a refused one decides nothing. `quarantine` is a sealed set that belongs to
        another business. Raises `Refused`, `StoreUnavailable`.
        """
        values = {
            ":dead": s(Status.REAUTHORIZATION_REQUIRED),
            ":listed": s(listed_as(connection_id, Status.REAUTHORIZATION_REQUIRED)),
            ":reason": s(reason),
            ":now": n(now),
            ":active": s(Status.ACTIVE),
            ":generation": n(generation),
            ":attempt": s(attempt_id),
        }
        kept, sealed = quarantined(quarantine)
        return self._update(
            connection_id,
            update=f"SET #status = :dead, listed_as = :listed, reason = :reason, ended_at = :now{kept} "
            f"REMOVE {ATTEMPT}, {SCHEDULED}, retries, at_risk",
            condition="#status = :active AND generation = :generation AND attempt_id = :attempt",
            values=values | sealed,
        )

    def mark_at_risk(self, connection_id: str, *, generation: int, deadline: int, now: int) -> bool:
        """Mark an active connection whose deadline comes close, once, and whether that was done.

        Not where it is marked already, or has been refreshed since. Touches no key of an index. Raises
        `StoreUnavailable`.
        """
        try:
            self._update(
                connection_id,
                update="SET at_risk = :now",
                condition="#status = :active AND generation = :generation AND deadline = :deadline "
                "AND attribute_not_exists(at_risk)",
                values={
                    ":now": n(now),
                    ":active": s(Status.ACTIVE),
                    ":generation": n(generation),
                    ":deadline": n(deadline),
                },
            )
        except Refused:
            return False
        return True

    def disconnect(self, connection_id: str, grant_id: str, *, now: int) -> Connection:
        """End the consent `grant_id`: its tokens are gone, and a tombstone stands in the way of whatever comes late.

        Refused where a later consent is stored: that one nobody asked to end. Raises `Refused`, `StoreUnavailable`.
        """
        return self._update(
            connection_id,
            update=_BURY,
            condition="grant_id = :grant AND #status <> :disconnected",
            values=_tombstone_values(connection_id, now) | {":grant": s(grant_id)},
            names=_BURIED,
        )

    def _key(self, connection_id: str) -> dict[str, AttributeValue]:
        return key_of(connection_id, self.sort_key)

    def _update(
        self,
        connection_id: str,
        *,
        update: str,
        condition: str,
        values: Mapping[str, AttributeValue],
        names: Mapping[str, str] | None = None,
    ) -> Connection:
        try:
            answer = call(
                self._client.update_item,
                TableName=self._table,
                Key=self._key(connection_id),
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeNames={"#status": "status", **(names or {})},
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionRefused as refused:
            raise Refused(stands_there(refused)) from None
        return from_item(answer["Attributes"])


def quarantined(sealed: Sealed | None) -> tuple[str, dict[str, AttributeValue]]:
    """What keeps a set of another business in an update, if there is one: the end of its SET, and the values."""
    if sealed is None:
        return "", {}
    return ", quarantine = :quarantine, quarantine_key = :quarantine_key", {
        ":quarantine": b(sealed.ciphertext),
        ":quarantine_key": b(sealed.data_key),
    }


_SET_TOKENS = (
    "SET tokens = :tokens, data_key = :data_key, requested_at = :requested_at, "
    "access_expires_at = :access_expires_at, deadline = :deadline, refresh_at = :refresh_at, "
    "due_shard = :due_shard, committed_by = :attempt"
)

FREE_OR_SAME = "(attribute_not_exists(#tenant) OR #tenant = :tenant)"
"""That a connection belongs to no tenant of the host's, or to this one."""


_BURY = (
    "SET #status = :disconnected, listed_as = :listed, ended_at = :now, "
    "generation = if_not_exists(generation, :zero) + :one, #ttl = :ttl "
    f"REMOVE tokens, data_key, {ATTEMPT}, {SCHEDULED}, {RESTORED}, in_doubt, at_risk, retries, reason, requested_at, "
    "access_expires_at, deadline, committed_by, quarantine, quarantine_key, #tenant"
)
"""Leaves of a connection what says that it ended, and since when; no tokens, and nothing of the host's."""

_IN_A_TOMBSTONE = ("grant_id", "generation", "environment", "connected_at")

_BURIED = {"#ttl": "ttl", "#tenant": "tenant"}


def burial(
    table: str, connection_id: str, *, seen: str | None, grant_id: str, environment: str, now: int
) -> dict[str, object]:
    """The conditional write that ends whatever is there, up to and including the consent `grant_id`.

    `seen` is the consent that is stored, `None` where none is; refused where another is. To be sent in a transaction.
    """
    values = _tombstone_values(connection_id, now) | {":grant": s(grant_id), ":environment": s(environment)}
    update = _BURY.replace("SET ", "SET grant_id = :grant, environment = :environment, ", 1)
    condition = "attribute_not_exists(grant_id)"
    if seen is not None:
        condition, values = "grant_id = :seen", values | {":seen": s(seen)}
    return {
        "TableName": table,
        "Key": key_of(connection_id),
        "UpdateExpression": update,
        "ConditionExpression": condition,
        "ExpressionAttributeNames": {"#status": "status", **_BURIED},
        "ExpressionAttributeValues": values,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def grant_update(
    table: str,
    connection_id: str,
    *,
    grant_id: str,
    attempt_id: str,
    environment: str,
    rotated: Rotated,
    now: int,
    tenant: str | None = None,
) -> dict[str, object]:
    """The conditional write that a new consent is: connects, or reconnects and revives.

    Refused where a later consent has been stored already, and by its own retry. It beats every refresh in flight,
    since the generation moves on and attempt, lease and doubt go. With a `tenant` the business becomes the host's
    tenant of that name, and is refused where it is another's; without one it stays whose it is. A tombstone has none.
    To be sent alone or in a transaction.
    """
    belonging, free = "", ""
    whose: dict[str, AttributeValue] = {}
    if tenant is not None:
        belonging, free = ", #tenant = :tenant", f" AND {FREE_OR_SAME}"
        whose = {":tenant": s(tenant)}
    return {
        "TableName": table,
        "Key": key_of(connection_id),
        "UpdateExpression": f"{_SET_TOKENS}, #status = :active, listed_as = :listed, grant_id = :grant, "
        f"connected_at = :now, environment = :environment{belonging}, "
        "generation = if_not_exists(generation, :zero) + :one "
        f"REMOVE {ATTEMPT}, {RESTORED}, in_doubt, at_risk, retries, reason, ended_at, quarantine, quarantine_key, #ttl",
        "ConditionExpression": f"(attribute_not_exists(grant_id) OR grant_id < :grant){free}",
        "ExpressionAttributeNames": {"#status": "status", "#ttl": "ttl"}
        | ({"#tenant": "tenant"} if tenant is not None else {}),
        "ExpressionAttributeValues": _token_values(connection_id, attempt_id, rotated)
        | whose
        | {
            ":active": s(Status.ACTIVE),
            ":listed": s(listed_as(connection_id, Status.ACTIVE)),
            ":grant": s(grant_id),
            ":environment": s(environment),
            ":now": n(now),
            ":zero": n(0),
            ":one": n(1),
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def restored(item: Item, *, restored_to: int, now: int, disconnected: bool = False) -> Item:
    """What to store of a connection's item in a backup of `restored_to`. Times in epoch seconds.

    Its token may have been spent since, so an active connection is in doubt, and due at once: the protocol finds out.
    An attempt stays, and the next claim waits for its lease: its worker may still be sending. The generation moves on
    by `LEAP` and one a second, more than it can have since: no caller and no reader of events sees it go back.
    What was `disconnected` since becomes a tombstone.
    """
    there = from_item(item)
    generation = there.generation + max(now - restored_to, 0) + LEAP
    # A set from before an earlier restore is as new as ever; the generations since then count for nothing more.
    first = there.generation if there.restored_from is None else there.restored_from
    kept = dict(item) | {"generation": n(generation), RESTORED: n(first)}
    if disconnected and there.status is not Status.DISCONNECTED:
        kept = {name: kept[name] for name in ("pk", "sk", *_IN_A_TOMBSTONE) if name in kept}
        return kept | {
            "status": s(Status.DISCONNECTED),
            "listed_as": s(listed_as(there.id, Status.DISCONNECTED)),
            "ended_at": n(now),
            "ttl": n(now + TOMBSTONE_KEPT),
        }
    if there.status is not Status.ACTIVE:
        return kept
    since = there.in_doubt if there.in_doubt is not None else now
    return kept | {"in_doubt": n(since), "refresh_at": n(now), "due_shard": s(due_shard(there.id))}


def put_absent(client: Client, table: str, item: Item) -> bool:
    """Put an item where none has its key, and whether this one is there; again, it is. Raises `StoreUnavailable`."""
    try:
        call(
            client.put_item,
            TableName=table,
            Item=item,
            ConditionExpression="attribute_not_exists(pk)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except ConditionRefused as refused:
        return refused.items[0] == item  # An SDK retry hid the success of the first write.
    return True


def tenant_check(table: str, connection_id: str, tenant: str) -> dict[str, object]:
    """The condition that a business belongs to nobody yet, or to `tenant`; to be sent in a transaction."""
    return {
        "TableName": table,
        "Key": key_of(connection_id),
        "ConditionExpression": FREE_OR_SAME,
        "ExpressionAttributeNames": {"#tenant": "tenant"},
        "ExpressionAttributeValues": {":tenant": s(tenant)},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def key_of(connection_id: str, sort_key: str = ConnectionStore.sort_key) -> dict[str, AttributeValue]:
    """The primary key of a connection's item."""
    return {"pk": s(f"CONNECTION#{connection_id}"), "sk": s(sort_key)}


def due_shard(connection_id: str) -> str:
    """The partition of the due index that a connection falls into."""
    return str(shard_of(connection_id))


def _tombstone_values(connection_id: str, now: int) -> dict[str, AttributeValue]:
    return {
        ":disconnected": s(Status.DISCONNECTED),
        ":listed": s(listed_as(connection_id, Status.DISCONNECTED)),
        ":now": n(now),
        ":ttl": n(now + TOMBSTONE_KEPT),
        ":zero": n(0),
        ":one": n(1),
    }


def listed_as(connection_id: str, status: str) -> str:
    """The partition of the status index that a connection falls into."""
    return f"{status}#{shard_of(connection_id)}"


def _attempt_values(attempt: Attempt) -> dict[str, AttributeValue]:
    return {":attempt": s(attempt.id), ":started": n(attempt.started_at), ":lease": n(attempt.lease_until)}


def _token_values(connection_id: str, attempt_id: str, rotated: Rotated) -> dict[str, AttributeValue]:
    return {
        ":tokens": b(rotated.sealed.ciphertext),
        ":data_key": b(rotated.sealed.data_key),
        ":requested_at": n(rotated.requested_at),
        ":access_expires_at": n(rotated.access_expires_at),
        ":deadline": n(rotated.deadline),
        ":refresh_at": n(rotated.refresh_at),
        ":due_shard": s(due_shard(connection_id)),
        ":attempt": s(attempt_id),
    }


def stands_there(refused: ConditionRefused) -> Connection | None:
    """The connection that stood in the way of a write, or of the first of a transaction; `None` where none did."""
    item = refused.items[0]
    return from_item(item) if item else None


def from_item(item: Item) -> Connection:
    """The connection that an item of the table describes."""
    ciphertext, data_key = binary(item, "tokens"), binary(item, "data_key")
    attempt_id, reason = text(item, "attempt_id"), text(item, "reason")
    return Connection(
        id=(text(item, "pk") or "").removeprefix("CONNECTION#"),
        status=Status(text(item, "status") or Status.DISCONNECTED),
        environment=text(item, "environment") or "",
        grant_id=text(item, "grant_id") or "",
        generation=number(item, "generation") or 0,
        connected_at=number(item, "connected_at") or 0,
        tenant=text(item, "tenant"),
        sealed=Sealed(ciphertext, data_key) if ciphertext and data_key else None,
        requested_at=number(item, "requested_at") or 0,
        access_expires_at=number(item, "access_expires_at") or 0,
        deadline=number(item, "deadline") or 0,
        refresh_at=number(item, "refresh_at"),
        retries=number(item, "retries"),
        in_doubt=number(item, "in_doubt"),
        at_risk=number(item, "at_risk"),
        committed_by=text(item, "committed_by"),
        attempt=Attempt(
            id=attempt_id,
            started_at=number(item, "attempt_started_at") or 0,
            lease_until=number(item, "lease_until") or 0,
        )
        if attempt_id
        else None,
        reason=Reason(reason) if reason else None,
        ended_at=number(item, "ended_at"),
        restored_from=number(item, RESTORED),
    )
