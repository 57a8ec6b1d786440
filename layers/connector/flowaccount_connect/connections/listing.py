"""Pages of connections by status, in a stable order. They are read from the sharded index, never by a scan."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from flowaccount_connect.domain.connection import Connection, Status
from flowaccount_connect.domain.ids import is_connection_id
from flowaccount_connect.domain.schedule import DUE_SHARDS
from flowaccount_connect.storage import cursor
from flowaccount_connect.storage.connections import LEGIBLE, ConnectionStore, from_item, key_of
from flowaccount_connect.storage.cursor import InvalidNext
from flowaccount_connect.storage.dynamodb import AttributeValue, Client, Item, StoreUnavailable, call, s, text
from flowaccount_connect.storage.imports import IMPORTING, ImportStore


class Listed(StrEnum):
    """The statuses by which connections are listed, in the order of the pages."""

    ACTIVE = Status.ACTIVE
    """Includes connections in doubt."""
    IMPORTING = IMPORTING
    REAUTHORIZATION_REQUIRED = Status.REAUTHORIZATION_REQUIRED
    DISCONNECTED = Status.DISCONNECTED


LONGEST_PAGE = 100
"""The most connections on one page."""

READ_FOR_A_TENANT = 1_000
"""The most connections that are read to fill one page of one tenant's connections."""

Place = tuple[str, str]
"""The place of a connection in the index: its partition and its id."""

_LONGEST_NAME = 2_000
"""DynamoDB takes no partition key that is longer than 2,048 bytes."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some connections, and where the next page begins; `None` on the last."""

    connections: tuple[tuple[str, Connection], ...]
    """Each with its sort key: an import under way is listed beside the connection that it can revive."""
    next: str | None


class Listing:
    """Lists the connections of one table. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def page(self, status: Listed | None, *, tenant: str | None = None, limit: int, next_: str | None = None) -> Page:
        """At most `limit` (1 to 100) connections, of one status or of all, of one tenant or of all.

        The order is by status, then by shard, then by id. A connection that changes its status between two pages can
        appear twice or not at all. No index has the tenants. So with a `tenant` at most `READ_FOR_A_TENANT` connections
        are read for one page, and a page can be short or empty and still have a next one. `next_` is the `next` of the
        page before. Raises `InvalidNext`, `StoreUnavailable`.
        """
        found: list[tuple[str, Connection]] = []
        last: Place | None = None
        for _ in range(1 if tenant is None else READ_FOR_A_TENANT // LONGEST_PAGE):
            places, more = self._places(status, limit if tenant is None else LONGEST_PAGE, next_)
            for place, connection in self._connections(places):
                if tenant is not None and connection.tenant != tenant:
                    continue
                if last is not None and len(found) == limit:
                    return Page(tuple(found), _encode(last))
                found.append((_sort_key(place[0]), connection))
                last = place
            next_ = _encode(places[-1]) if more else None
            if next_ is None:
                break
        return Page(tuple(found), next_)

    def _places(self, status: Listed | None, limit: int, next_: str | None) -> tuple[list[Place], bool]:
        """At most `limit` places of the index after `next_`, and whether the index has more."""
        statuses = tuple(Listed) if status is None else (status,)
        partitions = [f"{status}#{shard}" for status in statuses for shard in range(DUE_SHARDS)]
        partition, after = _decode(next_, partitions) if next_ is not None else (partitions[0], "")
        # One more than asked for shows whether the index has more.
        places = [(partition, connection_id) for connection_id in self._ids(partition, after, limit + 1)]
        rest, width = partitions[partitions.index(partition) + 1 :], 1
        while rest and len(places) <= limit:
            some, rest = rest[:width], rest[width:]
            found = self._of(some, limit + 1 - len(places))
            places += found
            # Of a small stack most are empty. After one that is, several are asked at the same time.
            width = 1 if found else DUE_SHARDS
        return places[:limit], len(places) > limit

    def _of(self, partitions: list[str], limit: int) -> list[Place]:
        """The first places of some partitions, in their order."""
        if len(partitions) == 1:
            return [(partitions[0], connection_id) for connection_id in self._ids(partitions[0], "", limit)]
        with ThreadPoolExecutor(len(partitions)) as pool:
            found = pool.map(lambda one: self._ids(one, "", limit), partitions)
            return [(one, connection_id) for one, ids in zip(partitions, found, strict=True) for connection_id in ids]

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

    def _connections(self, places: list[Place]) -> Iterator[tuple[Place, Connection]]:
        """The connections at these places, read from the table.

        The index has only their keys, because all other attributes change with each refresh. A connection whose status
        has changed meanwhile is left out.
        """
        # One that changed its status between two queries is at two places, and may be asked for once.
        once = dict.fromkeys((connection_id, _sort_key(partition)) for partition, connection_id in places)
        keys = [key_of(*one) for one in once]
        items = read(self._client, self._table, keys) if keys else {}
        for place in places:
            partition, connection_id = place
            item = items.get((f"CONNECTION#{connection_id}", _sort_key(partition)))
            if not is_connection_id(connection_id):
                continue  # It is nobody's: the API could not name it.
            if item is not None and text(item, "listed_as") == partition:
                yield place, from_item(item)


def _encode(place: Place) -> str:
    return cursor.encode("#".join(place))


_SHOWN = (*LEGIBLE, "listed_as")
"""The attributes that are read to show a connection, or to say that it is unreadable."""

_TRIES = 4


def read(
    client: Client, table: str, keys: Sequence[dict[str, AttributeValue]], *, consistent: bool = False
) -> dict[tuple[str, str], Item]:
    """Up to 100 items by primary key, with the attributes in `_SHOWN`. Items that do not exist are left out.

    Raises `StoreUnavailable`, also if the table has not returned all items after a few tries.
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
    """The place where a page begins, checked to be in one of `partitions`. Raises `InvalidNext`."""
    status, _, rest = cursor.decode(next_).partition("#")
    shard, _, name = rest.partition("#")
    # Of the name nothing more is asked: an item that no connection of this stack has made may be the last of a page.
    if f"{status}#{shard}" not in partitions or not 0 < len(name.encode()) <= _LONGEST_NAME:
        raise InvalidNext
    return f"{status}#{shard}", name
