"""What was asked of FlowAccount: every request that matters with its outcome, without any secret."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from tools.simulator.ledger import Entry

Kind = Literal["token", "company", "authorize", "consent", "slack", "line"]
"""The token endpoint, the business API, the start of a login, its end (the choice of the business), and messengers."""

MAX_RECORDS = 200_000
"""Requests kept; beyond it the oldest are forgotten."""


@dataclass(eq=False, slots=True)
class Record:
    """One request. Filled in while it is handled; `status` is None as long as nothing was answered.

    fingerprint: of the code, refresh token or access token presented. outcome: `issued`, `served`,
    `throttled`, or what was found wrong. fault: the faults applied. issued: the entries of what the answer
    carries. delivered: whether every byte of the answer was handed to the socket. receiver_gone: whether the
    peer had closed its side of the connection before that.
    """

    number: int
    at: float
    kind: Kind
    grant: str | None = None
    client_id: str | None = None
    fingerprint: str | None = None
    business: str | None = None
    outcome: str | None = None
    status: int | None = None
    fault: list[str] = field(default_factory=list)
    issued: list[Entry] = field(default_factory=list)
    delivered: bool | None = None
    receiver_gone: bool = False

    def note_delivery(self, complete: bool, receiver_gone: bool, carries_tokens: bool) -> None:
        """Note how the answer left, here and on everything that was issued for it.

        carries_tokens: whether what was issued was in that answer at all; a fault may have put another in its
        place.
        """
        self.delivered, self.receiver_gone = complete, receiver_gone
        for entry in self.issued:
            entry.delivered, entry.receiver_gone = complete and carries_tokens, receiver_gone

    def as_dict(self) -> dict[str, Any]:
        """The record as the control API shows it."""
        return {
            "number": self.number,
            "at": self.at,
            "kind": self.kind,
            "grant": self.grant,
            "client_id": self.client_id,
            "fingerprint": self.fingerprint,
            "business": self.business,
            "outcome": self.outcome,
            "status": self.status,
            "fault": list(self.fault),
            "issued": [entry.fingerprint for entry in self.issued],
            "delivered": self.delivered,
            "receiver_gone": self.receiver_gone,
        }


class RequestsLog:
    """The last `MAX_RECORDS` requests."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=MAX_RECORDS)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def begin(self, kind: Kind, at: float) -> Record:
        """A new record."""
        with self._lock:
            record = Record(next(self._numbers), at, kind)
            self._records.append(record)
        return record

    def records(self, after: int) -> list[dict[str, Any]]:
        """The requests with a number above *after*, oldest first."""
        with self._lock:
            return [record.as_dict() for record in self._records if record.number > after]
