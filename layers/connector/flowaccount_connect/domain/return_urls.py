"""Return URLs: the browser goes back only to URLs that the app has listed, compared byte for byte."""

from collections.abc import Collection, Mapping
from urllib.parse import urlencode, urlsplit

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def is_secure(url: str) -> bool:
    """Whether a URL of the configuration is absolute https, or http on a loopback host.

    It must have no user information and no fragment, and consist of printable ASCII without spaces, quotes or
    backslashes. Browsers and Python could read such a URL differently.
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
    """Whether `url` is one of `allowed`. The comparison is exact (RFC 9700 section 4.1.3), without normalisation."""
    return url in allowed


def with_parameters(url: str, parameters: Mapping[str, str]) -> str:
    """`url` with `parameters` appended to its query, percent-encoded."""
    if not parameters:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"
