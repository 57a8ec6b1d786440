"""`make dashboard` shows what the local stack really has, as the deployed dashboard would."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Simulator, until
from tools.local import dashboard, service
from tools.local.dashboard import PICTURE, UNKNOWN, Widget
from tools.local.errors import LocalError
from tools.local.places import ROOT
from tools.local.stack import Stack


def shown(up: Stack) -> dict[str, Widget]:
    """The widgets by their titles."""
    return {widget.title: widget for widget in dashboard.read(up, time.time())}


def total(widget: Widget) -> dict[str, float]:
    """All that a widget's figures add up to, by their labels."""
    assert all(line.values is not None for line in widget.lines)
    return {line.label: sum(value or 0 for value in line.values or []) for line in widget.lines}


def latest(widget: Widget) -> dict[str, float | None]:
    """A widget's latest figures by their labels."""
    return {line.label: line.latest[0] if line.latest else None for line in widget.lines}


def active(up: Stack) -> int:
    """How many active connections there are, by the API."""
    found, page = 0, service.call(up, "GET", "/connections?limit=100").json()
    while True:
        found += sum(one["status"] == "active" for one in page["connections"])
        if not page.get("next"):
            return int(found)
        page = service.call(up, "GET", f"/connections?limit=100&next={page['next']}").json()


def test_figures_are_those_of_the_stack(up: Stack, connection: str, simulator: Simulator, set_item: Any) -> None:
    tokens, refreshes = "Tokens served, and requests refused", "Refreshes, by what became of them"
    consents = "New consents needed, last 24 hours"
    before = shown(up)
    for _ in range(3):
        assert service.call(up, "GET", f"/connections/{connection}/token").status_code == 200
    assert service.call(up, "GET", "/connections/unheard-of/token").status_code == 404
    set_item(connection, refresh_at=int(time.time()) - 1)
    assert service.invoke(up, "refresh", {"connection_id": connection})["outcome"] == "refreshed"
    simulator.withdraw(connection)
    set_item(connection, refresh_at=int(time.time()) - 1)
    assert service.invoke(up, "refresh", {"connection_id": connection})["outcome"] == "reauthorization_required"

    def more(title: str) -> dict[str, float]:
        was = total(before[title])
        return {label: value - was[label] for label, value in total(shown(up)[title]).items() if value != was[label]}

    until(lambda: more(tokens) == {"served": 3, "refused": 1})
    until(lambda: more(refreshes) == {"refreshed": 1, "new consent needed": 1})
    until(lambda: more(consents) == {"connections": 1})


def test_connections_and_the_soonest_deadline_are_those_of_the_table(up: Stack, connection: str, set_item: Any) -> None:
    title = "Connections, and how much of the capacity they use"

    def tick() -> dict[str, Widget]:
        set_item(connection, refresh_at=int(time.time()) - 1, deadline=int(time.time()) + 1800)
        service.invoke(up, "sweep", {})
        return shown(up)

    # The count follows the table's stream.
    until(lambda: latest(tick()[title])["connections"] == active(up))
    until(lambda: 0.45 < (latest(tick()["Soonest deadline of what is due (hours)"])["hours"] or 0) <= 0.5)
    assert (latest(shown(up)["At risk"])["connections"] or 0) >= 1


def test_alarms_sound_as_the_template_says(up: Stack) -> None:
    queue, sqs = up.queues["tick-dead-letters"], service.client(up, "sqs")
    alarms = shown(up)["Alarms"].alarms
    assert alarms["tick-dead-letters"] == "OK"
    assert alarms["salvage-used"] == UNKNOWN
    assert set(alarms.values()) <= {"OK", "ALARM", UNKNOWN}
    sqs.send_message(QueueUrl=queue, MessageBody="{}")
    try:
        there = shown(up)
        assert there["Alarms"].alarms["tick-dead-letters"] == "ALARM"
        assert total(there["Queues that should be empty"])["ticks, dead (now)"] == 1
    finally:
        message = sqs.receive_message(QueueUrl=queue)["Messages"][0]
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert shown(up)["Alarms"].alarms["tick-dead-letters"] == "OK"


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    """The command of `make dashboard`."""
    command = [sys.executable, "-m", "tools.local.dashboard"]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.usefixtures("up")
def test_the_command_draws_a_picture_and_says_where() -> None:
    PICTURE.unlink(missing_ok=True)
    done = run()
    assert done.returncode == 0, done.stderr
    assert str(PICTURE.relative_to(ROOT)) in done.stderr
    assert PICTURE.read_bytes().startswith(b"\x89PNG")


def test_without_a_stack_it_says_what_to_do(tmp_path: Path) -> None:
    done = run(FLOWACCOUNT_CONNECT_STATE=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == "error: The stack is not up: run `make up` first.\n"


def test_where_the_emulator_has_ended_it_says_what_to_do(up: Stack) -> None:
    with pytest.raises(LocalError, match="run `make up` once more"):
        dashboard.read(replace(up, aws_endpoint_url="http://127.0.0.1:9"), time.time())
