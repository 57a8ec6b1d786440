"""Tokens at rest: access and refresh token sealed together with AES-256-GCM, under a data key of KMS.

One data key seals all token sets of a worker's batch, because a call of KMS for each set would cost as much as the rest
of a refresh. What binds a ciphertext to its stack, item and consent is in docs/data.md, "How it is protected".
"""

import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from flowaccount_connect.domain.connection import Sealed
from flowaccount_connect.domain.error_code import error_code

SETS_PER_KEY = 50
"""The most token sets that one data key seals: as many as one batch of the refresh queue can have."""

KEY_AGE = 300
"""The longest time that one data key is used to seal, in seconds."""

_FORMAT = b"\x01"
_NONCE_BYTES = 12
_KEYS_KEPT = 512


class SealingUnavailable(Exception):
    """KMS did not answer, or refused the call. Nothing was lost. The caller can try again later."""


class CannotOpen(Exception):
    """The ciphertext belongs to another item, or was changed. It will never open."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    """An access token and a refresh token, in clear. Its repr shows neither."""

    access_token: str
    refresh_token: str

    def __repr__(self) -> str:
        return "TokenPair(…)"


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key: 32 bytes that seal, and its form encrypted by KMS, which is stored beside the ciphertext."""

    plaintext: bytes
    wrapped: bytes

    def __repr__(self) -> str:
        return "DataKey(…)"


class _Opening:
    """A data key that KMS is opening. One thread calls KMS. Other threads that need the key wait for the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.key: bytes | None = None
        self.failure: SealingUnavailable | CannotOpen | None = None


class Sealer:
    """Seals and opens token sets. Opened data keys stay in memory; the least recently used are dropped first.

    Safe for several threads. `kms` is a client of KMS; `clock` is in epoch seconds.
    """

    def __init__(
        self, kms: Any, key_id: str, *, stack: str, environment: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._kms = kms
        self._key_id = key_id
        self._environment = environment
        self._context = {"stack": stack, "environment": environment}
        self._clock = clock
        self._opened: OrderedDict[bytes, bytes] = OrderedDict()
        self._opening: dict[bytes, _Opening] = {}
        self._lock = threading.Lock()
        self._key: DataKey | None = None
        self._key_left = 0
        self._key_until = 0.0
        self._refused = 0
        self._making = threading.Lock()

    def data_key(self) -> DataKey:
        """A data key for one set: the current one, or a new one by one call of KMS. Raises `SealingUnavailable`.

        If that call fails, every thread that waited for it fails too. Otherwise each would wait for KMS in turn.
        """
        refused = self._refused
        with self._making:
            now = self._clock()
            # An end too far ahead was set by a clock that has fallen back.
            over = not now < self._key_until <= now + KEY_AGE
            if self._key is None or self._key_left == 0 or over:
                if self._refused != refused:
                    raise SealingUnavailable("KMS failed a moment ago")
                self._key = None
                try:
                    self._key = self._new_data_key()
                except SealingUnavailable:
                    self._refused += 1
                    raise
                self._key_left, self._key_until = SETS_PER_KEY, self._clock() + KEY_AGE
            self._key_left -= 1
            return self._key

    def _new_data_key(self) -> DataKey:
        answer = self._call(
            self._kms.generate_data_key,
            KeyId=self._key_id,
            KeySpec="AES_256",
            EncryptionContext=self._context,
        )
        return DataKey(answer["Plaintext"], answer["CiphertextBlob"])

    def seal(self, tokens: TokenPair, key: DataKey, *, owner: str, grant_id: str) -> Sealed:
        """Seal `tokens` for the item `owner` and the consent `grant_id`.

        Calls no service, and cannot fail for tokens of the token endpoint.
        """
        nonce = os.urandom(_NONCE_BYTES)
        plaintext = json.dumps([tokens.access_token, tokens.refresh_token]).encode()
        ciphertext = AESGCM(key.plaintext).encrypt(nonce, plaintext, self._owner(owner, grant_id))
        return Sealed(_FORMAT + nonce + ciphertext, key.wrapped)

    def open(self, sealed: Sealed, *, owner: str, grant_id: str) -> TokenPair:
        """Open a token set that was sealed for the same owner and grant.

        Calls KMS once, or not at all while the data key is in memory. Threads that need the same data key at the same
        time share one call and its result. Raises `SealingUnavailable`, `CannotOpen`.
        """
        key = self._unwrap(sealed.data_key)
        nonce, ciphertext = sealed.ciphertext[1 : 1 + _NONCE_BYTES], sealed.ciphertext[1 + _NONCE_BYTES :]
        try:
            if sealed.ciphertext[:1] != _FORMAT:
                raise CannotOpen("unknown format")
            plaintext = AESGCM(key).decrypt(nonce, ciphertext, self._owner(owner, grant_id))
            access_token, refresh_token = json.loads(plaintext)
        except (InvalidTag, ValueError):
            raise CannotOpen("not sealed for this item") from None
        return TokenPair(access_token, refresh_token)

    def _owner(self, owner: str, grant_id: str) -> bytes:
        return json.dumps([owner, self._environment, grant_id]).encode()

    def _unwrap(self, wrapped: bytes) -> bytes:
        with self._lock:
            if wrapped in self._opened:
                self._opened.move_to_end(wrapped)
                return self._opened[wrapped]
            opening = self._opening.setdefault(wrapped, _Opening())
        with opening.lock:
            if opening.failure is not None:
                raise type(opening.failure)(str(opening.failure))
            if opening.key is None:
                opening.key = self._decrypted(wrapped, opening)
            return opening.key

    def _decrypted(self, wrapped: bytes, opening: _Opening) -> bytes:
        key: bytes | None = None
        try:
            answer = self._call(
                self._kms.decrypt,
                CiphertextBlob=wrapped,
                KeyId=self._key_id,
                EncryptionContext=self._context,
            )
            key = answer["Plaintext"]
        except (SealingUnavailable, CannotOpen) as failure:
            opening.failure = failure
            raise
        finally:
            # From here on a thread finds the key in memory, or calls KMS itself.
            with self._lock:
                self._opening.pop(wrapped, None)
                if key is not None:
                    self._opened[wrapped] = key
                    while len(self._opened) > _KEYS_KEPT:
                        self._opened.popitem(last=False)
        return key

    @staticmethod
    def _call(operation: Any, **parameters: Any) -> Any:
        try:
            return operation(**parameters)
        except Exception as error:
            code = error_code(error)
            if code in ("InvalidCiphertextException", "IncorrectKeyException"):
                raise CannotOpen(code) from None
            raise SealingUnavailable(code) from None
