"""Where a browser is sent back to: the app's own URLs, compared byte for byte, and nothing else."""

from collections.abc import Collection, Mapping
from urllib.parse import urlencode, urlsplit

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


def is_allowed(url: str, allowed: Collection[str]) -> bool:
    """Whether `url` equals an allowed return URL exactly (RFC 9700 section 4.1.3): no prefix, no normalisation."""
    return url in allowed


def with_parameters(url: str, parameters: Mapping[str, str]) -> str:
    """`url` with `parameters` appended to its query, percent-encoded."""
    if not parameters:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"
