"""One POST to FlowAccount's token endpoint: at most once, in time, and it always tells whether it was sent.

The form must never leave late or twice: it carries the token or code, and the client secret. urllib3 connects, sends
the head of the request, and only then asks the body for its bytes. So the body decides: until its bytes are read,
nothing was sent, and after the deadline it returns none. This uses no internals of a library, and no exception decides.
What counts is what an exchange has noted by its deadline; exceptions only name the cause.

Each exchange has a connection, an adapter and a thread of its own. So no answer can reach another exchange, no
connection idles through a frozen Lambda, and the deadline bounds what the timeouts of `requests` do not: a resolver
that hangs, and a slow body. After the deadline a thread ends at the next byte of the body, or at the next timeout
of its socket. Only a server that sends its headers slowly keeps it longer. An interim answer other than 100 (RFC 9110
section 15.2) ends an exchange in doubt, since http.client reads no further.

No redirects are followed (the body carries the secret), nothing is retried, and at most 64 KB are read.
"""

import http.client
import logging
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import urllib3.exceptions

with warnings.catch_warnings(action="ignore"):
    # It warns if nothing can guess the character set of a text. The layer leaves that out: only bytes are read here.
    import requests
    import requests.exceptions
    from requests.adapters import HTTPAdapter

from flowaccount_connect import __version__
from flowaccount_connect.oauth import tls
from flowaccount_connect.oauth.token_answer import BODY_LIMIT, Answer, Outcome, classify

CONNECT_TIMEOUT = 4.0
"""The most time that one address of the server may take to connect, in seconds. Then its next address is tried. A step
of the TLS handshake may not take longer either."""

_ERRORS: dict[type[Exception], str] = {
    requests.exceptions.SSLError: "tls",
    requests.exceptions.Timeout: "timeout",
    requests.exceptions.ConnectionError: "connection",
    # From here on: what urllib3 raises while a body is read.
    urllib3.exceptions.TimeoutError: "timeout",
    urllib3.exceptions.DecodeError: "encoding",
    urllib3.exceptions.HTTPError: "connection",
    http.client.HTTPException: "connection",
    OSError: "connection",
}
"""The error that is logged for an exception; the first type that fits counts."""

NO_ANSWER = frozenset({*_ERRORS.values(), "no_thread", "too_long", "unexpected"})
"""The errors of an `Answer` that was made without a whole answer of the server's."""


# It warns of a head that it cannot read, and quotes what follows: that may be the tokens.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)


class _Withdrawn(Exception):
    """The form may not leave any more."""


class _Form:
    """The body of one request: its bytes leave at most once, and never once it has been withdrawn."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        # "replace", so that no character in a query string of a visitor's can raise.
        self._data = urlencode(fields, errors="replace").encode()
        self._lock = threading.Lock()
        self._left = False
        self.withdrawn = False

    def __len__(self) -> int:
        """The `Content-Length`."""
        return len(self._data)

    def __iter__(self) -> Iterator[bytes]:
        """The bytes, asked for once the connection stands. A generator: what is asked of it happens only then."""
        with self._lock:
            if self._left or self.withdrawn:
                raise _Withdrawn
            self._left = True
        yield self._data

    def withdraw(self) -> bool:
        """Keep the form from leaving; `True` if it has not left, and so never will."""
        with self._lock:
            self.withdrawn = True
            return not self._left


class _Received(NamedTuple):
    """What has arrived of an answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    whole: bool = False
    """Whether it has ended where it announced to end."""


class _Exchange:
    """What one exchange has come to; its thread writes it, and the caller reads it at the deadline."""

    def __init__(self) -> None:
        self.heard: _Received | None = None
        self.error = "timeout"
        """Why there is no whole answer, if there is none."""


class _Adapter(HTTPAdapter):
    """One connection, begun with the TLS context of the process. Both methods are hooks that `requests` documents."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the context verifies. The default would read the file of authorities for each connection."""


