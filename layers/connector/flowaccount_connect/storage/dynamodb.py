"""What all reads and writes of the table share: attribute values, one call, and its two kinds of failure."""

from collections.abc import Mapping
from typing import Any, Protocol

from flowaccount_connect.domain.error_code import error_code

AttributeValue = Mapping[str, Any]
Item = Mapping[str, AttributeValue]


class Client(Protocol):
    """What is used of a DynamoDB client."""

    def get_item(self, **kwargs: Any) -> Any: ...
    def put_item(self, **kwargs: Any) -> Any: ...
    def update_item(self, **kwargs: Any) -> Any: ...
    def query(self, **kwargs: Any) -> Any: ...
    def transact_write_items(self, **kwargs: Any) -> Any: ...


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


def s(value: str) -> AttributeValue:
    """A string attribute."""
    return {"S": value}


def n(value: int) -> AttributeValue:
    """A number attribute."""
    return {"N": str(value)}


def b(value: bytes) -> AttributeValue:
    """A binary attribute."""
    return {"B": value}


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
