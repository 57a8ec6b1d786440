"""The model of DynamoDB, with what goes wrong: faults in their turn, pages, and an account of what was called."""

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from tests.support.dynamodb_model import DynamoDbModel


def client_error(code: str, **extra: Any) -> ClientError:
    """An error as boto3 raises it; its message quotes what nobody may log."""
    response: Any = {"Error": {"Code": code, "Message": f"{code}: CANARY-SDK-MESSAGE"}, **extra}
    return ClientError(response, "Operation")


@dataclass(frozen=True)
class Fault:
    """What befalls one call: the error it raises, and whether the write happens all the same."""

    error: Exception
    written: bool = False


class Table:
    """A DynamoDB client of one table. `calls` are the names of the operations in their order."""

    def __init__(self, page_size: int = 1_000, model: DynamoDbModel | None = None) -> None:
        self.model = model or DynamoDbModel()
        self.calls: list[str] = []
        self.faults: defaultdict[str, list[Fault]] = defaultdict(list)
        self.on_call: Callable[[str], None] = lambda _: None
        self.page_size = page_size
        self._lock = threading.RLock()

    @property
    def items(self) -> dict[tuple[str, str], dict[str, Any]]:
        """All there is, by primary key."""
        items, _ = self.model.snapshot()
        return {key: {name: value for name, (_, value) in sorted(item)} for key, item in sorted(items)}

    def item(self, kind: str, name: str) -> dict[str, Any]:
        """One item with plain values."""
        return self.items[f"{kind}#{name}", kind]

    def put(self, kind: str, name: str, **values: str | int | bytes | None) -> None:
        """Store an item as it is."""
        item: dict[str, Any] = {"pk": {"S": f"{kind}#{name}"}, "sk": {"S": kind}}
        for key, value in values.items():
            if isinstance(value, bytes):
                item[key] = {"B": value}
            elif value is not None:
                item[key] = {"N": str(value)} if isinstance(value, int) else {"S": value}
        self.model.put_item(TableName="table", Item=item)

    def change(self, kind: str, name: str, **values: str | int | bytes | None) -> None:
        """Change attributes of an item as it is stored; `None` takes one away."""
        there = {key: value for key, value in self.item(kind, name).items() if key not in ("pk", "sk")}
        whole = {key: value if isinstance(value, str | bytes) else int(value) for key, value in there.items()}
        self.put(kind, name, **whole | values)

    def clear(self) -> None:
        """Forget everything, as the table does with what has expired."""
        self.model.restore((frozenset(), frozenset()))

    def quiet(self) -> "Table":
        """The same table for the test's own hands: no faults, and nothing of it is counted."""
        return Table(model=self.model)

    def get_item(self, **kwargs: Any) -> Any:
        """GetItem; what decides anything must be read consistently."""
        assert kwargs["ConsistentRead"] is True or kwargs["Key"]["pk"]["S"] == "HEALTH"
        return self._called("get_item", lambda: self.model.get_item(**kwargs))

    def put_item(self, **kwargs: Any) -> Any:
        """PutItem."""
        return self._called("put_item", lambda: self.model.put_item(**kwargs))

    def update_item(self, **kwargs: Any) -> Any:
        """UpdateItem."""
        return self._called("update_item", lambda: self.model.update_item(**kwargs))

    def batch_get_item(self, **kwargs: Any) -> Any:
        """BatchGetItem."""
        return self._called("batch_get_item", lambda: self.model.batch_get_item(**kwargs))

    def transact_write_items(self, **kwargs: Any) -> Any:
        """TransactWriteItems."""
        return self._called("transact_write_items", lambda: self.model.transact_write_items(**kwargs))

    def query(self, **kwargs: Any) -> Any:
        """Query, page by page."""
        kwargs["Limit"] = min(kwargs.get("Limit", self.page_size), self.page_size)
        return self._called("query", lambda: self.model.query(**kwargs))

    def _called(self, operation: str, run: Callable[[], Any]) -> Any:
        self.on_call(operation)
        with self._lock:
            self.calls.append(operation)
            fault = self.faults[operation].pop(0) if self.faults[operation] else None
            if fault is not None:
                if fault.written:
                    run()
                raise fault.error
            return run()
