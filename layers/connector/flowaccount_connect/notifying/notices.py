"""What people are to hear of: gathered, so that a burst is one message, and an hour of repetitions another.

For each kind of trouble the table has one item: what waits to be sent, and until when nothing of this kind is sent. Its
`waiting` is a set, so what comes twice counts once. It holds `SAMPLE` ids at most: an item that grew with a burst would
cost more with each write. What goes beyond is counted.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowaccount_connect.storage.dynamodb import Client, ConditionRefused, Item, call, get, n, number, s

GATHER = 60
"""Seconds that the first of a burst waits for the others."""

QUIET = 3_600
"""Seconds after a message in which no other one of the same kind is sent."""

SAMPLE = 50

ALARM = "alarm:"
"""The kinds of notices of alarms begin so."""

_LEASE = 60
_KEPT = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that people are to hear of. `kind` says what, `subject` whom or which moment it is about."""

    kind: str
    subject: str


def of_event(event: Mapping[str, Any]) -> Notice | None:
    """The notice of an event of the bus; `None` if nobody has to act on it."""
    detail = event.get("detail")
    if not isinstance(detail, dict) or not isinstance(detail.get("connection_id"), str):
        return None
    kind = {
        "connection.at_risk": "at_risk",
        "connection.reauthorization_required": "reauthorization_required",
    }.get(str(event.get("detail-type")))
    if kind == "reauthorization_required" and detail.get("reason") in ("rotation_lost", "wrong_connection"):
        kind = "tokens_lost"
    return Notice(kind, detail["connection_id"]) if kind else None


def of_alarm(alarm: Mapping[str, Any], stack: str) -> Notice | None:
    """The notice of an alarm, as CloudWatch writes it to a topic.

    `None` for an alarm of another stack, and for one that was just made and is well: that is the end of nothing.

    Its subject begins with the time of the change, so that the last one in order is the alarm's present state.
    """
    name, state = str(alarm.get("AlarmName")), alarm.get("NewStateValue")
    first = state == "OK" and alarm.get("OldStateValue") == "INSUFFICIENT_DATA"
    if not name.startswith(f"{stack}-") or state not in ("ALARM", "OK") or first:
        return None
    return Notice(f"{ALARM}{name.removeprefix(f'{stack}-')}", f"{alarm.get('StateChangeTime')} {state}")


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits to be sent of one kind."""

    subjects: Sequence[str]
    """In order."""
    more: int
    """How many there are beyond them."""
    quiet_until: int
    """Epoch seconds; 0 if nothing was sent yet."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.subjects) + self.more


class Notices:
    """The notices that wait. `clock` gives epoch seconds."""

    def __init__(self, client: Client, table: str, *, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._table = table
        self._clock = clock

    def note(self, kind: str, subjects: Sequence[str]) -> tuple[bool, int]:
        """Add subjects to what waits; whether nothing else waited, and when they may be sent, in epoch seconds.

        Raises `StoreUnavailable`.
        """
        values: Item = {":some": {"SS": sorted(set(subjects))}, ":ttl": n(int(self._clock()) + _KEPT)}
        few = {"ConditionExpression": "attribute_not_exists(waiting) OR size(waiting) < :few"}
        try:
            change = "ADD waiting :some SET expires = :ttl"
            before = self._write(kind, change, {**values, ":few": n(SAMPLE)}, ReturnValues="ALL_OLD", **few)
        except ConditionRefused:
            values = {":more": n(len(set(subjects))), ":ttl": values[":ttl"]}
            before = self._write(kind, "ADD more :more SET expires = :ttl", values, ReturnValues="ALL_OLD")
        waited = _waiting(before)
        # What waited may be what this very call wrote, if the table's first answer was lost and the SDK asked again.
        is_first = not waited.more and set(waited.subjects) in (set(), set(subjects))
        return is_first, max(int(self._clock()) + GATHER, waited.quiet_until)

    def get(self, kind: str) -> Waiting:
        """What waits. Raises `StoreUnavailable`."""
        return _waiting(get(self._client, self._table, _key(kind)) or {})

    def claim(self, kind: str, seen: Waiting) -> bool:
        """Reserve the sending of a kind for a minute; `False` if another worker has it. Raises `StoreUnavailable`."""
        values = {":until": n(int(self._clock()) + _LEASE)}
        if seen.quiet_until:
            condition, values[":seen"] = "quiet_until = :seen", n(seen.quiet_until)
        else:
            condition = "attribute_not_exists(quiet_until)"
        try:
            self._write(kind, "SET quiet_until = :until", values, ConditionExpression=condition)
        except ConditionRefused:
            return False
        return True

    def mark_sent(self, kind: str, sent: Waiting) -> Waiting:
        """Remove what was sent, and be quiet from now on. Returns what still waits. Raises `StoreUnavailable`."""
        values: Item = {":less": n(-sent.more), ":until": n(int(self._clock()) + QUIET)}
        change = "ADD more :less SET quiet_until = :until"
        if sent.subjects:
            values = {**values, ":sent": {"SS": list(sent.subjects)}}
            change += " DELETE waiting :sent"
        return _waiting(self._write(kind, change, values, ReturnValues="ALL_NEW"))

    def _write(self, kind: str, change: str, values: Item, **more: Any) -> Item:
        answer = call(
            self._client.update_item,
            TableName=self._table,
            Key=_key(kind),
            UpdateExpression=change.replace("expires", "#ttl"),
            ExpressionAttributeValues=values,
            **({"ExpressionAttributeNames": {"#ttl": "ttl"}} if "expires" in change else {}),
            **more,
        )
        return answer.get("Attributes") or {}


def _key(kind: str) -> Item:
    return {"pk": s(f"NOTICE#{kind}"), "sk": s("NOTICE")}


def _waiting(item: Item) -> Waiting:
    subjects = sorted(map(str, item.get("waiting", {}).get("SS", ())))
    return Waiting(subjects, max(number(item, "more") or 0, 0), number(item, "quiet_until") or 0)
