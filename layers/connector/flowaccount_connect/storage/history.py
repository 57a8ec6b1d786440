"""The history of each connection, kept for 90 days, and the number of connections by status.

`History.write` is the one place that writes entries; `publish` calls it. An entry's key derives from its change, so a
change that is delivered again writes the same item. If a change moves a connection to another status, one transaction
writes the entry and the count, and it succeeds only once.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowaccount_connect.domain.events import Entry, Kind
from flowaccount_connect.domain.schedule import random_fraction
from flowaccount_connect.storage import cursor
from flowaccount_connect.storage.cursor import InvalidNext
from flowaccount_connect.storage.dynamodb import (
    AttributeValue,
    Client,
    ConditionRefused,
    Item,
    StoreUnavailable,
    attributes,
    call,
    get,
    n,
    number,
    s,
    text,
)

KEPT = 90 * 86_400
"""How long an entry is kept, in seconds."""

_SORT = re.compile(r"[0-9]{12}#[0-9]{40}#[0-9]{1,2}")
_TEXTS = ("environment", "tenant", "status", "attempt_id", "reason", "recovered_from")
_NUMBERS = ("generation", "since", "deadline", "retries")
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

        `sequence` orders the changes of one connection within a second. Idempotent. Raises `StoreUnavailable`.
        """
        puts: list[dict[str, object]] = [
            {"TableName": self._table, "Item": _item(entry, sequence, place)} for place, entry in enumerate(entries)
        ]
        if moved is None:
            for put in puts:
                call(self._client.put_item, **put)
            return
        # If the entry of this change exists, the change has been counted.
        puts[0]["ConditionExpression"] = "attribute_not_exists(pk)"
        self._once([*({"Put": put} for put in puts), {"Update": _count(self._table, moved)}])

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
        start = {} if next_ is None else {"ExclusiveStartKey": _key(connection_id, _decode(next_))}
        answer = call(
            self._client.query,
            TableName=self._table,
            # DynamoDB deletes expired entries days late. They are the oldest, so this condition leaves them out.
            KeyConditionExpression="pk = :pk AND sk > :oldest",
            ExpressionAttributeValues={":pk": s(_partition(connection_id)), ":oldest": s(f"{now - KEPT:012d}")},
            ScanIndexForward=False,
            # One more than asked for shows whether another page exists.
            Limit=limit + 1,
            **start,
        )
        items = answer["Items"]
        last = text(items[limit - 1], "sk") if len(items) > limit else None
        return Page(tuple(_entry(item) for item in items[:limit]), cursor.encode(last) if last else None)


class Counts:
    """Reads the number of connections by status. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def get(self) -> dict[str, int]:
        """The number of connections by status. A status that no connection ever had is absent.

        Raises `StoreUnavailable`.
        """
        item = get(self._client, self._table, _COUNT) or {}
        return {name: number(item, name) or 0 for name in item if name not in ("pk", "sk")}


_COUNT = {"pk": s("COUNT"), "sk": s("connections")}


def _count(table: str, moved: Moved) -> dict[str, object]:
    """The update that takes one from the count of the old status and adds one to that of the new status."""
    names, values, actions = {}, {":zero": n(0), ":one": n(1)}, []
    for name, status, sign in (("#old", moved.old, "-"), ("#new", moved.new, "+")):
        if status is not None:
            names[name] = status
            actions.append(f"{name} = if_not_exists({name}, :zero) {sign} :one")
    return {
        "TableName": table,
        "Key": _COUNT,
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
    return _key(entry.connection_id, f"{entry.at:012d}#{sequence:0>40}#{place}") | attributes(
        id=entry.id, kind=entry.kind, at=entry.at, ttl=entry.at + KEPT, **facts
    )


def _entry(item: Item) -> Entry:
    return Entry(
        id=text(item, "id") or "",
        kind=Kind(text(item, "kind") or ""),
        at=number(item, "at") or 0,
        connection_id=(text(item, "pk") or "").removeprefix("HISTORY#"),
        **{name: text(item, name) for name in _TEXTS},  # type: ignore[arg-type]
        **{name: number(item, name) for name in _NUMBERS},  # type: ignore[arg-type]
    )


def _decode(next_: str) -> str:
    sort = cursor.decode(next_)
    if not _SORT.fullmatch(sort):
        raise InvalidNext
    return sort
