"""DynamoDB as the product uses it, in memory: one item type, conditions, updates, transactions, one index.

It evaluates the expressions of the product, so that what a condition lets through is decided by the condition. That
the real engines read these expressions the same way is what the integration tests are for.
"""

import re
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

type Stored = dict[str, dict[str, Any]]


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

    def __init__(self, page_size: int = 1_000) -> None:
        self.items: dict[tuple[str, str], Stored] = {}
        self.calls: list[str] = []
        self.faults: defaultdict[str, list[Fault]] = defaultdict(list)
        self.on_call: Callable[[str], None] = lambda _: None
        self.page_size = page_size
        self._tokens: dict[str, str] = {}
        self._lock = threading.RLock()

    def item(self, kind: str, name: str) -> dict[str, Any]:
        """An item with its values unwrapped."""
        stored = self.items[f"{kind}#{name}", kind]
        return {k: int(v["N"]) if "N" in v else v.get("S", v.get("B")) for k, v in stored.items()}

    def put(self, kind: str, name: str, **values: str | int | bytes | None) -> None:
        """Store an item as it is."""
        item: Stored = {"pk": {"S": f"{kind}#{name}"}, "sk": {"S": kind}}
        for key, value in values.items():
            if isinstance(value, bytes):
                item[key] = {"B": value}
            elif value is not None:
                item[key] = {"N": str(value)} if isinstance(value, int) else {"S": value}
        self.items[f"{kind}#{name}", kind] = item

    def get_item(self, **kwargs: Any) -> Any:
        """GetItem."""

        def run() -> Any:
            item = self.items.get(_key(kwargs["Key"]))
            return {"Item": dict(item)} if item else {}

        assert kwargs["ConsistentRead"] is True
        return self._called("get_item", run)

    def put_item(self, **kwargs: Any) -> Any:
        """PutItem."""

        def run() -> Any:
            self.items[_key(kwargs["Item"])] = dict(kwargs["Item"])
            return {}

        return self._called("put_item", run)

    def update_item(self, **kwargs: Any) -> Any:
        """UpdateItem, with `ALL_OLD` on a refused condition."""

        def run() -> Any:
            key = _key(kwargs["Key"])
            there = self.items.get(key)
            _check_values(kwargs)
            if not _holds(kwargs, there):
                extra = {"Item": dict(there)} if there else {}
                raise client_error("ConditionalCheckFailedException", **extra)
            self.items[key] = _updated(kwargs, there)
            return {"Attributes": dict(self.items[key])} if kwargs.get("ReturnValues") == "ALL_NEW" else {}

        return self._called("update_item", run)

    def transact_write_items(self, **kwargs: Any) -> Any:
        """TransactWriteItems of updates, idempotent by its token."""

        def run() -> Any:
            token, said = kwargs["ClientRequestToken"], repr(kwargs["TransactItems"])
            if token in self._tokens:
                if self._tokens[token] != said:
                    raise client_error("IdempotentParameterMismatchException")
                return {}
            updates = [write["Update"] for write in kwargs["TransactItems"]]
            reasons: list[dict[str, Any]] = []
            for update in updates:
                there = self.items.get(_key(update["Key"]))
                _check_values(update)
                if _holds(update, there):
                    reasons.append({"Code": "None"})
                else:
                    shown = update.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD" and there
                    reasons.append(
                        {"Code": "ConditionalCheckFailed"}
                        | ({"Item": dict(there)} if shown and there else {})
                    )
            if any(reason["Code"] != "None" for reason in reasons):
                raise client_error("TransactionCanceledException", CancellationReasons=reasons)
            for update in updates:
                key = _key(update["Key"])
                self.items[key] = _updated(update, self.items.get(key))
            self._tokens[token] = said
            return {}

        return self._called("transact_write_items", run)

    def query(self, **kwargs: Any) -> Any:
        """Query of the `due` index, page by page."""

        def run() -> Any:
            assert kwargs["IndexName"] == "due"
            condition = {**kwargs, "ConditionExpression": kwargs["KeyConditionExpression"]}
            found = [
                i
                for i in self.items.values()
                if "due_shard" in i and "refresh_at" in i and _holds(condition, i)
            ]
            found.sort(key=lambda i: (int(i["refresh_at"]["N"]), i["pk"]["S"]))
            names = [i["pk"]["S"] for i in found]
            start = (
                names.index(kwargs["ExclusiveStartKey"]["pk"]["S"]) + 1
                if "ExclusiveStartKey" in kwargs
                else 0
            )
            page = found[start : start + self.page_size]
            projected = [
                {k: i[k] for k in ("pk", "deadline", "refresh_at", "generation") if k in i} for i in page
            ]
            more = start + self.page_size < len(found)
            return {"Items": projected} | ({"LastEvaluatedKey": {"pk": page[-1]["pk"]}} if more else {})

        return self._called("query", run)

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


