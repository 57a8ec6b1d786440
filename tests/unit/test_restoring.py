"""`mark-restored`: what of a backup comes back, what does not, and what it never touches."""

import os
import pty
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flowaccount_connect.storage.dynamodb import n, s
from flowaccount_connect_client.cli import target
from flowaccount_connect_client.cli.main import DENIED, LATER, USAGE
from tests.support.dynamodb_model import DynamoDbModel
from tests.unit.tables import client_error
from tools.restore.__main__ import main

BACKUP = datetime(2026, 1, 31, 5, 59, tzinfo=UTC)
SCHEMA = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]


class Tables:
    """The stack's table, and the restored one beside it, which nobody can write."""

    def __init__(self) -> None:
        self.live = DynamoDbModel()
        self.backup: list[dict[str, Any]] = []
        self.told: dict[str, Any] = {
            "TableStatus": "ACTIVE",
            "KeySchema": SCHEMA,
            "RestoreSummary": {"RestoreDateTime": BACKUP, "RestoreInProgress": False},
        }
        self.faults: list[Exception] = []

    def describe_table(self, *, TableName: str) -> Any:  # noqa: N803
        if TableName not in ("live", "restored"):
            raise client_error("ResourceNotFoundException")
        return {"Table": self.told if TableName == "restored" else {"TableStatus": "ACTIVE", "KeySchema": SCHEMA}}

    def scan(self, *, TableName: str, ExclusiveStartKey: Any = None, **filter_: Any) -> Any:  # noqa: N803
        """Two items a page, filtered as asked: `begins_with(pk, :name)`, joined by OR."""
        assert TableName == "restored"
        asked = [f"begins_with(pk, {name})" for name in filter_["ExpressionAttributeValues"]]
        assert filter_["FilterExpression"] == " OR ".join(asked)
        prefixes = tuple(value["S"] for value in filter_["ExpressionAttributeValues"].values())
        start = 0 if ExclusiveStartKey is None else ExclusiveStartKey["at"]
        page = [item for item in self.backup[start : start + 2] if item["pk"]["S"].startswith(prefixes)]
        more = {"LastEvaluatedKey": {"at": start + 2}} if start + 2 < len(self.backup) else {}
        return {"Items": page, **more}

    def put_item(self, **kwargs: Any) -> Any:
        assert kwargs["TableName"] == "live"
        if self.faults:
            raise self.faults.pop()
        return self.live.put_item(**kwargs)

    def get_item(self, **kwargs: Any) -> Any:
        assert kwargs["TableName"] == "live"
        assert kwargs["ConsistentRead"] is True
        return self.live.get_item(**kwargs)

    def stored(self) -> dict[tuple[str, str], dict[str, Any]]:
        items, _ = self.live.snapshot()
        return {key: {name: value for name, (_, value) in item} for key, item in items}


def connection(name: str, status: str = "active", **more: Any) -> dict[str, Any]:
    there = {"status": s(status), "grant_id": s("g1"), "generation": n(7), "environment": s("sandbox")}
    if status == "active":
        there |= {"tokens": {"B": b"sealed-CANARY"}, "data_key": {"B": b"key"}, "requested_at": n(1_700_000_000)}
    return {"pk": s(f"CONNECTION#{name}"), "sk": s("CONNECTION")} | there | more


def other(pk: str, sk: str, **more: Any) -> dict[str, Any]:
    return {"pk": s(pk), "sk": s(sk)} | more


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Tables:
    made = Tables()
    made.backup = [
        connection("N1"),
        connection("N2", "reauthorization_required", reason=s("rejected"), ended_at=n(1_700_000_000)),
        connection("N3", "disconnected", ended_at=n(1_700_000_000), ttl=n(9_000_000_000)),
        connection("N4", "disconnected", ended_at=n(1_500_000_000), ttl=n(1_600_000_000)),
        connection("N5"),
        other("CONNECTION#N6", "IMPORT", status=s("active"), tokens={"B": b"sealed-CANARY"}),
        other("CONNECTION#N7", "IMPORT", status=s("reauthorization_required")),
        *(other(f"{kind}#x", kind) for kind in ("ATTEMPT", "LINK", "EVENT", "DEMAND")),
        other("COUNT", "connections", active=n(2)),
        other("RATE", "token-endpoint", next_slot=n(1)),
        other("HEALTH", "token-endpoint", opened_at=n(1)),
        other("HISTORY#N1", "001700000000#1#0", kind=s("connected"), ttl=n(9_000_000_000)),
    ]
    monkeypatch.setattr(target, "tables", lambda **_: (made, "live"))
    return made


def restore(*options: str) -> int:
    return main(["--stack-name", "connect", "restored", *options])


