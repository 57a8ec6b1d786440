"""Webhooks: an event of the bus as the signed request that a receiver gets."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flowaccount_connect.notifying import signing
from flowaccount_connect.notifying.queue import Malformed
from flowaccount_connect.notifying.sending import Answer, Post

_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")
"""No dot, which separates what is signed."""


def receiver(url: str) -> str:
    """The receiver's name in messages and logs: its host, and a digest of the URL, which may hold a secret."""
    return f"webhook:{urlsplit(url).hostname}:{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def payload(event: Mapping[str, Any]) -> dict[str, Any]:
    """What a webhook says of an event of the bus: its type, its time, and its detail as `events/schemas` has it.

    Raises `Malformed`.
    """
    type_, detail = event.get("detail-type"), event.get("detail")
    if not isinstance(type_, str) or not isinstance(detail, dict):
        raise Malformed
    if not isinstance(detail.get("id"), str) or not _ID.fullmatch(detail["id"]):
        raise Malformed
    return {"type": type_, "timestamp": detail.get("at"), "data": detail}


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The receivers by name, and the keys that sign what they get. `post` sends; `clock` is in epoch seconds."""

    urls: Mapping[str, str]
    events: frozenset[str]
    """The types of events that are sent; empty for all that the rule `NotifyRule` lets through."""
    keys: Callable[[], Sequence[bytes]]
    post: Post
    clock: Callable[[], float]

    def receivers(self, type_: str) -> tuple[str, ...]:
        """Who gets events of a type."""
        return tuple(self.urls) if not self.events or type_ in self.events else ()

    def deliver(self, to: str, said: Mapping[str, Any]) -> Answer | None:
        """Send a payload to a receiver; `None` if the stack has no such receiver any more.

        Each try is signed anew, with the time of the try. Raises `SecretMisconfigured`, `SecretUnavailable`.
        """
        url = self.urls.get(to)
        if url is None:
            return None
        body = json.dumps(said, separators=(",", ":")).encode()
        signed = signing.headers(str(said["data"]["id"]), body, self.keys(), now=int(self.clock()))
        return self.post(url, signed, body)
