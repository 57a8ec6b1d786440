"""The import of a refresh token from an older integration. See `storage.imports` for what the table has of it."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from flowaccount_connect.connections.errors import (
    AlreadyConnected,
    ImportRefused,
    ImportUnderWay,
    ImportUnread,
    InvalidRefreshToken,
    OfAnotherTenant,
)
from flowaccount_connect.connections.managing import shown, shown_import
from flowaccount_connect.domain.connection import Connection, Status
from flowaccount_connect.domain.errors import ConnectionNotFound, Failure, InvalidTenant, KeyUnavailable
from flowaccount_connect.domain.ids import is_tenant, new_grant_id
from flowaccount_connect.rotation.ports import Sealer
from flowaccount_connect.storage.connections import ConnectionStore
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.imports import COOLING, ImportStore, NotBegun
from flowaccount_connect.storage.sealing import SealingUnavailable, TokenPair

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
class Importing:
    """Imports refresh tokens. Every method can also raise `StoreUnavailable`."""

    store: ConnectionStore
    imports: ImportStore
    sealer: Sealer
    prove: Callable[[str], None]
    refresh_token_lifetime: int
    """In seconds."""
    clock: Callable[[], float] = time.time

    def import_(self, connection_id: str, refresh_token: object, *, tenant: object = None) -> Imported:
        """Take over a refresh token from an older integration. It is stored, sealed, before it is sent.

        With a `tenant` the connection becomes that tenant's. Raises `InvalidRefreshToken`, `InvalidTenant`,
        `KeyUnavailable`, `AlreadyConnected`, `OfAnotherTenant`, `ImportUnderWay`, `ImportUnread`. Raises
        `ImportRefused` with the `reason`; shortly after a refusal its `retry_after` says when the next import may
        begin. After `StoreUnavailable` the token can be stored or not.
        """
        if not isinstance(refresh_token, str) or _REFRESH_TOKEN.fullmatch(refresh_token) is None:
            raise InvalidRefreshToken
        if tenant is not None and not is_tenant(tenant):
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
        except NotBegun as found:
            raise _refusal(found.connection, found.imported, now) from None
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
                return Imported(shown_import(imported, connection), proved=False)
            raise ImportRefused({"reason": imported.reason})
        if connection is None or connection.status is Status.DISCONNECTED:
            raise ConnectionNotFound
        if connection.grant_id != grant_id:
            raise AlreadyConnected
        return Imported(shown(connection), proved=True)


def _refusal(connection: Connection | None, imported: Connection | None, now: int) -> Failure:
    """Why an import cannot begin, by what stands in its way."""
    if connection is not None:
        is_inactive = connection.status in (Status.REAUTHORIZATION_REQUIRED, Status.DISCONNECTED)
        return OfAnotherTenant() if is_inactive else AlreadyConnected()
    if imported is None or imported.status is not Status.REAUTHORIZATION_REQUIRED:
        return ImportUnderWay()
    until = (imported.ended_at or now) + COOLING
    return ImportRefused({"reason": imported.reason}, retry_after=max(until - now, 1))
