"""What the stack keeps things in, in memory and fast: the same promises as the table's, without its expressions.

`tests/simulation/test_memory.py` holds the store against the real one, over the model of DynamoDB, step by step.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import cast

from flowaccount_connect.domain.connection import Attempt, Connection, Reason, Sealed, Status
from flowaccount_connect.domain.schedule import DUE_SHARDS, shard_of
from flowaccount_connect.scheduling.due_index import Due, Page, Wanted
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import Refused
from flowaccount_connect.storage.dynamodb import Item, StoreUnavailable, s
from flowaccount_connect.storage.sealing import DataKey, TokenPair
from flowaccount_connect.storage.shared_item import Changed
from flowaccount_connect.storage.stored_tokens import StoredTokens


@dataclass
class Row:
    """A connection as it is stored: a `Connection` that can be changed, made in a fraction of the time."""

    id: str
    status: Status
    environment: str
    grant_id: str
    generation: int
    connected_at: int
    tenant: str | None
    sealed: Sealed | None
    requested_at: int
    access_expires_at: int
    deadline: int
    refresh_at: int | None
    retries: int | None
    in_doubt: int | None
    at_risk: int | None
    committed_by: str | None
    attempt: Attempt | None
    reason: Reason | None
    ended_at: int | None
    shard: int
    refused_at: int | None = None
    refused_alone: int | None = None
    consent_ends_at: int | None = None

    def leased(self, now: int) -> bool:
        """Whether an attempt holds this connection at `now`."""
        return self.attempt is not None and self.attempt.lease_until > now

    def shown(self) -> Connection:
        """What a reader gets: as it is now, whatever is written later."""
        copy = Row.__new__(Row)
        copy.__dict__.update(self.__dict__)
        return cast("Connection", copy)


def connection_of(shown: Connection) -> Connection:
    """What the store showed, as a real `Connection`, to be compared."""
    return Connection(**{each.name: getattr(shown, each.name) for each in fields(Connection)})


class Memory:
    """The table: the connections and their due index. `available` says whether it can be reached just now."""

    def __init__(self, available: Callable[[], bool] = lambda: True) -> None:
        self._available = available
        self.rows: dict[str, Row] = {}
        self._coming: list[list[tuple[int, str]]] = [[] for _ in range(DUE_SHARDS)]
        self._due: list[dict[str, Due]] = [{} for _ in range(DUE_SHARDS)]

    # What `rotation` and `serving` use --------------------------------------------------------------------------

    def get(self, connection_id: str) -> Connection | None:
        """See `store.ConnectionStore`, as all that follows."""
        self._reach()
        row = self.rows.get(connection_id)
        return row.shown() if row is not None else None

    def claim(self, connection_id: str, attempt: Attempt, *, generation: int | None, now: int) -> Connection:
        """Nobody holds it, and it is due, or on demand of that generation and not held back."""
        row = self._row(connection_id)
        due = row.refresh_at is not None and row.refresh_at <= now
        if generation is not None:
            due = row.generation == generation and (row.retries is None or due)
        if row.status is not Status.ACTIVE or row.attempt is not None or not due:
            raise Refused(row.shown())
        row.attempt = attempt
        return row.shown()

    def claim_over(
        self, connection_id: str, attempt: Attempt, *, dead: Attempt, generation: int, now: int
    ) -> Connection:
        """The attempt that ran out leaves doubt."""
        row = self._row(connection_id)
        there = row.attempt
        held = there is not None and there.id == dead.id and there.lease_until <= now
        if row.status is not Status.ACTIVE or row.generation != generation or not held:
            raise Refused(row.shown())
        row.attempt = attempt
        if row.in_doubt is None:
            row.in_doubt = dead.started_at
        return row.shown()

    def commit(self, commit: Commit) -> Connection:
        """Fenced by grant, and by generation or the time of the request."""
        row = self._row(commit.connection_id)
        later = row.requested_at < commit.tokens.requested_at
        if row.grant_id != commit.grant_id or not (row.generation == commit.generation or later):
            raise Refused(row.shown())
        row.status = Status.ACTIVE
        row.in_doubt = row.reason = row.ended_at = None
        self._set_tokens(row, commit.attempt_id, commit.tokens)
        return row.shown()

    def commit_kept(self, commit: Commit) -> Connection:
        """Fenced by generation and attempt; the doubt stays."""
        row = self._held(commit.connection_id, commit.generation, commit.attempt_id)
        self._set_tokens(row, commit.attempt_id, commit.tokens)
        return row.shown()

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
        """Fenced by generation and attempt; what is noted already stays."""
        row = self._held(connection_id, generation, attempt_id)
        row.attempt = None
        row.retries = retries
        row.in_doubt = in_doubt if row.in_doubt is None else row.in_doubt
        row.refused_at = refused_at if row.refused_at is None else row.refused_at
        row.refused_alone = refused_alone if row.refused_alone is None else row.refused_alone
        self._schedule(row, refresh_at)
        return row.shown()

    def require_reauthorization(
        self,
        connection_id: str,
        generation: int,
        attempt_id: str,
        reason: Reason,
        *,
        now: int,
    ) -> Connection:
        """Fenced by generation and attempt; it leaves the index."""
        row = self._held(connection_id, generation, attempt_id)
        row.status, row.reason, row.ended_at = Status.REAUTHORIZATION_REQUIRED, reason, now
        row.attempt = row.retries = row.at_risk = None
        self._schedule(row, None)
        return row.shown()

    def connect(self, connection_id: str, grant_id: str, attempt_id: str, rotated: StoredTokens, *, now: int) -> None:
        """A first consent."""
        row = Row(
            id=connection_id,
            status=Status.ACTIVE,
            environment="sandbox",
            grant_id=grant_id,
            generation=0,
            connected_at=now,
            tenant=None,
            sealed=None,
            requested_at=0,
            access_expires_at=0,
            deadline=0,
            refresh_at=None,
            retries=None,
            in_doubt=None,
            at_risk=None,
            committed_by=None,
            attempt=None,
            reason=None,
            ended_at=None,
            shard=shard_of(connection_id),
        )
        self.rows[connection_id] = row
        self._set_tokens(row, attempt_id, rotated)

    def put_off(self, connection_id: str, *, until: int, now: int) -> None:
        """Nothing that is stored here cannot be refreshed."""

    # What `sweep` uses ------------------------------------------------------------------------------------------

    def page(
        self,
        shard: int,
        *,
        now: int,
        limit: int | None = None,  # noqa: ARG002 - all of it is one page
        wanted: Wanted | None = None,  # noqa: ARG002 - which hands over everything
        start: object = None,  # noqa: ARG002
    ) -> Page:
        """See `sweep.DueIndex`."""
        self._reach()
        coming, due = self._coming[shard], self._due[shard]
        while coming and coming[0][0] <= now:
            refresh_at, connection_id = heapq.heappop(coming)
            row = self.rows[connection_id]
            if row.refresh_at == refresh_at:
                due[connection_id] = Due(row.deadline, refresh_at, connection_id, row.generation, row.at_risk)
        return Page(list(due.values()), len(due), None)

    def mark_at_risk(self, connection_id: str, *, generation: int, deadline: int, near_since: int, now: int) -> bool:
        """Once, and only what has not been refreshed since."""
        self._reach()
        row = self.rows.get(connection_id)
        if row is None or (row.status, row.generation, row.deadline) != (Status.ACTIVE, generation, deadline):
            return False
        if row.at_risk is not None and row.at_risk > near_since:
            return False
        row.at_risk = now
        due = self._due[row.shard].get(connection_id)
        if due is not None:
            self._due[row.shard][connection_id] = replace(due, at_risk=now)
        return True

    # Shared -----------------------------------------------------------------------------------------------------

    def _reach(self) -> None:
        if not self._available():
            raise StoreUnavailable("table outage")

    def _row(self, connection_id: str) -> Row:
        self._reach()
        row = self.rows.get(connection_id)
        if row is None:
            raise Refused(None)
        return row

    def _held(self, connection_id: str, generation: int, attempt_id: str) -> Row:
        row = self._row(connection_id)
        held = row.attempt is not None and row.attempt.id == attempt_id
        if row.status is not Status.ACTIVE or row.generation != generation or not held:
            raise Refused(row.shown())
        return row

    def _set_tokens(self, row: Row, attempt_id: str, rotated: StoredTokens) -> None:
        row.sealed = rotated.sealed
        row.requested_at = rotated.requested_at
        row.access_expires_at = rotated.access_expires_at
        row.deadline = rotated.deadline
        row.committed_by = attempt_id
        row.generation += 1
        row.attempt = row.retries = row.refused_at = row.refused_alone = None
        row.at_risk, row.consent_ends_at = rotated.at_risk, rotated.consent_ends_at
        self._schedule(row, rotated.refresh_at)

    def _schedule(self, row: Row, refresh_at: int | None) -> None:
        row.refresh_at = refresh_at
        self._due[row.shard].pop(row.id, None)
        if refresh_at is not None:
            heapq.heappush(self._coming[row.shard], (refresh_at, row.id))


class ItemMemory:
    """A shared item; see `shared_item.SharedItem`. `available` says whether the table can be reached just now."""

    def __init__(self, available: Callable[[], bool] = lambda: True) -> None:
        self._available = available
        self._item: Item = {}
        self._writes = 0

    def get(self, *, consistent: bool = True) -> Item:  # noqa: ARG002
        """As it is now."""
        self._reach()
        return self._item

    def replace(self, seen: Item, values: Item) -> Item:
        """Write over what was seen, if that is what is there."""
        self._reach()
        if seen.get("tag") != self._item.get("tag"):
            raise Changed(self._item)
        self._writes += 1
        self._item = {**values, "tag": s(str(self._writes))}
        return self._item

    def _reach(self) -> None:
        if not self._available():
            raise StoreUnavailable("table outage")


class Unsealed:
    """Stands for KMS and the cipher, which no schedule has to do with: tokens lie open, under one key."""

    _KEY = DataKey(b"", b"one key")

    def data_key(self) -> DataKey:
        """The one key."""
        return self._KEY

    def seal(self, tokens: TokenPair, key: DataKey, *, owner: str, grant_id: str) -> Sealed:  # noqa: ARG002
        """The refresh token as it is."""
        return Sealed(tokens.refresh_token.encode(), key.wrapped)

    def open(self, sealed: Sealed, *, owner: str, grant_id: str) -> TokenPair:  # noqa: ARG002
        """The same again."""
        return TokenPair("access", sealed.ciphertext.decode())


class KnownSecret:
    """A client secret that is always there."""

    def get(self) -> str:
        """The secret."""
        return "secret"

    def newer_than(self, refused: str) -> str | None:  # noqa: ARG002
        """There is no other."""
        return None
