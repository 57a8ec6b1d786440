"""The errors of this package.

    FlowAccountConnectError
    ├─ NotConfigured              this process: URL, region, credentials, proxy, authorities, a webhook's secret
    ├─ InvalidArgument            a call's own argument; also a ValueError
    ├─ HostNotAllowed             a request that must not carry a token
    ├─ InvalidAnswer              what answered is not the API
    ├─ InvalidSignature           a webhook that nobody signed with your secret
    └─ Problem                    the stack refused: code, status, detail, request_id
       ├─ ConnectionNotFound
       ├─ ReauthorizationRequired
       ├─ TemporarilyUnavailable
       └─ AccessDenied            AWS refused the request: denial

No error has a token in it, nor the words of a library or of AWS: these quote what was sent. All errors can be pickled
and copied, so that they cross the borders of processes.
"""

from typing import Any, Literal

Denial = Literal["clock", "expired", "keys", "permission", "region", "stage", "unknown"]
"""Why AWS refused a request.

`clock`: the clock of this machine is wrong. `expired`: the credentials have expired. `keys`: the access key, its secret
or the session token is wrong. `permission`: a policy does not allow the call. `region`: the signature is for another
region. `stage`: the URL has no such stage or route. `unknown`: AWS does not say.
"""


class FlowAccountConnectError(Exception):
    """The base of all errors of this package. The message says what to do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(
    kind: type[FlowAccountConnectError], arguments: tuple[Any, ...], state: dict[str, Any]
) -> FlowAccountConnectError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error


class NotConfigured(FlowAccountConnectError):
    """The URL, the region, the AWS credentials, the proxy or another setting of this process is missing or wrong."""


class InvalidArgument(FlowAccountConnectError, ValueError):
    """An argument of the call cannot be what it stands for."""


class HostNotAllowed(FlowAccountConnectError):
    """The request goes to a host that must not get a token of FlowAccount's. Nothing was sent."""


class InvalidAnswer(FlowAccountConnectError):
    """What answered is not the API of FlowAccount Connect: the URL is wrong, or something stands in between."""


class InvalidSignature(FlowAccountConnectError):
    """A webhook was not signed with one of your secrets, or not in the last minutes. Answer it with status 401."""


class Problem(FlowAccountConnectError):
    """The stack refused. Decide by `code`, which is stable, not by the words."""

    reason: str | None = None
    """Why a new consent is needed, or why an import was refused."""
    ending: str | None = None
    """How a connect ended, where it ended without a connection."""

    def __init__(self, code: str, status: int, detail: str, request_id: str | None = None) -> None:
        super().__init__(f"{code}: {detail}" + (f" (request {request_id})" if request_id else ""))
        self.code = code
        self.status = status
        """The HTTP status; 0 where no answer came."""
        self.detail = detail
        self.request_id = request_id
        """Names the request in the stack's logs."""


class ConnectionNotFound(Problem):
    """That business was never connected to this stack, or has been disconnected."""


class ReauthorizationRequired(Problem):
    """Only a new consent of the business's user helps.

    `FlowAccountConnect.reconnect_link(error, return_url)` makes the link to send to that user. A member that the stack
    does not give is `None`.
    """

    expected_connection: str | None = None
    """The connection's id."""
    tenant: str | None = None
    """The tenant that the connection belongs to."""
    since: int | None = None
    """Since when, in epoch seconds."""
    reconnect_url: str | None = None
    """Where the user can consent again, if the stack connects without links, too."""


class TemporarilyUnavailable(Problem):
    """Only time helps. A write may have happened or not; all but an import may be repeated."""

    retry_after: int = 5
    """In how many seconds to try again."""


class AccessDenied(Problem):
    """AWS did not let the request through; `denial` says why, and `detail` what to do."""

    denial: Denial = "unknown"