def test_only_connections_come_back_and_those_that_were_active_in_doubt(
    tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore("--yes") == 0
    stored = tables.stored()
    assert {pk: item["status"] for (pk, _), item in stored.items()} == {
        "CONNECTION#N1": "active",
        "CONNECTION#N2": "reauthorization_required",
        "CONNECTION#N3": "disconnected",
        "CONNECTION#N5": "active",
    }
    assert {pk for (pk, _), item in stored.items() if "in_doubt" in item} == {"CONNECTION#N1", "CONNECTION#N5"}
    assert all(int(item["generation"]) > 1_000_000 for item in stored.values()), "a second each since the backup"
    out, err = capsys.readouterr()
    assert [line.split("  ")[0] for line in out.splitlines()] == [
        *("became", "in doubt", "needs a new consent", "disconnected", "expired", "to be imported again")
    ]
    assert "N6: import its token again" in err
    assert "N7" not in err
    assert "CANARY" not in out + err


def test_a_second_run_changes_nothing_and_what_the_stack_has_is_newer(
    tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    tables.live.put_item(TableName="live", Item=connection("N1", generation=n(9)))
    assert restore("--yes") == 0
    before = tables.stored()
    assert before["CONNECTION#N1", "CONNECTION"]["generation"] == 9
    capsys.readouterr()
    tables.backup[4]["generation"] = n(6)  # Not that very write again.
    assert restore("--yes") == 0
    assert tables.stored() == before
    assert "in doubt" not in capsys.readouterr().out


def test_an_interrupted_run_goes_on(tables: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    tables.faults = [client_error("InternalServerError")]
    assert restore("--yes") == LATER
    err = capsys.readouterr().err
    assert "InternalServerError" in err
    assert "goes on from there" in err
    assert "CANARY" not in err
    assert restore("--yes") == 0
    assert len(tables.stored()) == 4


def test_a_dry_run_says_the_same_and_writes_nothing(tables: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    tables.live.put_item(TableName="live", Item=connection("N5"))
    before = tables.stored()
    assert restore("--dry-run") == 0
    said = capsys.readouterr().out.splitlines()
    assert tables.stored() == before
    assert restore("--yes") == 0
    assert capsys.readouterr().out.splitlines()[1:] == said[1:]
    assert any(line.split() == ["already", "there", "1"] for line in said)


def test_what_was_disconnected_since_stays_so(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ended"
    file.write_text("N5\nN9\n\n")
    assert restore("--yes", "--disconnected", str(file)) == 0
    ended = tables.stored()["CONNECTION#N5", "CONNECTION"]
    assert ended["status"] == "disconnected"
    assert not ended.keys() & {"tokens", "data_key", "due_shard"}
    err = capsys.readouterr().err
    assert "Disconnected since: 2, " in err
    assert "N9: not in the backup" in err
    file.write_text("N5, N6\n")
    assert restore("--yes", "--disconnected", str(file)) == USAGE
    assert "Line 1" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--dry-run"], ["--yes"]])
def test_a_list_of_the_disconnected_that_names_nobody_is_refused(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    # It is what a query leaves behind that had not ended, and all of them would come back.
    file = tmp_path / "ended"
    file.write_text("\n")
    assert restore(*options, "--disconnected", str(file)) == USAGE
    assert "leave --disconnected out" in capsys.readouterr().err
    assert tables.stored() == {}


def test_a_list_of_the_disconnected_in_another_encoding_is_refused(
    tables: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ended"
    file.write_text("N1\n", encoding="utf-16")
    assert restore("--yes", "--disconnected", str(file)) == USAGE
    assert "save it as UTF-8" in capsys.readouterr().err
    assert tables.stored() == {}


def test_histories_come_back_where_they_are_asked_for(tables: Tables) -> None:
    assert restore("--yes", "--histories") == 0
    assert ("HISTORY#N1", "001700000000#1#0") in tables.stored()
    assert not [pk for pk, _ in tables.stored() if not pk.startswith(("CONNECTION#", "HISTORY#"))]


def test_of_what_was_disconnected_since_no_history_comes_back(tables: Tables, tmp_path: Path) -> None:
    file = tmp_path / "ended"
    file.write_text("N1\n")
    assert restore("--yes", "--histories", "--disconnected", str(file)) == 0
    assert not [pk for pk, _ in tables.stored() if pk == "HISTORY#N1"]
    assert tables.stored()["CONNECTION#N1", "CONNECTION"]["status"] == "disconnected"


@pytest.mark.parametrize(
    ("told", "options", "says"),
    [
        ({"RestoreSummary": {"RestoreInProgress": True}}, (), "still being restored"),
        ({"TableStatus": "CREATING"}, (), "still being restored"),
        ({"RestoreSummary": {}}, (), "--restored-to 2026-01-31T05:59:00Z"),
        ({"RestoreSummary": {}}, ("--restored-to", "yesterday"), "a time with its zone"),
        ({"RestoreSummary": {}}, ("--restored-to", "2026-01-31T05:59:00"), "a time with its zone"),
        ({"RestoreSummary": {}}, ("--restored-to", "2999-01-31T05:59:00Z"), "lies in the future"),
        ({"KeySchema": SCHEMA[:1]}, (), "no table of a FlowAccount Connect"),
    ],
)
def test_what_is_no_restored_table_is_refused(
    tables: Tables,
    capsys: pytest.CaptureFixture[str],
    told: dict[str, Any],
    options: tuple[str, ...],
    says: str,
) -> None:
    tables.told |= told
    assert restore("--yes", *options) == USAGE
    assert says in capsys.readouterr().err
    assert tables.stored() == {}


def test_other_tables_are_refused(tables: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--local", "live", "--yes"]) == USAGE
    assert "the stack's own table" in capsys.readouterr().err
    assert main(["--local", "elsewhere", "--yes"]) == USAGE
    assert "There is no table elsewhere" in capsys.readouterr().err


def test_it_asks_before_it_writes(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore() == USAGE
    assert "--dry-run" in capsys.readouterr().err
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal, os.fdopen(ours, "w") as person:
        monkeypatch.setattr("sys.stdin", terminal)
        person.write("n\n")
        person.flush()
        assert restore() != 0
    assert tables.stored() == {}


def test_a_missing_permission_is_named(tables: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    tables.faults = [client_error("AccessDeniedException")]
    assert restore("--yes") == DENIED
    assert "dynamodb:PutItem" in capsys.readouterr().err


def test_it_needs_the_stack_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restored", "--yes"]) == DENIED
    assert "--stack-name" in capsys.readouterr().err
