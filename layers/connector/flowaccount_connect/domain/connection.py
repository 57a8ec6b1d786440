"""What a connection is: its states, and everything known of it at one moment."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The state of a connection, as stored."""

    ACTIVE = "active"
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    DISCONNECTED = "disconnected"
    UNREADABLE = "unreadable"
    """Its item cannot be understood. Never stored: the state of what a hand or another program wrote."""


class Reason(StrEnum):
    """Why a connection needs a new consent of its user."""

    REJECTED = "rejected"
    """FlowAccount refused the newest refresh token."""
    ROTATION_LOST = "rotation_lost"
    """FlowAccount refused it after an answer in doubt: the answer that held the newer token never arrived."""
    EXPIRED = "expired"
    """A full lifetime passed after the deadline, and FlowAccount never answered with tokens."""
    IN_DOUBT = "in_doubt"
    """An answer was in doubt and the replay policy is `never`."""
    WRONG_CONNECTION = "wrong_connection"
    """FlowAccount answered for another business. Its tokens were dropped."""


REFRESH_FAILING = "refresh_failing"
"""The public status of an active connection whose refresh fails: refused, but not for good, or unanswered."""


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


LONGEST_LEASE = 3_600
"""The longest lease that a stack can be configured with, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One connection as the table has it. Times in epoch seconds; `None` where the item says nothing."""

    id: str
    status: Status
    environment: str
    grant_id: str
    """The consent that the tokens belong to; of a tombstone, the moment of the disconnect. Later ids are greater."""
    generation: int
    """Grows with each write that replaces or removes the tokens."""
    connected_at: int
    tenant: str | None = None
    sealed: Sealed | None = None
    requested_at: int = 0
    """When the token request that brought the present tokens was sent; expiry times count from here."""
    access_expires_at: int = 0
    deadline: int = 0
    """When the refresh token dies: last token request + lifetime, or the end of the consent if that is sooner."""
    refresh_at: int | None = None
    """When it falls due; `None` for a connection that is not to be refreshed."""
    consent_ends_at: int | None = None
    """When the consent ends, however often it is refreshed; `None`: nothing says that it does."""
    retries: int | None = None
    """How many attempts failed since the last success; `None` right after one. While it is set,
    nobody refreshes before `refresh_at`, not even on demand."""
    in_doubt: int | None = None
    """Since when it is not known whether the stored refresh token was spent."""
    refused_at: int | None = None
    """When FlowAccount refused the stored refresh token for the first time; a second refusal may be final."""
    refused_alone: int | None = None
    """Since when FlowAccount refuses this connection's requests while it accepts those of others."""
    at_risk: int | None = None
    """Since when its deadline, or the end of its consent, is near."""
    committed_by: str | None = None
    attempt: Attempt | None = None
    reason: Reason | None = None
    ended_at: int | None = None
    """Since when a new consent is needed, or when it was disconnected."""

    def leased(self, now: int) -> bool:
        """Whether an attempt holds this connection at `now`. A lease that ends too far ahead was given by no worker."""
        return self.attempt is not None and now < self.attempt.lease_until <= now + 2 * LONGEST_LEASE


def public_status(connection: Connection) -> str:
    """The state as callers see it.

    An active connection is `refresh_failing` after a first refusal, and `in_doubt` while nobody knows whether its
    refresh token was spent.
    """
    if connection.status is Status.ACTIVE:
        if connection.refused_at is not None or connection.refused_alone is not None:
            return REFRESH_FAILING
        if connection.in_doubt is not None:
            return "in_doubt"
    return connection.status.value


def reconnect(connection_id: str, tenant: str | None) -> dict[str, object]:
    """The way to a fresh link for a connection: what `POST /connect-links` takes beside the app's `return_url`.

    The link itself cannot be here: it is a secret of its user, and it lasts an hour. `tenant` is `None` where the
    connection has none; then the app gives its own.
    """
    return {"tenant": tenant, "expected_connection": connection_id}
