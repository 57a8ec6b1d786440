"""The command: its plan, its settings, the browser's way back, and what it leaves behind."""

import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from rich.console import Console

from flowaccount_connect.runtime.settings import InvalidSetting
from tests.probe.odd_server import CLIENT_ID, CLIENT_SECRET, Oddities, OddServer, odd_server
from tests.probe.runs import Runs
from tests.simulator.driver import ROOT
from tools.local import ports
from tools.probe import target
from tools.probe.consent import BrowserConsents, Stuck
from tools.probe.demonstration import PlayedConsents

LOGIN = "https://login.example/authorize"


def command(folder: Path, **variables: str) -> subprocess.Popen[str]:
    """The probe as a process, without a terminal."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": "layers/connector",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "100",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tools.probe", "--report", str(folder)],
        cwd=ROOT,
        env=environment | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def against(server: OddServer, folder: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The probe of a server, as an integrator would start it."""
    given = {
        "AUTHORIZE_ENDPOINT": server.target.authorize_endpoint,
        "TOKEN_ENDPOINT": server.target.token_endpoint,
        "BUSINESS_API": server.target.business_api or "",
        "CLIENT_ID": CLIENT_ID,
        "CLIENT_SECRET": CLIENT_SECRET,
        "REDIRECT_URI": f"http://127.0.0.1:{ports.choose()}/back",
        "PACE": "0",
    }
    with command(folder, **given | variables) as process:
        try:
            yield process
        finally:
            process.kill()


def consent(line: str, cancel: bool) -> None:
    """Do at the browser what the terminal asks for."""
    requests.get(line.strip() + ("&cancel=1" if cancel else ""), timeout=10)


def test_a_demonstration_needs_nothing_and_says_that_it_is_one(tmp_path: Path) -> None:
    with command(tmp_path, SIMULATOR='{"replay": "family_revoking"}') as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "It takes 6 consents" in output
    assert "--parameter-overrides Environment=sandbox" in output
    assert "ReplayPolicy=never" in output
    found = json.loads((tmp_path / "probe.json").read_text())
    assert "demonstration" in found["note"]
    assert found["findings"]["replay_family"]["value"] == "killed"
    assert "A demonstration" in (tmp_path / "probe.md").read_text()


def test_the_whole_of_it_against_a_server_with_the_browser_coming_back_to_the_listener(tmp_path: Path) -> None:
    output, cancel = "", False
    with odd_server(Oddities()) as server, against(server, tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output += line
            cancel = "CANCEL" in line if line.startswith("Open this") else cancel
            if line.startswith(server.target.authorize_endpoint):
                consent(line, cancel)
        assert process.wait(30) == 0, output
    found = json.loads((tmp_path / "probe.json").read_text())
    values = {name: finding["value"] for name, finding in found["findings"].items()}
    assert (values["cancel"], values["pkce"], values["replay"]) == ("access_denied", "enforced", "refused")
    assert CLIENT_SECRET not in output
    codes = set(server.codes) | set(server.owners) | {one for consent in server.consents() for one in consent.access}
    written = output + (tmp_path / "probe.json").read_text() + (tmp_path / "probe.md").read_text()
    assert len(codes) > 10
    assert not [secret for secret in codes if secret in written]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_one_reports_what_it_has(tmp_path: Path, number: signal.Signals) -> None:
    # Tests that run in the background may ignore these, and would hand that on.
    before = signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    with odd_server(Oddities()) as server, against(server, tmp_path) as process:
        signal.signal(number, before)
        assert process.stdout is not None
        asked = (line for line in process.stdout if line.startswith(server.target.authorize_endpoint))
        assert next(asked)
        process.send_signal(number)
        process.communicate(timeout=30)
        assert process.returncode == 130
    found = json.loads((tmp_path / "probe.json").read_text())
    assert "Interrupted" in found["note"]
    assert found["findings"]["invalid_grant"]["known"]
    assert not found["findings"]["replay"]["known"]


def test_what_was_found_out_is_on_the_disk_before_the_end(tmp_path: Path) -> None:
    with odd_server(Oddities()) as server, against(server, tmp_path) as process:
        assert process.stdout is not None
        asked = (line for line in process.stdout if line.startswith(server.target.authorize_endpoint))
        consent(next(asked), cancel=False)
        assert next(asked)
        process.kill()
        process.communicate(timeout=30)
    found = json.loads((tmp_path / "probe.json").read_text())
    assert "Not at its end" in found["note"]
    assert found["findings"]["rotation"]["value"] == "new_token"


def test_a_folder_that_cannot_be_written_to_is_told_before_any_consent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with odd_server(Oddities()) as server, against(server, tmp_path / "file" / "folder") as process:
        output, _ = process.communicate(timeout=30)
        assert (process.returncode, server.codes) == (2, {})
    assert "--report" in output
    assert "Your turn" not in output


def test_a_folder_that_is_lost_on_the_way_still_leaves_what_is_shown(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    with odd_server(Oddities()) as server, against(server, folder, CONSENT_PATIENCE="1") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(server.target.authorize_endpoint):
                break
        shutil.rmtree(folder)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    assert "What was found out" in output
    assert "could not be written" in output


def test_the_plan_alone_asks_nothing(tmp_path: Path) -> None:
    with odd_server(Oddities()) as server, against(server, tmp_path, PLAN="1", LIFETIMES="1") as process:
        output, _ = process.communicate(timeout=30)
        assert (process.returncode, server.codes) == (0, {})
    assert "It takes 8 consents" in output
    assert "a day and a half" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"CLIENT_ID": "a"}, "REDIRECT_URI"),
        ({"CLIENT_ID": "a", "REDIRECT_URI": "http://example.com/"}, "REDIRECT_URI must be an absolute https URL"),
        ({"CLIENT_ID": "a", "REDIRECT_URI": "http://127.0.0.1:1/"}, "CLIENT_SECRET is not set"),
        (
            {"CLIENT_ID": "a", "REDIRECT_URI": "https://example.com/", "CLIENT_SECRET": "s"},
            "run the probe on a terminal",
        ),
        ({"TOKEN_ENDPOINT": "https://a.example/token"}, "AUTHORIZE_ENDPOINT and CLIENT_ID and REDIRECT_URI"),
        ({"PATIENCE": "soon"}, "PATIENCE must be a whole number"),
        ({"SIMULATOR": "[]"}, "SIMULATOR must be a JSON object"),
    ],
)
def test_a_wrong_setting_is_told_by_its_name(tmp_path: Path, variables: dict[str, str], says: str) -> None:
    with command(tmp_path, **variables) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert output.startswith("error: ")
    assert says in output


