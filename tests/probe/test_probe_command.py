"""The command: its plan, its settings, what its user pastes, and what it leaves behind."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from rich.console import Console

from tests.probe.odd_server import CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, Oddities, OddServer, odd_server
from tests.simulator.driver import ROOT
from tools.probe import target
from tools.probe.consent import PersonAtBrowser, Stuck
from tools.probe.demonstration import PlayedConsents

LOGIN = "https://login.example/authorize"


def command(folder: Path, **variables: str) -> subprocess.Popen[str]:
    """The probe as a process, without a terminal."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT}/layers/connector", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "tools.probe"],
        cwd=folder,
        env=environment | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def against(server: OddServer, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The probe of a server, as an integrator would start it."""
    given = {
        "AUTHORIZE_ENDPOINT": server.target.authorize_endpoint,
        "TOKEN_ENDPOINT": server.target.token_endpoint,
        "CLIENT_ID": CLIENT_ID,
        "CLIENT_SECRET": CLIENT_SECRET,
        "REDIRECT_URI": REDIRECT_URI,
        "PACE": "0",
    }
    with command(folder, **given) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_demonstration_needs_nothing_and_says_that_it_is_one(tmp_path: Path) -> None:
    with command(tmp_path, SIMULATOR='{"replay": "family_revoking"}') as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "It takes 4 consents" in output
    assert "--parameter-overrides Environment=sandbox" in output
    assert "ReplayPolicy=never" in output
    found = json.loads((tmp_path / ".local/probe/probe.json").read_text())
    assert "demonstration" in found["note"]
    assert found["findings"]["replay_ends_consent"]["value"] == "yes"
    assert found["parameters"]["ReplayPolicy"]["value"] == "never"
    assert "A demonstration" in (tmp_path / ".local/probe/probe.txt").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_consents_are_pasted_and_an_interrupted_probe_reports_what_it_has(tmp_path: Path, number: int) -> None:
    """It is interrupted while it waits for the lease of a worker to pass: all consents have been given by then."""
    # Tests that run in the background may ignore it, and would hand that on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    output, cancel = "", False
    with odd_server(Oddities()) as server, against(server, tmp_path) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stdout is not None
        assert process.stdin is not None
        for line in process.stdout:
            output += line
            cancel = "CANCEL" in line if line.startswith("Open this") else cancel
            if line.startswith(server.target.authorize_endpoint):
                answer = requests.get(line.strip() + "&cancel=1" * cancel, allow_redirects=False, timeout=10)
                process.stdin.write(f"what do I do here?\n{answer.headers['Location']}\n")
                process.stdin.flush()
            if "pausing for 180 s" in line:
                process.send_signal(number)
        assert process.wait(30) == 130, output
    found = json.loads((tmp_path / ".local/probe/probe.json").read_text())
    values = {name: finding["value"] for name, finding in found["findings"].items()}
    assert (values["cancel"], values["pkce"], values["replay"]) == ("access_denied", "works", None)
    assert "Interrupted" in found["note"]
    codes = {CLIENT_SECRET, *server.codes, *server.owners}
    assert len(codes) > 6
    written = output + "".join(file.read_text() for file in (tmp_path / ".local/probe").iterdir())
    assert not [secret for secret in codes if secret in written]


SET = {"CLIENT_ID": "a", "REDIRECT_URI": "http://127.0.0.1:1/"}


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"CLIENT_ID": "a"}, "REDIRECT_URI"),
        (SET | {"REDIRECT_URI": "http://example.com/"}, "REDIRECT_URI must be an absolute https URL"),
        (SET, "CLIENT_SECRET is not set"),
        ({"TOKEN_ENDPOINT": "https://a.example/token"}, "AUTHORIZE_ENDPOINT is not set"),
        ({"PACE": "soon"}, "PACE must be a whole number"),
        ({"RATE_LIMIT": "yes"}, "RATE_LIMIT must be one of"),
        ({"SIMULATOR": "[]"}, "SIMULATOR must be a JSON object"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, variables: dict[str, str], says: str) -> None:
    with command(tmp_path, **variables) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert output.startswith("error: ")
    assert says in output


def test_the_sandbox_is_the_default_and_the_secret_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: " typed ")
    read = target.read(SET)
    assert read is not None
    assert (read.authorize_endpoint, read.token_endpoint, read.client_secret) == (*target.SANDBOX, "typed")
    assert "typed" not in repr(read)
    assert target.read({}) is None


OURS = "https://mine.example/back?code=1&state=s"


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize(
    "before",
    ["", "http://[", "what do I do here?", f"{LOGIN}?state=s", OURS.replace("=s", "=other"), OURS.partition("&")[0]],
)
def test_only_an_address_of_this_login_counts(before: str, cancelled: bool) -> None:
    landed = OURS.replace("code=1", "error=access_denied") if cancelled else OURS
    out, typed = io.StringIO(), io.StringIO(f"{before}\n{landed}\n" if before else f" {landed} \n")
    person = PersonAtBrowser(Console(file=out, width=200), typed)
    assert person.ask(f"{LOGIN}?state=s", why="a reason", cancel=cancelled) == landed
    assert ("Paste the address" in out.getvalue(), "CANCEL" in out.getvalue()) == (bool(before), cancelled)
    assert person.ask(f"{LOGIN}?state=s", why="the end of what is typed") is None


def test_only_enter_means_that_the_user_is_stuck() -> None:
    with pytest.raises(Stuck):
        PersonAtBrowser(Console(file=io.StringIO()), io.StringIO(f"\n{OURS}\n")).ask(f"{LOGIN}?state=s", why="")


def test_the_played_user_gives_up_where_nobody_answers() -> None:
    assert PlayedConsents().ask("http://127.0.0.1:9/", why="") is None
