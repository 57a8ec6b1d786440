"""Puts the connections of a restored table into the stack's table, in doubt: a token may be spent since the backup.

The restored table is only read. No item of the stack's table is overwritten, since it is newer than any backup. So this
program may be interrupted, run again, and run beside the stack.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from flowaccount_connect.domain.connection import Status
from flowaccount_connect.domain.ids import is_connection_id
from flowaccount_connect.storage.connections import from_item, put_absent, restored
from flowaccount_connect.storage.dynamodb import Client, Item, StoreUnavailable, call, number, text

_WORKERS = 16


class NotRestored(Exception):
    """Nothing can be put back. The message says why, and what to do."""


class Outcome(StrEnum):
    """The result for one item of the restored table."""

    IN_DOUBT = "in doubt"
    """An active connection, put back in doubt and due at once."""
    NEEDS_CONSENT = "needs a new consent"
    DISCONNECTED = "disconnected"
    ALREADY_THERE = "already there"
    """The stack's table has a newer version."""
    EXPIRED = "expired"
    """An expired tombstone or history entry, or a history entry of a connection that was disconnected since."""
    HISTORY = "history"
    IMPORT = "to be imported again"
    """An import whose token was not proved yet. The older integration still has the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """One restore: from the table `source` into the table `into`. Times in epoch seconds."""

    client: Client
    source: str
    into: str
    restored_to: int
    """The time of the backup."""
    now: int
    disconnected: Collection[str] = ()
    """The ids of connections that were disconnected after the backup."""
    histories: bool = False
    """Whether the histories are put back too."""
    dry_run: bool = False

    def run(self) -> Iterator[tuple[str, Outcome]]:
        """Put back the items. Yields the connection's id and the outcome of each. Raises `StoreUnavailable`."""
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
            # The connection was disconnected or erased, so its history stays away.
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


def backup_time(client: Client, source: str, into: str, given: str | None, *, now: int) -> int:
    """The time to which `source` was restored, in epoch seconds: from `given` if it is set, otherwise from AWS.

    Raises `NotRestored` if `source` cannot be a restored table of the stack that has `into`.
    """
    if source == into:
        raise NotRestored(f"{source} is the stack's own table: restore the backup to a table of another name.")
    facts = _described(client, source)
    _described(client, into)
    summary = facts.get("RestoreSummary", {})
    if summary.get("RestoreInProgress") or facts.get("TableStatus") != "ACTIVE":
        raise NotRestored(f"{source} is still being restored: wait until it is ACTIVE, then run this again.")
    moment = summary.get("RestoreDateTime")
    if moment is None and given is None:
        raise NotRestored(
            f"AWS does not know {source} as a restored table. If it is one, give the time of its backup: "
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
        raise NotRestored("The time of the backup lies in the future: check --restored-to and this machine's clock.")
    return at


def _described(client: Client, table: str) -> Mapping[str, Any]:
    try:
        facts: Mapping[str, Any] = call(client.describe_table, TableName=table)["Table"]
    except StoreUnavailable as error:
        if str(error) == "ResourceNotFoundException":
            raise NotRestored(f"There is no table {table} in this account and region.") from None
        raise
    if [key["AttributeName"] for key in facts["KeySchema"]] != ["pk", "sk"]:
        raise NotRestored(f"{table} is no table of a FlowAccount Connect.")
    return facts


def connection_ids(lines: Iterable[str]) -> frozenset[str]:
    """The connection ids of a file, one a line. Raises `NotRestored`."""
    found = set()
    for line_number, line in enumerate(lines, 1):
        name = line.strip()
        if name and not is_connection_id(name):
            raise NotRestored(f"Line {line_number} is not a supportCode: each line of the file must be one.")
        found.add(name)
    return frozenset(found - {""})


def watched(
    outcomes: Iterator[tuple[str, Outcome]], say: Callable[[Counter[Outcome]], None]
) -> tuple[Counter[Outcome], list[str], set[str]]:
    """Run to the end, and call `say` with the counts after each item.

    Returns the counts by outcome, the ids of imports to repeat, and the ids of all connections in the backup.
    """
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
