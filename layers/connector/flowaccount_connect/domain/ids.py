"""The names things go by: connection ids, grant ids, attempt ids, and the secrets that bind a browser."""

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable

LONGEST_TENANT = 128
"""The most characters of the app's id of a tenant."""

_CONNECTION_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}")


def is_connection_id(value: object) -> bool:
    """Whether `value` can name a connection: 1 to 64 ASCII letters, digits, `.`, `_`, `-`.

    FlowAccount's `supportCode` is the id. It stands in paths, keys and policies, so nothing else is accepted. URL
    parsers take `.` and `..` for folders, so these are refused too.
    """
    return isinstance(value, str) and _CONNECTION_ID.fullmatch(value) is not None


def is_tenant(value: object) -> bool:
    """Whether `value` can name a tenant: the app's own id of it, 1 to 128 printable characters."""
    return isinstance(value, str) and 1 <= len(value) <= LONGEST_TENANT and value.isprintable()


def new_grant_id(clock: Callable[[], float] = time.time) -> str:
    """Names one consent of the user; made just before the code is exchanged.

    A UUIDv7, so that of two consents to the same business the later one wins wherever their writes meet.
    """
    return _uuid7(clock)


def new_event_id(clock: Callable[[], float] = time.time) -> str:
    """Names something that happened and changed no connection: a UUIDv7."""
    return _uuid7(clock)


def _uuid7(clock: Callable[[], float]) -> str:
    """A UUIDv7 (RFC 9562 section 5.7): ids made later, in another millisecond, compare greater as strings."""
    milliseconds = int(clock() * 1000) & ((1 << 48) - 1)
    value = (milliseconds << 80) | (0x7 << 76) | (secrets.randbits(12) << 64) | (0b10 << 62) | secrets.randbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_attempt_id() -> str:
    """128 random bits in hex: recognises one's own write when an SDK retry hid its success."""
    return secrets.token_hex(16)


def new_secret() -> str:
    """256 random bits as 43 URL-safe characters: `state`, and the value that binds a browser."""
    return secrets.token_urlsafe(32)


def fingerprint(secret: str) -> str:
    """SHA-256 in hex, which is all that is stored of a `state` or a browser binding.

    Both are 256 random bits, so a plain hash cannot be reversed by guessing.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def derived(secret: str, purpose: str) -> str:
    """43 URL-safe characters that only who knows `secret` can make, others for each `purpose` (HMAC-SHA-256)."""
    digest = hmac.digest(secret.encode("utf-8", "surrogatepass"), purpose.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
