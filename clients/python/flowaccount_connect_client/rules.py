"""Which connection ids, URLs and origins the client accepts. The service has the same rules for ids and URLs."""

import os
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from flowaccount_connect_client.errors import HostNotAllowed, InvalidArgument

FLOWACCOUNT = "https://openapi.flowaccount.com"
"""Where FlowAccount's business API is, in the sandbox and in production: the one origin that gets a token."""

FLOWACCOUNT_VARIABLE = "FLOWACCOUNT_URL"
"""The environment variable with another origin for `FLOWACCOUNT`, where a stand-in for FlowAccount is used."""

_CONNECTION_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PORTS = {"https": 443, "http": 80}


def is_connection_id(value: object) -> bool:
    """Whether `value` can name a connection: 1 to 64 ASCII letters, digits, `.`, `_`, `-`.

    FlowAccount's `supportCode` is the id. It stands in paths, keys and policies, so nothing else is accepted. URL
    parsers take `.` and `..` for folders, so these are refused too.
    """
    return isinstance(value, str) and _CONNECTION_ID.fullmatch(value) is not None and value not in (".", "..")


def connection_id(value: str) -> str:
    """The id itself. Raises `InvalidArgument` where it can name no connection."""
    if not is_connection_id(value):
        raise InvalidArgument("A connection's id is FlowAccount's supportCode: 1 to 64 letters, digits, '.', '_', '-'.")
    return value


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


def origin(scheme: str | None, host: str | None, port: int | None) -> str:
    """Scheme, host and port in one text; empty without a host."""
    return f"{scheme}://{host}:{port or _PORTS.get(scheme or '', 0)}" if host else ""


def origin_of(url: str) -> str:
    """The origin of a URL, read as `requests` itself reads it; empty where it has none."""
    try:
        parts = parse_url(url)
    except LocationParseError:
        return ""
    return origin(parts.scheme, parts.host, parts.port)


class Origins:
    """The origins that may get a token: FlowAccount's alone, or what `hosts` names (hosts, or URLs without a path).

    Raises `InvalidArgument` for an entry that is no https origin (http on a loopback host).
    """

    def __init__(self, hosts: Iterable[str] | None = None) -> None:
        if hosts is None:
            hosts = (os.environ.get(FLOWACCOUNT_VARIABLE) or FLOWACCOUNT,)
        self._origins = frozenset(map(_allowed, hosts))

    def __contains__(self, one: str) -> bool:
        return one in self._origins

    def check(self, one: str) -> None:
        """Raise `HostNotAllowed` for another origin."""
        if one not in self._origins:
            raise HostNotAllowed(
                f"A token of FlowAccount's goes to {', '.join(sorted(self._origins))} only, not to this request's host."
            )


def _allowed(host: str) -> str:
    url = host if "://" in host else f"https://{host}"
    if not is_secure(url) or parse_url(url).path not in (None, "", "/"):
        raise InvalidArgument(
            "allowed_hosts holds https origins (http on a loopback host only), like https://openapi.example"
        )
    return origin_of(url)
