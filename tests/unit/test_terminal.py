"""The terminal tool: what people see, what it never shows, and an import that goes on where it ended."""

import io
import json
import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from flowaccount_connect_client.cli import csv_import, target
from flowaccount_connect_client.cli.main import main
from tests.unit.servers import Answer, Asked, Line, Server, drop, reply
from tools.local import ports

ROOT = Path(__file__).parents[2]
REFRESH_TOKEN = "refresh-token-CANARY"
ACCESS_TOKEN = "access-token-CANARY"


def found(**body: object) -> Answer:
    return reply(200, json.dumps(body).encode())


def refused(status: int, code: str, **members: object) -> Answer:
    return reply(status, json.dumps({"status": status, "code": code, "detail": f"On {code}."} | members).encode())


def connection(name: str, status: str = "active", deadline: int | None = None, **more: object) -> dict[str, object]:
    return {"support_code": name, "status": status, "deadline": deadline, "access_expires_at": None} | more


TOKEN = {
    "access_token": ACCESS_TOKEN,
    "expires_in": 600,
    "support_code": "N1",
    "environment": "sandbox",
    "generation": 3,
    "status": "active",
}


@pytest.fixture
def stack(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("FLOWACCOUNT_CONNECT_URL", f"http://127.0.0.1:{server.port}")
    return server


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for what only time mends."""
    monkeypatch.setattr("flowaccount_connect_client.cli.target._PATIENCE", 0.0)
    monkeypatch.setattr("flowaccount_connect_client.cli.main.time.sleep", lambda _: None)


# ---- seeing -----------------------------------------------------------------------------------------------


def test_status_lists_every_page_soonest_deadline_first(stack: Server, capsys: pytest.CaptureFixture[str]) -> None:
    now = int(time.time())
    stack.say(
        found(connections=[connection("N3", deadline=now + 90_000), connection("N9")], next="a&b"),
        found(connections=[connection("N2", "in_doubt", now + 3_500, tenant="shop 7")], next=None),
    )
    assert main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["connection", "N2", "N3", "N9"]
    assert "58 min" in lines[1]
    assert "shop 7" in lines[1]
    assert "24 h 59 min" in lines[2] or "25 h 00 min" in lines[2]
    assert [asked.path for asked in stack.asked] == ["/connections", "/connections?next=a%26b"]


def test_json_is_for_programs(stack: Server, capsys: pytest.CaptureFixture[str]) -> None:
    stack.say(found(connections=[connection("N2", deadline=2), connection("N1", deadline=1)], next=None))
    assert main(["status", "--json", "--status", "active"]) == 0
    assert [one["support_code"] for one in json.loads(capsys.readouterr().out)] == ["N1", "N2"]
    assert stack.asked[0].path == "/connections?status=active"


def test_nothing_that_others_wrote_commands_the_terminal(stack: Server, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]0;evil\x07\x1b[31m[red]\u202e\r\nN9 active"
    stack.say(found(connections=[connection("N1", tenant=evil)], next=None))
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert not any(bad in out for bad in "\x1b\x07\u202e\r")
    assert len(out.splitlines()) == 2


def test_show_and_history(stack: Server, capsys: pytest.CaptureFixture[str]) -> None:
    stack.say(found(**connection("N1", deadline=1_800_000_000)))
    assert main(["show", "N1"]) == 0
    assert "2027-01-1" in capsys.readouterr().out
    entries = [{"at": 1_800_000_000, "kind": "refreshed", "status": "active", "generation": 4, "attempt_id": "ab"}]
    stack.say(found(entries=entries, next=None))
    assert main(["history", "N1"]) == 0
    assert "refreshed" in capsys.readouterr().out
    assert main(["history", "N1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == entries
    assert stack.asked[-1].path == "/connections/N1/history"


@pytest.mark.parametrize(("options", "shown"), [([], False), (["--json"], False), (["--reveal", "--json"], True)])
def test_a_token_is_hidden_unless_asked_for(
    stack: Server, capsys: pytest.CaptureFixture[str], options: list[str], shown: bool
) -> None:
    stack.say(found(**TOKEN))
    assert main(["token", "N1", "--min-ttl", "10", *options]) == 0
    out = capsys.readouterr().out
    assert (ACCESS_TOKEN in out) is shown
    assert "active" in out
    assert stack.asked[0].path == "/connections/N1/token?min_ttl=10"


def test_a_revealed_token_is_all_that_is_printed(stack: Server, capsys: pytest.CaptureFixture[str]) -> None:
    stack.say(found(**TOKEN))
    assert main(["token", "N1", "--reveal"]) == 0
    assert capsys.readouterr() == (f"{ACCESS_TOKEN}\n", "")


def environment(stack: Server, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}/clients/python",
        "FLOWACCOUNT_CONNECT_URL": f"http://127.0.0.1:{stack.port}",
        "AWS_ACCESS_KEY_ID": "unit",
        "AWS_SECRET_ACCESS_KEY": "unit",
        "AWS_DEFAULT_REGION": "ap-southeast-1",
        "TERM": "xterm-256color",
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "160",
    } | more


COMMAND = [sys.executable, "-m", "flowaccount_connect_client.cli.main"]


def on_a_terminal(arguments: list[str], variables: dict[str, str], typed: bytes = b"") -> tuple[int, str]:
    """Run the tool on a terminal of its own; its exit code and all that the terminal was told."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, *arguments], env=variables, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, typed)
    seen = b""
    try:
        while part := os.read(ours, 65_536):
            seen += part
    except OSError:
        pass  # The other side has gone.
    os.close(ours)
    return process.wait(30), seen.decode()


def test_there_are_colours_on_a_terminal_and_nowhere_else(stack: Server) -> None:
    stack.say(found(connections=[connection("N1", "reauthorization_required")], next=None))
    code, seen = on_a_terminal(["status"], environment(stack))
    assert (code, "\x1b[1;31mreauthorization_required" in seen) == (0, True)
    code, seen = on_a_terminal(["status"], environment(stack, NO_COLOR="1"))
    assert (code, "\x1b" in seen) == (0, False)
    piped = subprocess.run([*COMMAND, "status"], env=environment(stack), capture_output=True, text=True, check=True)
    assert "\x1b" not in piped.stdout
    assert "reauthorization_required" in piped.stdout


# ---- ending -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "code", "asked"), [(b"y\n", 0, 1), (b"n\n", 1, 0), (b"\n", 1, 0)])
def test_disconnect_asks_first(stack: Server, typed: bytes, code: int, asked: int) -> None:
    stack.say(reply(204))
    ended, seen = on_a_terminal(["disconnect", "N1"], environment(stack), typed)
    assert (ended, len(stack.asked)) == (code, asked)
    assert "Disconnect N1?" in seen


def test_where_nobody_can_be_asked_it_takes_a_yes(stack: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.say(reply(204))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["disconnect", "N1"]) == 2
    assert stack.asked == []
    assert main(["disconnect", "N1", "--yes"]) == 0
    assert (stack.asked[0].method, stack.asked[0].path) == ("DELETE", "/connections/N1")


# ---- connecting -------------------------------------------------------------------------------------------


class Returning:
    """A browser that comes back to the terminal's own return URL."""

    def __init__(self, query: str) -> None:
        self.url = f"http://localhost:{ports.choose()}/back"
        self._query = query

    def __enter__(self) -> str:
        self._thread = threading.Thread(target=self._come_back)
        self._thread.start()
        return self.url

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    def _come_back(self) -> None:
        for path in ("favicon.ico", "back?x=1", f"back?{self._query}"):
            for _ in range(200):
                try:
                    requests.get(self.url.replace("back", path, 1), timeout=5)
                    break
                except requests.ConnectionError:
                    time.sleep(0.02)


MADE = {"connect_url": "https://api.example/authorize?link=x", "expires_at": 9_999_999_999}


def test_connect_prints_the_link_waits_for_the_browser_and_confirms(
    stack: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.say(reply(201, json.dumps(MADE).encode()), found(**connection("N7")))
    with Returning("confirmation=s.1&state=") as url:
        assert main(["connect", "shop 7", "--return-url", url, "--expected", "N7"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{MADE['connect_url']}\n"
    assert "N7 is connected" in said.err
    assert "s.1" not in said.err
    first, confirmed = stack.asked
    assert json.loads(first.body) == {"tenant": "shop 7", "return_url": url, "expected_connection": "N7"}
    assert confirmed.path.endswith("/connect-links/confirm")
    assert json.loads(confirmed.body) == {"confirmation": "s.1", "tenant": "shop 7"}


def test_connect_gives_up_in_time_and_says_what_failed(stack: Server, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{ports.choose()}/back"
    stack.say(reply(201, json.dumps(MADE | {"expires_at": 1}).encode()))
    assert main(["connect", "me", "--return-url", url]) == 1
    assert "in time" in capsys.readouterr().err
    stack.say(reply(201, json.dumps(MADE).encode()))
    with Returning("error=access_denied&confirmation=s.1") as url:
        assert main(["connect", "me", "--return-url", url]) == 1
    assert "access_denied" in capsys.readouterr().err
    stack.say(reply(201, json.dumps(MADE).encode()), refused(409, "connect_failed", ending="superseded"))
    with Returning("confirmation=s.1") as url:
        assert main(["connect", "me", "--return-url", url]) == 1
    assert "connect_failed" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["https://app.example.com/done", "http://app.example.com/done", "https://localhost/x"])
def test_connect_waits_on_this_machine_only(stack: Server, capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert main(["connect", "me", "--return-url", url]) == 2
    assert "loopback" in capsys.readouterr().err
    assert stack.asked == []


# ---- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code", "told"),
    [
        (refused(404, "connection_not_found"), 3, "connection_not_found"),
        (refused(409, "reauthorization_required", reconnect_url="https://a/b"), 4, "https://a/b"),
        (refused(503, "store_unavailable"), 5, "Try again in 5 s"),
        (drop, 5, "cannot be reached"),
        (refused(403, "access_denied"), 6, "execute-api:Invoke"),
        (refused(400, "invalid_next"), 1, "invalid_next"),
        (reply(200, b"<html>"), 1, "check the URL"),
    ],
)
def test_exit_codes_and_words(
    stack: Server, capsys: pytest.CaptureFixture[str], answer: Answer, code: int, told: str
) -> None:
    stack.say(answer)
    assert main(["token", "N1"]) == code
    said = capsys.readouterr()
    assert (told in said.err, said.out) == (True, "")


def test_what_is_missing_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FLOWACCOUNT_CONNECT_URL", raising=False)
    assert main(["status"]) == 6
    assert "FLOWACCOUNT_CONNECT_URL" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main(["--local", "status"]) == 6
    assert "make up" in capsys.readouterr().err
    for arguments in (
        ["token", "../N1"],
        ["token", "N1", "--min-ttl", "3601"],
        ["--local", "--url", "x", "status"],
        [],
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


def test_the_local_stack_is_found_from_a_folder_below(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    below = tmp_path / "some" / "where"
    below.mkdir(parents=True)
    (tmp_path / ".local").mkdir()
    stack = {
        "api_url": f"http://127.0.0.1:{server.port}/api",
        "region": "eu-west-1",
        "access_key_id": "LOCAL",
        "secret_access_key": "secret-CANARY",
    }
    (tmp_path / ".local" / "stack.json").write_text(json.dumps(stack))
    monkeypatch.chdir(below)
    server.say(found(connections=[], next=None))
    assert main(["--local", "status"]) == 0
    assert "Credential=LOCAL/" in server.asked[0].headers["authorization"]
    assert "/eu-west-1/execute-api/" in server.asked[0].headers["authorization"]
    (tmp_path / ".local" / "stack.json").write_text("{")
    assert main(["--local", "status"]) == 6
    assert "CANARY" not in "".join(capsys.readouterr())


OUTPUTS = """<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><DescribeStacksResult><Stacks>
<member><StackName>connect</StackName><CreationTime>2026-01-31T05:59:00Z</CreationTime><StackStatus>CREATE_COMPLETE</StackStatus>
<Outputs><member><OutputKey>ApiUrl</OutputKey><OutputValue>{url}</OutputValue></member>
<member><OutputKey>TableName</OutputKey><OutputValue>connections</OutputValue></member></Outputs>
</member></Stacks></DescribeStacksResult></DescribeStacksResponse>"""


@pytest.mark.parametrize("default", [None, "ap-southeast-1"])
def test_a_stack_is_found_by_its_name_in_aws_region_like_by_the_aws_cli(
    server: Server, monkeypatch: pytest.MonkeyPatch, default: str | None
) -> None:
    # botocore knows AWS_DEFAULT_REGION only; with that alone the stack of another region might be meant.
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    if default is not None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", default)
    url = f"http://127.0.0.1:{server.port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    there = reply(200, OUTPUTS.format(url=url).encode())
    server.say(there, found(connections=[], next=None), there)
    assert main(["--stack-name", "connect", "status"]) == 0
    client, table = target.tables(stack_name="connect", local=False)
    assert (client.meta.region_name, table) == ("eu-west-1", "connections")
    services = ["cloudformation", "execute-api", "cloudformation"]
    for asked, service in zip(server.asked, services, strict=True):
        assert f"/eu-west-1/{service}/" in asked.headers["authorization"]


def test_a_missing_region_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert main(["--stack-name", "connect", "status"]) == 6
    assert "set AWS_REGION" in capsys.readouterr().err


# ---- importing --------------------------------------------------------------------------------------------


def csv_of(tmp_path: Path, *rows: str, head: str = "connection_id,refresh_token") -> Path:
    path = tmp_path / "old.csv"
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8-sig")
    return path


def report_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(f"{path}.report.jsonl").read_text().splitlines()]


def test_an_import_goes_on_where_it_ended_and_writes_no_token_down(
    stack: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv_of(tmp_path, *(f"N{number},{REFRESH_TOKEN}-{number}" for number in range(1, 6)))
    stack.say(
        found(**connection("N1")),
        refused(409, "import_refused", reason="rejected"),
        refused(409, "already_connected"),
        reply(202, json.dumps(connection("N4", "importing")).encode()),
        refused(503, "store_unavailable"),
    )
    assert main(["import", str(path)]) == 1
    assert [(one["connection_id"], one["outcome"]) for one in report_of(path)] == [
        ("N1", "imported"),
        ("N2", "refused"),
        ("N3", "already_connected"),
        ("N4", "pending"),
        ("N5", "failed"),
    ]
    assert json.loads(stack.asked[0].body) == {"refresh_token": f"{REFRESH_TOKEN}-1"}

    stack.asked.clear()
    stack.say(found(**connection("N2")), found(**connection("N4")), found(**connection("N5")))
    assert main(["import", str(path)]) == 0
    # What was pending is looked at first: its token must not be sent about again.
    assert [(asked.method, asked.path) for asked in stack.asked] == [
        ("POST", "/connections/N2"),
        ("GET", "/connections/N4"),
        ("POST", "/connections/N5"),
    ]
    assert "2 done_before, 3 imported" in capsys.readouterr().out

    stack.asked.clear()
    assert main(["import", str(path)]) == 0
    assert stack.asked == []
    everything = Path(f"{path}.report.jsonl").read_text() + "".join(capsys.readouterr())
    assert "CANARY" not in everything
    assert Path(f"{path}.report.jsonl").stat().st_mode & 0o777 == 0o600


def test_every_outcome_is_on_disk_before_the_next_token_goes(stack: Server, tmp_path: Path) -> None:
    path = csv_of(tmp_path, "N1,a", "N2,b")
    lines: list[int] = []

    def answer(line: Line, asked: Asked) -> None:
        lines.append(len(report_of(path)) if Path(f"{path}.report.jsonl").exists() else 0)
        found(**connection("N1"))(line, asked)

    stack.say(answer)
    assert main(["import", str(path)]) == 0
    assert lines == [0, 1]


def test_a_report_that_broke_off_is_gone_on_with(stack: Server, tmp_path: Path) -> None:
    path = csv_of(tmp_path, "N1,a", "N2,b")
    Path(f"{path}.report.jsonl").write_text('{"connection_id": "N1", "outcome": "imported"}\n{"connection_id": "N')
    stack.say(found(**connection("N2")))
    assert main(["import", str(path)]) == 0
    assert [asked.path for asked in stack.asked] == ["/connections/N2"]
    assert csv_import_outcomes(path) == {"N1": "imported", "N2": "imported"}


def csv_import_outcomes(path: Path) -> dict[str, str]:
    whole = [line for line in Path(f"{path}.report.jsonl").read_text().splitlines() if line.endswith("}")]
    return {one["connection_id"]: one["outcome"] for one in map(json.loads, whole)}


def test_an_import_comes_from_standard_input_too(
    stack: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.say(found(**connection("N1")))
    monkeypatch.setattr("sys.stdin", io.StringIO("refresh_token,connection_id\nt,N1\n"))
    report = tmp_path / "report"
    assert main(["import", "-", "--report", str(report)]) == 0
    assert json.loads(report.read_text())["outcome"] == "imported"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["N1"], "Line 2"),
        (["N1,a", "N1,b"], "N1 is on line 2"),
        (["N1,a,CANARY"], "Line 2"),
        (["../N1,CANARY"], "Line 2"),
        (["N1,"], "Line 2"),
        (["N1,two CANARY"], "Line 2"),
        (['N1,"CANARY'], "is no CSV"),
    ],
)
def test_a_file_that_is_not_right_is_refused_before_anything_is_sent(
    stack: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[str], told: str
) -> None:
    assert main(["import", str(csv_of(tmp_path, *rows))]) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert "CANARY" not in said.err
    assert stack.asked == []


def test_other_columns_and_files_are_refused(stack: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(csv_of(tmp_path, "N1,t", head="id,token"))]) == 2
    assert main(["import", str(tmp_path / "nothing.csv")]) == 2
    path = csv_of(tmp_path, "N1,t")
    path.write_bytes(b"connection_id,refresh_token\nN1,\xff\n")
    assert main(["import", str(path)]) == 2
    path = csv_of(tmp_path, "N1,t")
    Path(f"{path}.report.jsonl").write_text("not\na report\n")
    assert main(["import", str(path)]) == 2
    assert stack.asked == []


def test_rows_do_not_show_their_tokens() -> None:
    (row,) = csv_import.read(["connection_id,refresh_token", f"N1,{REFRESH_TOKEN}"])
    assert REFRESH_TOKEN not in repr(row)
