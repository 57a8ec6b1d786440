"""The schedule of a stack's ticks, stopped while tests run: a tick would refresh what a test has just made due."""

from tools.local import service
from tools.local.stack import Stack

_KEPT = ("Name", "GroupName", "ScheduleExpression", "FlexibleTimeWindow", "Target")


def start(up: Stack) -> None:
    """A tick of EventBridge Scheduler's each minute."""
    _set(up, "ENABLED")


def stop(up: Stack) -> None:
    """No tick but those that a test invokes."""
    _set(up, "DISABLED")


def _set(up: Stack, state: str) -> None:
    scheduler = service.client(up, "scheduler")
    found = scheduler.list_schedules()["Schedules"]
    (name,) = (one["Name"] for one in found if f":{up.functions['sweep']}:" in one["Target"]["Arn"])
    there = scheduler.get_schedule(Name=name)
    assert there["ScheduleExpression"] == "rate(1 minute)"
    scheduler.update_schedule(**{key: there[key] for key in _KEPT if key in there}, State=state)
