"""The client and the terminal tool, packed and installed as an integrator would, against the deployed stack."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import botocore.session
import httpx
import pytest
import requests

from flowaccount_connect_client import (
    AccessDenied,
    ConnectionNotFound,
    FlowAccountAuth,
    FlowAccountConnect,
    InvalidArgument,
    Problem,
    ReauthorizationRequired,
    cache,
    httpx_auth,
    signing,
)
from flowaccount_connect_client.cli import target
from tests.e2e import callers
from tests.e2e.addresses import TERMINAL_PORT
from tests.e2e.conftest import Simulator
from tests.support import pages
from tools.local import service
from tools.local.places import ROOT, STACK_FILE
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor
from tools.simulator import people

COMPANY = """
import os, sys, requests
from flowaccount_connect_client import FlowAccountAuth
url = os.environ["FLOWACCOUNT_URL"] + "/test/company/info"
print(requests.get(url, auth=FlowAccountAuth(sys.argv[1]), timeout=30).text)
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("boto3", "flowaccount_connect")))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment with the wheel in it, and nothing of this repository's."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT / "clients" / "python", check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    subprocess.run(["uv", "venv", "-q", "--python", sys.executable, str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        ["uv", "pip", "install", "-q", "--python", str(python), "-c", str(ROOT / "requirements/dev.txt"),
         f"flowaccount-connect[cli,httpx,console] @ {wheel.as_uri()}"],
        check=True,
    )  # fmt: skip
    return python.parent


@pytest.fixture
def variables(up: Stack) -> dict[str, str]:
    """What a service's environment holds."""
    return {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "FLOWACCOUNT_CONNECT_URL": up.api_url,
        "FLOWACCOUNT_URL": str(up.simulator_url),
        "AWS_ACCESS_KEY_ID": up.access_key_id,
        "AWS_SECRET_ACCESS_KEY": up.secret_access_key,
        "AWS_DEFAULT_REGION": up.region,
    }


@pytest.fixture
def books(up: Stack, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """Reads the company's page through the client, in this process."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    cache.forget()
    signing.forget()
    auth = FlowAccountAuth("N1000001", client=FlowAccountConnect(patience=0))
    yield lambda: requests.get(f"{up.simulator_url}/test/company/info", auth=auth, timeout=30)
    cache.forget()
    signing.forget()


def test_the_installed_client_reads_a_companys_name_and_brings_no_server_with_it(
    installed: Path, connection: str, variables: dict[str, str]
) -> None:
    run = subprocess.run(
        [installed / "python", "-c", COMPANY, connection], env=variables, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    *company, modules = run.stdout.splitlines()
    assert json.loads("".join(company))["data"]["compnayName"] == people.business(connection).thai
    assert modules == "[]"


def test_a_401_of_flowaccounts_costs_one_refresh_and_the_request_succeeds(
    simulator: Simulator, connection: str, books: Callable[[], Any], set_item: Any
) -> None:
    set_item(connection, requested_at=int(time.time()) - 600)
    simulator.post("faults", [{"path": "company", "fault": "status", "status": 401, "processed": False}])
    answer = books()
    assert [answer.status_code, *(one.status_code for one in answer.history)] == [200, 401]
    assert len(simulator.posts("refresh_token")) == 1


def test_a_dead_connection_says_how_to_connect_again(
    up: Stack, simulator: Simulator, connection: str, books: Callable[[], Any], set_item: Any
) -> None:
    now = int(time.time())
    set_item(connection, requested_at=now - 90_000, access_expires_at=now - 10, refresh_at=now - 5, deadline=now - 5)
    simulator.fault("error", code="invalid_grant", status=400)
    with pytest.raises(ReauthorizationRequired) as caught:
        books()
    assert (caught.value.reason, caught.value.reconnect_url) == ("rejected", up.authorize_url)
    assert (caught.value.expected_connection, caught.value.tenant) == (connection, None)
    with pytest.raises(InvalidArgument, match="belongs to no tenant"):
        FlowAccountConnect().reconnect_link(caught.value, up.return_urls[0])
    assert abs((caught.value.since or 0) - now) < 60


def test_httpx_shares_the_token(up: Stack, connection: str, books: Callable[[], Any], simulator: Simulator) -> None:
    assert books().status_code == 200
    auth = httpx_auth.FlowAccountAuth(connection)
    answer = httpx.get(f"{up.simulator_url}/test/company/info", auth=auth, timeout=30)
    assert (answer.status_code, answer.json()["status"]) == (200, True)


def test_every_answer_of_the_api_is_read(up: Stack, connection: str, books: Callable[[], Any]) -> None:
    api = FlowAccountConnect(patience=0)
    shown = api.connection(connection)
    assert (shown.support_code, shown.status) == (connection, "active")
    assert shown in list(api.connections(status="active"))
    assert "connected" in [one.kind for one in api.history(connection)]
    with pytest.raises(ConnectionNotFound):
        list(api.history("N404404"))
    link = api.connect_link("tenant-7", return_url=up.return_urls[0], expected_connection=connection)
    assert link.connect_url.startswith(up.authorize_url)
    with pytest.raises(Problem) as caught:
        api.confirm("made.up", "tenant-7")
    assert caught.value.code == "unknown_confirmation"


def test_what_a_caller_may_not_see_or_what_is_not_there_has_its_own_error(up: Stack, books: Any) -> None:
    with pytest.raises(ConnectionNotFound):
        FlowAccountConnect(patience=0).access_token("N404404")
    nobody = botocore.session.Session()
    with callers.user(up) as key:
        nobody.set_credentials(*key)
        with pytest.raises(AccessDenied) as caught:
            FlowAccountConnect(session=nobody, patience=0).access_token("N1000001")
    assert caught.value.denial == "permission"


@pytest.fixture
def tool(up: Stack, installed: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the installed tool with `--local` and arguments, in a folder where the stack is the local one."""
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "stack.json").symlink_to(STACK_FILE)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed / "flowaccount-connect", "--local", *arguments],
            cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_the_terminal_tool_shows_the_local_stack(
    up: Stack, tool: Callable[..., subprocess.CompletedProcess[str]], connection: str
) -> None:
    shown = tool("show", connection, "--json")
    assert (shown.returncode, json.loads(shown.stdout)["status"]) == (0, "active"), shown.stderr
    token = service.call(up, "GET", f"/connections/{connection}/token").json()["access_token"]
    hidden = tool("token", connection)
    assert (hidden.returncode, token in hidden.stdout + hidden.stderr) == (0, False)
    assert tool("token", connection, "--reveal").stdout == f"{token}\n"
    assert tool("show", "N404404").returncode == 3


