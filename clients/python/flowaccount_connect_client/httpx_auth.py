"""FlowAccount's API by `httpx`, sync and async, as one connected business. Comes with the extra `httpx`.

    httpx.get("https://openapi.flowaccount.com/v1/company/info", auth=FlowAccountAuth("N1234567"))

The tokens are those of the whole process, shared with `requests`' class of the same name. In an async client a token
that is kept is taken at once, and the stack is asked in a thread, so that the loop goes on. These threads are not those
of the app, and one connection that waits has a few of its own: it keeps no other waiting.
"""

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from http import HTTPStatus
from typing import TypeVar
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread
import httpx
from anyio.lowlevel import RunVar

from flowaccount_connect_client.auth import OfConnection, next_token
from flowaccount_connect_client.results import AccessToken
from flowaccount_connect_client.rules import origin


class FlowAccountAuth(OfConnection, httpx.Auth):
    """Gives requests to FlowAccount's API the access token of one connection.

    The arguments, what is raised, and what follows a 401 are those of `flowaccount_connect_client.FlowAccountAuth`. A
    body that is a stream is sent once only.
    """

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """What `httpx.Client` calls."""
        self._origins.check(_origin(request))
        token = self.token()
        response = yield _carrying(request, token)
        if self._is_refused(response, token):
            newer = next_token(self.client, token)
            if newer is not None and isinstance(response.request.stream, httpx.ByteStream):
                yield _carrying(response.request, newer)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """What `httpx.AsyncClient` calls."""
        self._origins.check(_origin(request))
        token = self.client.kept_token(self.connection_id, min_ttl=self._min_ttl)
        if token is None:
            token = await _in_a_thread(self.connection_id, self.token)
        response = yield _carrying(request, token)
        if self._is_refused(response, token):
            newer = await _in_a_thread(self.connection_id, functools.partial(next_token, self.client, token))
            if newer is not None and isinstance(response.request.stream, httpx.ByteStream):
                yield _carrying(response.request, newer)

    def _is_refused(self, response: httpx.Response, token: AccessToken) -> bool:
        """Whether FlowAccount itself refused this very token."""
        carried = response.request.headers.get("Authorization") == f"Bearer {token.value}"
        return (
            response.status_code == HTTPStatus.UNAUTHORIZED and carried and _origin(response.request) in self._origins
        )


_THREADS = 4
"""The most threads that one connection has at the same time: those that wait meet in one request anyway."""

_Limiters = WeakValueDictionary[str, anyio.CapacityLimiter]

_limiters: RunVar[_Limiters] = RunVar("flowaccount_connect_limiters")
"""By connection. Each event loop has its own, since a limiter cannot be shared by two."""

_Result = TypeVar("_Result")


async def _in_a_thread(connection_id: str, call: Callable[[], _Result]) -> _Result:
    """Run a call that waits. Who is cancelled goes on at once; the thread ends by itself."""
    try:
        limiters = _limiters.get()
    except LookupError:
        limiters = WeakValueDictionary()
        _limiters.set(limiters)
    limiter = limiters.setdefault(connection_id, anyio.CapacityLimiter(_THREADS))
    return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=limiter)


def _carrying(request: httpx.Request, token: AccessToken) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {token.value}"
    return request


def _origin(request: httpx.Request) -> str:
    return origin(request.url.scheme, request.url.host, request.url.port)
