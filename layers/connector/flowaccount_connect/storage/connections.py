"""Connections in the table: every change is one conditional write, fenced by grant, generation and attempt.

A refused write returns the item that stood in its way, so nothing is read twice. `rotation` uses these writes, and
explains what each condition protects.

Two rules move `generation`, and it never goes back. A write that changes or ends the tokens adds one (`_COUNTED`). A
restored backup adds the seconds since the backup was made, and `LEAP` (`restored`).
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flowaccount_connect.domain.connection import Attempt, Connection, Reason, Sealed, Status
from flowaccount_connect.domain.ids import new_grant_id
from flowaccount_connect.domain.schedule import shard_of
from flowaccount_connect.storage.dynamodb import (
    AttributeValue,
    Client,
    ConditionRefused,
    Item,
    attributes,
    call,
    get,
    n,
    put,
    text,
    updated,
    write,
)
from flowaccount_connect.storage.fields import Fields
from flowaccount_connect.storage.stored_tokens import ATTRIBUTES as TOKENS

if TYPE_CHECKING:
    # A type alone: who only reads or marks connections does not load it.
    from flowaccount_connect.storage.commits import Commit

IMPORT = "IMPORT"
"""The sort key of an import, an item beside its connection's; see `storage.imports`."""

ATTEMPT = "attempt_id, attempt_started_at, lease_until"
"""What an item holds while a refresh runs."""

SCHEDULED = "due_shard, refresh_at"
"""What keeps an item in the due index."""

LEGIBLE = (
    *("pk", "sk", "status", "environment", "tenant", "grant_id", "generation", "connected_at", "requested_at"),
    *("access_expires_at", "deadline", "refresh_at", "consent_ends_at", "retries", "in_doubt", "refused_at"),
    *("refused_alone", "at_risk", "committed_by", "attempt_id", "attempt_started_at", "lease_until", "reason"),
    "ended_at",
)
"""What `from_item` reads of an item, except the sealed tokens: those go nowhere but to who opens them."""

_REFUSALS = "refused_at, refused_alone, retries"
_TROUBLE = f"in_doubt, {_REFUSALS}"
"""What an item holds of refreshes that failed."""

_ENDED = "reason, ended_at"
"""What an item holds of its end."""

_COUNTED = "generation = if_not_exists(generation, :zero) + :one"
"""Part of every write that changes or ends the tokens, and of no other."""

_ONE = {"zero": 0, "one": 1}

LEAP = 100
"""By how much a restored connection's generation moves on at least."""

TOMBSTONE_KEPT = 30 * 86_400
"""How long the tombstone of a disconnect is kept, in seconds: longer than anything can be late."""

HELD = "#status = :active AND generation = :generation AND attempt_id = :attempt"
"""The condition that the attempt still holds the connection. So a failure, written under it, overwrites no success."""


class Refused(Exception):
    """A condition did not hold. `connection` is what is stored instead; `None` where there is no connection."""

    def __init__(self, connection: Connection | None) -> None:
        super().__init__("the condition was refused")
        self.connection = connection


