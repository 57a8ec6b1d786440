"""Events that change no connection. Each is an item of its own, and `publish` gets it from the table's stream."""

from collections.abc import Callable
from typing import Literal

from flowaccount_connect.domain.ids import new_event_id
from flowaccount_connect.storage.dynamodb import attributes

type Type = Literal["connection.refused", "connection.import_refused"]

_KEPT = 7 * 86_400
"""Seconds after which the table may delete the item. `publish` has read it from the stream long before."""


def event_put(
    table: str,
    type_: Type,
    *,
    connection_id: str,
    reason: str,
    tenant: str | None = None,
    clock: Callable[[], float],
) -> dict[str, object]:
    """The parameters of a Put that writes an event. The caller sends it alone, or in one transaction with its cause.

    `reason` is a code of lower-case letters and underscores. `tenant` is the refused tenant. This function makes the
    event's id, so a caller that tries again sends the same Put instead of making another one.
    """
    now = int(clock())
    item = attributes(
        pk=f"EVENT#{new_event_id(clock)}",
        sk="EVENT",
        type=type_,
        at=now,
        connection_id=connection_id,
        reason=reason,
        tenant=tenant,
        ttl=now + _KEPT,
    )
    return {"TableName": table, "Item": item}
