"""The app's management of connections: show, list, end, import. No answer has a token."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from flowaccount_connect.connections.errors import (
    AlreadyConnected,
    ConnectedMeanwhile,
    ImportRefused,
    ImportUnderWay,
    ImportUnread,
    InvalidRefreshToken,
    InvalidStatus,
    OfAnotherTenant,
)
from flowaccount_connect.connections.listing import LONGEST_PAGE, Listed, Listing, read
from flowaccount_connect.domain.connection import Connection, Status, public_status
from flowaccount_connect.domain.errors import ConnectionNotFound, InvalidTenant, KeyUnavailable
from flowaccount_connect.domain.events import Entry
from flowaccount_connect.domain.ids import is_tenant, new_grant_id
from flowaccount_connect.rotation.ports import Sealer
from flowaccount_connect.storage import imports
from flowaccount_connect.storage.connections import ConnectionStore, Refused, from_item, key_of
from flowaccount_connect.storage.dynamodb import Client, StoreUnavailable
from flowaccount_connect.storage.history import History
from flowaccount_connect.storage.imports import IMPORTING, ImportStore
from flowaccount_connect.storage.sealing import SealingUnavailable, TokenPair

__all__ = ["DEFAULT_LIMIT", "LONGEST_PAGE", "Imported", "Managing", "shown"]

DEFAULT_LIMIT = 50

LONGEST_REFRESH_TOKEN = 32_768
"""The most characters of a refresh token to import. FlowAccount names no limit.

The largest answer that is read (`token_answer.BODY_LIMIT`) brings two tokens. This is half of it, so a longer token
could not be refreshed. Two sealed tokens of this length take a quarter of a DynamoDB item (400 KB) and half of an SQS
message (256 KB).
"""

_REFRESH_TOKEN = re.compile(rf"[!-~]{{1,{LONGEST_REFRESH_TOKEN}}}")


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import: the connection as the API shows it, and whether a refresh has proved the token."""

    shown: dict[str, object]
    proved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Managing:
    """Shows, lists, ends and imports connections. Every method can also raise `StoreUnavailable`."""

    client: Client
    table: str
    store: ConnectionStore
    imports: ImportStore
    histories: History
    sealer: Sealer
    prove: Callable[[str], None]
    refresh_token_lifetime: int
    """In seconds."""
    clock: Callable[[], float] = time.time

    def show(self, connection_id: str) -> dict[str, object]:
        """One connection. Raises `ConnectionNotFound`."""
        connection, imported = self._stored(connection_id)
        if imported is not None and (connection is None or imported.status is Status.ACTIVE):
            return _importing(imported, connection)
        if connection is None:
            raise ConnectionNotFound
        return shown(connection)

    def page(
        self, status: str | None, *, tenant: str | None = None, limit: int, next_: str | None
    ) -> dict[str, object]:
        """A page of connections, and the `next` of the page after it.

        Raises `InvalidStatus`, `InvalidTenant`, `InvalidNext`.
        """
        if status is not None and status not in set(Listed):
            raise InvalidStatus
        if tenant is not None and not is_tenant(tenant):
            raise InvalidTenant
        wanted = Listed(status) if status is not None else None
        page = Listing(self.client, self.table).page(wanted, tenant=tenant, limit=limit, next_=next_)
        return {"connections": list(map(self._listed, page.connections)), "next": page.next}

    def history(self, connection_id: str, *, limit: int, next_: str | None) -> dict[str, object]:
        """A page of what happened to a connection in the last 90 days, newest first; empty for an unknown connection.

        Raises `InvalidNext`.
        """
        page = self.histories.page(connection_id, limit=limit, now=int(self.clock()), next_=next_)
        return {"entries": list(map(_entry, page.entries)), "next": page.next}

    def disconnect(self, connection_id: str) -> None:
        """End the connection, and an import of it that is under way. A caller may repeat this.

        Its tokens leave the table at once. Raises `ConnectionNotFound`, `ConnectedMeanwhile`. After `StoreUnavailable`
        the connection can have ended or not.
        """
        connection, imported = self._stored(connection_id)
        now = self.clock()
        try:
            if any(one is not None and one.status is Status.UNREADABLE for one in (connection, imported)):
                self.imports.clear(connection_id, now=now)
            elif imported is not None:
                self.imports.cancel(imported, connection, now=now)
            elif connection is None:
                raise ConnectionNotFound
            else:
                # A tombstone gets a new grant id too. It refuses the consents given since the last disconnect.
                self.store.disconnect(connection_id, connection.grant_id, now=now)
        except Refused as refused:
            stored = refused.connection
            if stored is None or stored.status is not Status.DISCONNECTED:
                raise ConnectedMeanwhile from None

    def import_(self, connection_id: str, refresh_token: object, *, tenant: object = None) -> Imported:
        """Take over a refresh token from an older integration. It is stored, sealed, before it is sent.

        With a `tenant` the connection becomes that tenant's. Raises `InvalidRefreshToken`, `InvalidTenant`,
        `KeyUnavailable`, `AlreadyConnected`, `OfAnotherTenant`, `ImportUnderWay`, `ImportUnread`. Raises
        `ImportRefused` with the `reason`; shortly after a refusal its `retry_after` says when the next import may
        begin. After `StoreUnavailable` the token can be stored or not.
        """
        if not isinstance(refresh_token, str) or _REFRESH_TOKEN.fullmatch(refresh_token) is None:
            raise InvalidRefreshToken
        if tenant is not None and not (isinstance(tenant, str) and is_tenant(tenant)):
            raise InvalidTenant
        grant_id, now = new_grant_id(self.clock), int(self.clock())
        try:
            key = self.sealer.data_key()
        except SealingUnavailable:
            raise KeyUnavailable from None
        sealed = self.sealer.seal(TokenPair("", refresh_token), key, owner=connection_id, grant_id=grant_id)
        try:
            # The age of the token is unknown, so this assumes that half of its lifetime is left.
            deadline = now + self.refresh_token_lifetime // 2
            self.imports.begin(connection_id, grant_id, sealed, deadline=deadline, now=now, tenant=tenant)
        except imports.AlreadyConnected:
            raise AlreadyConnected from None
        except imports.OtherTenant:
            raise OfAnotherTenant from None
        except imports.UnderWay:
            raise ImportUnderWay from None
        except imports.CoolingDown as cooling:
            raise ImportRefused({"reason": cooling.reason}, retry_after=max(cooling.until - now, 1)) from None
        self.prove(connection_id)
        return self._imported(connection_id, grant_id)

    def _imported(self, connection_id: str, grant_id: str) -> Imported:
        """The result of an import whose token was sent, or is being sent."""
        try:
            # In this order, because one transaction makes the connection and ends the import.
            imported = self.imports.get(connection_id)
            connection = self.store.get(connection_id)
        except StoreUnavailable:
            raise ImportUnread from None
        if imported is not None and imported.grant_id == grant_id:
            if imported.status is Status.ACTIVE:
                return Imported(_importing(imported, connection), proved=False)
            raise ImportRefused({"reason": imported.reason})
        if connection is None or connection.status is Status.DISCONNECTED:
            raise ConnectionNotFound
        if connection.grant_id != grant_id:
            raise AlreadyConnected
        return Imported(shown(connection), proved=True)

    def _stored(self, connection_id: str) -> tuple[Connection | None, Connection | None]:
        """The connection and its import, as the table has them now; of an import that is over, `None`."""
        keys = [key_of(connection_id, kind) for kind in (ConnectionStore.sort_key, ImportStore.sort_key)]
        items = read(self.client, self.table, keys, consistent=True)
        found = {sort_key: from_item(item) for (_, sort_key), item in items.items()}
        imported = found.get(ImportStore.sort_key)
        under_way = imported is not None and imported.status in (Status.ACTIVE, Status.UNREADABLE)
        return found.get(ConnectionStore.sort_key), imported if under_way else None

    @staticmethod
    def _listed(listed: tuple[str, Connection]) -> dict[str, object]:
        sort_key, connection = listed
        return _importing(connection, None) if sort_key == ImportStore.sort_key else shown(connection)