class ConnectionStore:
    """The connections of one table. `client` is a DynamoDB client."""

    sort_key = "CONNECTION"

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def get(self, connection_id: str) -> Connection | None:
        """The connection as it is now (strongly consistent), or `None`. Raises `StoreUnavailable`."""
        item = get(self._client, self._table, self._key(connection_id))
        return from_item(item) if item else None

    def claim(self, connection_id: str, attempt: Attempt, *, generation: int | None, now: int) -> Connection:
        """Claim a connection that nobody holds, and return it.

        It must be active and due; or, on demand, still of the `generation` that the caller saw, unless a failed
        attempt waits for its `refresh_at`. Raises `Refused`, `StoreUnavailable`.
        """
        wanted, values = "refresh_at <= :now", {"now": now}
        if generation is not None:
            wanted = "generation = :generation AND (attribute_not_exists(retries) OR refresh_at <= :now)"
            values["generation"] = generation
        return self._update(
            connection_id,
            update="SET attempt_id = :attempt, attempt_started_at = :started, lease_until = :lease",
            condition=f"#status = :active AND attribute_not_exists(attempt_id) AND {wanted}",
            active=Status.ACTIVE,
            **_values(attempt),
            **values,
        )

    def claim_over(
        self, connection_id: str, attempt: Attempt, *, dead: Attempt, generation: int, now: int
    ) -> Connection:
        """Claim over an attempt whose lease ran out, and record the doubt that it leaves behind.

        The worker of `dead` may have been killed after its POST, so nobody knows whether the token was spent. Only this
        write can note it. Raises `Refused`, `StoreUnavailable`.
        """
        return self._update(
            connection_id,
            update="SET attempt_id = :attempt, attempt_started_at = :started, lease_until = :lease, "
            "in_doubt = if_not_exists(in_doubt, :dead_since)",
            condition="#status = :active AND generation = :generation AND attempt_id = :dead AND lease_until <= :now",
            active=Status.ACTIVE,
            generation=generation,
            dead=dead.id,
            dead_since=dead.started_at,
            now=now,
            **_values(attempt),
        )

    def commit(self, commit: "Commit") -> Connection:
        """Store a refresh, if the table has the generation that was refreshed, or a token set of an earlier request.

        A success wins over an expired lease, over another attempt, and over a failure recorded meanwhile. Of two
        answers to the same token, the answer to the later request wins, whichever is written first: on some servers it
        is the only one that works. A restored backup is older than any later answer. Tokens, expiries and generation
        change together. Raises `Refused`, `StoreUnavailable`.
        """
        tokens, cleared, values = _set_tokens(commit)
        return self._update(
            commit.connection_id,
            update=f"SET {tokens}, #status = :active, listed_as = :listed "
            f"REMOVE {ATTEMPT}, {_TROUBLE}, {_ENDED}{cleared}",
            condition="grant_id = :grant AND (generation = :generation OR requested_at < :requested_at)",
            active=Status.ACTIVE,
            listed=listed_as(commit.connection_id, Status.ACTIVE),
            grant=commit.grant_id,
            generation=commit.generation,
            **values,
        )

    def commit_kept(self, commit: "Commit") -> Connection:
        """Store a success that brought no new refresh token, so that the old one is kept.

        It proves nothing about another attempt's rotation. So it is fenced by generation and attempt, and leaves the
        doubt as it is. Raises `Refused`, `StoreUnavailable`.
        """
        tokens, cleared, values = _set_tokens(commit)
        return self._update(
            commit.connection_id,
            update=f"SET {tokens} REMOVE {ATTEMPT}, refused_at, refused_alone, retries{cleared}",
            condition=HELD,
            active=Status.ACTIVE,
            generation=commit.generation,
            **values,
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
        refused_at: int | None = None,
        refused_alone: int | None = None,
    ) -> Connection:
        """Give a claim back, and note since when it is in doubt, refused, or refused alone.

        What is noted already stays. Fenced by generation and attempt, and never touches tokens. Raises `Refused`,
        `StoreUnavailable`.
        """
        notes = {"in_doubt": in_doubt, "refused_at": refused_at, "refused_alone": refused_alone}
        noted = (name for name, since in notes.items() if since is not None)
        assignments = "".join(f", {name} = if_not_exists({name}, :{name})" for name in noted)
        return self._update(
            connection_id,
            update=f"SET refresh_at = :refresh_at, retries = :retries{assignments} REMOVE {ATTEMPT}",
            condition=HELD,
            refresh_at=refresh_at,
            retries=retries,
            **notes,
            **held(generation, attempt_id),
        )

    def require_reauthorization(
        self, connection_id: str, generation: int, attempt_id: str, reason: Reason, *, now: int
    ) -> Connection:
        """Record that only a new consent helps, and leave the due index; the tokens stay as they are.

        Fenced by generation and attempt: a refused write decides nothing. Raises `Refused`, `StoreUnavailable`.
        """
        return self._update(
            connection_id,
            update="SET #status = :dead, listed_as = :listed, reason = :reason, ended_at = :now "
            f"REMOVE {ATTEMPT}, {SCHEDULED}, retries, at_risk",
            condition=HELD,
            dead=Status.REAUTHORIZATION_REQUIRED,
            listed=listed_as(connection_id, Status.REAUTHORIZATION_REQUIRED),
            reason=reason,
            now=now,
            **held(generation, attempt_id),
        )

    def mark_at_risk(self, connection_id: str, *, generation: int, deadline: int, near_since: int, now: int) -> bool:
        """Mark an active connection whose deadline comes close, once; returns whether this call marked it.

        Not where it has been refreshed, or was marked since its deadline came near. An earlier mark says that its
        consent ends, which is another trouble. Touches no key of an index. Raises `StoreUnavailable`.
        """
        try:
            self._update(
                connection_id,
                update="SET at_risk = :now",
                condition="#status = :active AND generation = :generation AND deadline = :deadline "
                "AND (attribute_not_exists(at_risk) OR at_risk <= :near_since)",
                now=now,
                near_since=near_since,
                active=Status.ACTIVE,
                generation=generation,
                deadline=deadline,
            )
        except Refused:
            return False
        return True

    def put_off(self, connection_id: str, *, until: int, now: int) -> None:
        """Let what is due, and cannot be refreshed, fall due later, whatever lies in its item.

        Touches nothing else. Raises `StoreUnavailable`.
        """
        with contextlib.suppress(Refused):
            self._update(
                connection_id,
                update="SET refresh_at = :until",
                condition="refresh_at <= :now",
                until=until,
                now=now,
            )

    def disconnect(self, connection_id: str, grant_id: str, *, now: float) -> Connection:
        """End the consent `grant_id`. To end its tombstone again is allowed; see `disconnect_write`.

        Refused where a later consent is stored: nobody asked to end that one. Raises `Refused`, `StoreUnavailable`.
        """
        return changed(self._client, disconnect_write(self._table, connection_id, seen=grant_id, now=now))

    def _key(self, connection_id: str) -> dict[str, AttributeValue]:
        return key_of(connection_id, self.sort_key)

    def _update(self, connection_id: str, *, update: str, condition: str, **values: Any) -> Connection:
        made = write(self._table, self._key(connection_id), update, condition=condition, **values)
        return changed(self._client, made)


