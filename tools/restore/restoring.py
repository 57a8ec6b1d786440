"""Puts the connections of a restored table into the stack's own, in doubt: their tokens may be spent since the backup.

The restored table is only read. In the stack's nothing is written over, so that this may run again, be interrupted, and
run beside the stack: what is there already is newer than any backup.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from flowaccount_connect.domain.connection import Status
from flowaccount_connect.domain.ids import is_connection_id
from flowaccount_connect.storage.connections import from_item, put_absent, restored
from flowaccount_connect.storage.dynamodb import Client, Item, StoreUnavailable, call, number, text

_WORKERS = 16


class NotRestored(Exception):
    """Nothing can be put back like this; the message says why, and what to do."""


class Database(Client, Protocol):
    """What is used of a DynamoDB client."""

    def describe_table(self, **kwargs: Any) -> Any: ...
    def scan(self, **kwargs: Any) -> Any: ...


class Outcome(StrEnum):
    """What became of one item of the restored table."""

    IN_DOUBT = "in doubt"
    """Active: put back in doubt, and due at once."""
    NEEDS_CONSENT = "needs a new consent"
    DISCONNECTED = "disconnected"
    ALREADY_THERE = "already there"
    """The stack's table has it, which is newer."""
    EXPIRED = "expired"
    """A tombstone or an entry of a history that has had its time, or whose connection was disconnected since."""
    HISTORY = "history"
    IMPORT = "to be imported again"
    """Its token had not been proved yet; whoever brought it has it still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """One restored table, and where what it holds is to go. Times in epoch seconds."""

    client: Database
    source: str
    into: str
    restored_to: int
    """The moment of the backup."""
    now: int
    disconnected: Collection[str] = ()
    """What has been disconnected since the backup."""
    histories: bool = False
    """Whether the histories are put back too."""
    dry_run: bool = False

    def run(self) -> Iterator[tuple[str, Outcome]]:
        """Put back one item after the other: the connection's id, and what became of it. Raises `StoreUnavailable`."""
        with ThreadPoolExecutor(_WORKERS) as pool:
            for page in self._pages():
                yield from pool.map(self._put, page)

    def _pages(self) -> Iterator[list[Item]]:
        prefixes = {":connection": "CONNECTION#"} | ({":history": "HISTORY#"} if self.histories else {})
        request: dict[str, Any] = {
            "TableName": self.source,
            "FilterExpression": " OR ".join(f"begins_with(pk, {name})" for name in prefixes),
            "ExpressionAttributeValues": {name: {"S": prefix} for name, prefix in prefixes.items()},
        }
        while True:
            page = call(self.client.scan, **request)
            yield [item for item in page["Items"] if text(item, "sk") != "IMPORT" or _under_way(item)]
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _put(self, item: Item) -> tuple[str, Outcome]:
        kind, _, name = (text(item, "pk") or "").partition("#")
        if text(item, "sk") == "IMPORT":
            return name, Outcome.IMPORT
        ends = number(item, "ttl")
        if ends is not None and ends <= self.now:
            return name, Outcome.EXPIRED
        if kind == "HISTORY" and name in self.disconnected:
            # Nothing of the app's comes back of what was to be ended, or erased.
            return name, Outcome.EXPIRED
        if kind == "HISTORY":
            return name, Outcome.HISTORY if self._is_put(item) else Outcome.ALREADY_THERE
        made = restored(item, restored_to=self.restored_to, now=self.now, disconnected=name in self.disconnected)
        return name, _BECAME[from_item(made).status] if self._is_put(made) else Outcome.ALREADY_THERE

    def _is_put(self, item: Item) -> bool:
        if not self.dry_run:
            return put_absent(self.client, self.into, item)
        key = {name: item[name] for name in ("pk", "sk")}
        return "Item" not in call(self.client.get_item, TableName=self.into, Key=key, ConsistentRead=True)


_BECAME = {
    Status.ACTIVE: Outcome.IN_DOUBT,
    Status.REAUTHORIZATION_REQUIRED: Outcome.NEEDS_CONSENT,
    Status.DISCONNECTED: Outcome.DISCONNECTED,
}


def _under_way(item: Item) -> bool:
    return text(item, "status") == Status.ACTIVE


def backup_time(client: Database, source: str, into: str, given: str | None, *, now: int) -> int:
    """The moment that `source` was restored to, in epoch seconds: as AWS knows it, or as `given`.

    Raises `NotRestored` where it cannot be a restored table of the stack that has `into`.
    """
    if source == into:
        raise NotRestored(f"{source} is the stack's own table: restore the backup to a table of another name.")
    told = _described(client, source)
    _described(client, into)
    summary = told.get("RestoreSummary", {})
    if summary.get("RestoreInProgress") or told.get("TableStatus") != "ACTIVE":
        raise NotRestored(f"{source} is still being restored: wait until it is ACTIVE, then run this again.")
    moment = summary.get("RestoreDateTime")
    if moment is None and given is None:
        raise NotRestored(
            f"AWS does not know {source} as a restored table. If it is one, say which moment it is of: "
            "--restored-to 2026-01-31T05:59:00Z"
        )
    if given is not None:
        try:
            moment = datetime.fromisoformat(given)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise NotRestored("--restored-to must be a time with its zone, such as 2026-01-31T05:59:00Z.")
    at = int(moment.timestamp())
    if at > now:
        raise NotRestored("The moment of the backup lies in the future: check --restored-to and this machine's clock.")
    return at


def _described(client: Database, table: str) -> Mapping[str, Any]:
    try:
        told: Mapping[str, Any] = call(client.describe_table, TableName=table)["Table"]
    except StoreUnavailable as error:
        if str(error) == "ResourceNotFoundException":
            raise NotRestored(f"There is no table {table} in this account and region.") from None
        raise
    if [key["AttributeName"] for key in told["KeySchema"]] != ["pk", "sk"]:
        raise NotRestored(f"{table} is no table of a FlowAccount Connect.")
    return told


def connection_ids(lines: Iterable[str]) -> frozenset[str]:
    """The connection ids of a file, one a line. Raises `NotRestored`."""
    found = set()
    for line_number, line in enumerate(lines, 1):
        name = line.strip()
        if name and not is_connection_id(name):
            raise NotRestored(f"Line {line_number} is no supportCode: the file must have one a line, and nothing else.")
        found.add(name)
    return frozenset(found - {""})


def watched(
    outcomes: Iterator[tuple[str, Outcome]], say: Callable[[Counter[Outcome]], None]
) -> tuple[Counter[Outcome], list[str], set[str]]:
    """Run to the end, saying how far it is: the counts, what is to be imported again, and all connections seen."""
    counts: Counter[Outcome] = Counter()
    imports, seen = [], set()
    for name, outcome in outcomes:
        counts[outcome] += 1
        if outcome is Outcome.IMPORT:
            imports.append(name)
        elif outcome is not Outcome.HISTORY:
            seen.add(name)
        say(counts)
    return counts, sorted(imports), seen