def test_the_terminal_tool_manages_connections(
    simulator: Simulator,
    tool: Callable[..., subprocess.CompletedProcess[str]],
    connection: str,
    tmp_path: Path,
) -> None:
    brought = "N1000002"
    assert tool("disconnect", brought, "--yes").returncode in (0, 3)
    (consent,) = simulator.post("consents", {"business": brought})["consents"]
    given = tmp_path / "older.csv"
    given.write_text(
        f"connection_id,refresh_token\n{brought},{consent['refresh_token']}\n{connection},whatever\nN7,of-nobody\n"
    )
    done = tool("import", str(given))
    assert done.stdout == "1 already_connected, 1 imported, 1 refused\n", done.stderr
    again = tool("import", str(given))
    assert again.stdout == "2 done_before, 1 refused\n", again.stderr
    report = tmp_path / "older.csv.report.jsonl"
    assert consent["refresh_token"] not in report.read_text() + done.stdout + done.stderr
    listed = json.loads(tool("status", "--json").stdout)
    assert {connection, brought} <= {one["support_code"] for one in listed if one["status"] == "active"}
    told = json.loads(tool("history", brought, "--json").stdout)
    assert "connected" in [one["kind"] for one in told]
    assert "refreshed" in tool("history", connection).stdout or "connected" in tool("history", connection).stdout
    assert tool("disconnect", brought).returncode == 2, "it asks"
    assert tool("disconnect", brought, "--yes").returncode == 0
    assert tool("token", brought).returncode == 3


def test_the_terminal_tool_connects_a_business_of_ones_own(
    up: Stack, simulator: Simulator, installed: Path, variables: dict[str, str], tool: Any
) -> None:
    own = "N1000003"
    assert tool("disconnect", own, "--yes").returncode in (0, 3)
    time.sleep(2)  # A disconnect ends all consents of its second, and of the one that follows.
    command: list[str | Path] = [installed / "flowaccount-connect", "--json", "connect", "me", "--wait", "60"]
    command += ["--port", str(TERMINAL_PORT)]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        link = running.stderr.readline().strip()
        arrived = HttpVisitor().connect(link, user="somchai", business=own)
        out, told = running.communicate(timeout=60)
    assert (arrived.status, running.returncode) == (200, 0), told
    connected = json.loads(out)
    assert (connected["support_code"], connected["tenant"], connected["status"]) == (own, "me", "active")
    assert "confirmation" not in arrived.html
    assert tool("disconnect", own, "--yes").returncode == 0
    assert tool("history", "N404404").returncode == 3


def test_the_terminal_tool_finds_a_stack_by_its_name(
    up: Stack, installed: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = variables | {"AWS_ENDPOINT_URL": up.aws_endpoint_url}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    # On AWS that is where the API is; here it is elsewhere.
    expected = f"https://{up.api_id}.execute-api.{up.region}.amazonaws.com/live"
    assert target.api(url=None, stack_name="flowaccount-connect", local=False).url == expected
    nothing = subprocess.run(
        [installed / "flowaccount-connect", "--stack-name", "nothing", "show", "N1"],
        env=given, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (nothing.returncode, "--url" in nothing.stderr) == (6, True)


@pytest.fixture
def support_staff(up: Stack, tmp_path: Path) -> Iterator[Path]:
    """A folder where the local stack is used with the role that docs/console.md gives to support staff."""
    (policy,) = pages.blocks("docs/console.md", "json")
    places = {"region": up.region, "account": "000000000000", "api": up.api_id, "table": up.table}
    for place, value in places.items():
        policy = policy.replace(f"{{{place}}}", value)
    known = json.loads(STACK_FILE.read_text("utf-8"))
    (tmp_path / ".local").mkdir()
    with callers.user(up, policy) as (key, secret):
        (tmp_path / ".local" / "stack.json").write_text(
            json.dumps(known | {"access_key_id": key, "secret_access_key": secret})
        )
        yield tmp_path


def test_support_staff_see_all_in_the_console_and_change_nothing(
    connection: str, installed: Path, support_staff: Path
) -> None:
    with subprocess.Popen(
        [installed / "flowaccount-connect", "console", "--local"],
        cwd=support_staff, env={"PATH": os.environ["PATH"]}, stdout=subprocess.PIPE, text=True,
    ) as console:  # fmt: skip
        try:
            assert console.stdout is not None
            url = console.stdout.readline().strip()
            every = requests.get(url, timeout=30).text
            one = requests.get(f"{url}connections/{connection}", timeout=30).text
            forced = requests.post(
                f"{url}connections/{connection}/disconnect", headers={"Origin": url.rsplit("/", 2)[0]}, timeout=30
            )
        finally:
            console.terminate()
    assert "Well" in every
    assert "Full speed" in every
    assert connection in every
    assert "Connected" in one
    assert "Make a link" not in one
    assert "Disconnect …" not in one
    assert forced.status_code == 403
