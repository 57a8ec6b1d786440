"""The terminal tool: what people see, what it never shows, and an import that goes on where it ended."""

import contextlib
import csv
import errno
import io
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
from hypothesis import example, strategies
from hypothesis import given as given_any
from hypothesis import settings as hypothesis_settings

from flowaccount_connect_client import __version__, signing
from flowaccount_connect_client.cli import csv_import, loopback, tables, target
from flowaccount_connect_client.cli.main import _parser, main
from tests.unit.clients import found, given, origin, refused
from tests.unit.servers import Answer, Asked, Line, Server, drop, eventually, reply, unused_port

ROOT = Path(__file__).parents[2]
REFRESH_TOKEN = "refresh-token-CANARY"
ACCESS_TOKEN = "access-token-CANARY"


def connection(name: str, status: str = "active", deadline: int | None = None, **more: object) -> dict[str, object]:
    known = {"support_code": name, "environment": "sandbox", "status": status, "generation": 1, "deadline": deadline}
    return known | {"access_expires_at": None} | more


TOKEN = given(access_token=ACCESS_TOKEN, support_code="N1")


@pytest.fixture
def stack(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("FLOWACCOUNT_CONNECT_URL", origin(server))
    return server


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for what only time mends."""
    monkeypatch.setattr("flowaccount_connect_client.cli.target.PATIENCE", 0.0)


class Tool:
    """The tool, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def says(self, *arguments: str) -> str:
        """What a command that succeeds writes."""
        assert main([*arguments]) == 0
        return self._capsys.readouterr().out

    def fails(self, code: int, *arguments: str) -> str:
        """Why a command fails. It writes nothing else."""
        assert main([*arguments]) == code
        said = self._capsys.readouterr()
        assert said.out == ""
        return said.err


@pytest.fixture
def tool(capsys: pytest.CaptureFixture[str]) -> Tool:
    return Tool(capsys)


def commands() -> list[str]:
    """Each command of the tool that the documents show, with names in the place of what a reader fills in."""
    found = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "clients" / "python").glob("*.md")]:
        for command in re.findall(
            r"(?:^ *|`|\$ )(flowaccount-connect [a-z-][^`|\n]*)", path.read_text("utf-8"), re.MULTILINE
        ):
            plain = re.sub(r"<[^>]+>|\"?\$\{?\w+\}?\"?|…", "N1", command)
            found.append(plain.partition("  ")[0].partition(";")[0].partition(" #")[0].strip())
    return sorted(set(found))


def test_the_documents_show_commands_that_the_tool_has() -> None:
    shown = commands()
    assert len(shown) >= 5
    for one in shown:
        arguments = shlex.split(one)[1:]
        if len(arguments) == 1:
            # A command that is merely named.
            with pytest.raises(SystemExit) as ended:
                _parser().parse_args([*arguments, "--help"])
            assert ended.value.code == 0, one
        else:
            _parser().parse_args(arguments)


# ---- seeing -----------------------------------------------------------------------------------------------


def test_status_lists_every_page_soonest_deadline_first(stack: Server, tool: Tool) -> None:
    now = int(time.time())
    stack.say(
        found(connections=[connection("N3", deadline=now + 90_000), connection("N9")], next="a&b"),
        found(connections=[connection("N2", "in_doubt", now + 3_500, tenant="shop 7")], next=None),
    )
    lines = tool.says("status").splitlines()
    assert [line.split()[0] for line in lines] == ["connection", "N2", "N3", "N9"]
    assert "58 min" in lines[1]
    assert "shop 7" in lines[1]
    assert "24 h 59 min" in lines[2] or "25 h 00 min" in lines[2]
    assert [asked.path for asked in stack.asked] == ["/connections?limit=100", "/connections?limit=100&next=a%26b"]


