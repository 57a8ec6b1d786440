"""The client: what an app asks of its stack."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from flowaccount_connect_client import cache, signing
from flowaccount_connect_client.errors import (
    InvalidAnswer,
    InvalidArgument,
    NotConfigured,
    Problem,
    ReauthorizationRequired,
    TemporarilyUnavailable,
)
from flowaccount_connect_client.problems import error_of
from flowaccount_connect_client.results import (
    AccessToken,
    Connection,
    ConnectLink,
    HistoryEntry,
    read,
    read_page,
    read_token,
)
from flowaccount_connect_client.rules import connection_id as checked
from flowaccount_connect_client.rules import is_secure
from flowaccount_connect_client.transport import exchange

URL_VARIABLE = "FLOWACCOUNT_CONNECT_URL"
"""The environment variable with the base URL of the stack's API (the output `ApiUrl`)."""

LONGEST_MIN_TTL = 3_600
"""The most life one may ask a token to have left, in seconds."""

_LONGEST_PAGE = 100
"""As many connections as the API lists in one answer."""

logger: logging.Logger = logging.getLogger("flowaccount_connect_client")
"""Gets each request (debug), what is waited for (info), and connections in danger (warning). Never a token."""

_Result = TypeVar("_Result")
_Listed = TypeVar("_Listed", Connection, HistoryEntry)


