"""The due index: what is to be refreshed, by the time at which it falls due."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowaccount_connect.domain.ids import is_connection_id
from flowaccount_connect.storage.connections import IMPORT
from flowaccount_connect.storage.dynamodb import AttributeValue, Client, attributes, call, number, text


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """A connection that is due, in the order of the deadlines. Times in epoch seconds."""

    deadline: int
    refresh_at: int
    connection_id: str
    generation: int = field(default=0, compare=False)
    at_risk: int | None = field(default=None, compare=False)
    """Since when it is marked as being at risk, of its deadline or of the end of its consent."""
    is_import: bool = field(default=False, compare=False)
    """Whether it is the import of that connection that is due."""

    def rank(self, now: int) -> "tuple[bool, Due]":
        """Its place in the line. A token past its deadline comes last: it is tried only in case it still works."""
        return self.deadline <= now, self


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a page is to hand over of what is due: live deadlines up to `soonest`, and those at risk and not marked, or
    marked before they came near."""

    soonest: int
    at_risk: int | None
    """Deadlines up to here are at risk; `None`: enough of them have been seen."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a shard: what it hands over, how many it has seen, and where the next one begins, if there is one."""

    due: list[Due]
    seen: int
    next: Mapping[str, AttributeValue] | None
    unreadable: list[str] = field(default_factory=list)
    """The partition keys of items that are not understood."""


class DueIndex:
    """The sharded, sparse index of what is to be refreshed. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table

    def page(
        self,
        shard: int,
        *,
        now: int,
        limit: int | None = None,
        wanted: Wanted | None = None,
        start: Mapping[str, AttributeValue] | None = None,
    ) -> Page:
        """One page of what is due in a shard, longest due first, all of it or what is `wanted`.

        It looks at `limit` items, or as many as fit into a page of DynamoDB's. Raises `StoreUnavailable`.
        """
        values: dict[str, str | int] = {"shard": str(shard), "now": now}
        request: dict[str, Any] = {}
        if wanted is not None:
            # What is past its deadline is behind everything that is not, of which there is enough by now.
            filters = ["deadline > :now AND deadline <= :soonest"]
            values["soonest"] = wanted.soonest
            if wanted.at_risk is not None:
                filters.append("(attribute_not_exists(at_risk) OR at_risk <= :earlier) AND deadline <= :at_risk")
                # A deadline that is ahead came near after this moment.
                values |= {"at_risk": wanted.at_risk, "earlier": now - (wanted.at_risk - now)}
            request["FilterExpression"] = " OR ".join(f"({one})" for one in filters)
        if limit is not None:
            request["Limit"] = limit
        if start is not None:
            request["ExclusiveStartKey"] = start
        page = call(
            self._client.query,
            TableName=self._table,
            IndexName="due",
            KeyConditionExpression="due_shard = :shard AND refresh_at <= :now",
            ExpressionAttributeValues={f":{name}": value for name, value in attributes(**values).items()},
            **request,
        )
        read = [(item, _due(item)) for item in page["Items"]]
        return Page(
            [due for _, due in read if due is not None],
            page["ScannedCount"],
            page.get("LastEvaluatedKey"),
            [text(item, "pk") or "" for item, due in read if due is None],
        )


def _due(item: Mapping[str, AttributeValue]) -> Due | None:
    """An item of the index, or `None` if it names no connection or no deadline."""
    key, deadline, refresh_at = text(item, "pk") or "", number(item, "deadline"), number(item, "refresh_at")
    connection_id = key.removeprefix("CONNECTION#")
    if connection_id == key or not is_connection_id(connection_id) or deadline is None or refresh_at is None:
        return None
    return Due(
        deadline=deadline,
        refresh_at=refresh_at,
        connection_id=connection_id,
        generation=number(item, "generation") or 0,
        at_risk=number(item, "at_risk"),
        is_import=text(item, "sk") == IMPORT,
    )