def _key(of: Stored) -> tuple[str, str]:
    return of["pk"]["S"], of["sk"]["S"]


_TOKEN = re.compile(r"\s*(<=|>=|<>|=|<|>|\(|\)|,|\+|[:#]?[A-Za-z_][A-Za-z0-9_]*)")


def _check_values(write: dict[str, Any]) -> None:
    """DynamoDB refuses values and names that no expression uses, and the reverse."""
    text = f"{write.get('UpdateExpression', '')} {write.get('ConditionExpression', '')}"
    for sign, given in (
        (":", write.get("ExpressionAttributeValues", {})),
        ("#", write.get("ExpressionAttributeNames", {})),
    ):
        used = set(re.findall(rf"{sign}[A-Za-z_]+", text))
        if used != set(given):
            raise client_error("ValidationException")


class _Expression:
    """A condition over one item, by recursive descent."""

    def __init__(self, text: str, write: dict[str, Any], item: Stored | None) -> None:
        self.tokens = _TOKEN.findall(text)
        self.values = write.get("ExpressionAttributeValues", {})
        self.names = write.get("ExpressionAttributeNames", {})
        self.item = item or {}

    def next(self) -> str:
        return str(self.tokens.pop(0))

    def attribute(self, token: str) -> dict[str, Any] | None:
        if token.startswith(":"):
            value: dict[str, Any] = self.values[token]
            return value
        return self.item.get(self.names.get(token, token))

    def any_of(self) -> bool:
        result = self.all_of()
        while self.tokens and self.tokens[0] == "OR":
            self.next()
            result = self.all_of() or result
        return result

    def all_of(self) -> bool:
        result = self.one()
        while self.tokens and self.tokens[0] == "AND":
            self.next()
            result = self.one() and result
        return result

    def one(self) -> bool:
        token = self.next()
        if token == "(":
            result = self.any_of()
            self.next()
            return result
        if token in ("attribute_exists", "attribute_not_exists"):
            self.next()
            there = self.attribute(self.next()) is not None
            self.next()
            return there == (token == "attribute_exists")
        left, operator, right = self.attribute(token), self.next(), self.attribute(self.next())
        if left is None or right is None or left.keys() != right.keys():
            return operator == "<>" and left != right
        a, b = (int(v["N"]) if "N" in v else next(iter(v.values())) for v in (left, right))
        return bool({"=": a == b, "<>": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[operator])

    def operand(self) -> dict[str, Any]:
        token = self.next()
        if token != "if_not_exists":
            value = self.attribute(token)
            assert value is not None
            return value
        self.next()
        there = self.attribute(self.next())
        self.next()
        default = self.operand()
        self.next()
        return default if there is None else there

    def assignments(self) -> Stored:
        result: Stored = {}
        while self.tokens:
            name = self.next()
            self.next()
            value = self.operand()
            if self.tokens and self.tokens[0] == "+":
                self.next()
                value = {"N": str(int(value["N"]) + int(self.operand()["N"]))}
            result[self.names.get(name, name)] = value
            if self.tokens:
                self.next()
        return result


def _holds(write: dict[str, Any], item: Stored | None) -> bool:
    text = write.get("ConditionExpression")
    return not text or _Expression(text, write, item).any_of()


def _updated(write: dict[str, Any], item: Stored | None) -> Stored:
    match = re.fullmatch(r"SET (.*?)(?: REMOVE (.*))?", write["UpdateExpression"], re.DOTALL)
    assert match is not None
    result = dict(item or write["Key"]) | _Expression(match[1], write, item).assignments()
    for name in (match[2] or "").split(","):
        result.pop(write.get("ExpressionAttributeNames", {}).get(name.strip(), name.strip()), None)
    return result
