"""What changes no connection and must be told all the same: written as an item, told by way of the table's stream."""

import time
from collections.abc import Callable
from typing import Literal

from flowaccount_connect.domain.ids import new_event_id
from flowaccount_connect.storage.dynamodb import AttributeValue, n, s

type Type = Literal["connection.refused", "connection.import_refused"]

_KEPT = 7 * 86_400
"""Seconds after which the item is tidied up: the stream has told it long before."""


def event_put(
    table: str,
    type_: Type,
    *,
    connection_id: str,
    reason: str,
    tenant: str | None = None,
    clock: Callable[[], float] = time.time,
) -> dict[str, object]:
    """The Put of an event, to be sent alone or in a transaction with what it tells of.

    `reason` is a code of lower-case letters and underscores. `tenant` is the one that was refused. Its id is made
    here, so repeat the same Put rather than make another.
    """
    now = int(clock())
    item: dict[str, AttributeValue] = {
        "pk": s(f"EVENT#{new_event_id(clock)}"),
        "sk": s("EVENT"),
        "type": s(type_),
        "at": n(now),
        "connection_id": s(connection_id),
        "reason": s(reason),
        "ttl": n(now + _KEPT),
    }
    if tenant is not None:
        item["tenant"] = s(tenant)
    return {"TableName": table, "Item": item}
