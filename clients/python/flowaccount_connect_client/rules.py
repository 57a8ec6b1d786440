"""Which connection ids and URLs the client accepts: the service has the same rules."""

import re
from urllib.parse import urlsplit

_CONNECTION_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")


def is_connection_id(value: object) -> bool:
    """Whether `value` can name a connection: 1 to 64 ASCII letters, digits, `.`, `_`, `-`.

    FlowAccount's `supportCode` is the id. It ends up in paths, keys and policies, so nothing else is let in; and not `.`
    or `..`, which URL parsers take for folders.
    """
    return isinstance(value, str) and _CONNECTION_ID.fullmatch(value) is not None


_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def is_secure(url: str) -> bool:
    """Whether a URL of the configuration is absolute https, or http on a loopback host, and free of tricks.

    No user information, no fragment, printable ASCII without spaces, quotes or backslashes: what browsers and
    Python would read differently is refused.
    """
    if not url.isascii() or not url.isprintable() or any(c in url for c in " \"'<>\\^`{|}#"):
        return False
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.password is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
