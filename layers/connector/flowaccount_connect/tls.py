"""How every server that a function talks to has to prove who it is."""

import ssl
from functools import lru_cache

import certifi


@lru_cache(1)
def context() -> ssl.SSLContext:
    """The process's one TLS context: certificates and host names are verified, against certifi's authorities.

    Made once and shared by all connections: reading the authorities takes ten times as long as a handshake, and
    urllib3, left to itself, reads them anew for each connection. Safe for several threads.
    """
    return ssl.create_default_context(cafile=certifi.where())
