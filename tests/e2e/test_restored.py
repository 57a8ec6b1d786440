"""A table restored from a backup, as docs/runbook.md says: which tokens still work is found out, none is lost.

The emulator has no backups, so a copy of the table, taken at the moment of the backup, stands for what AWS restores.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Bus, Simulator, until
from tools import deployed
from tools.local import emulator, service
from tools.local.places import ROOT, STACK_FILE
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor

UNSPENT, SPENT, RECONNECTED = "N1000001", "N1000002", "N1000003"
WITHDRAWN, REFUSED, DISCONNECTED = "N1000004", "N1000005", "N1000006"
OWNERS = {UNSPENT: "somchai", SPENT: "somchai", RECONNECTED: "somchai"} | dict.fromkeys(
    (WITHDRAWN, REFUSED, DISCONNECTED), "suda"
)


Tool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def restored(up: Stack) -> Iterator[str]:
    """The name of a table that the backup is restored to."""
    name, client = f"{up.table}-restored", administrator(up)
    client.create_table(TableName=name, **deployed.table())
    yield name
    client.delete_table(TableName=name)


@pytest.fixture
def tool(up: Stack, tmp_path: Path) -> Tool:
    """Runs `flowaccount-connect --local mark-restored` with arguments, as nobody's terminal."""
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "stack.json").symlink_to(STACK_FILE)
    sources = f"{ROOT}:{ROOT / 'layers' / 'connector'}:{ROOT / 'clients' / 'python'}"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tools.restore", "--local", *arguments],
            cwd=tmp_path, env={"PATH": os.environ["PATH"], "PYTHONPATH": sources}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    return run


def administrator(up: Stack) -> Any:
    """A client of the table for who may do everything."""
    return emulator.client("dynamodb", int(up.aws_endpoint_url.rpartition(":")[2]))


