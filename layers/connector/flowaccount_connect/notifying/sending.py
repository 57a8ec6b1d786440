"""One POST to a receiver that nobody here controls: to a public address, within a deadline, and believed in nothing.

- The name is resolved once. The connection goes to the address that was judged, and the certificate must be the name's,
  so a name that leads elsewhere a moment later (DNS rebinding) leads nowhere.
- https only. On the local stack http to this machine as well.
- No redirect is followed, no cookie kept, no proxy asked. Of the body at most 8 KB are read, and dropped.
- The deadline bounds the whole exchange, the resolver too: it runs on a thread of its own.
"""

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.exceptions
from requests.adapters import HTTPAdapter

from flowaccount_connect import __version__
from flowaccount_connect.domain.return_urls import is_secure
from flowaccount_connect.notifying import addresses
from flowaccount_connect.oauth import tls

DEADLINE = 15.0
"""Seconds for one delivery. The Standard Webhooks specification recommends 15 to 30."""

_BODY = 8_192
_LONGEST_WAIT = 3_600


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request."""

    status: int | None
    """The status of the answer; `None` if none came."""
    error: str = ""
    """Why none came: `forbidden_address`, `no_address`, `tls`, `timeout`, `connection`, `no_thread`, `unexpected`."""
    retry_after: int | None = None
    """The seconds that the receiver asked to wait (RFC 9110 section 10.2.3), an hour at most."""

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has taken the message."""
        return self.status is not None and 200 <= self.status < 300


Post = Callable[[str, Mapping[str, str], bytes], Answer]
"""Sends a body with headers to a URL; see `Sender.post`."""


class _Pinned(HTTPAdapter):
    """An adapter whose one connection goes to a given address, under the name of the URL.

    Both methods are hooks that `requests` documents.
    """

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        self._address = address
        self._context = context
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def build_connection_pool_key_attributes(self, request: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        url = urlsplit(request.url)
        host = {"scheme": url.scheme, "host": self._address, "port": url.port}
        if url.scheme != "https":
            return host, {}
        # OpenSSL checks the certificate for this name. With `assert_hostname` urllib3 would check it itself, and turn
        # the check off in the context, which the whole process shares.
        return host, {"ssl_context": self._context, "server_hostname": str(url.hostname).rstrip(".")}

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the context verifies."""


class Sender:
    """Sends to receivers. Safe for several threads. `loopback`: this machine may be one, by http too.

    `context` makes the TLS context, or has made it: it is asked for with the first request, since a batch of events
    sends none.
    """

    def __init__(
        self,
        *,
        loopback: bool = False,
        deadline: float = DEADLINE,
        resolver: addresses.Resolver = addresses.resolve,
        context: Callable[[], ssl.SSLContext] = tls.context,
    ) -> None:
        self._loopback = loopback
        self._deadline = deadline
        self._resolver = resolver
        self._context = context

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST `body` to `url`; what became of it by the deadline. Never raises."""
        answers: list[Answer] = []
        thread = threading.Thread(target=self._exchange, args=(url, headers, body, answers), daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return Answer(None, "no_thread")
        thread.join(self._deadline)
        return answers[0] if answers else Answer(None, "timeout")

    def _exchange(self, url: str, headers: Mapping[str, str], body: bytes, answers: list[Answer]) -> None:
        try:
            self._send(url, headers, body, answers)
        except addresses.Forbidden:
            answers.append(Answer(None, "forbidden_address"))
        except requests.exceptions.SSLError:
            answers.append(Answer(None, "tls"))
        except requests.exceptions.Timeout:
            answers.append(Answer(None, "timeout"))
        except requests.exceptions.RequestException:
            answers.append(Answer(None, "connection"))
        except OSError:
            answers.append(Answer(None, "no_address"))
        except Exception:
            answers.append(Answer(None, "unexpected"))

    def _send(self, url: str, headers: Mapping[str, str], body: bytes, answers: list[Answer]) -> None:
        parts = urlsplit(url)
        if not is_secure(url) or not parts.hostname or (parts.scheme != "https" and not self._loopback):
            raise addresses.Forbidden
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = addresses.allowed(parts.hostname, port, resolver=self._resolver, loopback=self._loopback)
        if parts.scheme != "https" and not addresses.is_loopback(address):
            raise addresses.Forbidden
        own = {"Host": parts.netloc, "Connection": "close", "Accept-Encoding": "identity"}
        own |= {"User-Agent": f"flowaccount-connect/{__version__}", "Content-Type": "application/json"}
        request = requests.Request("POST", url, headers={**own, **headers}, data=body).prepare()
        # An adapter without a session, which would follow redirects, keep cookies and look for proxies.
        adapter = _Pinned(address, self._context())
        try:
            with adapter.send(request, stream=True, timeout=self._deadline) as response:
                asked = _seconds(response.headers.get("Retry-After", ""))
                answers.append(Answer(response.status_code, retry_after=asked))
                # So that the connection ends in order, as a receiver expects it.
                response.raw.read1(_BODY, decode_content=False)
        finally:
            adapter.close()


def _seconds(text: str) -> int | None:
    """`Retry-After` as seconds. A date is left alone: the schedule of retries is as good."""
    return min(int(text[:9]), _LONGEST_WAIT) if text.isascii() and text.isdigit() else None