def test_the_sandbox_is_the_default_and_the_secret_is_asked_for() -> None:
    asked: list[str] = []

    def type_it(prompt: str) -> str:
        asked.append(prompt)
        return " typed "

    read = target.read({"CLIENT_ID": "a", "REDIRECT_URI": "http://127.0.0.1:1/back"}, type_it)
    assert read is not None
    assert (read.authorize_endpoint, read.token_endpoint) == target.SANDBOX
    assert (read.business_api, read.client_secret) == ("https://openapi.flowaccount.com/test", "typed")
    assert len(asked) == 1
    assert "typed" not in repr(read)
    assert target.read({}) is None


def consents(redirect_uri: str, typed: io.TextIOBase | None = None, patience: float = 5) -> BrowserConsents:
    """A browser's way back, with what a user types."""
    silent: Any = typed
    return BrowserConsents(redirect_uri, Console(file=io.StringIO()), patience=patience, typed=silent)


def waiting_for(person: BrowserConsents, state: str) -> None:
    """Go on once the user has been asked for that consent."""
    while state not in person._states:
        time.sleep(0.005)


def test_a_browser_of_an_earlier_consent_and_other_paths_are_passed_over() -> None:
    back = f"http://127.0.0.1:{ports.choose()}/back"
    person = consents(back, patience=0.01)
    with person.ready():
        assert person.ask(f"{LOGIN}?state=first", why="") is None
        person._patience = 5
        asked: list[str | None] = []
        thread = threading.Thread(target=lambda: asked.append(person.ask(f"{LOGIN}?state=second", why="")))
        thread.start()
        waiting_for(person, "second")
        assert requests.get(back.replace("/back", "/favicon.ico"), timeout=5).status_code == 404
        requests.get(f"{back}?state=first&code=late", timeout=5)
        requests.get(f"{back}?state=second&code=right", timeout=5)
        thread.join()
    assert asked == [f"{back}?state=second&code=right"]


@contextmanager
def asking(person: BrowserConsents, landed: list[object]) -> Iterator[None]:
    """A consent with the state `s` that is asked for during the block; what came of it is in `landed` then."""

    def ask() -> None:
        try:
            landed.append(person.ask(f"{LOGIN}?state=s", why=""))
        except Stuck:
            landed.append(Stuck)

    with person.ready():
        thread = threading.Thread(target=ask)
        thread.start()
        waiting_for(person, "s")
        yield
        thread.join()


