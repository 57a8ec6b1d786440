"""Verifies the webhooks that a stack sends, by the Standard Webhooks specification (https://www.standardwebhooks.com).

    event = webhooks.verify(request.get_data(), request.headers, os.environ["WEBHOOK_SECRET"])

Any framework will do that gives the body as it came.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from flowaccount_connect_client.errors import InvalidArgument, InvalidSignature, NotConfigured

TOLERANCE = 300
"""A webhook that was signed earlier or later than so many seconds from now is refused: it may be a repetition."""

_PREFIX = "whsec_"
_SHORTEST = 24
"""The fewest bytes of a secret, by the specification."""


class Headers(Protocol):
    """The headers of a request, of whichever framework."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Names and values."""
        ...


def verify(
    payload: bytes | str,
    headers: Headers,
    secrets: str | Sequence[str],
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> dict[str, Any]:
    """The event in a webhook that one of your secrets signed.

    `payload` is the body as it came, `headers` the request's. `secrets` is the secret, `whsec_…`, or several of them
    while you change it. Webhooks come at least once and in any order: remember the header `webhook-id` to know a
    repetition. Raises `InvalidSignature`, `InvalidArgument` for a body that was read already, and `NotConfigured` for
    what is no secret.
    """
    if not isinstance(payload, bytes | bytearray | memoryview | str):
        raise InvalidArgument("Give the body as it came, before any parser of JSON.")
    keys = [_key(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    if not keys:
        raise NotConfigured("Give the webhook's secret, whsec_….")
    content = payload.encode(errors="replace") if isinstance(payload, str) else bytes(payload)
    given = {str(name).lower(): value for name, value in headers.items()}
    id_, timestamp, signatures = (given.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (id_ and timestamp.isascii() and timestamp.isdigit() and signatures):
        raise InvalidSignature("The headers webhook-id, webhook-timestamp and webhook-signature are missing or wrong.")
    if abs((time.time() if now is None else now) - int(timestamp[:20])) > tolerance:
        raise InvalidSignature("The webhook was signed too long ago, or one of the two clocks is wrong.")
    signed = f"{id_}.{timestamp}.".encode() + content
    expected = [b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys]
    if not any(
        hmac.compare_digest(one, found) for one in expected for found in signatures.encode(errors="replace").split()
    ):
        raise InvalidSignature("The webhook is not signed with this secret.")
    try:
        event = json.loads(content)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise InvalidSignature("The webhook holds no event.")
    return event


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < _SHORTEST:
        raise NotConfigured("A webhook's secret is whsec_ and at least 24 bytes in base64 behind it: copy it whole.")
    return key
