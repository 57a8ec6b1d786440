"""What a connection is: its states, and everything known of it at one moment."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The state of a connection, as stored."""

    ACTIVE = "active"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    DISCONNECTED = "disconnected"


class Reason(StrEnum):
    """Why a connection needs a new consent of its user."""

    REJECTED = "rejected"
    """FlowAccount refused the newest refresh token."""
    ROTATION_LOST = "rotation_lost"
    """FlowAccount refused it after an answer in doubt: the answer that held the newer token never arrived."""
    EXPIRED = "expired"
    """A full lifetime passed after the deadline without any answer."""
    IN_DOUBT = "in_doubt"
    """An answer was in doubt and the replay policy is `never`."""
    WRONG_CONNECTION = "wrong_connection"
    """FlowAccount answered for another business; the set is in quarantine."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A token set as it is stored: ciphertext, and the wrapped data key that opens it."""

    ciphertext: bytes
    data_key: bytes

    def __repr__(self) -> str:
        return f"Sealed({len(self.ciphertext)} bytes)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A refresh under way: who runs it, since when, and until when nobody else may. Times in epoch seconds."""

    id: str
    started_at: int
    lease_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One connection as the table has it. Times in epoch seconds; `None` where the item says nothing."""

    id: str
    status: Status
    environment: str
    grant_id: str
    generation: int
    connected_at: int
    tenant: str | None = None
    sealed: Sealed | None = None
    requested_at: int = 0
    """When the token request that brought the present tokens was sent; expiry times count from here."""
    access_expires_at: int = 0
    deadline: int = 0
    """Last token request + refresh-token lifetime: the refresh token is dead from here on."""
    refresh_at: int | None = None
    """When it falls due; `None` for a connection that is not to be refreshed."""
    retries: int | None = None
    """How many attempts failed since the last success; `None` right after one. While it is there,
    nobody refreshes before `refresh_at`, not even on demand."""
    in_doubt: int | None = None
    """Since when it is not known whether the stored refresh token was spent."""
    at_risk: int | None = None
    committed_by: str | None = None
    attempt: Attempt | None = None
    reason: Reason | None = None
    ended_at: int | None = None
    """Since when a new consent is needed, or when it was disconnected."""
    restored_from: int | None = None
    """The generation it had in the backup that it came from; `None` once its tokens are known to be new."""

    def leased(self, now: int) -> bool:
        """Whether an attempt holds this connection at `now`."""
        return self.attempt is not None and self.attempt.lease_until > now


def public_status(connection: Connection) -> str:
    """The state as callers see it: `in_doubt` while nobody knows whether the refresh token was spent."""
    if connection.status is Status.ACTIVE and connection.in_doubt is not None:
        return "in_doubt"
    return connection.status.value
