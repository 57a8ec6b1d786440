"""Pages of connections, by status: through the sharded index, in an order that stays, never by a scan."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from flowaccount_connect.domain.connection import Connection, Status
from flowaccount_connect.domain.ids import is_connection_id
from flowaccount_connect.domain.schedule import DUE_SHARDS
from flowaccount_connect.storage import cursor
from flowaccount_connect.storage.connections import ConnectionStore, from_item, key_of
from flowaccount_connect.storage.cursor import InvalidNext
from flowaccount_connect.storage.dynamodb import AttributeValue, Item, StoreUnavailable, call, s, text
from flowaccount_connect.storage.imports import IMPORTING, ImportStore


class Listed(StrEnum):
    """What connections are listed by, in the order of the pages."""

    ACTIVE = Status.ACTIVE
    """Those in doubt too."""
    IMPORTING = IMPORTING
    REAUTHORIZATION_REQUIRED = Status.REAUTHORIZATION_REQUIRED
    DISCONNECTED = Status.DISCONNECTED


class Reads(Protocol):
    """What is used of a DynamoDB client."""

    def query(self, **kwargs: Any) -> Any: ...
    def batch_get_item(self, **kwargs: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Page:
    """Some connections, and where the next page begins; `None` on the last."""

    connections: tuple[tuple[str, Connection], ...]
    """Each with its sort key: an import under way is listed beside the connection that it may revive."""
    next: str | None


class Listing:
    """Lists the connections of one table. `client` is a DynamoDB client."""

    def __init__(self, client: Reads, table: str) -> None:
        self._client = client
        self._table = table

    def page(self, status: Listed | None, *, limit: int, next_: str | None = None) -> Page:
        """At most `limit` (1 to 100) connections, of one status or of every.

        Ordered by status, then by shard, then by id. What changes its status while somebody turns the pages may be
        met twice or not at all. `next_` is a former page's `next`. Raises `InvalidNext`, `StoreUnavailable`.
        """
        statuses = tuple(Listed) if status is None else (status,)
        partitions = [f"{status}#{shard}" for status in statuses for shard in range(DUE_SHARDS)]
        partition, after = _decode(next_, partitions) if next_ is not None else (partitions[0], "")
        found: list[tuple[str, str]] = []
        for one in partitions[partitions.index(partition) :]:
            # One more than asked for says whether there is more.
            ids = self._ids(one, after if one == partition else "", limit + 1 - len(found))
            found += [(one, connection_id) for connection_id in ids]
            if len(found) > limit:
                break
        shown = found[:limit]
        connections = self._connections(shown)
        return Page(tuple(connections), cursor.encode("#".join(shown[-1])) if len(found) > limit else None)

    def _ids(self, partition: str, after: str, limit: int) -> list[str]:
        answer = call(
            self._client.query,
            TableName=self._table,
            IndexName="status",
            KeyConditionExpression="listed_as = :partition AND pk > :after",
            ExpressionAttributeValues={":partition": s(partition), ":after": s(f"CONNECTION#{after}")},
            Limit=limit,
        )
        return [(text(item, "pk") or "").removeprefix("CONNECTION#") for item in answer["Items"]]

    def _connections(self, listed: list[tuple[str, str]]) -> Iterator[tuple[str, Connection]]:
        """The connections themselves, since the index carries their keys only: what it would carry besides changes
        with each refresh. Left out is what has moved on to another status meanwhile."""
        keys = [key_of(connection_id, _sort_key(partition)) for partition, connection_id in listed]
        items = read(self._client, self._table, keys) if keys else {}
        for partition, connection_id in listed:
            item = items.get((f"CONNECTION#{connection_id}", _sort_key(partition)))
            if item is not None and text(item, "listed_as") == partition:
                yield _sort_key(partition), from_item(item)


_SHOWN = (
    "pk",
    "sk",
    "status",
    "listed_as",
    "environment",
    "grant_id",
    "generation",
    "tenant",
    "connected_at",
    "requested_at",
    "access_expires_at",
    "deadline",
    "refresh_at",
    "in_doubt",
    "refused_at",
    "refused_alone",
    "at_risk",
    "reason",
    "ended_at",
)
"""What is read of a connection to show it; what is sealed stays where it is."""

_TRIES = 4


def read(
    client: Reads, table: str, keys: Sequence[dict[str, AttributeValue]], *, consistent: bool = False
) -> dict[tuple[str, str], Item]:
    """What can be shown of up to 100 items, by primary key; what does not exist is left out.

    Raises `StoreUnavailable`, also where the table does not hand out all of it after a few tries.
    """
    names = {f"#{name}": name for name in _SHOWN}
    found: dict[tuple[str, str], Item] = {}
    wanted: Sequence[dict[str, AttributeValue]] = keys
    for _ in range(_TRIES):
        request = {
            "Keys": list(wanted),
            "ConsistentRead": consistent,
            "ProjectionExpression": ", ".join(names),
            "ExpressionAttributeNames": names,
        }
        answer = call(client.batch_get_item, RequestItems={table: request})
        for item in answer["Responses"].get(table, []):
            found[text(item, "pk") or "", text(item, "sk") or ""] = item
        wanted = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
        if not wanted:
            return found
    raise StoreUnavailable("UnprocessedKeys")


def _sort_key(partition: str) -> str:
    importing = partition.startswith(f"{IMPORTING}#")
    return ImportStore.sort_key if importing else ConnectionStore.sort_key


def _decode(next_: str, partitions: Sequence[str]) -> tuple[str, str]:
    """Where a page begins. It can say no more than where among `partitions`, whoever made it."""
    status, _, rest = cursor.decode(next_).partition("#")
    shard, _, connection_id = rest.partition("#")
    if f"{status}#{shard}" not in partitions or not is_connection_id(connection_id):
        raise InvalidNext
    return f"{status}#{shard}", connection_id