def shown(connection: Connection) -> dict[str, object]:
    """A connection as the API shows it: no tokens, times in epoch seconds, `None` for a missing attribute."""
    return {
        "support_code": connection.id,
        "environment": connection.environment or None,
        "status": public_status(connection),
        "tenant": connection.tenant,
        "generation": connection.generation,
        "connected_at": connection.connected_at or None,
        "requested_at": connection.requested_at or None,
        "access_expires_at": connection.access_expires_at or None,
        "deadline": connection.deadline or None,
        "refresh_at": connection.refresh_at,
        "consent_ends_at": connection.consent_ends_at,
        "in_doubt_since": connection.in_doubt,
        "at_risk_since": connection.at_risk,
        "reason": connection.reason,
        "since": connection.ended_at,
    }


def _importing(imported: Connection, connection: Connection | None) -> dict[str, object]:
    """An import under way as the API shows it, with the facts of the connection that it may revive."""
    if imported.status is Status.UNREADABLE:
        return shown(imported)
    known = shown(connection) if connection is not None else shown(imported) | {"connected_at": None, "deadline": None}
    return known | {
        "status": IMPORTING,
        "refresh_at": imported.refresh_at,
        "in_doubt_since": imported.in_doubt,
        "reason": None,
        "since": imported.connected_at,
    }


def _entry(entry: Entry) -> dict[str, object]:
    """An entry of a history as the API shows it."""
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
        "consent_ends_at": entry.consent_ends_at,
        "retries": entry.retries,
        "recovered_from": entry.recovered_from,
    }
