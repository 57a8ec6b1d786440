"""Publishes the changes of the table's stream: to the history, to the number of connections, and to the event bus.

Each change is published at least once. If the table or the bus refuses it, it waits in a queue and is delivered again.
If that queue refuses it too, the stream delivers it again. Only the attributes in `_CARRIED` leave the stream. Tokens
are not among them, not even sealed.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowaccount_connect import SOURCE
from flowaccount_connect.domain import events
from flowaccount_connect.domain.connection import Status
from flowaccount_connect.domain.error_code import error_code
from flowaccount_connect.domain.events import Entry, Event, Kind
from flowaccount_connect.domain.ids import is_connection_id
from flowaccount_connect.domain.log import Log, fault
from flowaccount_connect.storage.connections import IMPORT, LEGIBLE, from_item
from flowaccount_connect.storage.dynamodb import Item, StoreUnavailable, text
from flowaccount_connect.storage.fields import Fields
from flowaccount_connect.storage.history import History, Moved

_CARRIED = frozenset({*LEGIBLE, *("type", "at", "connection_id")})
"""Of a connection, and of an event item."""
_ANNOUNCED = {f"connection.{kind}": kind for kind in (Kind.REFUSED, Kind.IMPORT_REFUSED)}
"""The types of event items."""
_RESERVE = 15.0
"""The end of the invocation's time, in seconds. It is kept for sending unpublished changes to the queue."""
_LONGEST = 2_048
"""The longest attribute that leaves the stream, as JSON in characters. A tenant of 128 Thai letters has 776."""
_BATCH = 10
"""The most entries that PutEvents and SendMessageBatch take."""


class Malformed(Exception):
    """The input is neither a record of the stream nor a message of the queue."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one item, without anything secret. `at` in epoch seconds."""

    id: str
    """The id of the change. It is the same in every delivery, from the stream and from the queue."""
    sequence: str
    """Orders the changes of one item."""
    at: int
    old: Item | None
    new: Item | None