class TokenEndpoint:
    """The token endpoint of one client. Safe for several threads.

    `context` makes the TLS context, which says how the server has to prove who it is.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        *,
        clock: Callable[[], float] = time.time,
        context: Callable[[], ssl.SSLContext] = tls.context,
    ) -> None:
        self._client_id = client_id
        self._clock = clock
        self._context = context()
        self._request = requests.Request(
            "POST",
            url,
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Connection": "close",
                "Content-Type": "application/x-www-form-urlencoded",
                "User-Agent": f"flowaccount-connect/{__version__}",
            },
        ).prepare()

    def exchange_code(
        self, code: str, redirect_uri: str, client_secret: str, *, budget: float, verifier: str | None = None
    ) -> Answer:
        """Exchange an authorization code (RFC 6749 section 4.1.3), within `budget` seconds. Never raises.

        `verifier` is what the PKCE challenge of the authorization was made from (RFC 7636 section 4.5).
        """
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        if verifier is not None:
            fields["code_verifier"] = verifier
        return self._post(fields, client_secret, None, budget)

    def refresh(self, refresh_token: str, client_secret: str, *, connection_id: str, budget: float) -> Answer:
        """Refresh a connection's tokens (RFC 6749 section 6), within `budget` seconds. Never raises."""
        fields = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return self._post(fields, client_secret, connection_id, budget)

    def _post(self, fields: dict[str, str], client_secret: str, connection_id: str | None, budget: float) -> Answer:
        form = _Form(fields | {"client_id": self._client_id, "client_secret": client_secret})
        exchange = _Exchange()
        thread = threading.Thread(target=self._send, args=(form, exchange, budget), daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return Answer(Outcome.NOT_SENT, error="no_thread")
        thread.join(budget)
        if form.withdraw():
            return Answer(Outcome.NOT_SENT, error=exchange.error)
        # From here on only what has been heard by now counts, whatever else may still arrive.
        heard = exchange.heard
        if heard is None:
            return Answer(Outcome.IN_DOUBT, error=exchange.error)
        answer = classify(heard.status, heard.headers, heard.body, connection_id=connection_id, now=self._clock())
        if heard.whole or (answer.tokens is not None and answer.tokens.refresh_token is not None):
            return answer
        # A body that broke off proves no refusal; whole tokens in it are tokens all the same.
        return Answer(Outcome.IN_DOUBT, error=exchange.error, status=heard.status)

    def _send(self, form: _Form, exchange: _Exchange, budget: float) -> None:
        """The exchange itself, on its own thread."""
        # An adapter without a session, which would follow redirects, keep cookies from one connection to another, and
        # look for proxies, credentials and authorities in the environment.
        adapter = _Adapter(self._context)
        try:
            request = self._request.copy()
            request.prepare_body(form, None)
            timeout = (min(CONNECT_TIMEOUT, budget), budget)
            with adapter.send(request, timeout=timeout) as response:
                heard = exchange.heard = _Received(response.status_code, dict(response.headers))
                # http.client takes a head that breaks off for a whole one. So only an answer that says how long it is
                # can be seen to be whole.
                framed = response.raw.chunked or response.raw.length_remaining is not None
                # One read at a time: what has arrived before a connection breaks is not thrown away with it.
                while chunk := response.raw.read1(8_192, decode_content=True):
                    heard = exchange.heard = heard._replace(body=heard.body + chunk)
                    if len(heard.body) > BODY_LIMIT:
                        exchange.error = "too_long"
                    if form.withdrawn or len(heard.body) > BODY_LIMIT:
                        return
                if framed:
                    exchange.heard = heard._replace(whole=True)
                else:
                    exchange.error = "connection"
        except Exception as error:
            exchange.error = next((name for kind, name in _ERRORS.items() if isinstance(error, kind)), "unexpected")
        finally:
            adapter.close()
