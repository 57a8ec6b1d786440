"""A valid access token for whoever asks: from the table while it is good, refreshed first where it is not."""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from flowaccount_connect.connection import Connection, Status, public_status
from flowaccount_connect.dynamodb import StoreUnavailable
from flowaccount_connect.identifiers import is_connection_id
from flowaccount_connect.problems import Problem, invalid, unavailable
from flowaccount_connect.sealing import CannotOpen, SealingUnavailable, Tokens
from flowaccount_connect.store import ConnectionStore

LONGEST_MIN_TTL = 3_600
"""The most life one may ask a token to have left, in seconds."""

DEFAULT_MIN_TTL = 300

FRESH = 60
"""A token younger than this is as fresh as it gets, in seconds."""

_RESERVE = 8.0
"""Kept for the last read's outcome: opening the tokens may take a call of KMS. Seconds."""

LONGEST_INVOCATION = 17.0
"""The longest that `refresh` is waited for, in seconds."""

_PAUSES = (0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An access token and what goes with it. Its repr does not show the token. Times in epoch seconds."""

    access_token: str
    expires_in: int
    expires_at: int
    support_code: str
    environment: str
    generation: int
    status: str

    def __repr__(self) -> str:
        return f"Served(support_code={self.support_code!r}, generation={self.generation})"


class Opens(Protocol):
    """What opens sealed sets; see `sealing.Sealer`."""

    def open(self, sealed: Any, *, owner: str, grant_id: str) -> Tokens: ...


class RefreshOnDemand:
    """Asks the `refresh` function to refresh a connection now, and waits for it. `client` is a Lambda client."""

    def __init__(self, client: Any, function: str) -> None:
        self._client = client
        self._function = function

    def __call__(self, connection_id: str, generation: int) -> None:
        """Refresh if the connection is still of `generation`. What came of it, the table tells; never raises."""
        payload = {"connection_id": connection_id, "generation": generation}
        # A slow or failed invocation changes nothing: the table is read next.
        with contextlib.suppress(Exception):
            self._client.invoke(
                FunctionName=self._function,
                InvocationType="RequestResponse",
                Payload=json.dumps(payload).encode(),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Serves access tokens."""

    store: ConnectionStore
    sealer: Opens
    refresh: Callable[[str, int], None]
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def token(
        self,
        connection_id: str,
        *,
        min_ttl: int = DEFAULT_MIN_TTL,
        rejected_generation: int | None = None,
        remaining: Callable[[], float],
    ) -> Served:
        """The connection's access token, with at least `min_ttl` seconds left where a refresh can bring that.

        `rejected_generation` is one that FlowAccount refused: it is refreshed if nobody has done so yet. A living
        token is served whatever happens to its refresh. Raises `Problem`: 400, 404 unknown, 409 where only a new
        consent helps, 503 where only time does.
        """
        if not is_connection_id(connection_id):
            raise invalid(
                "invalid_connection_id",
                "A connection's id is its supportCode: 1 to 64 letters, digits, '.', '_' or '-'.",
            )
        connection = self._read(connection_id)
        now = int(self.clock())
        rejected = rejected_generation == connection.generation
        if rejected and connection.status is Status.ACTIVE and now - connection.requested_at < FRESH:
            raise unavailable(
                "refreshed_just_now",
                "This connection was refreshed less than a minute ago; at most one refresh a minute can be forced.",
                max(connection.requested_at + FRESH - now, 1),
            )
        left = connection.access_expires_at - now
        fresh = left > 0 and now - connection.requested_at < FRESH
        if rejected or (left < max(min_ttl, 1) and not fresh):
            connection = self._refreshed(connection, remaining)
        return self._serve(connection)

    def _read(self, connection_id: str) -> Connection:
        try:
            connection = self.store.get(connection_id)
        except StoreUnavailable:
            raise unavailable("store_unavailable", "The table cannot be read at the moment. Try again.", 5) from None
        if connection is None or connection.status is Status.DISCONNECTED:
            raise Problem(
                "connection_not_found",
                HTTPStatus.NOT_FOUND,
                "There is no such connection. Its business has to be connected first.",
            )
        return connection

    def _refreshed(self, connection: Connection, remaining: Callable[[], float]) -> Connection:
        """The connection once its generation has moved on, or as it is when waiting no longer helps.

        `refresh` is invoked once, and only where nobody holds the connection; otherwise the item is read at growing
        intervals.
        """
        generation, invoked, waits = connection.generation, False, iter(_PAUSES)
        while connection.status is Status.ACTIVE and connection.generation == generation and remaining() > _RESERVE:
            now = int(self.clock())
            if connection.leased(now):
                self.sleep(min(next(waits, _PAUSES[-1]), max(remaining() - _RESERVE, 0)))
            elif invoked or remaining() < LONGEST_INVOCATION + _RESERVE or _held_back(connection, now):
                break
            else:
                self.refresh(connection.id, generation)
                invoked = True
            try:
                connection = self._read(connection.id)
            except Problem as problem:
                if problem.status is HTTPStatus.SERVICE_UNAVAILABLE:
                    break  # What was read before may hold a living token.
                raise
        return connection

    def _serve(self, connection: Connection) -> Served:
        now = int(self.clock())
        left = connection.access_expires_at - now
        if left <= 0 or connection.sealed is None:
            if connection.status is Status.REAUTHORIZATION_REQUIRED:
                raise Problem(
                    "reauthorization_required",
                    HTTPStatus.CONFLICT,
                    "FlowAccount no longer accepts this connection. Its user has to connect the business again.",
                    extra={"reason": connection.reason, "since": connection.ended_at},
                )
            later = connection.refresh_at - now if connection.refresh_at is not None else 0
            raise unavailable(
                "token_unavailable",
                "The access token has expired and could not be refreshed yet; the stack keeps trying. Try again.",
                min(max(later, 2), 60),
            )
        try:
            tokens = self.sealer.open(connection.sealed, owner=connection.id, grant_id=connection.grant_id)
        except SealingUnavailable:
            raise unavailable("key_unavailable", "KMS cannot be reached at the moment. Try again.", 5) from None
        except CannotOpen:
            raise unavailable(
                "sealed_elsewhere",
                "The stored tokens do not open with this stack's key. See the runbook.",
                60,
            ) from None
        return Served(
            access_token=tokens.access_token,
            expires_in=left,
            expires_at=connection.access_expires_at,
            support_code=connection.id,
            environment=connection.environment,
            generation=connection.generation,
            status=public_status(connection),
        )


def _held_back(connection: Connection, now: int) -> bool:
    """Whether a refresh was tried and failed, and the backoff says that it is too early for another."""
    return connection.retries is not None and connection.refresh_at is not None and connection.refresh_at > now
