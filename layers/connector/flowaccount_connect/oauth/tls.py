"""How the server of the token endpoint has to prove who it is. For AWS see `runtime.aws`.

Each exchange has a connection of its own. Its handshake resumes a session of an earlier one (RFC 8446 section 2.2),
which saves a third of an exchange's CPU: no certificate is sent and verified again. A session is as good a proof: it
was made in a handshake that verified certificate and name, only that server can resume it, and it is kept for that name
alone. A server that does not know a session any more ignores it, and the handshake is a whole one. Nothing is sent
before the handshake is over: there is no early data.
"""

import ssl
from collections import defaultdict, deque
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from socket import socket
from typing import Any

import certifi

SESSIONS = 32
"""The most sessions that are kept for one name: as many as exchanges can be under way, since each uses one."""


class _Connection(ssl.SSLSocket):
    """A connection that leaves its session to a later one of the same name."""

    context: "_Context"

    def close(self) -> None:
        """Close, and keep the session as it is now: with TLS 1.3 it comes after the handshake, before the answer.

        A connection has a version from the end of its handshake on. One that failed leaves nothing.
        """
        with suppress(ValueError):  # A session that cannot be copied costs the next handshake its shortcut, no more.
            if self.version() is not None:
                self.context.keep(self.server_hostname, self.session)
        super().close()


class _Context(ssl.SSLContext):
    """A context that several threads can use at the same time, because no connection changes it but for its sessions.

    A session is used once (RFC 8446 appendix C.4). So one with which a handshake fails is not used again.
    """

    sslsocket_class = _Connection

    def __init__(self, *_: Any) -> None:
        self._sessions = defaultdict[str | None, deque[ssl.SSLSession]](lambda: deque(maxlen=SESSIONS))

    def keep(self, name: str | None, session: ssl.SSLSession | None) -> None:
        """Keep a session of the server `name`, if it can be resumed."""
        if session is not None and (session.has_ticket or session.id):
            self._sessions[name].append(session)

    def wrap_socket(self, sock: socket, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Begin TLS with the server `server_hostname`, with the newest session of that name if there is one."""
        with suppress(IndexError):
            kwargs["session"] = self._sessions[kwargs.get("server_hostname")].pop()
        return super().wrap_socket(sock, *args, **kwargs)

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Do nothing: the list is set already. urllib3 calls this for each connection, and OpenSSL would free the old
        list while another thread copies it."""


@lru_cache(1)
def context() -> ssl.SSLContext:
    """The process's one TLS context: certificates and host names are verified, against certifi's authorities.

    Made once and shared by all connections: reading the authorities takes ten times as long as a handshake, and
    urllib3, left to itself, reads them anew for each connection. Safe for several threads.
    """
    made = _Context(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # As a text: from the file OpenSSL reads them in twice the time.
    made.load_verify_locations(cadata=Path(certifi.where()).read_text("ascii"))
    ssl.SSLContext.set_alpn_protocols(made, ["http/1.1"])
    return made