class FlowAccountConnect:
    """A stack of FlowAccount Connect, called with the caller's AWS credentials. Thread-safe.

    `url` is the API's base URL, `FLOWACCOUNT_CONNECT_URL` by default. `session` is a session of boto3's or botocore's,
    the environment's own by default; the region is that of the URL, else the session's, `AWS_REGION` or the
    configuration's. Where only time helps, a call is repeated for `patience` seconds in all. `on_danger` is called with
    each token that `access_token` returns while its connection is in danger: tell somebody.

    Tokens are kept for the whole process: make a client once or at each use, as you like. Those of a `session` of yours
    are kept as long as that session is: make it once. Every method raises a
    `FlowAccountConnectError` and nothing else: `TemporarilyUnavailable`, `AccessDenied`, `NotConfigured`,
    `InvalidAnswer`, `InvalidArgument`, or another `Problem`; the methods name those that are their own.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        session: Any = None,
        patience: float = 30.0,
        on_danger: Callable[[AccessToken], object] | None = None,
    ) -> None:
        given = url or os.environ.get(URL_VARIABLE, "")
        if not given:
            raise NotConfigured(f"Give the URL of the stack's API, or set {URL_VARIABLE} (the stack's output ApiUrl).")
        if not is_secure(given) or "?" in given:
            raise NotConfigured("The API's URL must be absolute https (http on a loopback host only), without a query.")
        self.url: str = given.rstrip("/")
        self._session = session
        self._patience = patience
        self._on_danger = on_danger

    def __repr__(self) -> str:
        return f"FlowAccountConnect({self.url!r})"

    # ---- tokens -------------------------------------------------------------------------------------------

    def access_token(self, connection_id: str, *, min_ttl: int = 300) -> AccessToken:
        """A token of the connection: the one that this process keeps while it lasts, else one from the stack.

        It has at least `min_ttl` seconds left (0 to 3600) where a refresh can bring that. While the stack is
        unavailable, a token that lives is returned all the same. Raises `ConnectionNotFound`,
        `ReauthorizationRequired`.
        """
        if not 0 <= min_ttl <= LONGEST_MIN_TTL:
            raise InvalidArgument(f"min_ttl must be 0 to {LONGEST_MIN_TTL} seconds.")
        kept = self._kept(checked(connection_id))

        def once() -> AccessToken:
            try:
                return kept.get(
                    lambda: self._fetch("GET", connection_id, min_ttl=min_ttl),
                    lambda token: token.lasts(time.time(), min_ttl),
                    ("GET", min_ttl),
                )
            except TemporarilyUnavailable as error:
                living = kept.living()
                if living is None:
                    raise
                logger.warning("the kept token of %s is served, since there is no new one: %s", connection_id, error)
                return living

        return self._served(connection_id, self._patiently(once))

    def kept_token(self, connection_id: str, *, min_ttl: int = 300) -> AccessToken | None:
        """The token that `access_token` would return without asking the stack; `None` if it has to ask."""
        token = self._kept(checked(connection_id)).living()
        if token is None or not token.lasts(time.time(), min_ttl):
            return None
        return self._served(connection_id, token)

    def _served(self, connection_id: str, token: AccessToken) -> AccessToken:
        if token.in_danger and self._on_danger is not None:
            try:
                self._on_danger(token)
            except Exception:
                logger.exception("on_danger failed for %s", connection_id)
        return token

    def report_rejected(self, token: AccessToken) -> AccessToken:
        """Report a token that FlowAccount refused, and get the next one. The stack refreshes once a minute at most.

        The auth classes do so by themselves after a 401. Call it where FlowAccount answers 200 with
        `{"status": false}` and words that mean a withdrawn consent. Raises `ReauthorizationRequired` where only a new
        consent helps, and `TemporarilyUnavailable` with the code `refreshed_just_now` for a token that is new.
        """
        connection_id, rejected = checked(token.support_code), token.generation
        kept = self._kept(connection_id)
        return self._patiently(
            lambda: kept.get(
                lambda: self._fetch("POST", connection_id, {"rejected_generation": rejected}),
                lambda found: found.generation != rejected and found.lives(time.time()),
                ("POST", rejected),
            )
        )

    def _kept(self, connection_id: str) -> cache.Kept:
        return cache.of((self.url, connection_id), self._session)

    def _fetch(
        self,
        method: str,
        connection_id: str,
        body: Mapping[str, object] | None = None,
        min_ttl: int | None = None,
    ) -> AccessToken:
        query = {} if min_ttl is None else {"min_ttl": min_ttl}
        asked_at = time.time()
        answer = self._once(method, _path(f"/connections/{connection_id}/token", query), body)
        # Without a wish the answer is as good as it gets.
        wanted = LONGEST_MIN_TTL if min_ttl is None else min_ttl
        token = read_token(answer, connection_id, asked_at=asked_at, min_ttl=wanted)
        if token.in_danger:
            logger.warning("connection %s is in danger: %s", connection_id, token.status)
        return token

    # ---- connecting ---------------------------------------------------------------------------------------

    def connect_link(
        self,
        tenant: str,
        return_url: str,
        *,
        expected_connection: str | None = None,
        state: str | None = None,
        external_browser: bool = False,
    ) -> ConnectLink:
        """A link for one user of `tenant`: send the browser to its `connect_url`.

        `return_url` is one of the stack's allowed return URLs. `expected_connection` asks for one business, as for a
        new consent. `state` comes back with the browser as it is. With `external_browser` LINE opens the link in the
        phone's own browser, where the user may be logged in to the app.
        """
        wanted: dict[str, object] = {"tenant": tenant, "return_url": return_url}
        if expected_connection is not None:
            wanted["expected_connection"] = checked(expected_connection)
        if state is not None:
            wanted["state"] = state
        if external_browser:
            wanted["external_browser"] = True
        return read(ConnectLink, self._call("POST", "/connect-links", wanted))

    def reconnect_link(
        self,
        connection: str | ReauthorizationRequired,
        return_url: str,
        *,
        state: str | None = None,
        external_browser: bool = False,
    ) -> ConnectLink:
        """A fresh link for the user of a connection, its id or the error that asks for a new consent.

        Where the error does not name the tenant, the stack is asked for it. For an event, give its `reconnect` to
        `connect_link`: `connect_link(return_url=url, **event["detail"]["reconnect"])`. Raises `ConnectionNotFound`, and
        `InvalidArgument` for a connection without a tenant: give yours to `connect_link`.
        """
        tenant = connection.tenant if isinstance(connection, ReauthorizationRequired) else None
        id_ = checked(connection if isinstance(connection, str) else connection.expected_connection or "")
        tenant = tenant or self.connection(id_).tenant
        if tenant is None:
            raise InvalidArgument(
                f"{id_} belongs to no tenant: give yours, connect_link(…, expected_connection={id_!r})"
            )
        return self.connect_link(
            tenant, return_url, expected_connection=id_, state=state, external_browser=external_browser
        )

    def confirm(self, confirmation: str | None, tenant: str) -> Connection:
        """Connect what the browser that brought `confirmation` chose at FlowAccount. A repetition answers the same.

        `tenant` is the tenant of the user who is logged in *there*, never one that was remembered. Raises a `Problem`
        where nothing is connected: `code` says why, and `ending` how a failed connect ended.
        """
        if not confirmation or not isinstance(confirmation, str):
            raise Problem("unknown_confirmation", HTTPStatus.NOT_FOUND, "The browser brought no confirmation.")
        body = {"confirmation": confirmation, "tenant": tenant}
        connection = read(Connection, self._call("POST", "/connect-links/confirm", body))
        cache.drop((self.url, connection.support_code), self._session)  # An older consent's token may be dead.
        return connection

    # ---- managing -----------------------------------------------------------------------------------------

    def connections(self, *, status: str | None = None, tenant: str | None = None) -> Iterator[Connection]:
        """All connections, or those of a status or a tenant, page by page as you go on."""
        wanted = (("status", status), ("tenant", tenant), ("limit", _LONGEST_PAGE))
        query = {name: value for name, value in wanted if value is not None}
        return self._pages(Connection, "/connections", "connections", query)

    def connection(self, connection_id: str) -> Connection:
        """One connection. Raises `ConnectionNotFound`."""
        return read(Connection, self._call("GET", f"/connections/{checked(connection_id)}"))

    def history(self, connection_id: str) -> Iterator[HistoryEntry]:
        """What happened to a connection in the last 90 days, newest first. Raises `ConnectionNotFound`."""
        entries = self._pages(HistoryEntry, f"/connections/{checked(connection_id)}/history", "entries", {})
        empty = True
        for entry in entries:
            empty = False
            yield entry
        if empty:
            self.connection(connection_id)  # The API answers with an empty list for an id that it does not know.

    def disconnect(self, connection_id: str) -> None:
        """End a connection. Its tokens are deleted at once, also those that this process keeps.

        Raises `ConnectionNotFound`, and a `Problem` with the code `connected_meanwhile`.
        """
        self._call("DELETE", f"/connections/{checked(connection_id)}")
        cache.drop((self.url, connection_id), self._session)

    def import_(self, connection_id: str, refresh_token: str, *, tenant: str | None = None) -> Connection:
        """Take over a refresh token from an older integration, which must not use it any more.

        The status is `importing` while the stack proves it. It is sent once only: look at `connection`
        before you repeat it after `TemporarilyUnavailable`. Raises a `Problem` with the code `already_connected`,
        `import_under_way`, or `import_refused` and the `reason`.
        """
        body = {"refresh_token": refresh_token} | ({} if tenant is None else {"tenant": tenant})
        return read(Connection, self._once("POST", f"/connections/{checked(connection_id)}", body))

    # ---- requests -----------------------------------------------------------------------------------------

    def _pages(self, kind: type[_Listed], path: str, name: str, query: Mapping[str, object]) -> Iterator[_Listed]:
        token: str | None = None
        while True:
            page = self._call("GET", _path(path, query if token is None else {**query, "next": token}))
            items, token = read_page(page, name, token)
            for item in items:
                yield read(kind, item)
            if token is None:
                return

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        return self._patiently(lambda: self._once(method, path, body))

    def _patiently(self, once: Callable[[], _Result]) -> _Result:
        """What `once` returns, repeated while only time helps and the caller's patience lasts."""
        until, pause = time.monotonic() + self._patience, 0.5
        while True:
            try:
                return once()
            except TemporarilyUnavailable as error:
                pause = min(pause * 2, 8.0)
                wait = max(float(error.retry_after), pause)
                if time.monotonic() + wait > until:
                    raise
                logger.info("trying again in %.0f s: %s", wait, error)
            time.sleep(wait)

    def _once(self, method: str, path: str, body: Mapping[str, object] | None) -> Any:
        """One request. Returns what the answer's JSON holds, `None` where it is empty."""
        answer = exchange(signing.session(self._session), self.url, method, path, body)
        logger.debug("%s %s: %s", method, path.partition("?")[0], answer.status)
        if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            raise error_of(answer, base=self.url, method=method, path=path)
        is_wrong = answer.content is None and not answer.is_empty
        if is_wrong or (method == "DELETE") is not (answer.status == HTTPStatus.NO_CONTENT):
            raise InvalidAnswer(f"{self.url} does not answer as FlowAccount Connect does: check the URL.")
        return answer.content


def _path(path: str, query: Mapping[str, object] | None) -> str:
    try:
        return f"{path}?{urlencode(query, quote_via=quote)}" if query else path
    except UnicodeEncodeError:
        raise InvalidArgument("A status or a tenant is no text: it cannot be written as UTF-8.") from None
