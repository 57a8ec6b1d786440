"""One POST to FlowAccount's token endpoint: once, in time, and always with a verdict on whether it was sent.

No redirects (the body carries the secret), no automatic retries (a blind repeat spends a rotated token), TLS verified,
one deadline for the whole exchange (the timeouts of `requests` bound neither DNS nor a dripping body), and at most
64 KB are read. Only what provably failed before the first byte was written counts as not sent.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.client import HTTPResponse, parse_headers
from queue import SimpleQueue
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from flowaccount_connect import __version__
from flowaccount_connect.oauth import tls
from flowaccount_connect.oauth.token_answer import BODY_LIMIT, Answer, Outcome, classify

_CONNECTIONS = 64

_BODILESS = frozenset({204, 304})

_LAST_BYTES = 0.5
"""How long an abandoned exchange may take to read what has arrived already, in seconds."""


class _NotSent(Exception):
    """The exchange was given up before its first byte was written."""


class _Exchange:
    """One request on its way; tells at any moment whether its first byte may have left."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.whole = False
        self._lock = threading.Lock()
        self._written = False
        self._abandoned = False
        self._socket: socket.socket | None = None

    def write(self, sock: socket.socket) -> None:
        """Called right before bytes are written; refuses once the exchange has been abandoned."""
        with self._lock:
            if self._abandoned:
                raise _NotSent
            self._written = True
            self._socket = sock

    def abandon(self) -> None:
        """Nothing more is written or read from here on."""
        with self._lock:
            self._abandoned = True
            sock = self._socket
        if sock is not None:
            # The plain method: SSLSocket's own would take the TLS state from under a reading thread.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def finish(self) -> None:
        """The body has ended by itself, and not because it was hung up on."""
        with self._lock:
            self.whole = not self._abandoned

    def let_go(self) -> bool:
        """The connection goes back to the pool, to serve another exchange: from here on its socket is left alone.

        `False` if it may serve nobody any more: the exchange was abandoned, or its answer is of a kind that ends with
        its headers (RFC 9112 section 6.3), whatever the server sends after them: the next exchange would read that.
        """
        with self._lock:
            self._socket = None
            ended = self.status is not None and self.status >= 200 and self.status not in _BODILESS
            return ended and not self._abandoned

    @property
    def written(self) -> bool:
        """Whether a byte may have left; final once the exchange is abandoned or done."""
        with self._lock:
            return self._written


_under_way = threading.local()


