"""The history of each connection, kept for 90 days (plain refreshes for 14).

`History.write` is the one place that writes entries; `publish` calls it. An entry's key derives from its change, so a
change that is delivered again writes the same item. If a change moves a connection to another status, one transaction
writes the entry and the count (`storage.counts`), and it succeeds only once.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowaccount_connect.domain.events import Entry, Kind
from flowaccount_connect.domain.schedule import random_fraction
from flowaccount_connect.storage import counts, cursor
from flowaccount_connect.storage.cursor import InvalidNext
from flowaccount_connect.storage.dynamodb import (
    MISFIT,
    AttributeValue,
    Client,
    ConditionRefused,
    Item,
    StoreUnavailable,
    attributes,
    call,
    n,
    s,
    text,
)
from flowaccount_connect.storage.fields import Fields

KEPT = 90 * 86_400
"""How long an entry is kept, in seconds."""

REFRESHES_KEPT = 14 * 86_400
"""How long an ordinary refresh is kept. There are 120 a month, and an old one tells nothing."""

_NEXT = "history#"
"""What a `next` begins with: one of another list is refused."""

_LONGEST_SORT = 1_024
"""DynamoDB takes no longer sort key, in bytes."""

_TEXTS = ("environment", "tenant", "status", "attempt_id", "reason", "recovered_from")
_NUMBERS = ("generation", "since", "deadline", "consent_ends_at", "retries")
_TRIES = 6
"""How often a transaction is tried in all, if another transaction writes the count at the same moment."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A change from one status to another, as the count sees it. `None` means: no connection."""

    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, newest first, and where the next page begins; `None` on the last."""

    entries: tuple[Entry, ...]
    next: str | None


class History:
    """The entries of one table. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._table = table
        self._sleep = sleep

    def write(self, entries: Sequence[Entry], sequence: str, moved: Moved | None) -> None:
        """Write the entries of one change. If it `moved` a connection, also change the count, exactly once.

        `sequence` orders the changes of one connection within a second. Idempotent. If a count in the table is no
        number, the entries are written, and nothing is counted. Raises `StoreUnavailable`.
        """
        puts: list[dict[str, object]] = [
            {"TableName": self._table, "Item": _item(entry, sequence, place)} for place, entry in enumerate(entries)
        ]
        if moved is None:
            for put in puts:
                call(self._client.put_item, **put)
            return
        # If the entry of this change exists, the change has been counted.
        first = puts[0] | {"ConditionExpression": "attribute_not_exists(pk)"}
        writes = [{"Put": put} for put in (first, *puts[1:])]
        try:
            self._once([*writes, {"Update": _count(self._table, moved)}])
        except StoreUnavailable as error:
            if str(error) != MISFIT:
                raise
            self._once(writes)

    def _once(self, writes: list[dict[str, dict[str, object]]]) -> None:
        for tried in range(1, _TRIES + 1):
            try:
                call(self._client.transact_write_items, TransactItems=writes)
            except ConditionRefused:
                return
            except StoreUnavailable as error:
                # Another transaction was writing the count, so nothing was written. It ends in a moment.
                if str(error) != "TransactionCanceledException" or tried == _TRIES:
                    raise
                self._sleep(0.05 * 2**tried * random_fraction())
            else:
                return

    def page(self, connection_id: str, *, limit: int, now: int, next_: str | None = None) -> Page:
        """What happened to a connection, newest first, at most `limit` entries of the last 90 days.

        `next_` is a former page's `next`. Raises `InvalidNext`, `StoreUnavailable`.
        """
        oldest, start = f"{now - KEPT:012d}", {}
        if next_ is not None:
            sort = _decode(next_)
            if sort <= oldest:
                return Page((), None)
            start = {"ExclusiveStartKey": _key(connection_id, sort)}
        answer = call(
            self._client.query,
            TableName=self._table,
            # DynamoDB deletes expired entries days late. They are the oldest, so this condition leaves them out.
            KeyConditionExpression="pk = :pk AND sk > :oldest",
            ExpressionAttributeValues={":pk": s(_partition(connection_id)), ":oldest": s(oldest)},
            ScanIndexForward=False,
            # One more than asked for shows whether another page exists.
            Limit=limit + 1,
            **start,
        )
        items = answer["Items"]
        shown = items[:limit]
        # A page of DynamoDB's ends after a megabyte, too.
        more = len(items) > limit or "LastEvaluatedKey" in answer
        last = text(shown[-1], "sk") if more and shown else None
        return Page(tuple(_entry(item) for item in shown), cursor.encode(_NEXT + last) if last else None)


def _count(table: str, moved: Moved) -> dict[str, object]:
    """The update that takes one from the count of the old status and adds one to that of the new status."""
    names, values, actions = {}, {":zero": n(0), ":one": n(1)}, []
    for name, status, sign in (("#old", moved.old, "-"), ("#new", moved.new, "+")):
        if status is not None:
            names[name] = status
            actions.append(f"{name} = if_not_exists({name}, :zero) {sign} :one")
    return {
        "TableName": table,
        "Key": counts.KEY,
        "UpdateExpression": f"SET {', '.join(actions)}",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
    }


def _partition(connection_id: str) -> str:
    """The partition of a history. It is not the connection's own, so a role can write histories and no connection."""
    return f"HISTORY#{connection_id}"


def _key(connection_id: str, sort: str) -> dict[str, AttributeValue]:
    return attributes(pk=_partition(connection_id), sk=sort)


def _item(entry: Entry, sequence: str, place: int) -> dict[str, AttributeValue]:
    facts = {name: getattr(entry, name) for name in (*_TEXTS, *_NUMBERS)}
    kept = REFRESHES_KEPT if entry.kind is Kind.REFRESHED else KEPT
    return _key(entry.connection_id, f"{entry.at:012d}#{sequence:0>40}#{place}") | attributes(
        id=entry.id, kind=entry.kind, at=entry.at, ttl=entry.at + kept, **facts
    )


def _entry(item: Item) -> Entry:
    """The entry that an item describes. Never raises: what cannot be understood is of the kind `unreadable`."""
    read = Fields(item)
    facts: dict[str, Any] = {name: read.text(name) for name in _TEXTS} | {name: read.number(name) for name in _NUMBERS}
    found = Entry(
        id=read.required(read.text("id"), ""),
        kind=read.required(read.one_of("kind", Kind), Kind.UNREADABLE),
        at=read.required(read.number("at"), 0),
        connection_id=(text(item, "pk") or "").removeprefix("HISTORY#"),
        **facts,
    )
    return found if read.understood else replace(found, kind=Kind.UNREADABLE)


def _decode(next_: str) -> str:
    """The sort key in a `next`. It is of this history whatever it is, since the partition is. Raises `InvalidNext`."""
    known, _, sort = cursor.decode(next_).partition(_NEXT)
    if known or not 0 < len(sort.encode()) <= _LONGEST_SORT:
        raise InvalidNext
    return sort
