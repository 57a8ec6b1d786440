"""The client secret: JSON `{"client_secret": "…"}` in Secrets Manager, looked up by name, cached, refetched once."""

import json
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from flowaccount_connect.domain.error_code import error_code

MAX_AGE = 300
"""How long a secret is used before it is looked up again, in seconds."""

RETRY_AFTER = 15
"""After Secrets Manager could not be reached, it is not asked for so many seconds. So one refresh of a batch waits."""

_MISSING = (
    "ResourceNotFoundException",
    "AccessDeniedException",
    "InvalidRequestException",
    "DecryptionFailure",
)


class SecretMisconfigured(Exception):
    """A secret is missing or wrong: an operator has to put it right. The message has nothing of it."""


class SecretUnavailable(Exception):
    """Secrets Manager could not be reached: only time helps. The message has nothing secret."""


class ClientSecret:
    """The client secret of the stack. Its repr does not show it. Safe for several threads.

    `client` is a client of Secrets Manager.
    """

    def __init__(self, client: Any, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._value: str | None = None
        self._fetched_at = 0.0
        self._failed_at = -math.inf

    def __repr__(self) -> str:
        return f"ClientSecret({self._name!r})"

    def get(self) -> str:
        """The secret, at most `MAX_AGE` old; an older one serves while Secrets Manager cannot be reached.

        Raises `SecretMisconfigured`, `SecretUnavailable`.
        """
        with self._lock:
            if self._value is not None and self._clock() - self._fetched_at < MAX_AGE:
                return self._value
            try:
                return self._fetch()
            except SecretUnavailable:
                if self._value is None:
                    raise
                return self._value

    def newer_than(self, refused: str) -> str | None:
        """The secret that has replaced `refused`, which FlowAccount did not accept; `None` if there is none.

        Looks it up unless another thread has done so meanwhile.
        """
        with self._lock:
            if self._value == refused:
                try:
                    self._fetch()
                except (SecretMisconfigured, SecretUnavailable):
                    return None
            return self._value if self._value != refused else None

    def _fetch(self) -> str:
        if self._clock() - self._failed_at < RETRY_AFTER:
            raise SecretUnavailable("unavailable a moment ago")
        try:
            answer = self._client.get_secret_value(SecretId=self._name)
        except Exception as error:
            code = error_code(error)
            if code in _MISSING:
                raise SecretMisconfigured(
                    f"the secret {self._name} cannot be read ({code}): create it, or allow this function to read it"
                ) from None
            self._failed_at = self._clock()
            raise SecretUnavailable(code) from None
        self._value = _parse(answer.get("SecretString"), self._name)
        self._fetched_at = self._clock()
        return self._value


def _parse(text: object, name: str) -> str:
    """The secret in its JSON, without what editors, shells and web pages put around it unseen.

    A byte order mark before the JSON is skipped. Around the secret blanks and other invisible characters are, too.
    """
    try:
        fields = json.loads(text.strip(_MARK)) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        fields = None
    value = fields.get("client_secret") if isinstance(fields, dict) else None
    visible = [at for at, one in enumerate(value) if _is_visible(one)] if isinstance(value, str) else []
    if not isinstance(value, str) or not visible:
        raise SecretMisconfigured(f'the secret {name} must be JSON of the form {{"client_secret": "…"}}')
    trimmed = value[visible[0] : visible[-1] + 1]
    if not trimmed.isprintable():
        raise SecretMisconfigured(f"the secret {name} has an invisible character inside: store it again")
    return trimmed


_MARK = "\ufeff"


def _is_visible(character: str) -> bool:
    return character.isprintable() and character != " "
