"""What allows each single POST to the token endpoint. The rate that gives permits is `scheduling`'s."""

from typing import Protocol

FIRST_PAUSE = 15
"""How long nothing is sent after a 429 that does not say it, in seconds."""


class Paced(Exception):
    """There is no permit in time. `retry_after` says in how many seconds there may be one."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("no permit in time")
        self.retry_after = retry_after


class Permit(Protocol):
    """What allows each single POST; see `pacing.Permit`."""

    def use(self, patience: float, *, urgent: bool = False) -> None: ...
    def throttled(self, sent_at: float, retry_after: int | None) -> int: ...


class Unpaced:
    """A permit for as many POSTs as one likes, where nobody counts them."""

    def use(self, patience: float, *, urgent: bool = False) -> None:
        """At once."""

    def throttled(self, sent_at: float, retry_after: int | None) -> int:  # noqa: ARG002
        """As long as was asked for."""
        return retry_after or FIRST_PAUSE