def test_a_connection_at_risk_says_so_and_is_not_green(stack: Server, tool: Tool) -> None:
    assert tables.status("active", at_risk=True) == tables.Cell("active, at risk", "yellow")
    assert tables.status("active") == tables.Cell("active", "green")
    stack.say(found(connections=[connection("N1", at_risk_since=5), connection("N2")], next=None))
    assert ["at risk" in line for line in tool.says("status").splitlines()] == [False, True, False]
    stack.say(found(**connection("N1", at_risk_since=5)))
    assert "active, at risk" in tool.says("show", "N1")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_options_of_all_commands_stand_anywhere(
    stack: Server, tool: Tool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    monkeypatch.delenv("FLOWACCOUNT_CONNECT_URL")
    options = ["--json", "--url", origin(stack)]
    stack.say(found(**connection("N1")))
    command = ["show", "N1"]
    assert json.loads(tool.says(*command[:place], *options, *command[place:]))["support_code"] == "N1"
    with pytest.raises(SystemExit) as caught:
        main([*command[:place], "--version", *command[place:]])
    assert (caught.value.code, capsys.readouterr().out) == (0, f"flowaccount-connect {__version__}\n")


@pytest.mark.parametrize("command", [["disconnect", "N1", "--yes"], ["status"], ["history", "N1"], ["token", "N1"]])
def test_every_command_answers_programs_in_json(stack: Server, tool: Tool, command: list[str]) -> None:
    body = connection("N1", connections=[], entries=[], next=None)
    stack.say(TOKEN if "token" in command else reply(204) if "disconnect" in command else found(**body))
    json.loads(tool.says("--json", *command))


def test_json_is_for_programs(stack: Server, tool: Tool) -> None:
    stack.say(found(connections=[connection("N2", deadline=2), connection("N1", deadline=1)], next=None))
    listed = json.loads(tool.says("status", "--json", "--status", "active"))
    assert [one["support_code"] for one in listed] == ["N1", "N2"]
    assert stack.asked[0].path == "/connections?status=active&limit=100"


def test_nothing_that_others_wrote_commands_the_terminal(stack: Server, tool: Tool) -> None:
    evil = "\x1b]0;evil\x07\x1b[31m[red]\u202e\r\nN9 active"
    stack.say(found(connections=[connection("N1", tenant=evil)], next=None))
    out = tool.says("status")
    assert not any(bad in out for bad in "\x1b\x07\u202e\r")
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize("trouble", [OSError(22, "Invalid argument"), OverflowError(), ValueError()])
def test_a_time_that_no_calendar_reaches_is_shown_as_it_is(stack: Server, tool: Tool, trouble: Exception) -> None:
    stack.say(found(**connection("N1", connected_at=-(2**52))))
    # As on Windows, where years before 1970 are none.
    with mock.patch.object(time, "localtime", side_effect=trouble):
        assert str(-(2**52)) in tool.says("show", "N1")


def test_show_and_history(stack: Server, tool: Tool) -> None:
    stack.say(found(**connection("N1", deadline=1_800_000_000)))
    assert "2027-01-1" in tool.says("show", "N1")
    entry = {"id": "e", "at": 1_800_000_000, "kind": "refreshed", "status": "active", "generation": 4}
    entries = [entry | {"attempt_id": "ab", "reason": None}]
    stack.say(found(entries=entries, next=None))
    assert "refreshed" in tool.says("history", "N1")
    (told,) = json.loads(tool.says("history", "N1", "--json"))
    assert told.items() >= entries[0].items()
    assert stack.asked[-1].path == "/connections/N1/history"


@pytest.mark.parametrize(("options", "shown"), [([], False), (["--json"], False), (["--reveal", "--json"], True)])
def test_a_token_is_hidden_unless_asked_for(stack: Server, tool: Tool, options: list[str], shown: bool) -> None:
    stack.say(TOKEN)
    out = tool.says("token", "N1", "--min-ttl", "10", *options)
    assert (ACCESS_TOKEN in out) is shown
    assert "active" in out
    assert stack.asked[0].path == "/connections/N1/token?min_ttl=10"


def test_a_revealed_token_is_all_that_is_printed(stack: Server, capsys: pytest.CaptureFixture[str]) -> None:
    stack.say(TOKEN)
    assert main(["token", "N1", "--reveal"]) == 0
    assert capsys.readouterr() == (f"{ACCESS_TOKEN}\n", "")


def environment(stack: Server, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}/clients/python",
        "FLOWACCOUNT_CONNECT_URL": origin(stack),
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


THAI = "ร้านกาแฟสุขใจ"


@pytest.mark.parametrize("command", [["status"], ["--json", "status"]])
@pytest.mark.parametrize("encoding", ["cp1252", "cp874", "ascii", "utf-8", "utf-16"])
def test_a_thai_name_is_shown_on_any_console(stack: Server, encoding: str, command: list[str]) -> None:
    one = connection("N1", tenant=THAI)
    stack.say(found(**one, connections=[one], next=None))
    variables = environment(stack, PYTHONIOENCODING=encoding)
    run = subprocess.run([*COMMAND, *command], env=variables, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    out = run.stdout.decode(encoding)
    assert "N1" in out
    if "--json" in command:
        assert json.loads(out)[0]["tenant"] == THAI
    elif encoding in ("cp874", "utf-8", "utf-16"):
        assert THAI in out


def test_who_reads_only_the_beginning_is_no_error(stack: Server) -> None:
    stack.say(found(connections=[connection(f"N{number}", tenant="x" * 99) for number in range(2_000)], next=None))
    variables = environment(stack)
    with subprocess.Popen(["head", "-n", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as head:
        run = subprocess.run(
            [*COMMAND, "status"], env=variables, stdout=head.stdin, stderr=subprocess.PIPE, check=False
        )
        out, _ = head.communicate()
    assert (run.returncode, run.stderr, out.split()[:1]) == (0, b"", [b"connection"])


def test_on_windows_who_reads_only_the_beginning_is_no_error_either(
    stack: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # There a pipe that nobody reads any more is an invalid argument.
    stack.say(found(connections=[connection("N1")], next=None))
    with (tmp_path / "out").open("w") as out:
        closed = mock.Mock(wraps=out, write=mock.Mock(side_effect=OSError(errno.EINVAL, "Invalid argument")))
        monkeypatch.setattr("sys.stdout", closed)
        assert main(["status"]) == 0


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("no_color", ["", "1"])
def test_nothing_is_cut_or_broken_at_any_width(stack: Server, columns: int, no_color: str) -> None:
    rows = [connection("N1234567", "reauthorization_required", tenant=THAI, reason="wrong_connection")]
    stack.say(found(connections=rows, next=None))
    variables = environment(stack, COLUMNS=str(columns), NO_COLOR=no_color)
    code, seen = on_a_terminal(["status"], variables)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in seen.splitlines()]
    assert code == 0
    assert all(tables._width(line) <= columns for line in lines)
    for whole in ("N1234567", "reauthorization_required", THAI, "wrong_connection"):
        assert any(whole in line for line in lines), lines
    assert (len(lines) == 2) is (columns == 200)


def test_columns_stand_in_line_whatever_signs_are_in_them() -> None:
    out = io.StringIO()
    # By how many signs a text is longer or shorter than the four columns that all of them are given.
    more = {"a": 0, "กี่": 2, "日本": -2, "é": 0}
    tables.show(["name", "next"], [[tables.cell(name), tables.cell("|")] for name in more], out)
    lines = out.getvalue().splitlines()[1:]
    assert [line.index("|") for line in lines] == [len("name  ") + by for by in more.values()]


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


@pytest.mark.parametrize(("typed", "code", "asked"), [(b"y\n", 0, 1), (b"n\n", 1, 0), (b"\n", 1, 0), (b"\x04", 1, 0)])
def test_disconnect_asks_first(stack: Server, typed: bytes, code: int, asked: int) -> None:
    stack.say(reply(204))
    ended, seen = on_a_terminal(["disconnect", "N1"], environment(stack), typed)
    assert (ended, len(stack.asked)) == (code, asked)
    assert "Disconnect N1?" in seen
    assert "Traceback" not in seen


def test_where_nobody_can_be_asked_it_takes_a_yes(stack: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.say(reply(204))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert main(["disconnect", "N1"]) == 2
    assert stack.asked == []
    assert main(["disconnect", "N1", "--yes"]) == 0
    assert (stack.asked[0].method, stack.asked[0].path) == ("DELETE", "/connections/N1")


# ---- connecting -------------------------------------------------------------------------------------------


LINK = "https://api.example/authorize?link=x"


def link(expires_in: float = 99) -> Answer:
    made = {"connect_url": LINK, "expires_at": int(time.time() + expires_in)}
    return reply(201, json.dumps(made).encode())


@contextlib.contextmanager
def connecting(*arguments: str, port: int = 0) -> Iterator[Future[int]]:
    """The tool, while it waits for the browser; its exit code."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(main, [*arguments, "--wait", "30", "--port", str(port or unused_port())])


def come_back(stack: Server, **brought: str) -> requests.Response:
    """Be the browser that comes back to where the link leads."""
    assert eventually(lambda: any(asked.path == "/connect-links" for asked in stack.asked))
    wanted = json.loads(next(asked.body for asked in stack.asked if asked.path == "/connect-links"))
    query = {"state": wanted["state"]} | brought
    return requests.get(wanted["return_url"], params=query, timeout=10)


def test_connect_waits_on_a_return_url_of_its_own_and_confirms(
    stack: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    port = unused_port()
    stack.say(link(), found(**connection("N7")))
    with connecting("connect", "shop 7", "--expected", "N7", port=port) as running:
        page = come_back(stack, confirmation="c.CANARY")
        assert running.result(20) == 0
    assert page.status_code == 200
    assert "CANARY" not in page.text
    assert page.headers["Cache-Control"] == "no-store"
    said = capsys.readouterr()
    assert said.out == f"{LINK}\n"
    assert "N7 is connected" in said.err
    assert "CANARY" not in said.err
    wanted = json.loads(stack.asked[0].body)
    assert len(wanted.pop("state")) >= 32
    assert wanted == {
        "tenant": "shop 7",
        "return_url": f"http://127.0.0.1:{port}/flowaccount-connected",
        "expected_connection": "N7",
    }
    confirmed = stack.asked[1]
    assert (confirmed.path, json.loads(confirmed.body)) == (
        "/connect-links/confirm",
        {"confirmation": "c.CANARY", "tenant": "shop 7"},
    )


def test_reconnect_asks_for_the_tenant_of_the_connection_and_for_that_business(stack: Server) -> None:
    stack.say(found(**connection("N7") | {"tenant": "shop 7"}), link(), found(**connection("N7")))
    with connecting("reconnect", "N7") as running:
        come_back(stack, confirmation="c")
        assert running.result(20) == 0
    looked, made, confirmed = stack.asked
    assert (looked.method, looked.path) == ("GET", "/connections/N7")
    wanted = json.loads(made.body)
    assert (wanted["tenant"], wanted["expected_connection"]) == ("shop 7", "N7")
    assert json.loads(confirmed.body) == {"confirmation": "c", "tenant": "shop 7"}


def test_reconnect_says_what_to_do_where_nobody_has_the_connection(stack: Server, tool: Tool) -> None:
    stack.say(found(**connection("N7") | {"tenant": None}))
    assert "connect TENANT --expected N7" in tool.fails(2, "reconnect", "N7")
    assert len(stack.asked) == 1


def test_connect_takes_nothing_from_another_page(stack: Server) -> None:
    stack.say(link(), found(**connection("N7")))
    with connecting("connect", "me") as running:
        assert come_back(stack, state="of-somebody-else", confirmation="c").status_code == 404
        url = json.loads(stack.asked[0].body)["return_url"]
        state = json.loads(stack.asked[0].body)["state"]
        elsewhere = requests.get(url.replace(loopback.PATH, "/"), params={"state": state}, timeout=10)
        rebound = requests.get(url, params={"state": state}, headers={"Host": "evil.example"}, timeout=10)
        assert (elsewhere.status_code, rebound.status_code, len(stack.asked)) == (404, 404, 1)
        come_back(stack, confirmation="c")
        assert running.result(20) == 0


@pytest.mark.parametrize(
    ("brought", "confirmed", "why"),
    [
        ({"error": "access_denied"}, [], "access_denied"),
        ({}, [refused(409, "connect_failed", ending="wrong_business")], "wrong_business"),
    ],
)
def test_connect_says_why_nothing_is_connected(
    stack: Server, capsys: pytest.CaptureFixture[str], brought: dict[str, str], confirmed: list[Answer], why: str
) -> None:
    stack.say(link(), *confirmed)
    with connecting("connect", "me") as running:
        come_back(stack, confirmation="c", **brought)
        assert running.result(20) == 1
    assert why in capsys.readouterr().err


def test_connect_waits_as_long_as_the_link_lives(stack: Server, capsys: pytest.CaptureFixture[str]) -> None:
    stack.say(link(expires_in=-1))
    with connecting("connect", "me") as running:
        assert running.result(20) == 1
    assert "in time" in capsys.readouterr().err


def test_connect_says_which_return_url_the_stack_has_to_allow(stack: Server, tool: Tool) -> None:
    stack.say(refused(400, "return_url_not_allowed"))
    said = tool.fails(6, "connect", "me")
    assert "http://127.0.0.1:8767/flowaccount-connected" in said
    assert "AllowedReturnUrls" in said


def test_connect_says_that_its_port_is_taken(server: Server, stack: Server, tool: Tool) -> None:
    assert "--port" in tool.fails(2, "connect", "me", "--port", str(server.port))
    assert stack.asked == []


# ---- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code", "told"),
    [
        (refused(404, "connection_not_found"), 3, "connection_not_found"),
        (refused(409, "reauthorization_required", reconnect_url="https://a/b"), 4, "https://a/b"),
        (
            refused(409, "reauthorization_required", reconnect={"tenant": "shop 7", "expected_connection": "N1"}),
            4,
            "To connect it again: flowaccount-connect reconnect N1",
        ),
        (refused(503, "store_unavailable"), 5, "Try again in 5 s"),
        (drop, 5, "cannot be reached"),
        (refused(403, "permission_denied"), 6, "execute-api:Invoke"),
        (refused(400, "invalid_next"), 1, "invalid_next"),
        (reply(200, b"<html>"), 1, "check the URL"),
    ],
)
def test_exit_codes_and_words(stack: Server, tool: Tool, answer: Answer, code: int, told: str) -> None:
    stack.say(answer)
    assert told in tool.fails(code, "token", "N1")


def test_what_is_missing_is_named(tool: Tool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLOWACCOUNT_CONNECT_URL", raising=False)
    assert "FLOWACCOUNT_CONNECT_URL" in tool.fails(6, "status")
    monkeypatch.chdir(tmp_path)
    assert "make up" in tool.fails(6, "--local", "status")
    for arguments in (
        ["token", "../N1"],
        ["token", "N1", "--min-ttl", "3601"],
        ["--local", "--url", "x", "status"],
        [],
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


@pytest.fixture
def local(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of a local stack, in a folder above."""
    below = tmp_path / "some" / "where"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    stack = {
        "api_url": f"{origin(server)}/api",
        "aws_endpoint_url": origin(server),
        "region": "eu-west-1",
        "access_key_id": "LOCAL",
        "secret_access_key": "secret-CANARY",
        "functions": {"notify": "connect-notify"},
    }
    file = tmp_path / ".local" / "stack.json"
    file.parent.mkdir()
    file.write_text(json.dumps(stack))
    return file


def test_the_local_stack_is_found_from_a_folder_below(
    server: Server, local: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.say(found(connections=[], next=None))
    assert main(["--local", "status"]) == 0
    assert "Credential=LOCAL/" in server.asked[0].headers["authorization"]
    assert "/eu-west-1/execute-api/" in server.asked[0].headers["authorization"]
    local.write_text("{")
    assert main(["--local", "status"]) == 6
    assert "CANARY" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("receivers", "code", "words"),
    [
        ([{"receiver": "webhook:a.example:1", "taken": True, "status": 204, "error": ""}], 0, "204"),
        ([{"receiver": "webhook:a.example:1", "taken": False, "status": None, "error": "timeout"}], 1, "timeout"),
        ([], 6, "WebhookUrl"),
    ],
)
def test_a_webhook_is_sent_by_the_function_and_its_answer_shown(
    server: Server,
    local: Path,
    capsys: pytest.CaptureFixture[str],
    receivers: list[dict[str, object]],
    code: int,
    words: str,
) -> None:
    server.say(found(receivers=receivers))
    assert main(["--local", "webhook", "test"]) == code
    assert words in "".join(capsys.readouterr())
    assert server.asked[0].path == "/2015-03-31/functions/connect-notify/invocations?Qualifier=live"
    assert json.loads(server.asked[0].body) == {"test": "webhooks"}
    local.write_text(json.dumps(json.loads(local.read_text()) | {"functions": {}}))
    assert main(["--local", "webhook", "test"]) == 6


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
    url = origin(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    there = reply(200, OUTPUTS.format(url=url).encode())
    server.say(there, found(connections=[], next=None), there)
    assert main(["--stack-name", "connect", "status"]) == 0
    client, table = target.tables(stack_name="connect", local=False)
    assert (client.meta.region_name, table) == ("eu-west-1", "connections")
    services = ["cloudformation", "execute-api", "cloudformation"]
    for asked, service in zip(server.asked, services, strict=True):
        assert f"/eu-west-1/{service}/" in asked.headers["authorization"]


def test_a_missing_region_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tool: Tool) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert "set AWS_REGION" in tool.fails(6, "--stack-name", "connect", "status")


values = strategies.text(strategies.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
SETTINGS = strategies.dictionaries(
    strategies.sampled_from(
        (
            *("AWS_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"),
            *("AWS_USE_FIPS_ENDPOINT", "AWS_STS_REGIONAL_ENDPOINTS", "HTTPS_PROXY", "NO_PROXY", "COLUMNS", "TERM"),
        )
    ),
    values | strategies.sampled_from(["foo", "http://[::1", "https://127.0.0.1:1", "-1", "true", "/none"]),
)


@given_any(settings=SETTINGS, command=strategies.sampled_from(["status", "doctor"]))
@hypothesis_settings(max_examples=60, deadline=None)
def test_no_environment_makes_a_traceback(settings: dict[str, str], command: str) -> None:
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    signing.forget()
    with mock.patch.dict(os.environ, nowhere | settings):
        assert main(["--stack", "connect", command]) in (2, 6)
    signing.forget()


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
        refused(409, "import_refused", reason="wrong_connection"),
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
    assert report_of(path)[1]["reason"] == "import_refused (wrong_connection)"
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
    assert {one["connection_id"]: one["outcome"] for one in report_of(path)} == {"N1": "imported", "N2": "imported"}
    # And so it is the next time.
    assert main(["import", str(path)]) == 0
    assert len(stack.asked) == 1


def test_an_import_comes_from_standard_input_too(
    stack: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.say(found(**connection("N1")))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfrefresh_token,connection_id\nt,N1\n")))
    report = tmp_path / "report"
    assert main(["import", "-", "--report", str(report)]) == 0
    assert json.loads(report.read_text())["outcome"] == "imported"


names = strategies.text(strategies.sampled_from("กขฃคงจ ่้๊ำabcXYZ019.-_"), min_size=1, max_size=12)
ids = strategies.text(strategies.sampled_from("N0123456789"), min_size=1, max_size=9)
tokens = strategies.text(strategies.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)


@given_any(
    rows=strategies.lists(strategies.tuples(ids, tokens, names | strategies.just("")), unique_by=lambda row: row[0]),
    encoding=strategies.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp874"]),
    delimiter=strategies.sampled_from(",;\t"),
    newline=strategies.sampled_from(["\n", "\r\n"]),
    sep=strategies.booleans(),
    columns=strategies.permutations(["connection_id", "refresh_token", "tenant"]),
)
@example([("N1", "t", "อบ")], "cp874", ",", "\n", False, ["connection_id", "refresh_token", "tenant"])
def test_a_csv_is_read_as_spreadsheets_write_it(
    rows: list[tuple[str, str, str]], encoding: str, delimiter: str, newline: str, sep: bool, columns: list[str]
) -> None:
    out = io.StringIO()
    if sep:
        out.write(f"sep={delimiter}{newline}")
    writer = csv.DictWriter(out, columns, delimiter=delimiter, lineterminator=newline)
    writer.writeheader()
    for row in rows:
        writer.writerow(dict(zip(["connection_id", "refresh_token", "tenant"], row, strict=True)))
    content = out.getvalue().encode(encoding)
    if encoding == "cp874" and not content.isascii():
        with contextlib.suppress(UnicodeDecodeError):
            content.decode()
            with pytest.raises(csv_import.InvalidFile, match="not certain"):
                csv_import.read(content)
            return
    read = csv_import.read(content)
    expected = [(id_, token, tenant.strip() or None) for id_, token, tenant in rows]
    assert [(row.connection_id, row.refresh_token, row.tenant) for row in read] == expected
    assert [row.line for row in read] == list(range(2 + sep, 2 + sep + len(rows)))


@given_any(strategies.binary(max_size=200))
def test_no_file_makes_another_error_than_its_own(content: bytes) -> None:
    with contextlib.suppress(csv_import.InvalidFile):
        csv_import.read(content)
    with contextlib.suppress(csv_import.InvalidFile):
        csv_import.read(b"connection_id,refresh_token\n" + content)


def test_a_tenant_column_goes_with_the_token(stack: Server, tmp_path: Path) -> None:
    path = csv_of(tmp_path, f"N1,t,{THAI}", "N2,t,", head="connection_id,refresh_token,tenant")
    stack.say(found(**connection("N1")))
    assert main(["import", str(path)]) == 0
    assert [json.loads(one.body).get("tenant") for one in stack.asked] == [THAI, None]


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
    stack: Server, tmp_path: Path, tool: Tool, rows: list[str], told: str
) -> None:
    said = tool.fails(2, "import", str(csv_of(tmp_path, *rows)))
    assert told in said
    assert "CANARY" not in said
    assert stack.asked == []


def test_other_columns_and_files_are_refused(stack: Server, tmp_path: Path) -> None:
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
    (row,) = csv_import.read(f"connection_id,refresh_token\nN1,{REFRESH_TOKEN}".encode())
    assert REFRESH_TOKEN not in repr(row)