FREE_OR_SAME = "(attribute_not_exists(#tenant) OR #tenant = :tenant)"
"""The condition that a connection belongs to no tenant, or to this one."""

_CLOCKS = 86_400
"""Seconds. A grant id further ahead than this does not count: no clock of this stack made it."""


def disconnect_write(
    table: str,
    connection_id: str,
    *,
    seen: str | None,
    now: float,
    environment: str | None = None,
    imported: str = "",
) -> dict[str, object]:
    """The conditional write of a disconnect. It leaves a tombstone, without tokens and tenant.

    The tombstone's grant id is of the disconnect's own moment. So a consent that was given before finds a later grant
    id stored and is refused, however it arrives: as a confirmation, a callback, a pending commit or an import. `seen`
    is the stored grant id, `None` where no connection is stored (then `environment` must be given); refused where
    another is stored. `imported` is the grant id of an import that ends too. `now` is in epoch seconds with their
    fraction. To be sent alone or in a transaction.
    """
    placed = "" if environment is None else ", environment = :environment"
    return write(
        table,
        key_of(connection_id),
        f"SET #status = :disconnected, listed_as = :listed, grant_id = :closing, ended_at = :now, "
        f"{_COUNTED}, #ttl = :ttl{placed} "
        f"REMOVE {', '.join(TOKENS)}, due_shard, {ATTEMPT}, {_TROUBLE}, reason, committed_by, #tenant",
        condition="attribute_not_exists(grant_id)" if seen is None else "grant_id = :seen",
        seen=seen,
        environment=environment,
        closing=_closing_grant_id(now, seen or "", imported),
        disconnected=Status.DISCONNECTED,
        listed=listed_as(connection_id, Status.DISCONNECTED),
        now=int(now),
        ttl=int(now) + TOMBSTONE_KEPT,
        **_ONE,
    )


def _closing_grant_id(now: float, *ended: str) -> str:
    """The grant id of a disconnect at `now`, in epoch seconds with their fraction.

    It is greater than every id that was made in that millisecond or before, and not less than the ids that it ends,
    even if the clock of their maker was ahead. A new consent gets a greater id. An id too far in the future does not
    count, because it would block every later consent.
    """
    latest = new_grant_id(lambda: now + _CLOCKS)
    return max([new_grant_id(lambda: now + 0.001), *(one for one in ended if one <= latest)])


