"""A DynamoDB in memory: takes the package's own requests, as a boto3 client would get them, and answers alike.

It compiles the real expressions (once each) and evaluates them with DynamoDB's semantics; what it does not know it
refuses loudly, so that no test passes by a gap in it. `tests/contract` holds it against MiniStack and DynamoDB Local.
Its state is a mapping of immutable items: `snapshot` is cheap and hashable, `restore` takes one back.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from botocore.exceptions import ClientError

Value = tuple[str, Any]
"""An attribute value: its type (`S`, `N`, `B`, …) and its content."""

Item = Mapping[str, Value]
Key = tuple[str, str]
Snapshot = tuple[frozenset[tuple[Key, frozenset[tuple[str, Value]]]], frozenset[tuple[str, int]]]

PRIMARY_KEY = ("pk", "sk")
KEY_TYPES = {"pk": "S", "sk": "S", "due_shard": "S", "refresh_at": "N", "listed_as": "S"}
INDEXES = {
    "due": (("due_shard", "refresh_at"), frozenset({"deadline", "generation", "at_risk", "in_doubt"})),
    "status": (("listed_as", "pk"), frozenset[str]()),
}
"""The table of template.yaml: each index with its keys and what it carries besides; a contract test compares."""


class DynamoDbModel:
    """One table. Every method is the boto3 client's of the same name, for the parameters that are known here."""

    def __init__(self) -> None:
        self._items: dict[Key, Item] = {}
        self._tokens: dict[str, int] = {}

    def snapshot(self) -> Snapshot:
        """The state, hashable: the items, and the transactions that an idempotency token remembers."""
        items = frozenset((key, frozenset(item.items())) for key, item in self._items.items())
        return items, frozenset(self._tokens.items())

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a state."""
        items, tokens = snapshot
        self._items = {key: dict(item) for key, item in items}
        self._tokens = dict(tokens)

    def get_item(self, *, TableName: str, Key: Any, ConsistentRead: bool = False) -> dict[str, Any]:  # noqa: N803, ARG002
        """Read one item; always consistently."""
        item = self._items.get(_key(Key, "GetItem"))
        return {"Item": _to_wire(item)} if item is not None else {}

    def put_item(
        self,
        *,
        TableName: str,  # noqa: N803, ARG002
        ReturnValuesOnConditionCheckFailure: str = "NONE",  # noqa: N803
        **put: Any,
    ) -> dict[str, Any]:
        key, before, after = self._replaced("PutItem", put)
        if after is None:
            raise _refused("PutItem", before if ReturnValuesOnConditionCheckFailure == "ALL_OLD" else None)
        self._items[key] = after
        return {}

    def update_item(
        self,
        *,
        TableName: str,  # noqa: N803, ARG002
        ReturnValues: str = "NONE",  # noqa: N803
        ReturnValuesOnConditionCheckFailure: str = "NONE",  # noqa: N803
        **update: Any,
    ) -> dict[str, Any]:
        key, before, after = self._updated("UpdateItem", update)
        if after is None:
            raise _refused("UpdateItem", before if ReturnValuesOnConditionCheckFailure == "ALL_OLD" else None)
        self._items[key] = after
        if ReturnValues == "ALL_NEW":
            return {"Attributes": _to_wire(after)}
        if ReturnValues != "NONE":
            raise NotImplementedError(ReturnValues)
        return {}

    def batch_get_item(self, *, RequestItems: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N803
        """Several items of the table, in no promised order; always consistently."""
        ((table, wanted),) = RequestItems.items()
        if unknown := set(wanted) - {"Keys", "ConsistentRead", "ProjectionExpression", "ExpressionAttributeNames"}:
            raise NotImplementedError(f"parameters {unknown}")
        keys = [_key(key, "BatchGetItem") for key in wanted["Keys"]]
        if not 1 <= len(keys) <= 100 or len(set(keys)) != len(keys):
            raise _invalid("1 to 100 keys, each once", "BatchGetItem")
        names = wanted.get("ExpressionAttributeNames", {})
        projected = [names[path] for path in wanted.get("ProjectionExpression", "").split(", ") if path]
        items = [
            {name: value for name, value in self._items[key].items() if not projected or name in projected}
            for key in sorted(keys, reverse=True)
            if key in self._items
        ]
        return {"Responses": {table: [_to_wire(item) for item in items]}, "UnprocessedKeys": {}}

    def transact_write_items(
        self,
        *,
        TransactItems: list[Mapping[str, Any]],  # noqa: N803
        ClientRequestToken: str | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        """All writes or none. A token that was used for the same writes repeats its success and writes nothing."""
        fingerprint = hash(repr(TransactItems))
        if ClientRequestToken is not None and ClientRequestToken in self._tokens:
            if self._tokens[ClientRequestToken] != fingerprint:
                raise _error("IdempotentParameterMismatchException", "other parameters", "TransactWriteItems")
            return {}
        changed: dict[Key, Item] = {}
        gone: list[Key] = []
        checked: list[Key] = []
        reasons: list[dict[str, Any]] = []
        for write in TransactItems:
            ((kind, parameters),) = write.items()
            act = {
                "Update": self._updated,
                "Put": self._replaced,
                "Delete": self._kept,
                "ConditionCheck": self._kept,
            }[kind]
            changes = dict(parameters)
            on_failure = changes.pop("ReturnValuesOnConditionCheckFailure", "NONE")
            del changes["TableName"]
            try:
                key, before, after = act("TransactWriteItems", changes)
            except ClientError as misfit:
                if _MISFIT not in str(misfit):
                    raise
                reasons.append({"Code": "ValidationError", "Message": _MISFIT})
                continue
            if key in changed:
                raise _invalid(
                    "Transaction request cannot include multiple operations on one item", "TransactWriteItems"
                )
            if after is None:
                reason: dict[str, Any] = {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}
                reasons.append(reason | ({"Item": _to_wire(before)} if before and on_failure == "ALL_OLD" else {}))
            else:
                reasons.append({"Code": "None"})
            changed[key] = after or {}
            if kind == "Delete":
                gone.append(key)
            elif kind == "ConditionCheck":
                checked.append(key)
        if any(reason["Code"] != "None" for reason in reasons):
            codes = ", ".join(reason["Code"] for reason in reasons)
            message = f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
            error = _error("TransactionCanceledException", message, "TransactWriteItems")
            error.response["CancellationReasons"] = reasons  # type: ignore[typeddict-item]
            raise error
        for key in gone:
            self._items.pop(key, None)
        self._items.update({key: item for key, item in changed.items() if key not in (*gone, *checked)})
        if ClientRequestToken is not None:
            self._tokens[ClientRequestToken] = fingerprint
        return {}

    def query(
        self,
        *,
        TableName: str,  # noqa: N803, ARG002
        KeyConditionExpression: str,  # noqa: N803
        ExpressionAttributeValues: Mapping[str, Any],  # noqa: N803
        ExpressionAttributeNames: Mapping[str, str] | None = None,  # noqa: N803
        IndexName: str | None = None,  # noqa: N803
        FilterExpression: str | None = None,  # noqa: N803
        ScanIndexForward: bool = True,  # noqa: N803
        Limit: int | None = None,  # noqa: N803
        ExclusiveStartKey: Mapping[str, Any] | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        """The table or one sparse index, in the order of the range key; on one page, unless `Limit` ends it."""
        (partition, order), carried = INDEXES[IndexName] if IndexName is not None else (PRIMARY_KEY, None)
        request = _Request.of("Query", ExpressionAttributeNames, ExpressionAttributeValues)
        condition, wanted = request.condition(KeyConditionExpression), request.condition(FilterExpression)
        request.check_used()
        found = [
            item for item in self._items.values() if partition in item and order in item and condition(item, request)
        ]

        def place(item: Item) -> tuple[Any, ...]:
            return item[order][1], item["pk"][1], item["sk"][1]

        found.sort(key=place, reverse=not ScanIndexForward)
        if ExclusiveStartKey is not None:
            start = place(_from_wire(ExclusiveStartKey))
            found = [item for item in found if (place(item) > start if ScanIndexForward else place(item) < start)]
        page = found if Limit is None else found[:Limit]
        shown = None if carried is None else carried | {partition, order, *PRIMARY_KEY}
        seen = [{name: value for name, value in item.items() if not shown or name in shown} for item in page]
        items = [_to_wire(item) for item in seen if wanted(item, request)]
        answer: dict[str, Any] = {"Items": items, "Count": len(items), "ScannedCount": len(page)}
        if Limit is not None and len(page) == Limit:
            keys = {partition, order, *PRIMARY_KEY}
            answer["LastEvaluatedKey"] = _to_wire({name: page[-1][name] for name in keys})
        return answer

    def _replaced(self, operation: str, put: dict[str, Any]) -> tuple[Key, Item | None, Item | None]:
        """What a put finds and what it would leave; `None` for that where its condition does not hold."""
        item = _from_wire(put.pop("Item"))
        _check_keys(item, operation)
        request = _Request.of(
            operation, put.pop("ExpressionAttributeNames", None), put.pop("ExpressionAttributeValues", None)
        )
        condition = request.condition(put.pop("ConditionExpression", None))
        if put:
            raise NotImplementedError(f"parameters {set(put)}")
        request.check_used()
        key = (item["pk"][1], item["sk"][1])
        before = self._items.get(key)
        return key, before, item if condition(before or {}, request) else None

    def _kept(self, operation: str, check: dict[str, Any]) -> tuple[Key, Item | None, Item | None]:
        """What a condition alone finds; `None` for the second where it does not hold."""
        key = _key(check.pop("Key"), operation)
        request = _Request.of(
            operation, check.pop("ExpressionAttributeNames", None), check.pop("ExpressionAttributeValues", None)
        )
        condition = request.condition(check.pop("ConditionExpression", None))
        if check:
            raise NotImplementedError(f"parameters {set(check)}")
        request.check_used()
        before = self._items.get(key)
        return key, before, (before or {}) if condition(before or {}, request) else None

    def _updated(self, operation: str, update: dict[str, Any]) -> tuple[Key, Item | None, Item | None]:
        """What an update finds and what it would leave; `None` for that where its condition does not hold."""
        key = _key(update.pop("Key"), operation)
        request = _Request.of(
            operation, update.pop("ExpressionAttributeNames", None), update.pop("ExpressionAttributeValues", None)
        )
        actions = request.update(update.pop("UpdateExpression"))
        condition = request.condition(update.pop("ConditionExpression", None))
        if update:
            raise NotImplementedError(f"parameters {set(update)}")
        request.check_used()
        before = self._items.get(key)
        if not condition(before or {}, request):
            return key, before, None
        base: Item = before if before is not None else {"pk": ("S", key[0]), "sk": ("S", key[1])}
        after = dict(base)
        for path, operand in actions.assignments:
            after[request.name(path)] = operand(base, request)
        for path in actions.removals:
            after.pop(request.name(path), None)
        _check_keys(after, operation)
        return key, before, after


# Requests


@dataclass(frozen=True, slots=True)
class _Request:
    """The names and values of one request, and which of them its expressions use."""

    operation: str
    names: Mapping[str, str]
    values: Mapping[str, Value]
    used: set[str]

    @classmethod
    def of(cls, operation: str, names: Mapping[str, str] | None, values: Mapping[str, Any] | None) -> "_Request":
        for kind, given in (("Names", names), ("Values", values)):
            if given is not None and not given:
                raise _invalid(f"ExpressionAttribute{kind} must not be empty", operation)
        return cls(operation, names or {}, _from_wire(values or {}), set())

    def condition(self, expression: str | None) -> "_Condition":
        if expression is None:
            return lambda _item, _request: True
        condition, mentioned = _compiled_condition(expression)
        self._mention("ConditionExpression", mentioned)
        return condition

    def update(self, expression: str) -> "_Actions":
        actions = _compiled_update(expression)
        self._mention("UpdateExpression", actions.mentioned)
        paths = [self.name(path) for path, _ in actions.assignments] + [self.name(path) for path in actions.removals]
        for name in paths:
            if name in PRIMARY_KEY:
                raise self.invalid(f"Cannot update attribute {name}. This attribute is part of the key")
            if paths.count(name) > 1:
                raise self.invalid(f"Two document paths overlap with each other: [{name}]")
        return actions

    def _mention(self, where: str, mentioned: frozenset[str]) -> None:
        for word in mentioned:
            if word[0] == "#" and word not in self.names:
                raise self.invalid(f"Invalid {where}: An expression attribute name used is not defined: {word}")
            if word[0] == ":" and word not in self.values:
                raise self.invalid(f"Invalid {where}: An expression attribute value used is not defined: {word}")
            if word[0] not in "#:" and word.upper() in RESERVED_WORDS:
                raise self.invalid(f"Invalid {where}: Attribute name is a reserved keyword: {word}")
        self.used.update(mentioned)

    def check_used(self) -> None:
        """Names and values that no expression uses are refused, as DynamoDB does."""
        for kind, given in (("Names", self.names), ("Values", self.values)):
            unused = sorted(given.keys() - self.used)
            if unused:
                raise self.invalid(f"Value provided in ExpressionAttribute{kind} unused in expressions: {unused}")

    def name(self, path: str) -> str:
        return self.names[path] if path[0] == "#" else path

    def invalid(self, message: str) -> ClientError:
        return _invalid(message, self.operation)


_Condition = Callable[[Item, _Request], bool]
_Operand = Callable[[Item, _Request], Value]
_Lookup = Callable[[Item, _Request], Value | None]


@dataclass(frozen=True, slots=True)
class _Actions:
    assignments: tuple[tuple[str, _Operand], ...]
    removals: tuple[str, ...]
    mentioned: frozenset[str]


# Expressions: the grammar of the developer guide, as far as the package uses it

_TOKEN = re.compile(r"\s*(?:([#:]?[A-Za-z_][A-Za-z0-9_]*)|(<=|>=|<>|[=<>(),+\-]))")


class _Parser:
    """Recursive descent over one expression; collects every name, placeholder and value it mentions."""

    def __init__(self, expression: str) -> None:
        self.words: list[str] = []
        at = 0
        expression = expression.rstrip()
        while at < len(expression):
            match = _TOKEN.match(expression, at)
            if match is None:
                raise NotImplementedError(f"in an expression: {expression[at:]!r}")
            self.words.append(match[1] or match[2])
            at = match.end()
        self.mentioned: set[str] = set()

    def peek(self) -> str:
        return self.words[0].upper() if self.words else ""

    def take(self, expected: str | None = None) -> str:
        if not self.words or (expected is not None and self.words[0].upper() != expected):
            raise NotImplementedError(f"expected {expected or 'more'} at {self.words}")
        return self.words.pop(0)

    def path(self) -> str:
        word = self.take()
        if not re.fullmatch(r"#?[A-Za-z_]\w*", word):
            raise NotImplementedError(f"as a path: {word}")
        self.mentioned.add(word)
        return word

    # Conditions

    def any_of(self) -> _Condition:
        condition = self.all_of()
        while self.peek() == "OR":
            self.take()
            condition = _either(condition, self.all_of())
        return condition

    def all_of(self) -> _Condition:
        condition = self.one()
        while self.peek() == "AND":
            self.take()
            condition = _both(condition, self.one())
        return condition

    def one(self) -> _Condition:
        word = self.peek()
        if word == "NOT":
            self.take()
            condition = self.one()
            return lambda item, request: not condition(item, request)
        if word == "(":
            self.take()
            condition = self.any_of()
            self.take(")")
            return condition
        if word in ("ATTRIBUTE_EXISTS", "ATTRIBUTE_NOT_EXISTS"):
            self.take()
            self.take("(")
            path = self.path()
            self.take(")")
            wanted = word == "ATTRIBUTE_EXISTS"
            return lambda item, request: (request.name(path) in item) is wanted
        left = self.lookup()
        comparator = self.take()
        if comparator not in _COMPARATORS:
            raise NotImplementedError(f"as a comparator: {comparator}")
        return _compared(comparator, left, self.lookup())

    def lookup(self) -> _Lookup:
        if self.words and self.words[0].startswith(":"):
            value = self.take()
            self.mentioned.add(value)
            return lambda _item, request: request.values[value]
        path = self.path()
        return lambda item, request: item.get(request.name(path))

    # Updates

    def assignment(self) -> tuple[str, _Operand]:
        path = self.path()
        self.take("=")
        operand = self.operand()
        if self.peek() in ("+", "-"):
            sign = 1 if self.take() == "+" else -1
            operand = _sum(operand, self.operand(), sign)
        return path, operand

    def operand(self) -> _Operand:
        if self.peek() == "IF_NOT_EXISTS":
            self.take()
            self.take("(")
            path = self.path()
            self.take(",")
            otherwise = self.operand()
            self.take(")")
            return lambda item, request: item.get(request.name(path)) or otherwise(item, request)
        return _present(self.lookup())


def _either(left: _Condition, right: _Condition) -> _Condition:
    return lambda item, request: left(item, request) or right(item, request)


def _both(left: _Condition, right: _Condition) -> _Condition:
    return lambda item, request: left(item, request) and right(item, request)


_COMPARATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: bool(a == b),
    "<>": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


def _compared(comparator: str, left: _Lookup, right: _Lookup) -> _Condition:
    holds = _COMPARATORS[comparator]

    def condition(item: Item, request: _Request) -> bool:
        a, b = left(item, request), right(item, request)
        if a is None or b is None or a[0] != b[0]:
            return comparator == "<>"  # What is missing, or of another type, compares as unequal and nothing else.
        return holds(a[1], b[1])

    return condition


def _present(lookup: _Lookup) -> _Operand:
    def operand(item: Item, request: _Request) -> Value:
        value = lookup(item, request)
        if value is None:
            raise request.invalid("The provided expression refers to an attribute that does not exist in the item")
        return value

    return operand


_MISFIT = "An operand in the update expression has an incorrect data type"


def _sum(left: _Operand, right: _Operand, sign: int) -> _Operand:
    def operand(item: Item, request: _Request) -> Value:
        a, b = left(item, request), right(item, request)
        if a[0] != "N" or b[0] != "N":
            raise request.invalid(_MISFIT)
        return "N", a[1] + sign * b[1]

    return operand


@cache
def _compiled_condition(expression: str) -> tuple[_Condition, frozenset[str]]:
    parser = _Parser(expression)
    condition = parser.any_of()
    if parser.words:
        raise NotImplementedError(f"left over in a condition: {parser.words}")
    return condition, frozenset(parser.mentioned)


@cache
def _compiled_update(expression: str) -> _Actions:
    parser = _Parser(expression)
    assignments: list[tuple[str, _Operand]] = []
    removals: list[str] = []
    while parser.words:
        clause = parser.take().upper()
        if clause not in ("SET", "REMOVE"):
            raise NotImplementedError(f"as a clause: {clause}")
        while True:
            if clause == "SET":
                assignments.append(parser.assignment())
            else:
                removals.append(parser.path())
            if parser.peek() != ",":
                break
            parser.take()
    return _Actions(tuple(assignments), tuple(removals), frozenset(parser.mentioned))


# On the wire


_OTHERS = frozenset({"BOOL", "NULL", "L", "M", "SS", "NS"})
"""The types that the package never writes; their content is kept as JSON."""


def _from_wire(item: Mapping[str, Any]) -> dict[str, Value]:
    return {name: _value(wire) for name, wire in item.items()}


def _value(wire: Mapping[str, Any]) -> Value:
    ((kind, content),) = wire.items()
    if kind == "N" and isinstance(content, str):
        number = Decimal(content)
        if len(number.normalize().as_tuple().digits) > 38 or number.adjusted() > 125:
            raise _invalid("Attempting to store more than 38 significant digits in a Number", "Number")
        return "N", int(number) if number == int(number) else number
    if kind in _OTHERS:
        return kind, json.dumps(content)
    if (kind == "S" and isinstance(content, str)) or (kind == "B" and isinstance(content, bytes)):
        return kind, content
    raise NotImplementedError(f"as an attribute value: {kind}")


def _to_wire(item: Item) -> dict[str, dict[str, Any]]:
    return {name: {kind: _content(kind, value)} for name, (kind, value) in item.items()}


def _content(kind: str, value: Any) -> Any:
    return json.loads(value) if kind in _OTHERS else str(value) if kind == "N" else value


def _key(wire: Mapping[str, Any], operation: str) -> Key:
    key = _from_wire(wire)
    if set(key) != set(PRIMARY_KEY):
        raise _invalid("The provided key element does not match the schema", operation)
    _check_keys(key, operation)
    return key["pk"][1], key["sk"][1]


def _check_keys(item: Item, operation: str) -> None:
    """Keys, of the table and of its indexes, have their type and are not empty."""
    missing = [name for name in PRIMARY_KEY if name not in item]
    wrong = [name for name, kind in KEY_TYPES.items() if name in item and item[name][0] != kind]
    empty = [name for name in KEY_TYPES if name in item and item[name][1] in ("", b"")]
    if missing or wrong or empty:
        raise _invalid(f"One or more parameter values were invalid: keys {missing + wrong + empty}", operation)


def _error(code: str, message: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


def _invalid(message: str, operation: str) -> ClientError:
    return _error("ValidationException", message, operation)


def _refused(operation: str, item: Item | None) -> ClientError:
    error = _error("ConditionalCheckFailedException", "The conditional request failed", operation)
    if item is not None:
        error.response["Item"] = _to_wire(item)  # type: ignore[typeddict-unknown-key]
    return error


_RESERVED = """
ABORT ABSOLUTE ACTION ADD AFTER AGENT AGGREGATE ALL ALLOCATE ALTER ANALYZE AND ANY ARCHIVE ARE ARRAY AS ASC
ASCII ASENSITIVE ASSERTION ASYMMETRIC AT ATOMIC ATTACH ATTRIBUTE AUTH AUTHORIZATION AUTHORIZE AUTO AVG BACK
BACKUP BASE BATCH BEFORE BEGIN BETWEEN BIGINT BINARY BIT BLOB BLOCK BOOLEAN BOTH BREADTH BUCKET BULK BY BYTE
CALL CALLED CALLING CAPACITY CASCADE CASCADED CASE CAST CATALOG CHAR CHARACTER CHECK CLASS CLOB CLOSE
CLUSTER CLUSTERED CLUSTERING CLUSTERS COALESCE COLLATE COLLATION COLLECTION COLUMN COLUMNS COMBINE COMMENT
COMMIT COMPACT COMPILE COMPRESS CONDITION CONFLICT CONNECT CONNECTION CONSISTENCY CONSISTENT CONSTRAINT
CONSTRAINTS CONSTRUCTOR CONSUMED CONTINUE CONVERT COPY CORRESPONDING COUNT COUNTER CREATE CROSS CUBE CURRENT
CURSOR CYCLE DATA DATABASE DATE DATETIME DAY DEALLOCATE DEC DECIMAL DECLARE DEFAULT DEFERRABLE DEFERRED
DEFINE DEFINED DEFINITION DELETE DELIMITED DEPTH DEREF DESC DESCRIBE DESCRIPTOR DETACH DETERMINISTIC
DIAGNOSTICS DIRECTORIES DISABLE DISCONNECT DISTINCT DISTRIBUTE DO DOMAIN DOUBLE DROP DUMP DURATION DYNAMIC
EACH ELEMENT ELSE ELSEIF EMPTY ENABLE END EQUAL EQUALS ERROR ESCAPE ESCAPED EVAL EVALUATE EXCEEDED EXCEPT
EXCEPTION EXCEPTIONS EXCLUSIVE EXEC EXECUTE EXISTS EXIT EXPLAIN EXPLODE EXPORT EXPRESSION EXTENDED EXTERNAL
EXTRACT FAIL FALSE FAMILY FETCH FIELDS FILE FILTER FILTERING FINAL FINISH FIRST FIXED FLATTERN FLOAT FOR
FORCE FOREIGN FORMAT FORWARD FOUND FREE FROM FULL FUNCTION FUNCTIONS GENERAL GENERATE GET GLOB GLOBAL GO
GOTO GRANT GREATER GROUP GROUPING HANDLER HASH HAVE HAVING HEAP HIDDEN HOLD HOUR IDENTIFIED IDENTITY IF
IGNORE IMMEDIATE IMPORT IN INCLUDING INCLUSIVE INCREMENT INCREMENTAL INDEX INDEXED INDEXES INDICATOR
INFINITE INITIALLY INLINE INNER INNTER INOUT INPUT INSENSITIVE INSERT INSTEAD INT INTEGER INTERSECT INTERVAL
INTO INVALIDATE IS ISOLATION ITEM ITEMS ITERATE JOIN KEY KEYS LAG LANGUAGE LARGE LAST LATERAL LEAD LEADING
LEAVE LEFT LENGTH LESS LEVEL LIKE LIMIT LIMITED LINES LIST LOAD LOCAL LOCALTIME LOCALTIMESTAMP LOCATION
LOCATOR LOCK LOCKS LOG LOGED LONG LOOP LOWER MAP MATCH MATERIALIZED MAX MAXLEN MEMBER MERGE METHOD METRICS
MIN MINUS MINUTE MISSING MOD MODE MODIFIES MODIFY MODULE MONTH MULTI MULTISET NAME NAMES NATIONAL NATURAL
NCHAR NCLOB NEW NEXT NO NONE NOT NULL NULLIF NUMBER NUMERIC OBJECT OF OFFLINE OFFSET OLD ON ONLINE ONLY
OPAQUE OPEN OPERATOR OPTION OR ORDER ORDINALITY OTHER OTHERS OUT OUTER OUTPUT OVER OVERLAPS OVERRIDE OWNER
PAD PARALLEL PARAMETER PARAMETERS PARTIAL PARTITION PARTITIONED PARTITIONS PATH PERCENT PERCENTILE
PERMISSION PERMISSIONS PIPE PIPELINED PLAN POOL POSITION PRECISION PREPARE PRESERVE PRIMARY PRIOR PRIVATE
PRIVILEGES PROCEDURE PROCESSED PROJECT PROJECTION PROPERTY PROVISIONING PUBLIC PUT QUERY QUIT QUORUM RAISE
RANDOM RANGE RANK RAW READ READS REAL REBUILD RECORD RECURSIVE REDUCE REF REFERENCE REFERENCES REFERENCING
REGEXP REGION REINDEX RELATIVE RELEASE REMAINDER RENAME REPEAT REPLACE REQUEST RESET RESIGNAL RESOURCE
RESPONSE RESTORE RESTRICT RESULT RETURN RETURNING RETURNS REVERSE REVOKE RIGHT ROLE ROLES ROLLBACK ROLLUP
ROUTINE ROW ROWS RULE RULES SAMPLE SATISFIES SAVE SAVEPOINT SCAN SCHEMA SCOPE SCROLL SEARCH SECOND SECTION
SEGMENT SEGMENTS SELECT SELF SEMI SENSITIVE SEPARATE SEQUENCE SERIALIZABLE SESSION SET SETS SHARD SHARE
SHARED SHORT SHOW SIGNAL SIMILAR SIZE SKEWED SMALLINT SNAPSHOT SOME SOURCE SPACE SPACES SPARSE SPECIFIC
SPECIFICTYPE SPLIT SQL SQLCODE SQLERROR SQLEXCEPTION SQLSTATE SQLWARNING START STATE STATIC STATUS STORAGE
STORE STORED STREAM STRING STRUCT STYLE SUB SUBMULTISET SUBPARTITION SUBSTRING SUBTYPE SUM SUPER SYMMETRIC
SYNONYM SYSTEM TABLE TABLESAMPLE TEMP TEMPORARY TERMINATED TEXT THAN THEN THROUGHPUT TIME TIMESTAMP TIMEZONE
TINYINT TO TOKEN TOTAL TOUCH TRAILING TRANSACTION TRANSFORM TRANSLATE TRANSLATION TREAT TRIGGER TRIM TRUE
TRUNCATE TTL TUPLE TYPE UNDER UNDO UNION UNIQUE UNIT UNKNOWN UNLOGGED UNNEST UNPROCESSED UNSIGNED UNTIL
UPDATE UPPER URL USAGE USE USER USERS USING UUID VACUUM VALUE VALUED VALUES VARCHAR VARIABLE VARIANCE VARINT
VARYING VIEW VIEWS VIRTUAL VOID WAIT WHEN WHENEVER WHERE WHILE WINDOW WITH WITHIN WITHOUT WORK WRAPPED WRITE
YEAR ZONE
"""

RESERVED_WORDS = frozenset(_RESERVED.split())
"""Not to be used as plain names in expressions; from the developer guide, compared with DynamoDB Local."""
