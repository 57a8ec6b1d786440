"""How the server of the token endpoint has to prove who it is. For AWS see `runtime.aws`."""

import ssl
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import certifi


class _Context(ssl.SSLContext):
    """A context that several threads can use at the same time, because no connection changes it."""

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
