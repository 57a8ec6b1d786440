"""What allows each single POST to the token endpoint. `scheduling/rate.py` gives the permits."""

from enum import StrEnum
from typing import Protocol

FIRST_PAUSE = 15
"""How long nothing is sent after a 429 without `Retry-After`, in seconds."""


class Kind(StrEnum):
    """Whom a request to the token endpoint is for. All kinds count against one limit."""

    URGENT = "urgent"
    """A refresh without which its connection dies within the hour. It goes before all others."""
    SCHEDULED = "scheduled"
    """A refresh that the schedule dispatched."""
    CALLER = "caller"
    """A refresh for which a service waits."""
    CONNECT = "connect"
    """The exchange of a code, for which a person waits."""
    IMPORT = "import"
    """The first refresh of an imported token."""
    CANARY = "canary"
    """A test of the endpoint's health; see `health`."""


class NoPermit(Exception):
    """There is no room in time, and nothing may be sent. `retry_after` is in how many seconds there may be room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("no permit in time")
        self.retry_after = retry_after


class Permit(Protocol):
    """Allows one request at a time. It may already hold a slot; otherwise `use` takes one."""

    def use(self, patience: float, *, urgent: bool = False) -> None:
        """Return when the request may be sent, after `patience` seconds at most.

        `urgent` puts a refresh before all others. Raises `NoPermit`, and `StoreUnavailable` if the rate cannot be
        kept; in both cases nothing may be sent.
        """

    def throttled(self, sent_at: float, retry_after: int | None) -> int:
        """Report a 429 to a request sent at `sent_at` (epoch seconds); how many seconds the whole stack pauses.

        Raises `StoreUnavailable` if the others cannot be informed.
        """
