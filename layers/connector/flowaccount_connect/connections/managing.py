"""Connections as the host manages them: shown, listed, ended, imported; and never a token told."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from flowaccount_connect.connections.listing import Listed, Listing, Reads, read
from flowaccount_connect.domain.connection import Connection, Sealed, Status, public_status
from flowaccount_connect.domain.events import Entry
from flowaccount_connect.domain.ids import new_grant_id
from flowaccount_connect.http import problems
from flowaccount_connect.http.problems import Problem, invalid, unavailable
from flowaccount_connect.storage.connections import ConnectionStore, Refused, from_item, key_of
from flowaccount_connect.storage.cursor import InvalidNext
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.history import History
from flowaccount_connect.storage.imports import IMPORTING, AlreadyConnected, ImportStore, UnderWay
from flowaccount_connect.storage.sealing import DataKey, SealingUnavailable, Tokens

DEFAULT_LIMIT = 50
LONGEST_PAGE = 100
"""The most that one page shows."""

LONGEST_REFRESH_TOKEN = 32_768
"""The most characters a token to import may have. FlowAccount bounds none; this is half of the largest answer that is
read (`token_answer.BODY_LIMIT`), which brings two tokens, so a longer one could not be refreshed. Sealed, two of this
length take a quarter of a DynamoDB item (400 KB) and half of a message of SQS (256 KB)."""

_REFRESH_TOKEN = re.compile(rf"[!-~]{{1,{LONGEST_REFRESH_TOKEN}}}")


class Seals(Protocol):
    """What seals token sets; see `sealing.Sealer`."""

    def data_key(self) -> DataKey: ...
    def seal(self, tokens: Tokens, key: DataKey, *, owner: str, grant_id: str) -> Sealed: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Managing:
    """Shows, lists, ends and imports connections. What it answers is `shown`, or raised as a `Problem`."""

    client: Reads
    table: str
    store: ConnectionStore
    imports: ImportStore
    histories: History
    sealer: Seals
    prove: Callable[[str], None]
    refresh_token_lifetime: int
    """Seconds."""
    clock: Callable[[], float] = time.time

    def show(self, connection_id: str) -> dict[str, object]:
        """One connection. Raises `Problem`: 404 unknown, 503."""
        connection, imported = self._there(connection_id)
        if imported is not None:
            return _importing(imported, connection)
        if connection is None:
            raise problems.connection_not_found()
        return shown(connection)

    def page(self, status: str | None, *, limit: int, next_: str | None) -> dict[str, object]:
        """A page of connections, and what to ask for as `next` to get the one after it.

        Raises `Problem`: 400 for a status or a `next` that cannot be, 503.
        """
        if status is not None and status not in set(Listed):
            raise invalid("invalid_status", f"status must be one of {', '.join(Listed)}, or absent for all.")
        wanted = Listed(status) if status is not None else None
        try:
            page = Listing(self.client, self.table).page(wanted, limit=limit, next_=next_)
        except InvalidNext:
            raise _invalid_next() from None
        except StoreUnavailable:
            raise problems.unreadable() from None
        return {"connections": list(map(self._listed, page.connections)), "next": page.next}

    def history(self, connection_id: str, *, limit: int, next_: str | None) -> dict[str, object]:
        """A page of what happened to a connection in the last 90 days, newest first; none for one nobody heard of.

        Raises `Problem`: 400 for a `next` that cannot be, 503.
        """
        try:
            page = self.histories.page(connection_id, limit=limit, now=int(self.clock()), next_=next_)
        except InvalidNext:
            raise _invalid_next() from None
        except StoreUnavailable:
            raise problems.unreadable() from None
        return {"entries": list(map(_told, page.entries)), "next": page.next}

    def disconnect(self, connection_id: str) -> None:
        """End the connection, and an import of it that is under way; again if it has been ended before.

        Its tokens are gone from the table at once. Raises `Problem`: 404 unknown; 409 where its user connected again
        meanwhile, which nobody asked to end; 503, when it may have been ended or not.
        """
        connection, imported = self._there(connection_id)
        now = int(self.clock())
        try:
            if imported is not None:
                self.imports.cancel(imported, connection, now=now)
            elif connection is None:
                raise problems.connection_not_found()
            elif connection.status is not Status.DISCONNECTED:
                self.store.disconnect(connection_id, connection.grant_id, now=now)
        except Refused as refused:
            there = refused.connection
            ended = there is not None and there.status is Status.DISCONNECTED
            if not ended:
                raise Problem(
                    "connected_meanwhile",
                    HTTPStatus.CONFLICT,
                    "The connection changed while it was to be ended. Look at it; repeat this if it is still meant.",
                ) from None
        except StoreUnavailable:
            raise _unwritable() from None

    def import_(self, connection_id: str, refresh_token: object) -> tuple[HTTPStatus, dict[str, object]]:
        """Take over a refresh token from elsewhere: 200 with the connection, or 202 while it is being proved.

        It is stored, sealed, before it is sent. Raises `Problem`: 400; 409 `already_connected`, `import_under_way`, or
        `import_refused` with the reason, the connection being as it was; 503, when the token may have been stored.
        """
        if not isinstance(refresh_token, str) or _REFRESH_TOKEN.fullmatch(refresh_token) is None:
            raise invalid(
                "invalid_refresh_token",
                f"refresh_token must be a string of 1 to {LONGEST_REFRESH_TOKEN} visible ASCII characters.",
            )
        grant_id, now = new_grant_id(self.clock), int(self.clock())
        try:
            key = self.sealer.data_key()
        except SealingUnavailable:
            raise problems.key_unavailable() from None
        sealed = self.sealer.seal(Tokens("", refresh_token), key, owner=connection_id, grant_id=grant_id)
        try:
            # How old the token is, nobody says: of what waits to be proved, half a life is taken to be left.
            deadline = now + self.refresh_token_lifetime // 2
            self.imports.begin(connection_id, grant_id, sealed, deadline=deadline, now=now)
        except AlreadyConnected:
            raise _already_connected() from None
        except UnderWay:
            raise Problem(
                "import_under_way",
                HTTPStatus.CONFLICT,
                "An import of this connection has not ended yet: look at the connection, or end it first.",
            ) from None
        except StoreUnavailable:
            raise _unwritable() from None
        self.prove(connection_id)
        return self._imported(connection_id, grant_id)

    def _imported(self, connection_id: str, grant_id: str) -> tuple[HTTPStatus, dict[str, object]]:
        """What came of an import."""
        try:
            # In this order: whoever makes the connection ends the import in the same moment.
            imported = self.imports.get(connection_id)
            connection = self.store.get(connection_id)
        except StoreUnavailable:
            raise unavailable(
                "store_unavailable",
                "The token is stored and being proved, but what came of it cannot be read. Look at the connection.",
                5,
            ) from None
        if imported is not None and imported.grant_id == grant_id:
            if imported.status is Status.ACTIVE:
                return HTTPStatus.ACCEPTED, _importing(imported, connection)
            raise Problem(
                "import_refused",
                HTTPStatus.CONFLICT,
                "The refresh token did not prove good for this business; nothing else has changed.",
                extra={"reason": imported.reason},
            )
        if connection is None or connection.status is Status.DISCONNECTED:
            raise problems.connection_not_found()
        if connection.grant_id != grant_id:
            raise _already_connected()
        return HTTPStatus.OK, shown(connection)

    def _there(self, connection_id: str) -> tuple[Connection | None, Connection | None]:
        """The connection, and the import of it that is under way, as they are now."""
        keys = [key_of(connection_id, kind) for kind in (ConnectionStore.sort_key, ImportStore.sort_key)]
        try:
            items = read(self.client, self.table, keys, consistent=True)
        except StoreUnavailable:
            raise problems.unreadable() from None
        found = {sort_key: from_item(item) for (_, sort_key), item in items.items()}
        imported = found.get(ImportStore.sort_key)
        under_way = imported is not None and imported.status is Status.ACTIVE
        return found.get(ConnectionStore.sort_key), imported if under_way else None

    @staticmethod
    def _listed(listed: tuple[str, Connection]) -> dict[str, object]:
        kind, connection = listed
        return _importing(connection, None) if kind == ImportStore.sort_key else shown(connection)


def shown(connection: Connection) -> dict[str, object]:
    """What the API says of a connection. Times in epoch seconds, `None` where there is nothing to say; no tokens."""
    return {
        "support_code": connection.id,
        "environment": connection.environment,
        "status": public_status(connection),
        "tenant": connection.tenant,
        "generation": connection.generation,
        "connected_at": connection.connected_at or None,
        "requested_at": connection.requested_at or None,
        "access_expires_at": connection.access_expires_at or None,
        "deadline": connection.deadline or None,
        "refresh_at": connection.refresh_at,
        "in_doubt_since": connection.in_doubt,
        "at_risk_since": connection.at_risk,
        "reason": connection.reason,
        "since": connection.ended_at,
    }


def _importing(imported: Connection, connection: Connection | None) -> dict[str, object]:
    """An import under way, and what is known of the connection that it may revive."""
    known = shown(connection) if connection is not None else shown(imported) | {"connected_at": None, "deadline": None}
    return known | {
        "status": IMPORTING,
        "refresh_at": imported.refresh_at,
        "in_doubt_since": imported.in_doubt,
        "reason": None,
        "since": imported.connected_at,
    }


def _told(entry: Entry) -> dict[str, object]:
    """What the API says of an entry in a history."""
    return {
        "id": entry.id,
        "kind": entry.kind,
        "at": entry.at,
        "status": entry.status,
        "generation": entry.generation,
        "attempt_id": entry.attempt_id,
        "tenant": entry.tenant,
        "reason": entry.reason,
        "since": entry.since,
        "deadline": entry.deadline,
        "retries": entry.retries,
        "recovered_from": entry.recovered_from,
    }


def _invalid_next() -> Problem:
    return invalid("invalid_next", "next must be what the page before gave, for the same list.")


def _already_connected() -> Problem:
    return Problem(
        "already_connected", HTTPStatus.CONFLICT, "The connection is active; an import would end what works."
    )


def _unwritable() -> Problem:
    return unavailable("store_unavailable", "The table cannot be written at the moment. Try again.", 5)
