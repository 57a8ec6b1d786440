"""What all reads and writes of the table share: attributes, expressions, one call, and its two kinds of failure."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from flowaccount_connect.domain.error_code import error_code

AttributeValue = Mapping[str, Any]
Item = Mapping[str, AttributeValue]

Client = Any
"""A low-level client of boto3's for DynamoDB."""

_NAMES = re.compile(r"#(\w+)")


MISFIT = "ValidationException"
"""The code of a write that does not fit what is stored: it fails again however often it is tried."""


class StoreUnavailable(Exception):
    """The table did not acknowledge a call. A write may have happened or not. The message is the error's code."""


class ConditionRefused(Exception):
    """A condition of a write was false, so nothing was written.

    `items` has the stored item for each write, and `None` where the table has no item.
    """

    def __init__(self, items: list[Item | None]) -> None:
        super().__init__("the condition was refused")
        self.items = items


def call(operation: Any, **parameters: Any) -> Any:
    """Run one DynamoDB operation and return its answer.

    Raises `ConditionRefused` with the stored items, and `StoreUnavailable` for every other failure. Its message is the
    error's code alone, because the SDK's own messages can quote parameters. If one write of a transaction does not fit
    what is stored, as a sum with a text, the code is `MISFIT`.
    """
    try:
        return operation(**parameters)
    except Exception as error:
        code, response = error_code(error), getattr(error, "response", {})
        if code == "ConditionalCheckFailedException":
            raise ConditionRefused([response.get("Item") or None]) from None
        if code == "TransactionCanceledException":
            reasons = response.get("CancellationReasons", [])
            if any(reason.get("Code") == "ConditionalCheckFailed" for reason in reasons):
                raise ConditionRefused([reason.get("Item") or None for reason in reasons]) from None
            if any(reason.get("Code") == "ValidationError" for reason in reasons):
                code = MISFIT
        raise StoreUnavailable(code) from None


def write(
    table: str, key: Item, update: str = "", /, *, condition: str, **values: str | int | bytes | None
) -> dict[str, object]:
    """The parameters of a conditional write; without an `update`, of a check or a deletion.

    In the expressions `#name` is the attribute `name` (some names are reserved words of DynamoDB), and `:name` is the
    value of that name. If the condition is false, the error has the stored item.
    """
    updating = {"UpdateExpression": update} if update else {}
    return {"TableName": table, "Key": key, **updating, **_expressions(update, condition, values)}


def put(table: str, item: Item, /, *, condition: str, **values: str | int | bytes | None) -> dict[str, object]:
    """The parameters of a conditional write of a whole item; see `write`."""
    return {"TableName": table, "Item": item, **_expressions("", condition, values)}


def _expressions(update: str, condition: str, values: dict[str, str | int | bytes | None]) -> dict[str, object]:
    names = _names(update, condition)
    encoded = {f":{name}": value for name, value in attributes(**values).items()}
    return {
        "ConditionExpression": condition,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        **({"ExpressionAttributeNames": names} if names else {}),
        **({"ExpressionAttributeValues": encoded} if encoded else {}),
    }


@cache
def _names(update: str, condition: str) -> Mapping[str, str]:
    """The names in two expressions. The code has few different pairs, and each is searched once."""
    return {f"#{name}": name for name in _NAMES.findall(f"{update} {condition}")}


def updated(client: Client, update: Mapping[str, object]) -> Item:
    """Send an update; the item after it. Raises `ConditionRefused`, `StoreUnavailable`."""
    item: Item | None = call(client.update_item, **update, ReturnValues="ALL_NEW").get("Attributes")
    if item is None:
        raise StoreUnavailable("NoAnswer")
    return item


def get(client: Client, table: str, key: Item, *, consistent: bool = True) -> Item | None:
    """The item with this key, or `None`. Raises `StoreUnavailable`."""
    return call(client.get_item, TableName=table, Key=key, ConsistentRead=consistent).get("Item") or None


def s(value: str) -> AttributeValue:
    """A string attribute."""
    return {"S": value}


def n(value: int) -> AttributeValue:
    """A number attribute."""
    return {"N": str(value)}


def attributes(**values: str | int | bytes | None) -> dict[str, AttributeValue]:
    """Attributes by name; those with the value `None` are left out."""
    return {name: _attribute(value) for name, value in values.items() if value is not None}


def _attribute(value: str | int | bytes) -> AttributeValue:
    if isinstance(value, str):
        return s(value)
    return {"B": value} if isinstance(value, bytes) else n(value)


def text(item: Item, name: str) -> str | None:
    """A string of an item, or `None`."""
    value = item.get(name, {}).get("S")
    return value if isinstance(value, str) else None


def number(item: Item, name: str) -> int | None:
    """A whole number of an item, or `None`."""
    value = item.get(name, {}).get("N")
    try:
        return int(value) if isinstance(value, str) else None
    except ValueError:
        return None


def binary(item: Item, name: str) -> bytes | None:
    """The bytes of an item, or `None`."""
    value = item.get(name, {}).get("B")
    return bytes(value) if isinstance(value, bytes | bytearray) else None
