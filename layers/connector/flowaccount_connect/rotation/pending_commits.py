"""Token sets that the table did not take: carried, sealed, through a queue, and applied under the same condition.

Late, repeated and unordered delivery is harmless: a refresh's set is written under the commit's condition, a consent's
set and an import's under the reconnect's, a link's set where it is still to be confirmed, and all recognise what they
wrote before. A set that comes too late is dropped.
"""

import base64
import json
from enum import StrEnum
from typing import Any, Protocol

from flowaccount_connect.domain.connection import Connection, Sealed
from flowaccount_connect.domain.error_code import error_code
from flowaccount_connect.storage import links as connect_link
from flowaccount_connect.storage.connections import ConnectionStore, Refused, Rotated, grant_update, stands_there
from flowaccount_connect.storage.dynamodb import Client, ConditionRefused, StoreUnavailable, call
from flowaccount_connect.storage.imports import ImportStore
from flowaccount_connect.storage.links import Waiting


class SalvageUnavailable(Exception):
    """The salvage queue did not take a message."""


class MalformedMessage(Exception):
    """A message that `SalvageQueue` did not write."""


class Sqs(Protocol):
    """What is used of an SQS client."""

    def send_message(self, **kwargs: Any) -> Any: ...


class SalvageQueue:
    """Sends sets that could not be written; ciphertext only."""

    def __init__(self, sqs: Sqs, url: str) -> None:
        self._sqs = sqs
        self._url = url

    def send_rotation(
        self, connection_id: str, grant_id: str, generation: int, attempt_id: str, rotated: Rotated
    ) -> None:
        """Salvage the set that a refresh of `generation` brought. Raises `SalvageUnavailable`."""
        self._send("rotation", connection_id, grant_id, attempt_id, rotated, generation=generation)

    def send_grant(
        self, connection_id: str, grant_id: str, attempt_id: str, environment: str, rotated: Rotated
    ) -> None:
        """Salvage the set that a new consent brought. Raises `SalvageUnavailable`."""
        self._send("grant", connection_id, grant_id, attempt_id, rotated, environment=environment)

    def send_waiting(self, link_id: str, attempt_id: str, waiting: Waiting) -> None:
        """Salvage the set that waits for a host's confirmation. Raises `SalvageUnavailable`."""
        self._send("waiting", waiting.connection_id, waiting.grant_id, attempt_id, waiting.rotated, link_id=link_id)

    def send_import(
        self, connection_id: str, grant_id: str, attempt_id: str, environment: str, rotated: Rotated
    ) -> None:
        """Salvage the set that proved an imported token. Raises `SalvageUnavailable`."""
        self._send("import", connection_id, grant_id, attempt_id, rotated, environment=environment)

    def _send(
        self, kind: str, connection_id: str, grant_id: str, attempt_id: str, rotated: Rotated, **more: object
    ) -> None:
        message = {
            "kind": kind,
            "connection_id": connection_id,
            "grant_id": grant_id,
            "attempt_id": attempt_id,
            "rotated": _encode(rotated),
            **more,
        }
        try:
            self._sqs.send_message(QueueUrl=self._url, MessageBody=json.dumps(message))
        except Exception as error:
            raise SalvageUnavailable(error_code(error)) from None


class SalvageOutcome(StrEnum):
    """What became of a salvaged set."""

    APPLIED = "applied"
    APPLIED_BEFORE = "applied_before"
    TOO_LATE = "too_late"
    """The generation has moved on, a later consent is stored, the connection was disconnected, or the time to confirm
    is over: dropped."""
    UNKNOWN = "unknown"
    """There is no such import or link any more, or no such connection for longer than a token lives: dropped."""


class Salvage:
    """Applies salvaged sets. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table
        self._store = ConnectionStore(client, table)

    def apply(self, body: str, *, now: int) -> tuple[SalvageOutcome, str]:
        """Apply one message; the outcome and the connection's id.

        Idempotent, in any order. Raises `MalformedMessage`, and `StoreUnavailable` while the table cannot be written.
        """
        try:
            message = json.loads(body)
            connection_id, grant_id = str(message["connection_id"]), str(message["grant_id"])
            attempt_id, rotated = str(message["attempt_id"]), _decode(message["rotated"])
            if message["kind"] == "rotation":
                generation = int(message["generation"])
            elif message["kind"] in ("grant", "import"):
                environment = str(message["environment"])
            elif message["kind"] == "waiting":
                link_id = str(message["link_id"])
            else:
                raise MalformedMessage("unknown kind")
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise MalformedMessage("not a message of the salvage queue") from None
        try:
            if message["kind"] == "rotation":
                self._store.commit(connection_id, grant_id, generation, attempt_id, rotated)
            elif message["kind"] == "waiting":
                waiting = Waiting(connection_id=connection_id, grant_id=grant_id, rotated=rotated)
                return self._keep(link_id, attempt_id, waiting, now), connection_id
            elif message["kind"] == "import":
                imports = ImportStore(self._client, self._table, environment, clock=lambda: now)
                imports.commit(connection_id, grant_id, 0, attempt_id, rotated)
            else:
                update = grant_update(
                    self._table,
                    connection_id,
                    grant_id=grant_id,
                    attempt_id=attempt_id,
                    environment=environment,
                    rotated=rotated,
                    now=now,
                )
                call(self._client.update_item, **update)
        except Refused as refused:
            lifetime = rotated.deadline - rotated.requested_at
            if refused.connection is None and message["kind"] == "rotation" and now < rotated.deadline + lifetime:
                # A disconnect leaves a tombstone: the table itself was lost. While its token may be of use, the set
                # waits for it to be restored.
                raise StoreUnavailable("nothing there") from None
            return _refused(refused.connection, attempt_id), connection_id
        except ConditionRefused as refused:
            return _refused(stands_there(refused), attempt_id), connection_id
        return SalvageOutcome.APPLIED, connection_id

    def _keep(self, link_id: str, attempt_id: str, waiting: Waiting, now: int) -> SalvageOutcome:
        try:
            call(
                self._client.update_item,
                **connect_link.keeping(self._table, link_id, attempt_id, waiting, now=now),
            )
        except ConditionRefused as refused:
            item = refused.items[0]
            if item is None:
                return SalvageOutcome.UNKNOWN
            before = connect_link.link_from_item(item).kept_for(attempt_id)
            return SalvageOutcome.APPLIED_BEFORE if before else SalvageOutcome.TOO_LATE
        return SalvageOutcome.APPLIED


def _refused(there: Connection | None, attempt_id: str) -> SalvageOutcome:
    if there is None:
        return SalvageOutcome.UNKNOWN
    return SalvageOutcome.APPLIED_BEFORE if there.committed_by == attempt_id else SalvageOutcome.TOO_LATE


def _encode(rotated: Rotated) -> dict[str, object]:
    return {
        "tokens": base64.b64encode(rotated.sealed.ciphertext).decode(),
        "data_key": base64.b64encode(rotated.sealed.data_key).decode(),
        "requested_at": rotated.requested_at,
        "access_expires_at": rotated.access_expires_at,
        "deadline": rotated.deadline,
        "refresh_at": rotated.refresh_at,
    }


def _decode(fields: dict[str, Any]) -> Rotated:
    return Rotated(
        sealed=Sealed(
            base64.b64decode(fields["tokens"], validate=True),
            base64.b64decode(fields["data_key"], validate=True),
        ),
        requested_at=int(fields["requested_at"]),
        access_expires_at=int(fields["access_expires_at"]),
        deadline=int(fields["deadline"]),
        refresh_at=int(fields["refresh_at"]),
    )
