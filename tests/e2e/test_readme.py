"""What the README shows runs as it stands."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.addresses import APP_RETURN_URL
from tests.e2e.conftest import Simulator, delete_connections
from tests.support import pages, programs
from tools.local import env, service
from tools.local.stack import Stack
from tools.local.visit import Arrived, ChromiumVisitor, HttpVisitor, Visitor
from tools.simulator import people

README = Path(__file__).parents[2] / "README.md"
BUSINESS = "N1000001"
APP = APP_RETURN_URL.removesuffix("/flowaccount-connected")

USERS = """
def tenant():
    return flask.session["tenant"]


@app.get("/as/<name>")
def log_in(name):
    flask.session["tenant"] = name
    return "logged in"


@app.get("/as/<name>/connect")
def log_in_and_press_the_button(name):
    flask.session["tenant"] = name
    return begin()


app.secret_key = os.urandom(32)
app.run(port=int(os.environ["PORT"]))
"""
"""What the app of the README has already: users who log in."""


def example_of(word: str, language: str = "python") -> str:
    """The README's example that holds `word`."""
    return pages.block("README.md", language, word)


def environment_of(up: Stack) -> dict[str, str]:
    """What a program of the integrator's runs with: what `make env` gives."""
    return {"PATH": os.environ["PATH"], **env.exports(up)}


@pytest.mark.parametrize(
    ("language", "interpreter", "word"),
    [("python", [sys.executable, "-c"], "FlowAccountAuth"), ("sh", ["sh", "-euc"], "--aws-sigv4")],
)
def test_the_readmes_service_reads_a_companys_name(
    up: Stack, connection: str, language: str, interpreter: list[str], word: str
) -> None:
    environment = environment_of(up) | {
        "PYTHONPATH": str(README.parent / "clients" / "python"),
        "LC_ALL": "C.UTF-8",
    }
    command = [*interpreter, example_of(word, language)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == people.business(connection).thai


@pytest.fixture
def readmes_app(up: Stack, tmp_path: Path) -> Iterator[str]:
    """The README's app, running; its address."""
    delete_connections(up, BUSINESS)
    environment = environment_of(up) | {
        "RETURN_URL": APP_RETURN_URL,
        "PORT": str(urlsplit(APP).port),
        "PYTHONPATH": str(README.parent / "clients" / "python"),
    }
    with programs.serving([sys.executable, "-c", example_of("flask") + USERS], APP, tmp_path, environment):
        yield APP


def test_the_readmes_app_connects_a_business_for_the_tenant_of_its_user(
    up: Stack, simulator: Simulator, chromium: Any, readmes_app: str
) -> None:
    owner: Visitor = ChromiumVisitor(chromium) if chromium else HttpVisitor()
    arrived = owner.connect(f"{readmes_app}/as/tenant-1/connect", user="somchai", business=BUSINESS)
    assert (arrived.status, f"FlowAccount is connected: {BUSINESS}" in arrived.html) == (200, True)
    shown = service.call(up, "GET", f"/connections/{BUSINESS}").json()
    assert (shown["tenant"], shown["status"]) == ("tenant-1", "active")


def test_a_link_sent_to_somebody_else_connects_nothing_in_the_readmes_app(
    up: Stack, simulator: Simulator, chromium: Any, readmes_app: str
) -> None:
    attacker = HttpVisitor()
    link = attacker.get(f"{readmes_app}/as/the-attacker/connect").headers["Location"]
    arrived = _follow_as(chromium, f"{readmes_app}/as/the-victim", link)
    assert arrived.status == 409
    assert "not connected" in arrived.html
    # Not even if the attacker opens in his own browser what the victim's came back with.
    assert attacker.follow(arrived.url).status == 409
    assert service.connection_item(up, BUSINESS) is None
    assert len(simulator.posts("authorization_code")) == 1


def test_who_has_only_sent_the_link_cannot_have_it_confirmed(
    up: Stack, simulator: Simulator, chromium: Any, readmes_app: str
) -> None:
    attacker = HttpVisitor()
    link = attacker.get(f"{readmes_app}/as/the-attacker/connect").headers["Location"]
    # The victim is not logged in at the app, so nothing is confirmed there; the attacker has 15 minutes.
    assert _follow_as(chromium, None, link).status == 500
    for confirmation in ("", link.partition("link=")[2]):
        assert attacker.follow(f"{APP_RETURN_URL}?confirmation={confirmation}").status == 409
    assert service.connection_item(up, BUSINESS) is None


def _follow_as(chromium: Any, log_in: str | None, link: str) -> Arrived:
    """A victim, logged in at the app or not, opens a link that somebody sent and connects."""
    if chromium is None:
        visitor = HttpVisitor()
        if log_in:
            visitor.get(log_in)
        return visitor.connect(link, user="somchai", business=BUSINESS)
    context = chromium.new_context(locale="th-TH")
    try:
        page = context.new_page()
        if log_in:
            page.goto(log_in)
        page.goto(link)
        page.click('[data-user="somchai"]')
        with page.expect_response(lambda answer: answer.url.startswith(APP_RETURN_URL)) as arrived:
            page.click(f'[data-business="{BUSINESS}"]')
        page.wait_for_load_state()
        return Arrived(page.url, arrived.value.status, page.content())
    finally:
        context.close()
