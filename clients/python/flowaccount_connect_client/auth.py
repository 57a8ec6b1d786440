"""FlowAccount's API by `requests`, as one connected business.

    requests.get("https://openapi.flowaccount.com/v1/company/info", auth=FlowAccountAuth("N1234567"))

What it has in common with the class for httpx stands here, too.
"""

import functools
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import requests
from requests.auth import AuthBase
from requests.utils import rewind_body

from flowaccount_connect_client.client import FlowAccountConnect
from flowaccount_connect_client.errors import AccessDenied, FlowAccountConnectError, TemporarilyUnavailable
from flowaccount_connect_client.results import AccessToken
from flowaccount_connect_client.rules import Origins, origin_of
from flowaccount_connect_client.rules import connection_id as checked


class OfConnection:
    """What both auths have in common: a connection, its stack, and where its token may go."""

    def __init__(
        self,
        connection_id: str,
        *,
        client: FlowAccountConnect | None = None,
        min_ttl: int = 300,
        allowed_hosts: Iterable[str] | None = None,
    ) -> None:
        self.connection_id: str = checked(connection_id)
        self.client: FlowAccountConnect = client or FlowAccountConnect()
        self._min_ttl = min_ttl
        self._origins = Origins(allowed_hosts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.connection_id!r}, client={self.client!r})"

    def token(self) -> AccessToken:
        """The token that a request would carry now. Raises `FlowAccountConnectError`."""
        return self.client.access_token(self.connection_id, min_ttl=self._min_ttl)


class FlowAccountAuth(OfConnection, AuthBase):
    """Gives requests to FlowAccount's API the access token of one connection.

    `connection_id` is FlowAccount's `supportCode`; `client` the stack, `FlowAccountConnect()` by default. A token has
    at least `min_ttl` seconds left (0 to 3600) where the stack can bring that. `allowed_hosts` are the origins that
    may get the token, FlowAccount's alone by default (`FLOWACCOUNT_URL` names another). Thread-safe.

    After a 401 the token is reported, and the request sent once more with the next one if its body can be sent again.
    An answer 200 with `{"status": false}` is the caller's to judge: see `FlowAccountConnect.report_rejected`.
    Sending a request raises `HostNotAllowed`, or what `FlowAccountConnect.access_token` raises.
    """

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Give the request its token. What `requests` calls."""
        self._origins.check(origin_of(request.url or ""))
        token = self.token()
        request.headers["Authorization"] = f"Bearer {token.value}"
        hook: Any = functools.partial(self._answered, token)
        request.register_hook("response", hook)  # type: ignore[no-untyped-call]
        return request

    def _answered(self, token: AccessToken, response: requests.Response, **sending: Any) -> requests.Response:
        """After a 401 from FlowAccount: report the token, and repeat the request once with the next."""
        request = response.request
        carried = request.headers.get("Authorization") == f"Bearer {token.value}"
        if response.status_code != HTTPStatus.UNAUTHORIZED or not carried:
            return response
        if origin_of(request.url or "") not in self._origins:
            return response
        try:
            newer = next_token(self.client, token)
        except FlowAccountConnectError:
            response.close()
            raise
        if newer is None or not _rewound(request):
            return response
        _ = response.content  # Read, so that its connection may be used again.
        response.close()
        again = request.copy()
        again.headers["Authorization"] = f"Bearer {newer.value}"
        connection: Any = getattr(response, "connection")  # noqa: B009 - requests' types do not name it
        repeated: requests.Response = connection.send(again, **sending)
        repeated.history.append(response)
        repeated.request = again
        return repeated


def next_token(client: FlowAccountConnect, refused: AccessToken) -> AccessToken | None:
    """The token after one that FlowAccount refused; `None` where the stack has none, so that its own answer stands.

    Raises `FlowAccountConnectError` where the connection itself has come to an end.
    """
    try:
        newer = client.report_rejected(refused)
    except (TemporarilyUnavailable, AccessDenied):
        return None
    return newer if newer.generation != refused.generation else None


def _rewound(request: requests.PreparedRequest) -> bool:
    """Whether the request's body can be sent once more: none, bytes, text, or a file, which is rewound."""
    body: object = request.body
    if body is None or isinstance(body, bytes | str):
        return True
    # Where `requests` found a file to begin; None or an object of its own where it cannot tell.
    if not isinstance(getattr(request, "_body_position", None), int):
        return False
    try:
        rewind_body(request)
    except requests.exceptions.UnrewindableBodyError:
        return False
    return True
