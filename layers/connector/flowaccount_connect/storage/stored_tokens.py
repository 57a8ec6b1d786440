"""The one codec of a token set: sealed tokens and the times that go with them, as attributes and as JSON."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowaccount_connect.domain.connection import Sealed
from flowaccount_connect.storage.dynamodb import Item, binary, number

_TIMES = ("requested_at", "access_expires_at", "deadline", "refresh_at")
_OPTIONAL = ("consent_ends_at", "at_risk")
ATTRIBUTES = ("tokens", "data_key", *_TIMES, *_OPTIONAL)
"""What an item holds of a token set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTokens:
    """A token set that is ready to be stored: sealed, with the times that a `Connection` has of it."""

    sealed: Sealed
    requested_at: int
    access_expires_at: int
    deadline: int
    refresh_at: int
    consent_ends_at: int | None = None
    at_risk: int | None = None
    """Since when the end of the consent is near; `None` while it is not."""

    def setting(self) -> tuple[str, str, dict[str, Any]]:
        """Of an update that stores the set: its assignments, what it removes beside others, and its values."""
        times = {name: getattr(self, name) for name in (*_TIMES, *_OPTIONAL)}
        values = {"tokens": self.sealed.ciphertext, "data_key": self.sealed.data_key}
        values |= {name: at for name, at in times.items() if at is not None}
        assignments = ", ".join(f"{name} = :{name}" for name in values)
        return assignments, "".join(f", {name}" for name in _OPTIONAL if name not in values), values

    def to_json(self) -> dict[str, object]:
        """The same as a JSON object; the bytes are in Base64."""
        return {
            "tokens": base64.b64encode(self.sealed.ciphertext).decode(),
            "data_key": base64.b64encode(self.sealed.data_key).decode(),
            **{name: getattr(self, name) for name in (*_TIMES, *_OPTIONAL)},
        }


def from_json(fields: Mapping[str, Any]) -> StoredTokens:
    """Read what `to_json` wrote. Raises `ValueError`, `KeyError`, `TypeError` or `OverflowError` for anything else."""
    tokens, data_key = (base64.b64decode(fields[name], validate=True) for name in ("tokens", "data_key"))
    return StoredTokens(
        sealed=Sealed(tokens, data_key),
        **{name: int(fields[name]) for name in _TIMES},
        **{name: int(fields[name]) for name in _OPTIONAL if fields.get(name) is not None},
    )


def from_item(item: Item) -> StoredTokens | None:
    """The token set of an item, or `None` where the item holds none. Never raises."""
    ciphertext, data_key = binary(item, "tokens"), binary(item, "data_key")
    if not ciphertext or not data_key:
        return None
    return StoredTokens(
        sealed=Sealed(ciphertext, data_key),
        **{name: number(item, name) or 0 for name in _TIMES},
        consent_ends_at=number(item, "consent_ends_at"),
        at_risk=number(item, "at_risk"),
    )
