"""The errors of the use cases. Each has a stable code, and a sentence that says what to do.

None knows its HTTP status: `http.problems` has them all.
"""

from collections.abc import Mapping

from flowaccount_connect.domain.ids import LONGEST_TENANT


class Failure(Exception):
    """A request that cannot be fulfilled.

    Subclasses set `code` and `detail`. The code is stable and part of the API. The detail says what to do. Neither
    contains anything that a caller, a browser or FlowAccount sent. Where only time helps, `retry_after` is in seconds.
    """

    code = ""
    detail = ""
    retry_after: int | None = None

    def __init__(self, facts: Mapping[str, object] | None = None, *, retry_after: int | None = None) -> None:
        super().__init__(self.code)
        if retry_after is not None:
            self.retry_after = retry_after
        self.facts = dict(facts or {})
        """Further facts for the caller, by name."""


class InvalidConnectionId(Failure):
    """The text in the path cannot be the id of a connection."""

    code = "invalid_connection_id"
    detail = "The id of a connection is its supportCode: 1 to 64 letters, digits, '.', '_' or '-'."


class InvalidTenant(Failure):
    """The tenant is empty, too long, not printable, or not a string."""

    code = "invalid_tenant"
    detail = f"tenant must be 1 to {LONGEST_TENANT} printable characters."


class ConnectionNotFound(Failure):
    """The business was never connected, or it was disconnected."""

    code = "connection_not_found"
    detail = "This connection does not exist. Connect its business first."


class KeyUnavailable(Failure):
    """KMS does not answer, so no token can be sealed or opened."""

    code = "key_unavailable"
    detail = "KMS does not answer at the moment. Try again."
    retry_after = 5


class InvalidSetting(Exception):
    """A setting of the stack is missing or wrong. The message names it and says what it must be."""
