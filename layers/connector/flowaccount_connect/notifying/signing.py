"""Signatures of the Standard Webhooks specification (https://www.standardwebhooks.com), and the secrets behind them.

Secrets Manager keeps two versions of a secret: the current one and the one before it. For a day after a change both
sign, so receivers can change over one by one (section "Webhook headers" of the specification).
"""

import base64
import binascii
import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from flowaccount_connect.domain.error_code import error_code
from flowaccount_connect.domain.log import Log
from flowaccount_connect.oauth.client_secret import SecretMisconfigured, SecretUnavailable

OVERLAP = 86_400
"""Seconds for which the secret before the current one still signs."""

MAX_AGE = 60
"""Seconds for which the secrets are used before they are looked up again."""


def read(client: Any, name: str, stage: str = "AWSCURRENT") -> tuple[str, float]:
    """The text of a secret, and when this version of it was made, in epoch seconds.

    `client` is a client of Secrets Manager. Raises `SecretMisconfigured`, `SecretUnavailable`.
    """
    try:
        answer = client.get_secret_value(SecretId=name, VersionStage=stage)
    except Exception as error:
        code = error_code(error)
        if code in ("ResourceNotFoundException", "AccessDeniedException", "InvalidRequestException"):
            raise SecretMisconfigured(f"the secret {name} cannot be read ({code})") from None
        raise SecretUnavailable(code) from None
    text, made = answer.get("SecretString"), answer.get("CreatedDate")
    if not isinstance(text, str) or not text.strip():
        raise SecretMisconfigured(f"the secret {name} is empty")
    return text.strip(), made.timestamp() if hasattr(made, "timestamp") else 0.0


def key_of(secret: str) -> bytes:
    """The key in a secret, `whsec_` and 24 to 64 bytes in base64; the prefix may be left out.

    Raises `SecretMisconfigured`.
    """
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise SecretMisconfigured("the secret of the webhooks must be whsec_ and 24 to 64 bytes in base64")
    return key


def headers(id_: str, body: bytes, keys: Sequence[bytes], *, now: int) -> Mapping[str, str]:
    """The three headers that sign `body`, with one signature for each key. `now` in epoch seconds."""
    content = f"{id_}.{now}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys]
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(now),
        "webhook-signature": " ".join(f"v1,{one}" for one in signatures),
    }


class SigningKeys:
    """The keys that sign now: of the current secret, and for a day of the one before. Safe for several threads.

    A new secret that is none is logged, and the one before it signs on. Its repr does not show them.
    """

    def __init__(self, client: Any, name: str, log: Log, *, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._name = name
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()
        self._keys = tuple[bytes, ...]()
        self._read_at = 0.0

    def get(self) -> Sequence[bytes]:
        """The keys, the current one first, at most `MAX_AGE` old.

        Older ones serve while Secrets Manager cannot be asked. Raises `SecretMisconfigured`, `SecretUnavailable`.
        """
        with self._lock:
            if self._keys and self._clock() - self._read_at < MAX_AGE:
                return self._keys
            try:
                self._keys = self._look_up()
            except SecretUnavailable:
                if not self._keys:
                    raise
            self._read_at = self._clock()
            return self._keys

    def _look_up(self) -> tuple[bytes, ...]:
        try:
            text, made = read(self._client, self._name)
            keys: tuple[bytes, ...] = (key_of(text),)
        except SecretMisconfigured as error:
            self._log.error("no secret", extra={"error": str(error)})
            return (key_of(read(self._client, self._name, "AWSPREVIOUS")[0]),)
        if self._clock() - made < OVERLAP:
            # The first version has none before it, and one that is none signs nothing.
            with suppress(SecretMisconfigured):
                keys += (key_of(read(self._client, self._name, "AWSPREVIOUS")[0]),)
        return keys
