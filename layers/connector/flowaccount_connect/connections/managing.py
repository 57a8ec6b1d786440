"""The app's management of connections: show, list, end. No answer has a token. For imports see `importing`."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from flowaccount_connect.connections.errors import ConnectedMeanwhile, InvalidStatus
from flowaccount_connect.connections.listing import Listed, Listing, read
from flowaccount_connect.domain.connection import Connection, Status, public_status
from flowaccount_connect.domain.errors import ConnectionNotFound, InvalidTenant
from flowaccount_connect.domain.events import Entry
from flowaccount_connect.domain.ids import is_tenant
from flowaccount_connect.storage.connections import ConnectionStore, Refused, from_item, key_of
from flowaccount_connect.storage.dynamodb import Client
from flowaccount_connect.storage.history import History
from flowaccount_connect.storage.imports import IMPORTING, ImportStore

DEFAULT_LIMIT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Managing:
    """Shows, lists and ends connections. Every method can also raise `StoreUnavailable`."""

    client: Client
    table: str
    store: ConnectionStore
    imports: ImportStore
    histories: History
    clock: Callable[[], float] = time.time

    def show(self, connection_id: str) -> dict[str, object]:
        """One connection. Raises `ConnectionNotFound`."""
        connection, imported = self._stored(connection_id)
        if imported is not None and (connection is None or imported.status is Status.ACTIVE):
            return shown_import(imported, connection)
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
        return shown_import(connection, None) if sort_key == ImportStore.sort_key else shown(connection)


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


def shown_import(imported: Connection, connection: Connection | None) -> dict[str, object]:
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