def tombstone(found: Connection, *, generation: int, now: float) -> Item:
    """The item that a disconnect at `now` leaves of a connection: no tokens, no tenant, and a grant id that
    refuses earlier consents; see `disconnect_write`."""
    return key_of(found.id) | attributes(
        status=Status.DISCONNECTED,
        listed_as=listed_as(found.id, Status.DISCONNECTED),
        environment=found.environment or None,
        grant_id=_closing_grant_id(now, found.grant_id),
        generation=generation,
        connected_at=found.connected_at or None,
        ended_at=int(now),
        ttl=int(now) + TOMBSTONE_KEPT,
    )


def unchanged(item: Item | None) -> dict[str, object]:
    """The condition that an item is still as it was read, whatever lies in it; `None`: that no item is found."""
    returned: dict[str, object] = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    if item is None:
        return returned | {"ConditionExpression": "attribute_not_exists(pk)"}
    # A write that changes tokens, status or attempt changes one of these. What else changes may be overwritten.
    marks = ("status", "grant_id", "generation", "attempt_id", "tokens")
    conditions = (f"#{name} = :{name}" if name in item else f"attribute_not_exists(#{name})" for name in marks)
    values = {f":{name}": item[name] for name in marks if name in item}
    return returned | {
        "ConditionExpression": " AND ".join(["attribute_exists(pk)", *conditions]),
        "ExpressionAttributeNames": {f"#{name}": name for name in marks},
        **({"ExpressionAttributeValues": values} if values else {}),
    }


def grant_update(table: str, commit: "Commit", *, now: int) -> dict[str, object]:
    """The conditional write of a new consent: connects, or reconnects and revives.

    Refused where a later consent or a later disconnect is stored, and by its own retry. It overrides every running
    refresh: the generation moves on, and attempt, lease and doubt go. Only the doubt of an imported token that is kept
    stays. With a `tenant` the business becomes that tenant's, and is refused where it is another's; without one the
    tenant does not change. A tombstone has no tenant. To be sent alone or in a transaction.
    """
    connection_id, tenant = commit.connection_id, commit.tenant
    assignments, cleared, values = _set_tokens(commit)
    belonging, free = ("", "") if tenant is None else (", #tenant = :tenant", f" AND {FREE_OR_SAME}")
    doubt, over = ("", _TROUBLE) if commit.in_doubt is None else (", in_doubt = :in_doubt", _REFUSALS)
    return write(
        table,
        key_of(connection_id),
        f"SET {assignments}, #status = :active, listed_as = :listed, grant_id = :grant, "
        f"connected_at = :now, environment = :environment{belonging}{doubt} "
        f"REMOVE {ATTEMPT}, {over}, {_ENDED}, #ttl{cleared}",
        condition=f"(attribute_not_exists(grant_id) OR grant_id < :grant){free}",
        active=Status.ACTIVE,
        listed=listed_as(connection_id, Status.ACTIVE),
        grant=commit.grant_id,
        environment=commit.environment,
        tenant=tenant,
        in_doubt=commit.in_doubt,
        now=now,
        **values,
    )


def restored(item: Item, *, restored_to: int, now: int, disconnected: bool = False) -> Item:
    """What to store of a connection's item in a backup of `restored_to`. Times in epoch seconds.

    Its token may have been spent since. So an active connection comes back in doubt, and due at once: the protocol
    finds out. An attempt stays, and the next claim waits for its lease: its worker may still be sending. The
    generation moves on by one a second and by `LEAP`, more than it can have moved since: nobody sees it go back,
    and no waiting commit matches it by chance. What was `disconnected` since becomes a tombstone.
    """
    old = from_item(item)
    generation = old.generation + max(now - restored_to, 0) + LEAP
    kept = dict(item) | {"generation": n(generation)}
    if disconnected and old.status is not Status.DISCONNECTED:
        return tombstone(old, generation=generation, now=now)
    if old.status is not Status.ACTIVE:
        return kept
    since = old.in_doubt if old.in_doubt is not None else now
    return kept | attributes(in_doubt=since, refresh_at=now, due_shard=due_shard(old.id))


def put_absent(client: Client, table: str, item: Item) -> bool:
    """Put an item where none has its key, and return whether it is stored; a repetition finds it stored.

    Raises `StoreUnavailable`.
    """
    try:
        call(client.put_item, **put(table, item, condition="attribute_not_exists(pk)"))
    except ConditionRefused as refused:
        return refused.items[0] == item  # An SDK retry hid the success of the first write.
    return True


