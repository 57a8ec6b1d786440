"""What the alarms wait for is what the functions write: same names, same dimensions."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flowaccount_connect.domain.connection import Reason
from flowaccount_connect.rotation.outcomes import Refresh, RefreshOutcome
from flowaccount_connect.scheduling.sweep import Tick
from tests.template.conftest import ROOT, read
from tests.unit.fakes import CONNECTION
from tests.unit.handlers import Functions, event
from tests.unit.servers import Server, reply
from tests.unit.test_handlers import begin
from tests.unit.worlds import World

NAMESPACE = "FlowAccountConnect"
WAITED_FOR = sorted(
    {
        (dimension["Value"], alarm["Properties"]["MetricName"])
        for alarm in read((ROOT / "template.yaml").read_text())["Resources"].values()
        if alarm["Type"] == "AWS::CloudWatch::Alarm" and alarm["Properties"]["Namespace"] == NAMESPACE
        for dimension in alarm["Properties"]["Dimensions"]
        if dimension["Name"] == "service"
    }
)


Happening = Callable[[Functions, World, Server, pytest.MonkeyPatch], None]


def refreshed(outcome: RefreshOutcome, reason: Reason | None = None, *, alone: int | None = None) -> Happening:
    """A refresh that ends so."""

    def happen(functions: Functions, _: World, __: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        ended = Refresh(outcome=outcome, connection_id=CONNECTION, reason=reason, refused_alone_since=alone)
        monkeypatch.setattr(type(functions.module("refresh")._rotation), "refresh", lambda *_, **__: ended)
        functions.call("refresh", event("refresh-on-demand"))

    return happen


def connect_refused(functions: Functions, world: World, server: Server, _: pytest.MonkeyPatch) -> None:
    """FlowAccount does not know the client that a user connects through."""
    server.say(reply(200, b'{"error": "invalid_client"}'))
    begin(world)
    functions.call("callback", event("callback"))


def ticked(**facts: Any) -> Happening:
    """A tick that finds so."""

    def happen(functions: Functions, _: World, __: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        quiet = Tick(
            due=0,
            waiting=0,
            dispatched=0,
            failed=0,
            oldest_due=0,
            soonest_deadline=None,
            at_risk=0,
            marked=0,
            connections=None,
            capacity=1_000,
            paused=0,
            slowdown=1.0,
            complete=True,
        )
        found = replace(quiet, **facts)
        monkeypatch.setattr(type(functions.module("sweep")._sweep), "tick", lambda *_, **__: found)
        functions.call("sweep", event("sweep"))

    return happen


ENDED = RefreshOutcome.REAUTHORIZATION_REQUIRED

HAPPENINGS: dict[tuple[str, str], list[Happening]] = {
    ("callback", "Unwell"): [connect_refused],
    ("refresh", "Reauthorizations"): [refreshed(ENDED, Reason.REJECTED)],
    ("refresh", "TokensLost"): [
        refreshed(RefreshOutcome.LOST),
        refreshed(ENDED, Reason.ROTATION_LOST),
        refreshed(ENDED, Reason.WRONG_CONNECTION),
    ],
    ("refresh", "Unanswered"): [
        refreshed(RefreshOutcome.NOT_SENT),
        refreshed(RefreshOutcome.IN_DOUBT),
        refreshed(RefreshOutcome.THROTTLED),
    ],
    ("refresh", "Unwell"): [
        refreshed(RefreshOutcome.CONFIGURATION_ERROR),
        refreshed(RefreshOutcome.UNWELL),
        refreshed(RefreshOutcome.NOT_PREPARED),
    ],
    ("sweep", "AtRisk"): [ticked(at_risk=1)],
    ("sweep", "CapacityUsed"): [ticked(connections=800)],
}
"""By what an alarm waits for, the cases of its class."""

CASES = [(service, metric, case) for (service, metric), cases in HAPPENINGS.items() for case in range(len(cases))]


Written = Callable[[Happening], set[str]]


@pytest.fixture
def written(functions: Functions, world: World, server: Server, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Lets something happen; the metrics that are written of it, for the dimensions that alarms name."""

    def happens(happening: Happening) -> set[str]:
        happening(functions, world, server, monkeypatch)
        return {name for line in functions.logs().splitlines() for name in _metrics(line)}

    return happens


def test_every_metric_that_is_waited_for_is_tried_here() -> None:
    assert set(WAITED_FOR) == set(HAPPENINGS)


@pytest.mark.parametrize(("service", "metric", "case"), CASES)
def test_what_an_alarm_waits_for_is_written_when_it_happens(
    written: Written, service: str, metric: str, case: int
) -> None:
    assert metric in written(HAPPENINGS[service, metric][case])


@pytest.mark.parametrize(
    "happening",
    [
        *(refreshed(one) for one in (RefreshOutcome.REFRESHED, RefreshOutcome.SUPERSEDED, RefreshOutcome.NOT_DUE)),
        # That is no reauthorization.
        refreshed(RefreshOutcome.IMPORT_REFUSED, Reason.REJECTED),
    ],
)
def test_what_is_well_writes_no_metric(written: Written, happening: Happening) -> None:
    assert written(happening) == set()


def test_a_connection_that_is_refused_alone_sounds_no_alarm_of_the_stack(
    functions: Functions, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many of them, tried in turn, would keep it sounding for ever, and hide the day on which all are refused."""
    monkeypatch.setattr(functions.module("refresh")._health, "_succeeded", 8.0)
    assert written(refreshed(RefreshOutcome.CONFIGURATION_ERROR, alone=7)) == set()


def test_in_a_stack_too_small_for_others_to_succeed_a_refusal_goes_on_to_sound_the_alarm(written: Written) -> None:
    assert written(refreshed(RefreshOutcome.CONFIGURATION_ERROR, alone=7)) == {"Unwell"}


@pytest.mark.parametrize("facts", [{"complete": False}, {"failed": 1}, {"waiting": None}])
def test_a_tick_that_did_not_do_all_it_must_fails(
    functions: Functions, written: Written, facts: dict[str, Any]
) -> None:
    with pytest.raises(Exception, match="did not see all that is due"):
        written(ticked(**facts))
    assert '"message":"tick"' in functions.logs(), "its line is written all the same"


def test_the_capacity_that_is_used_is_in_per_cent(functions: Functions, written: Written) -> None:
    written(ticked(connections=800, capacity=1_000))
    assert '"CapacityUsed":[80.0]' in functions.logs()


def _metrics(line: str) -> set[str]:
    """The metrics of a log line in the embedded format."""
    if not line.startswith('{"_aws"'):
        return set()
    found: set[str] = set()
    written: dict[str, Any] = json.loads(line)
    for directive in written["_aws"]["CloudWatchMetrics"]:
        if directive["Namespace"] == NAMESPACE and any(set(d) == {"service", "stack"} for d in directive["Dimensions"]):
            found |= {metric["Name"] for metric in directive["Metrics"] if metric["Name"] in written}
    return found
