"""Ids of connections, tenants, grants, attempts and events; secrets that bind a browser, and their fingerprints."""

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from typing import TypeGuard

LONGEST_TENANT = 128
"""The most characters of the app's id of a tenant."""

_CONNECTION_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")


def is_connection_id(value: object) -> TypeGuard[str]:
    """Whether `value` can name a connection: 1 to 64 ASCII letters, digits, `.`, `_`, `-`.

    The id is FlowAccount's `supportCode`. It is part of paths, keys and policies, so other characters are refused.
    `.` and `..` are refused too, because URL parsers read them as folders.
    """
    return isinstance(value, str) and _CONNECTION_ID.fullmatch(value) is not None


def is_tenant(value: object) -> TypeGuard[str]:
    """Whether `value` can be the app's id of a tenant: 1 to 128 printable characters."""
    return isinstance(value, str) and 1 <= len(value) <= LONGEST_TENANT and value.isprintable()


def new_grant_id(clock: Callable[[], float] = time.time) -> str:
    """The id of one consent, made just before its code is exchanged. `clock` is in epoch seconds.

    It is a UUIDv7, so ids are ordered by time. When two consents to one business meet in the table, the later one wins.
    """
    return _uuid7(clock)


def new_event_id(clock: Callable[[], float]) -> str:
    """The id of an event that changes no connection: a UUIDv7."""
    return _uuid7(clock)


def _uuid7(clock: Callable[[], float]) -> str:
    """A UUIDv7 (RFC 9562 section 5.7). An id of a later millisecond is greater, also when compared as a string."""
    milliseconds = int(clock() * 1000) & ((1 << 48) - 1)
    value = (milliseconds << 80) | (0x7 << 76) | (secrets.randbits(12) << 64) | (0b10 << 62) | secrets.randbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_attempt_id() -> str:
    """128 random bits in hex. A worker recognises its own write by it when a retry of the SDK hid the success."""
    return secrets.token_hex(16)


def new_secret() -> str:
    """256 random bits as 43 URL-safe characters, for `state` and for the cookie that binds a browser."""
    return secrets.token_urlsafe(32)


_SECRET = re.compile(r"\s*([A-Za-z0-9_-]{43})")


def secret_in(text: str) -> str:
    """The secret of `new_secret` that `text` begins with; else `text` itself.

    Chat apps take blanks, signs or Thai letters behind a link for a part of it.
    """
    found = _SECRET.match(text)
    return found[1] if found else text


def fingerprint(secret: str) -> str:
    """SHA-256 in hex. The table stores only this of a `state`, and of the secret in a browser's cookie.

    Both are 256 random bits, so they cannot be found by guessing and hashing.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def derived(secret: str, purpose: str) -> str:
    """A secret derived from another one: 43 URL-safe characters, different for each `purpose` (HMAC-SHA-256).

    Only code that knows `secret` can make it.
    """
    digest = hmac.digest(secret.encode("utf-8", "surrogatepass"), purpose.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
