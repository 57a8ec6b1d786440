"""A table whose writes can be read back as Lambda gets them from its stream."""

import base64
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from tests.support.dynamodb_model import DynamoDbModel
from tests.unit.tables import Table
from tools import deployed


class StreamingTable(Table):
    """A table with a stream of what changed in it, histories and counts included, as AWS has it without the filter."""

    def __init__(self, at: Callable[[], float], model: DynamoDbModel | None = None) -> None:
        super().__init__(model=model)
        self.records: list[dict[str, Any]] = []
        self._at = at

    def quiet(self) -> "Table":
        """A test's own writes are in the stream, too."""
        return self

    def delete(self, kind: str, name: str) -> None:
        """Delete an item, as its time to live does."""

        def run() -> None:
            items, tokens = self.model.snapshot()
            self.model.restore((frozenset(pair for pair in items if pair[0] != (f"{kind}#{name}", kind)), tokens))

        self._called("ttl", run)

    def put(self, kind: str, name: str, **values: str | int | bytes | None) -> None:
        """Store an item as it is."""
        self._called("put", lambda: super(StreamingTable, self).put(kind, name, **values))

    def of_interest(self) -> list[dict[str, Any]]:
        """The records that pass the filter of template.yaml, oldest first."""
        return [one for one in self.records if is_of_interest(one)]

    def _called(self, operation: str, run: Callable[[], Any]) -> Any:
        before = self._images()
        try:
            return super()._called(operation, run)
        finally:
            after = self._images()
            for key in before.keys() | after.keys():
                if before.get(key) != after.get(key):
                    self.records.append(self._record(key, before.get(key), after.get(key)))

    def _images(self) -> dict[tuple[str, str], dict[str, Any]]:
        items, _ = self.model.snapshot()
        return {key: {name: _delivered(*value) for name, value in item} for key, item in items}

    def _record(self, key: tuple[str, str], old: Any, new: Any) -> dict[str, Any]:
        number = len(self.records) + 1
        told: dict[str, Any] = {
            "ApproximateCreationDateTime": int(self._at()),
            "Keys": {"pk": {"S": key[0]}, "sk": {"S": key[1]}},
            "SequenceNumber": f"4959999{number:020d}",
        }
        told |= {"OldImage": old} if old else {}
        told |= {"NewImage": new} if new else {}
        return {"eventID": f"{number:032x}", "eventSource": "aws:dynamodb", "dynamodb": told}


def _delivered(kind: str, value: Any) -> Mapping[str, str]:
    """An attribute as JSON carries it."""
    return {kind: base64.b64encode(value).decode() if kind == "B" else str(value)}


@cache
def patterns() -> list[dict[str, Any]]:
    """The patterns of the filter between the stream and `publish`: a record passes that matches one."""
    stream = deployed.resources()["PublishFunction"]["Properties"]["Events"]["Stream"]["Properties"]
    return [json.loads(one["Pattern"]) for one in stream["FilterCriteria"]["Filters"]]


def is_of_interest(record: Mapping[str, Any]) -> bool:
    """Whether a record passes the filter of template.yaml."""
    return any(_matches(record, pattern) for pattern in patterns())


def _matches(found: Any, pattern: Mapping[str, Any]) -> bool:
    """As Lambda filters: every leaf that the pattern names is what it says, or is there, or is not.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html
    """
    for name, wanted in pattern.items():
        value = found.get(name) if isinstance(found, Mapping) else None
        if isinstance(wanted, Mapping):
            if not _matches(value, wanted):
                return False
        elif not any((value is not None) is one["exists"] if isinstance(one, dict) else value == one for one in wanted):
            return False
    return True