def read_record(record: Mapping[str, Any]) -> Change:
    """The change that a record of the stream describes. Raises `Malformed`."""
    try:
        facts = record["dynamodb"]
        return _change(
            record["eventID"],
            facts["SequenceNumber"],
            facts["ApproximateCreationDateTime"],
            facts.get("OldImage"),
            facts.get("NewImage"),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise Malformed("not a record of the table's stream") from None


def read_message(body: str) -> Change:
    """The change that a message of the queue carries. Raises `Malformed`."""
    try:
        facts = json.loads(body)
        return _change(facts["id"], facts["sequence"], facts["at"], facts["old"], facts["new"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        raise Malformed("not a message of the queue of unpublished changes") from None


def _change(id_: str, sequence: str, at: float, old: Item | None, new: Item | None) -> Change:
    if not sequence.isdigit() or not id_:
        raise ValueError("an id is a text, a sequence number has digits only")
    return Change(id_, sequence, int(at), _carried(old), _carried(new))


def _carried(image: Item | None) -> Item | None:
    """What leaves the stream of an image. What is too long for any attribute of ours is left out, and marked.

    One item must not make a batch of messages or events too long for all of them.
    """
    if not image:
        return None
    carried = {name: value for name, value in image.items() if name in _CARRIED}
    return {name: value if len(json.dumps(value)) <= _LONGEST else {"NULL": True} for name, value in carried.items()}


class UnpublishedQueue:
    """The queue of changes that could not be published. `sqs` is a client of SQS."""

    def __init__(self, sqs: Any, url: str, log: Log) -> None:
        self._sqs = sqs
        self._url = url
        self._log = log

    def send(self, changes: Sequence[Change]) -> list[Change]:
        """Send changes to the queue; returns those that it did not take. Raises nothing."""
        refused: list[Change] = []
        for at in range(0, len(changes), _BATCH):
            batch = changes[at : at + _BATCH]
            messages = [
                {
                    "Id": str(i),
                    "MessageBody": json.dumps(
                        {"id": c.id, "sequence": c.sequence, "at": c.at, "old": c.old, "new": c.new}
                    ),
                }
                for i, c in enumerate(batch)
            ]
            try:
                answer = self._sqs.send_message_batch(QueueUrl=self._url, Entries=messages)
                taken = {entry["Id"] for entry in answer.get("Successful", [])}
                refused += [change for i, change in enumerate(batch) if str(i) not in taken]
            except Exception as error:
                self._log.error("not put away", extra={"error": error_code(error)})
                refused += batch
        return refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Publishes changes: to the history first, then to the bus. `bus` is a client of EventBridge."""

    history: History
    bus: Any
    bus_name: str
    environment: str
    log: Log
    publish_refreshed: bool = False
    """Whether each refresh is an event too."""

    def publish(self, changes: Sequence[Change], *, remaining: Callable[[], float]) -> list[Change]:
        """Publish each change while time remains; returns those that must be published again, with all their entries.

        `remaining` gives the seconds left of the invocation. Raises nothing.
        """
        failed: list[Change] = []
        waiting: list[tuple[Change, Event]] = []
        for change in changes:
            if remaining() < _RESERVE:
                self.log.error("no time left", extra={"change_id": change.id})
                failed.append(change)
                continue
            try:
                entries = self.entries(change)
                self._record(change, entries)
                waiting += [(change, made) for entry in entries if (made := self._event(entry)) is not None]
            except StoreUnavailable as error:
                self.log.error("not recorded", extra={"change_id": change.id, "error": str(error)})
                failed.append(change)
            except Exception as error:
                self.log.error("unexpected", extra={"change_id": change.id, **fault(error)})
                failed.append(change)
        for at in range(0, len(waiting), _BATCH):
            batch = waiting[at : at + _BATCH]
            refused = self._put(batch) if remaining() > _RESERVE else [change for change, _ in batch]
            for change in refused:
                if change not in failed:
                    failed.append(change)
        return failed

    def entries(self, change: Change) -> tuple[Entry, ...]:
        """The history entries of a change."""
        item = change.new or change.old or {}
        kind = text(item, "sk")
        if kind == "EVENT":
            # An event item is published when it is written. Its deletion is not an event.
            return () if change.new is None else self._of_event_item(change.id, item)
        old, new = (from_item(image) if image else None for image in (change.old, change.new))
        derive = events.import_entries if kind == IMPORT else events.entries
        return derive(change.id, change.at, old, new)

    def _of_event_item(self, change_id: str, item: Item) -> tuple[Entry, ...]:
        """The entry of an event item; none, and a line of log, if it cannot be understood: it never will be."""
        read = Fields(item)
        connection_id, at = read.text("connection_id"), read.number("at")
        tenant, reason = read.text("tenant"), read.text("reason")
        kind = _ANNOUNCED.get(read.text("type") or "")
        if kind is None or at is None or not is_connection_id(connection_id) or not read.understood:
            self.log.error("an event item is not understood", extra={"change_id": change_id})
            return ()
        return (
            Entry(
                id=f"{change_id}-{kind}",
                kind=kind,
                at=at,
                connection_id=connection_id,
                environment=self.environment,
                tenant=tenant,
                reason=reason,
            ),
        )

    def _record(self, change: Change, entries: Sequence[Entry]) -> None:
        if entries:
            old, new = _counted(change.old), _counted(change.new)
            self.history.write(entries, change.sequence, Moved(old, new) if old != new else None)

    def _event(self, entry: Entry) -> Event | None:
        return events.event(entry) if self.publish_refreshed or entry.kind is not Kind.REFRESHED else None

    def _put(self, batch: Sequence[tuple[Change, Event]]) -> list[Change]:
        """Put up to ten events; returns the changes of those that the bus did not take."""
        try:
            answer = self.bus.put_events(
                Entries=[
                    {
                        "EventBusName": self.bus_name,
                        "Source": SOURCE,
                        "DetailType": made.type,
                        "Detail": json.dumps(made.detail),
                        "Time": change.at,
                    }
                    for change, made in batch
                ]
            )
            results = list(zip(batch, answer["Entries"], strict=True))
        except Exception as error:
            self.log.error("not published", extra={"events": len(batch), "error": error_code(error)})
            return [change for change, _ in batch]
        refused = []
        for (change, made), result in results:
            if "EventId" not in result:
                code = result.get("ErrorCode")
                self.log.error("not published", extra={"event_id": made.detail["id"], "error": code})
                refused.append(change)
        return refused


def _counted(image: Item | None) -> str | None:
    """The status under which an item is counted; `None` if it is not counted."""
    if image is None or text(image, "sk") == "EVENT":
        return None
    if text(image, "sk") == IMPORT:
        return "importing" if events.is_under_way(from_item(image)) else None
    # A tombstone is not a connection. Its deletion has no entry, so nothing could make sure that it is counted once.
    status = from_item(image).status
    return None if status is Status.DISCONNECTED else status.value
