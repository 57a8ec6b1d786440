"""What can become of one refresh, and the facts that are logged and counted of it."""

from dataclasses import dataclass
from enum import StrEnum

from flowaccount_connect.domain.connection import Reason


class RefreshOutcome(StrEnum):
    """What became of one refresh."""

    REFRESHED = "refreshed"
    KEPT = "kept"
    """New access token, no new refresh token: the old one is kept."""
    PENDING = "pending"
    """The table did not take the new tokens; they wait, sealed, in the queue of pending commits."""
    LOST = "lost"
    """New tokens that neither the table nor the queue took."""
    UNKNOWN = "unknown"
    UNREADABLE = "unreadable"
    """The item cannot be understood. Nothing was sent, since its answer could not be stored."""
    NOT_ACTIVE = "not_active"
    NOT_DUE = "not_due"
    IN_FLIGHT = "in_flight"
    """Another attempt holds it."""
    SUPERSEDED = "superseded"
    """Another write has changed the generation. Its tokens stay."""
    NO_TIME = "no_time"
    NOT_PREPARED = "not_prepared"
    """KMS or Secrets Manager failed before anything was spent."""
    NOT_SENT = "not_sent"
    PACED = "paced"
    """The stack's own rate left no room; nothing was sent."""
    THROTTLED = "throttled"
    CONFIGURATION_ERROR = "configuration_error"
    UNWELL = "unwell"
    """Nothing was claimed or sent, since the token endpoint is unwell; see `health`."""
    IN_DOUBT = "in_doubt"
    REFUSED = "refused"
    """FlowAccount refused the token, and that is not final yet: a later attempt asks once more."""
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    IMPORT_REFUSED = "import_refused"
    """The token that was to be imported did not prove good; no connection has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """The facts of one refresh: what is logged and counted of it, and nothing secret."""

    outcome: RefreshOutcome
    connection_id: str
    generation: int | None = None
    attempt_id: str | None = None
    reason: Reason | None = None
    error: str | None = None
    http_status: int | None = None
    exchange_ms: int | None = None
    seconds_to_deadline: int | None = None
    in_doubt_since: int | None = None
    refused_alone_since: int | None = None
    """Since when FlowAccount refuses this connection, and accepts others."""
    retries: int | None = None
    """How many refreshes of this connection have failed in a row, this one included."""
    retry_after: int | None = None
    """In how many seconds the stack, which had to wait, goes on."""
    answered_for: str | None = None
    """The other business that an answer was for, if it says so in a form that an id has."""
    table_error: str | None = None
    """Why the table did not take the new tokens: an error's code."""
    queue_error: str | None = None
    """Why the queue of pending commits did not take them, either."""