class _FinalResponse(HTTPResponse):
    """Passes over every interim answer (RFC 9110 section 15.2), of which http.client knows 100 alone: it would take
    a 103 for the answer, and the next exchange on that connection would be given this one's tokens."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 101 < status < 200:
                return version, status, reason
            parse_headers(self.fp)


class _Watched:
    """Tells the exchange of its thread before anything is written to the socket."""

    sock: Any

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        _under_way.exchange.write(self.sock)
        super().send(data)  # type: ignore[misc]


class _WatchedHTTPConnection(_Watched, HTTPConnection):
    response_class = _FinalResponse


class _WatchedHTTPSConnection(_Watched, HTTPSConnection):
    response_class = _FinalResponse


class _LetGo:
    """Tells the exchange of its thread before its connection may serve another one."""

    def _put_conn(self, conn: Any) -> None:
        if conn is not None and not _under_way.exchange.let_go():
            conn.close()
        super()._put_conn(conn)  # type: ignore[misc]


class _WatchedHTTPPool(_LetGo, HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _WatchedHTTPSPool(_LetGo, HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


class _WatchedAdapter(HTTPAdapter):
    """Watched connections, all with the same TLS context."""

    def __init__(self, context: ssl.SSLContext, **kwargs: Any) -> None:
        self._context = context
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _WatchedHTTPPool, "https": _WatchedHTTPSPool}

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """The context says what is trusted; what `requests` would add has each connection read it anew."""
        host, _ = super().build_connection_pool_key_attributes(*args, **kwargs)
        return host, {"cert_reqs": "CERT_REQUIRED"}

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """The same for connections that are there already."""


class _Threads:
    """Threads that are kept for the next exchange: starting one costs as much as a tenth of the exchange itself.

    There are as many as have been needed at a time, and one more for each that hangs where nothing can end it.
    """

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[Callable[[], None]]] = []

    def run(self, work: Callable[[], None]) -> None:
        """Run `work`, which raises nothing, on a thread that has nothing else to do. Raises `RuntimeError`."""
        try:
            self._idle.pop().put(work)
        except IndexError:
            threading.Thread(target=self._serve, args=(work,), daemon=True).start()

    def _serve(self, work: Callable[[], None]) -> None:
        given: SimpleQueue[Callable[[], None]] = SimpleQueue()
        while True:
            work()
            del work  # It holds a token.
            self._idle.append(given)
            work = given.get()


class TokenEndpoint:
    """The token endpoint of one client. Keeps connections alive until `close`, which ends every invocation:
    a connection that idled through a frozen Lambda is likely dead, and a reset on it would be doubt.

    `judge` says what an answer means; the probe, which wants to see the answer too, gives its own. `context` is how
    the server has to prove who it is.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        *,
        clock: Callable[[], float] = time.time,
        judge: Callable[..., Answer] = classify,
        context: Callable[[], ssl.SSLContext] = tls.context,
    ) -> None:
        self._client_id = client_id
        self._clock = clock
        self._judge = judge
        self._request = requests.Request(
            "POST",
            url,
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Connection": "keep-alive",
                "User-Agent": f"flowaccount-connect/{__version__}",
            },
        ).prepare()
        # Without a session, which would follow redirects, keep cookies from one connection to another, and look for
        # proxies, credentials and authorities in the environment.
        self._adapter = _WatchedAdapter(context(), pool_connections=1, pool_maxsize=_CONNECTIONS, max_retries=0)
        self._threads = _Threads()

    def close(self) -> None:
        """Close the connections that are kept alive; the next request opens a new one."""
        self._adapter.close()

    def exchange_code(
        self, code: str, redirect_uri: str, client_secret: str, *, budget: float, verifier: str | None = None
    ) -> Answer:
        """Exchange an authorization code (RFC 6749 section 4.1.3), within `budget` seconds. Never raises.

        `verifier` is what the PKCE challenge of the authorization was made from (RFC 7636 section 4.5).
        """
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        if verifier is not None:
            form["code_verifier"] = verifier
        return self._post(form, client_secret, None, budget)

    def refresh(self, refresh_token: str, client_secret: str, *, connection_id: str, budget: float) -> Answer:
        """Refresh a connection's tokens (RFC 6749 section 6), within `budget` seconds. Never raises."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return self._post(form, client_secret, connection_id, budget)

    def _post(self, form: dict[str, str], client_secret: str, connection_id: str | None, budget: float) -> Answer:
        exchange = _Exchange()
        data = form | {"client_id": self._client_id, "client_secret": client_secret}
        try:
            self._threads.run(lambda: self._run(exchange, data, budget))
        except RuntimeError:
            return Answer(Outcome.NOT_SENT, error="no_thread")
        exchange.done.wait(budget)
        exchange.abandon()
        if exchange.written:
            exchange.done.wait(_LAST_BYTES)
        if not exchange.written:
            return Answer(Outcome.NOT_SENT, error="not_sent")
        if exchange.status is None:
            return Answer(Outcome.IN_DOUBT, error="no_answer")
        # Before the body is copied, so that a refusal is never believed that was whole only a moment later.
        whole = exchange.whole
        answer = self._judge(
            exchange.status,
            exchange.headers,
            bytes(exchange.body),
            connection_id=connection_id,
            now=self._clock(),
        )
        if whole or (answer.tokens is not None and answer.tokens.refresh_token is not None):
            return answer
        # A body that broke off proves no refusal; whole tokens in it are tokens all the same.
        return Answer(Outcome.IN_DOUBT, error="no_answer", status=exchange.status)

    def _run(self, exchange: _Exchange, data: dict[str, str], budget: float) -> None:
        """The exchange itself, on a thread of its own, so that nothing it waits for outlasts the deadline."""
        _under_way.exchange = exchange
        try:
            request = self._request.copy()
            request.prepare_body(data, None)
            with self._adapter.send(request, stream=True, timeout=budget) as response:
                exchange.headers = dict(response.headers)
                exchange.status = response.status_code
                # One read at a time: what has arrived before a connection breaks is not thrown away with it.
                while chunk := response.raw.read1(8_192, decode_content=True):
                    exchange.body += chunk
                    if len(exchange.body) > BODY_LIMIT:
                        break
                exchange.finish()
        except Exception:  # noqa: S110 - whatever it was: what the exchange has noted by now is the verdict
            pass
        finally:
            exchange.done.set()
