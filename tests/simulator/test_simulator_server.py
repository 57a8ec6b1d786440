"""The process: how it starts, ends, listens and logs, and how much it carries."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.simulator.driver import CALLBACK, TIMEOUT, Driver, form_of, process, started, url_of
from tests.unit.servers import eventually
from tools.simulator.__main__ import main
from tools.simulator.rates import RateLimiter


@pytest.mark.parametrize(
    ("arguments", "secret", "sentence"),
    [
        ([], None, "Set SIMULATOR_CLIENT_SECRET"),
        (["--settings", "{"], "x", "--settings must be JSON"),
        (["--settings", '{"replay": 1}'], "x", "Setting 'replay' must be one of"),
        (["--redirect-uri", "callback"], "x", "A redirect URI must be an absolute http(s) URL"),
    ],
)
def test_a_wrong_start_ends_with_one_line(
    arguments: list[str],
    secret: str | None,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["simulator", *arguments])
    monkeypatch.delenv("SIMULATOR_CLIENT_SECRET", raising=False)
    if secret is not None:
        monkeypatch.setenv("SIMULATOR_CLIENT_SECRET", secret)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert sentence in errors
    assert errors.count("\n") == 1


def test_a_taken_port_is_named(sim: Driver) -> None:
    port = urlsplit(sim.url).port
    with process("--port", str(port), log=subprocess.PIPE) as second:
        _, errors = second.communicate(timeout=TIMEOUT)
    advice = "choose another with --port, or --port 0 for any free one."
    assert (second.returncode, errors) == (2, f"simulator: Port {port} is taken: {advice}\n")


def test_sigterm_ends_it_at_once_and_cleanly(tmp_path: Path) -> None:
    with (
        (tmp_path / "log").open("wb") as log,
        process(log=log) as running,
        # An open, idle connection and a request under way must not hold it up.
        Driver(url_of(running)).connection(),
    ):
        running.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        assert running.wait(5) == 0
        assert time.monotonic() - sent < 1
    assert (tmp_path / "log").read_bytes() == b""


def test_logs_show_method_path_and_status_and_no_secret(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log, started(log=log) as driver:
        code = driver.code()
        body = driver.exchange(code)
        driver.refresh(body["refresh_token"])
        driver.company(body["access_token"])
        driver.authorize(response_type="x")
        driver.order("reset")
        with pytest.raises(requests.ConnectionError):
            driver.refresh(body["refresh_token"])
        with driver.connection() as connection:
            connection.sendall(b"GET /?code=canary-in-a-bad-request-line HTTP/9.9 x\r\n\r\n")
            connection.recv(1_000)
    lines = (tmp_path / "log").read_text()
    assert "POST /test/token 200\n" in lines
    assert "POST /test/token reset\n" in lines
    assert "GET /connect/authorize 400\n" in lines
    canaries = ("no log may show", "no%20log", "no+log", "canary", "?", "Traceback")
    for secret in (code, body["access_token"], body["refresh_token"], *canaries):
        assert secret not in lines


def test_a_connection_is_kept_alive(sim: Driver) -> None:
    with closing(HTTPConnection(urlsplit(sim.url).netloc, timeout=TIMEOUT)) as connection:
        connection.connect()
        socket = connection.sock
        for _ in range(3):
            connection.request("GET", "/_control/clock")
            answer = connection.getresponse()
            assert (answer.status, answer.version, answer.read() != b"") == (200, 11, True)
            assert connection.sock is socket


def test_three_hundred_requests_at_once_are_carried(sim: Driver) -> None:
    tokens = sim.control("POST", "consents", {"business": "N1", "count": 300})["consents"]
    sim.order("delay", seconds=0.3, times=300)
    with ThreadPoolExecutor(300) as pool:
        answers = list(pool.map(lambda made: sim.refresh(made["refresh_token"]), tokens))
    assert all("refresh_token" in answer for answer in answers)
    assert len({answer["refresh_token"] for answer in answers}) == 300


@pytest.mark.parametrize("header", ["Content-Length: x", "Content-Length: 5000000", "Transfer-Encoding: chunked"])
def test_a_body_that_cannot_be_read_is_refused(sim: Driver, header: str) -> None:
    with sim.connection() as connection:
        connection.sendall(f"POST /test/token HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode())
        assert connection.recv(1_000).split(b" ")[1] in (b"411", b"413")


def test_a_receiver_that_has_gone_is_noted(sim: Driver) -> None:
    token = sim.consent()
    sim.order("delay", seconds=0.2, when="after")
    with pytest.raises(requests.Timeout):
        requests.post(f"{sim.url}/test/token", data=form_of(token), timeout=0.1)
    assert eventually(lambda: sim.last_request()["delivered"] is not None)
    assert sim.last_request()["receiver_gone"] is True
    assert sim.ledger()[-1]["receiver_gone"] is True


def test_a_lowered_limit_tells_the_right_wait() -> None:
    limiter = RateLimiter()
    for second in range(10):
        assert limiter.admit("c", 100.0 + second, 10) is None
    assert limiter.admit("c", 110.0, 10) == 50
    assert limiter.admit("c", 110.0, 1) == 59


def test_the_registered_redirect_uri_of_the_command_line_is_used() -> None:
    with started("--client-id", "mine", "--settings", '{"environment": "v1"}') as driver:
        assert driver.authorize(client_id="mine", redirect_uri=CALLBACK).status_code == 200
        assert driver.authorize().status_code == 400
        assert driver.control("GET", "settings")["environment"] == "v1"
