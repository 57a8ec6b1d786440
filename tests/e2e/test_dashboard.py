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


def test_figures_are_those_of_the_stack(up: Stack, connection: str, simulator: Simulator, set_item: Any) -> None:
    title, label = "What happens to refreshes, when something does", "new consent needed"
    before = total(shown(up)[title])[label]
    simulator.withdraw(connection)
    # One refusal is enough once the token's time is over.
    set_item(connection, refresh_at=int(time.time()) - 1, deadline=int(time.time()) - 1)
    assert service.invoke(up, "refresh", {"connection_id": connection})["outcome"] == "reauthorization_required"
    until(lambda: total(shown(up)[title])[label] == before + 1)


def test_what_is_at_risk_and_the_soonest_deadline_are_those_of_the_table(
    up: Stack, connection: str, set_item: Any
) -> None:
    def tick() -> dict[str, Widget]:
        set_item(connection, refresh_at=int(time.time()) - 1, deadline=int(time.time()) + 1800)
        service.invoke(up, "sweep", {})
        return shown(up)

    until(lambda: 0.45 < (latest(tick()["Soonest deadline of what is due (hours)"])["hours left"] or 0) <= 0.5)
    assert (latest(shown(up)["Connections at risk"])["at risk"] or 0) >= 1
    assert (latest(shown(up)["Ticks in five minutes"])["ticks that saw everything"] or 0) >= 1
    # The count follows the table's stream.
    until(lambda: (latest(tick()["Capacity used (%)"])["% of the allowed rate"] or 0) > 0)


def test_alarms_sound_as_the_template_says(up: Stack) -> None:
    queue, sqs = up.queues["dead-letters"], service.client(up, "sqs")
    alarms = shown(up)["Alarms"].alarms
    assert alarms["dead-letters"] == "OK"
    assert alarms["events-late"] == UNKNOWN
    assert set(alarms.values()) <= {"OK", "ALARM", UNKNOWN}
    sqs.send_message(QueueUrl=queue, MessageBody="{}")
    try:
        there = shown(up)
        assert there["Alarms"].alarms["dead-letters"] == "ALARM"
        assert total(there["Queues that should be empty"])["dead letters (now)"] == 1
    finally:
        message = sqs.receive_message(QueueUrl=queue)["Messages"][0]
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert shown(up)["Alarms"].alarms["dead-letters"] == "OK"


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