def tenant_check(table: str, connection_id: str, tenant: str) -> dict[str, object]:
    """The condition that a business belongs to nobody yet, or to `tenant`; to be sent in a transaction."""
    return write(table, key_of(connection_id), condition=FREE_OR_SAME, tenant=tenant)


def key_of(connection_id: str, sort_key: str = ConnectionStore.sort_key) -> dict[str, AttributeValue]:
    """The primary key of a connection's item."""
    return attributes(pk=f"CONNECTION#{connection_id}", sk=sort_key)


def due_shard(connection_id: str) -> str:
    """The partition of the due index that a connection falls into."""
    return str(shard_of(connection_id))


def listed_as(connection_id: str, status: str) -> str:
    """The partition of the status index that a connection falls into."""
    return f"{status}#{shard_of(connection_id)}"


def held(generation: int, attempt_id: str) -> dict[str, Any]:
    """The values of the condition `HELD`."""
    return {"active": Status.ACTIVE, "generation": generation, "attempt": attempt_id}


def _values(attempt: Attempt) -> dict[str, Any]:
    return {"attempt": attempt.id, "started": attempt.started_at, "lease": attempt.lease_until}


def _set_tokens(commit: "Commit") -> tuple[str, str, dict[str, Any]]:
    """Of a write that stores tokens: its assignments, what it removes beside others, and its values."""
    assignments, cleared, values = commit.tokens.setting()
    return (
        f"{assignments}, due_shard = :due_shard, committed_by = :attempt, {_COUNTED}",
        cleared,
        {**values, "due_shard": due_shard(commit.connection_id), "attempt": commit.attempt_id, **_ONE},
    )


def changed(client: Client, update: Mapping[str, object]) -> Connection:
    """Send an update; the connection after it. Raises `Refused`, `StoreUnavailable`."""
    try:
        return from_item(updated(client, update))
    except ConditionRefused as refused:
        raise Refused(in_the_way(refused)) from None


def in_the_way(refused: ConditionRefused) -> Connection | None:
    """The connection that stood in the way of a write, or of the first of a transaction; `None` where none did."""
    item = refused.items[0]
    return from_item(item) if item else None


def from_item(item: Item) -> Connection:
    """The connection that an item of the table describes. Never raises.

    Where something in the item cannot be understood, its status is `unreadable`, and the rest is what can be read.
    """
    read = Fields(item)
    ciphertext, data_key = read.binary("tokens"), read.binary("data_key")
    status = read.required(read.one_of("status", Status), Status.UNREADABLE)
    found = Connection(
        id=(text(item, "pk") or "").removeprefix("CONNECTION#"),
        status=status,
        environment=read.text("environment") or "",
        grant_id=read.required(read.text("grant_id"), ""),
        generation=read.required(read.number("generation"), 0),
        connected_at=read.number("connected_at") or 0,
        tenant=read.text("tenant"),
        sealed=Sealed(ciphertext, data_key) if ciphertext and data_key else None,
        requested_at=read.number("requested_at") or 0,
        access_expires_at=read.number("access_expires_at") or 0,
        deadline=read.number("deadline") or 0,
        refresh_at=read.number("refresh_at"),
        consent_ends_at=read.number("consent_ends_at"),
        retries=read.number("retries"),
        in_doubt=read.number("in_doubt"),
        refused_at=read.number("refused_at"),
        refused_alone=read.number("refused_alone"),
        at_risk=read.number("at_risk"),
        committed_by=read.text("committed_by"),
        attempt=_attempt(read),
        reason=read.one_of("reason", Reason),
        ended_at=read.number("ended_at"),
    )
    return found if read.understood else replace(found, status=Status.UNREADABLE)


def _attempt(read: Fields) -> Attempt | None:
    """The attempt of an item. Without an id or an end nobody could ever claim over it, so that is not understood."""
    attempt_id = read.text("attempt_id")
    started_at, lease_until = read.number("attempt_started_at"), read.number("lease_until")
    if attempt_id is None:
        return None
    return Attempt(
        id=read.required(attempt_id or None, ""),
        started_at=read.required(started_at, 0),
        lease_until=read.required(lease_until, 0),
    )