def pasted(text: str, redirect_uri: str = "https://mine.example/back") -> list[object]:
    """What comes of a consent whose user types this."""
    landed: list[object] = []
    read_end, write_end = os.pipe()
    with (
        os.fdopen(read_end) as reading,
        os.fdopen(write_end, "w") as writing,
        asking(consents(redirect_uri, reading), landed),
    ):
        writing.write(text)
        writing.flush()
    return landed


OURS = "https://mine.example/back?code=1&state=s"


@pytest.mark.parametrize(
    ("typed", "landed"),
    [
        (f"http://[\n{OURS}\n", OURS),
        (f"what do I do here?\n{OURS}\n", OURS),
        (f"https://mine.example/back?state=s\n{OURS}\n", OURS),
        (f"{LOGIN}?response_type=code&state=s&code=2\n{OURS}\n", OURS),
        (f"https://mine.example/back?code=2&state=other\n{OURS}\n", OURS),
        (f"https://mine.example/back?code=2\n{OURS}\n", OURS),
        (f"{OURS.replace('mine.example', 'MINE.example:443')}\n", OURS.replace("mine.example", "MINE.example:443")),
        ("https://mine.example/back?code=2&state=other\n\n", "https://mine.example/back?code=2&state=other"),
        ("\n", Stuck),
    ],
)
def test_an_address_is_pasted_where_nobody_can_listen(typed: str, landed: object) -> None:
    """Only one of this login counts; another `state` is returned if nothing better comes, and Enter means stuck."""
    assert pasted(typed) == [landed]


def test_a_taken_port_is_told_and_on_a_terminal_the_address_is_pasted_instead() -> None:
    with odd_server(Oddities()) as server:
        back = f"{server.url}/back"
        with pytest.raises(InvalidSetting, match="cannot listen"), consents(back).ready():
            pass
        assert pasted(f"{back}?code=1&state=s\n", back) == [f"{back}?code=1&state=s"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_it_listens_at_every_name_of_this_machine(host: str) -> None:
    back = f"http://{host}:{ports.choose()}/back"
    landed: list[object] = []
    with asking(consents(back), landed):
        requests.get(f"{back}?code=1&state=s", timeout=5)
    assert landed == [f"{back}?code=1&state=s"]


def test_odd_requests_at_the_listener_are_passed_over_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    port = ports.choose()
    back = f"http://127.0.0.1:{port}/back"
    landed: list[object] = []
    with asking(consents(back), landed):
        for line in (
            b"GET http://[ HTTP/1.1",
            b"GET //[/back?code=1 HTTP/1.1",
            b"\xff\xfe",
            b"GET /back?" + b"a" * 70_000,
        ):
            with socket.create_connection(("127.0.0.1", port)) as connection, suppress(OSError):
                connection.sendall(line + b"\r\n\r\n")
                connection.settimeout(2)
                connection.recv(100)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            # Gone without a goodbye.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for stray in ("", "?state=s", "?a=1"):
            assert requests.get(f"{back}{stray}", timeout=5).status_code == 404
        requests.get(f"{back}?error=access_denied&state=s", timeout=5)
    assert landed == [f"{back}?error=access_denied&state=s"]
    assert capfd.readouterr().err == ""


def test_who_does_not_come_back_in_time_is_not_stuck() -> None:
    person = consents(f"http://127.0.0.1:{ports.choose()}/back", patience=0.01)
    with person.ready():
        assert person.ask(f"{LOGIN}?state=s", why="") is None


def test_a_real_browser_brings_the_user_back(runs: Runs) -> None:
    """The listener's page in Chromium, where one is installed; over plain HTTP otherwise."""
    from tools.local.visit import visitor

    back = f"http://127.0.0.1:{ports.choose()}/back"
    url = f"{runs.simulator.url}/connect/authorize?response_type=code&scope=flowaccount-api%20offline_access"
    runs.simulator.control("POST", "clients", {"client_id": "flowaccount-connect-local", "redirect_uris": [back]})
    person = consents(back)
    with person.ready():
        asked: list[str | None] = []
        login = f"{url}&client_id=flowaccount-connect-local&redirect_uri={back}&state=s"
        thread = threading.Thread(target=lambda: asked.append(person.ask(login, why="")))
        thread.start()
        with visitor() as owner:
            arrived = owner.connect(login, user="somchai", business="N1000001")
        thread.join()
    assert "You can close this page" in arrived.html
    assert re.fullmatch(rf"{re.escape(back)}\?code=[^&]+&scope=[^&]+&state=s", asked[0] or "")


def test_the_played_user_gives_up_where_nobody_answers() -> None:
    assert PlayedConsents().ask("http://127.0.0.1:9/", why="") is None
