"""Which addresses a request of the stack's may go to: public ones only, so that no receiver leads it inside (SSRF).

The network's own special addresses are in the registries of IANA, which Python's `ipaddress` follows.
"""

import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

Resolver = Callable[[str, int], Sequence[str]]
"""The addresses of a name, for a port. Raises `OSError`."""

_UNICAST = IPv6Network("2000::/3")
"""All that is given out of IPv6. IPv4 in IPv6 (`::ffff:0:0/96`, `64:ff9b::/96`) and local addresses are outside."""

_RELAYS = (IPv6Network("2001::/23"), IPv6Network("2002::/16"), IPv6Network("3fff::/20"))
"""Inside it: Teredo and other protocols' own addresses, 6to4, and documentation."""


class Forbidden(Exception):
    """A name leads to an address that is not public."""


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, for one receiver. What is no address is not."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        return parsed in _UNICAST and parsed.is_global and not any(parsed in net for net in _RELAYS)
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def is_loopback(address: str) -> bool:
    """Whether an address is `127.0.0.0/8` or `::1`."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return parsed.is_loopback and getattr(parsed, "ipv4_mapped", None) is None


def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of `host`. Raises `OSError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("no name of the DNS") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def allowed(host: str, port: int, *, resolver: Resolver = resolve, loopback: bool = False) -> str:
    """The one address to connect to for `host`: the first, IPv4 before IPv6. `loopback`: this machine may be meant.

    A name with several addresses must not have a single one that is forbidden. Raises `Forbidden`, `OSError`.
    """
    found = resolver(host, port)
    if not found or not all(is_public(one) or (loopback and is_loopback(one)) for one in found):
        raise Forbidden
    return min(found, key=lambda one: not isinstance(ip_address(one), IPv4Address))
