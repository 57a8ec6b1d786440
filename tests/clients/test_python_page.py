"""What docs/python.md shows runs as it stands, against the client's own fake of the stack."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import httpx
import pytest
import requests
from requests.adapters import HTTPAdapter

from flowaccount_connect_client import FlowAccountAuth, FlowAccountConnect
from flowaccount_connect_client.testing import FakeFlowAccountConnect
from tests.support import pages
from tests.unit.test_client_webhooks import SECRET, headers, signature

PAGE = "docs/python.md"
ID = "N1234567"
RETURN_URL = "https://app.example.com/done"

APP = """
import flask, pytest
from flowaccount_connect_client import FlowAccountConnect, ReauthorizationRequired


class my_app:
    @staticmethod
    def company_name(connection_id):
        try:
            FlowAccountConnect().access_token(connection_id)
        except ReauthorizationRequired:
            return "Please connect FlowAccount again."
        return "…"


@pytest.fixture
def my_client():
    app = flask.Flask(__name__)

    @app.post("/connect-flowaccount")
    def begin():
        return flask.redirect(FlowAccountConnect().connect_link("tenant", "https://app.example.com/done").connect_url)

    @app.get("/done")
    def end():
        return FlowAccountConnect().confirm(flask.request.args["confirmation"], "tenant").support_code

    return app.test_client()
"""
"""What the reader's app has already: a function to test, and Flask's client."""


class FlowAccount:
    """A stand-in for FlowAccount in the place of the network, for requests and httpx."""

    def __init__(self, stack: FakeFlowAccountConnect) -> None:
        self._stack = stack
        self.says: dict[str, Any] = {"status": True, "message": "", "data": {"compnayName": "ร้านกาแฟ"}}

    def answer(self, authorization: str | None) -> tuple[int, bytes]:
        if not self._stack.accepts(authorization, ID):
            return 401, b'{"status": false}'
        return 200, json.dumps(self.says).encode()

    def to_requests(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        made = requests.Response()
        made.status_code, made._content = self.answer(request.headers.get("Authorization"))
        made.url, made.request = request.url or "", request
        return made

    async def to_httpx(self, request: httpx.Request) -> httpx.Response:
        status, content = self.answer(request.headers.get("Authorization"))
        return httpx.Response(status, content=content, request=request)


@pytest.fixture
def stack() -> Iterator[FakeFlowAccountConnect]:
    with FakeFlowAccountConnect().running() as fake:
        yield fake


@pytest.fixture
def flowaccount(stack: FakeFlowAccountConnect, monkeypatch: pytest.MonkeyPatch) -> FlowAccount:
    stand_in = FlowAccount(stack)
    monkeypatch.setattr(HTTPAdapter, "send", stand_in.to_requests)
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", stand_in.to_httpx)
    return stand_in


def run(word: str, **given: object) -> dict[str, Any]:
    """Run the page's example that holds `word`; what it made."""
    names = dict(given)
    exec(compile(pages.block(PAGE, "python", word), f"{PAGE}: {word}", "exec"), names)  # noqa: S102 - the page of this repository
    return names


def test_each_example_of_the_page_is_run_here() -> None:
    words = ("on_danger", "means_withdrawn", "httpx.AsyncClient", "reconnect_link", "webhooks.verify", "my_client")
    assert {pages.block(PAGE, "python", word) for word in words} == set(pages.blocks(PAGE, "python"))


def test_a_company_is_read_and_a_danger_is_told(
    stack: FakeFlowAccountConnect, flowaccount: FlowAccount, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.add(ID)
    assert run("on_danger")["answer"].json() == flowaccount.says
    stack.endanger(ID)
    run("on_danger")
    assert capsys.readouterr().out == f"soon without a token: {ID}\n"


def test_a_200_that_means_no_is_reported(stack: FakeFlowAccountConnect, flowaccount: FlowAccount) -> None:
    stack.add(ID)
    flowaccount.says = {"status": False, "message": "withdrawn"}
    api = FlowAccountConnect()
    given = {"flowaccount": api, "FlowAccountAuth": FlowAccountAuth, "requests": requests, "invoice": {}}
    given |= {
        "url": "https://openapi.flowaccount.com/v1/invoices",
        "means_withdrawn": lambda words: words == "withdrawn",
    }
    run("means_withdrawn", **given)
    assert stack.requests[-1] == ("POST", f"/connections/{ID}/token")
    assert api.access_token(ID).generation == 2


def test_httpx_reads_a_company(stack: FakeFlowAccountConnect, flowaccount: FlowAccount) -> None:
    stack.add(ID)
    assert asyncio.run(run("httpx.AsyncClient")["company"]()) == flowaccount.says


def test_connections_are_made_looked_at_and_ended(
    stack: FakeFlowAccountConnect, capsys: pytest.CaptureFixture[str]
) -> None:
    link = FlowAccountConnect().connect_link("tenant-7", return_url=RETURN_URL)
    confirmation = stack.visit(link.connect_url, business=ID).partition("confirmation=")[2]
    made = run("reconnect_link", FlowAccountConnect=FlowAccountConnect, confirmation=confirmation, refresh_token="old")
    assert made["connected"].support_code == ID
    assert f"confirmation={confirmation}" not in stack.visit(made["again"].connect_url, business=ID)
    printed = capsys.readouterr().out
    assert f"{ID} tenant-7" in printed
    assert " connected None" in printed
    statuses = {one.support_code: one.status for one in FlowAccountConnect().connections()}
    assert statuses == {ID: "disconnected", "N7654321": "active"}


def test_a_webhook_is_taken_once_it_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    handled: list[object] = []
    app = flask.Flask(__name__)
    run("webhooks.verify", app=app, handle=handled.append)
    body, at = json.dumps({"detail-type": "connection.at_risk"}).encode(), int(time.time())
    signed = headers(signature(SECRET, body, at=at), at=at)
    for sent, status in ((body, 204), (body + b" ", 401)):
        assert app.test_client().post("/flowaccount-events", data=sent, headers=signed).status_code == status
    assert handled == [json.loads(body)]


def test_the_tests_of_an_app_pass(tmp_path: Path) -> None:
    given = "from app import my_app, my_client\n"
    (tmp_path / "app.py").write_text(APP, "utf-8")
    (tmp_path / "test_app.py").write_text(given + pages.block(PAGE, "python", "my_client"), "utf-8")
    environment = os.environ | {"PYTHONPATH": str(pages.ROOT / "clients" / "python"), "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "flowaccount_connect_client.pytest_plugin", "test_app.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