def items(up: Stack, table: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Everything in a table."""
    pages = administrator(up).get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return {(item["pk"]["S"], item["sk"]["S"]): item for page in pages for item in page["Items"]}


def connections(up: Stack, table: str) -> dict[str, dict[str, Any]]:
    """The connections of a table, by business."""
    found = items(up, table).items()
    return {pk.partition("#")[2]: item for (pk, sk), item in found if sk == "CONNECTION"}


def connect(up: Stack, business: str) -> None:
    arrived = HttpVisitor().connect(up.authorize_url, user=OWNERS[business], business=business)
    assert arrived.page == "connected", arrived.page


def counted(up: Stack) -> dict[str, int]:
    """How many connections the stack counts, by status."""
    item = items(up, up.table)["COUNT", "connections"]
    return {name: int(value["N"]) for name, value in item.items() if name not in ("pk", "sk")}


def test_a_restored_table_is_put_back_and_the_protocol_finds_out_which_tokens_work(
    up: Stack, simulator: Simulator, bus: Bus, set_item: Any, restored: str, tool: Tool, tmp_path: Path
) -> None:
    def refresh(business: str) -> str:
        set_item(business, refresh_at=int(time.time()) - 1)
        return str(service.invoke(up, "refresh", {"connection_id": business})["outcome"])

    for business in OWNERS:
        connect(up, business)
    # What went before has been counted when these have been told. Other tests may have taken the right to count.
    until(lambda: all(bus.types(business) for business in OWNERS))
    miscounted = _miscounted(up)
    simulator.withdraw(REFUSED)
    assert refresh(REFUSED) == "refused"
    set_item(REFUSED, refused_at=int(time.time()) - 601)
    assert refresh(REFUSED) == "reauthorization_required"
    assert service.call(up, "DELETE", f"/connections/{DISCONNECTED}").status_code == 204

    # The backup, and what happens after it.
    moment = datetime.now(UTC)
    for item in items(up, up.table).values():
        administrator(up).put_item(TableName=restored, Item=item)
    backup = connections(up, restored)
    for _ in range(3):
        assert refresh(SPENT) == "refreshed"
    newest = connections(up, up.table)[SPENT]
    assert service.call(up, "DELETE", f"/connections/{WITHDRAWN}").status_code == 204
    connect(up, RECONNECTED)

    # The loss: all but one of them are gone.
    for business in OWNERS.keys() - {RECONNECTED}:
        service.client(up, "dynamodb").delete_item(
            TableName=up.table, Key={"pk": {"S": f"CONNECTION#{business}"}, "sk": {"S": "CONNECTION"}}
        )
    assert service.call(up, "GET", f"/connections/{UNSPENT}/token").status_code == 404
    # Another test may have connected it before.
    until(lambda: bus.types(UNSPENT)[-1:] in (["connected"], ["reconnected"]))
    kept = connections(up, up.table)[RECONNECTED]

    ended = tmp_path / "disconnected-since"
    ended.write_text(f"{WITHDRAWN}\n")
    options = (restored, "--restored-to", moment.isoformat(), "--disconnected", str(ended))
    before = connections(up, up.table)
    looked = tool(*options, "--dry-run")
    assert looked.returncode == 0, looked.stderr
    assert connections(up, up.table) == before, "a dry run writes nothing"
    done = tool(*options, "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == looked.stdout.splitlines()[1:]
    said = {line.rsplit(None, 1)[0]: int(line.rsplit(None, 1)[1]) for line in done.stdout.splitlines()[1:]}
    assert said["in doubt"] == 2
    assert said["needs a new consent"] == 1
    assert said["disconnected"] == 2

    there = connections(up, up.table)
    assert there[RECONNECTED] == kept, "what the stack has is newer than a backup"
    assert there.keys() >= OWNERS.keys()
    for business in OWNERS.keys() - {RECONNECTED}:
        assert int(there[business]["generation"]["N"]) > int(backup[business]["generation"]["N"])
    assert int(there[SPENT]["generation"]["N"]) > int(newest["generation"]["N"]), "never back behind what callers saw"
    shown = service.call(up, "GET", f"/connections/{UNSPENT}/token").json()
    assert (shown["status"], bool(shown["access_token"])) == ("in_doubt", True), "a living token is served"
    assert service.call(up, "GET", f"/connections/{WITHDRAWN}/token").status_code == 404

    # The schedule finds both due, and spreads them over the minute; nobody waits for that here.
    assert service.invoke(up, "sweep", {})["due"] >= 2

    def found_out(business: str, status: str) -> dict[str, Any]:
        service.invoke(up, "refresh", {"connection_id": business})
        until(lambda: bool(service.call(up, "GET", f"/connections/{business}").json()["status"] == status))
        shown: dict[str, Any] = service.call(up, "GET", f"/connections/{business}").json()
        return shown

    alive = found_out(UNSPENT, "active")
    assert (alive["in_doubt_since"], alive["generation"]) == (None, int(there[UNSPENT]["generation"]["N"]) + 1)
    assert found_out(SPENT, "refresh_failing")["reason"] is None
    set_item(SPENT, refused_at=int(time.time()) - 601, refresh_at=int(time.time()) - 1)
    lost = found_out(SPENT, "reauthorization_required")
    assert lost["reason"] == "rotation_lost"
    after = connections(up, up.table)
    for business in (RECONNECTED, REFUSED, DISCONNECTED, WITHDRAWN):
        assert after[business] == there[business], "and none of the others is touched"
    assert after[REFUSED]["reason"] == {"S": "rejected"}
    assert after[WITHDRAWN]["status"] == after[DISCONNECTED]["status"] == {"S": "disconnected"}
    assert "tokens" not in after[WITHDRAWN]
    assert refresh(UNSPENT) == "refreshed", "what works goes on working"

    # Once more, as after an interruption: nothing comes back twice.
    settled = connections(up, up.table)
    again = tool(*options, "--yes")
    assert (again.returncode, "in doubt" in again.stdout) == (0, False), again.stderr
    assert connections(up, up.table) == settled
    # Who listens to events hears the truth, in an order that generations tell.
    until(lambda: "recovered" in bus.types(UNSPENT))
    assert sum(type_ in ("connected", "reconnected") for type_ in bus.types(UNSPENT)) == 1
    until(lambda: "reauthorization_required" in bus.types(SPENT))
    generations = [detail["generation"] for type_, detail in bus.of(SPENT) if "generation" in detail]
    assert generations == sorted(generations)
    until(lambda: _miscounted(up) == miscounted)


def _miscounted(up: Stack) -> dict[str, int]:
    """How many more connections are counted than there are, by status; a tombstone is none."""
    there = Counter(item["status"]["S"] for item in connections(up, up.table).values())
    del there["disconnected"]
    told = {status: number for status, number in counted(up).items() if status != "importing"}
    more = {status: told.get(status, 0) - there[status] for status in told.keys() | there}
    return {status: number for status, number in more.items() if number}
