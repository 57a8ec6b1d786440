"""Connections as the host manages them: what is known of each, and never a token."""

from dataclasses import dataclass
from http import HTTPStatus

from flowaccount_connect.connection import Connection, public_status
from flowaccount_connect.dynamodb import StoreUnavailable
from flowaccount_connect.problems import Problem, unavailable
from flowaccount_connect.store import ConnectionStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Managing:
    """Shows connections."""

    store: ConnectionStore

    def show(self, connection_id: str) -> dict[str, object]:
        """One connection, as `shown` describes it. Raises `Problem`: 404 unknown, 503."""
        try:
            connection = self.store.get(connection_id)
        except StoreUnavailable:
            raise unavailable("store_unavailable", "The table cannot be read at the moment. Try again.", 5) from None
        if connection is None:
            raise Problem(
                "connection_not_found",
                HTTPStatus.NOT_FOUND,
                "There is no such connection. Its business has to be connected first.",
            )
        return shown(connection)


def shown(connection: Connection) -> dict[str, object]:
    """What the API says of a connection. Times in epoch seconds, `None` where there is nothing to say; no tokens."""
    return {
        "support_code": connection.id,
        "environment": connection.environment,
        "status": public_status(connection),
        "reference": connection.reference,
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
