"""Runs of the probe in this process, against a real server, its user played by a program and its pauses by a clock."""

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from tests.probe.odd_server import OddConsents, Oddities, odd_server
from tests.simulator.driver import CLIENT_SECRET, Driver
from tools.probe import demonstration, parameters
from tools.probe.consent import Consents
from tools.probe.experiments import EXPERIMENTS, Probe
from tools.probe.report import Report
from tools.probe.sender import Sender
from tools.probe.target import Target

NOBODY_EXPECTED = "nobody expected"
"""What a finding says where the probe itself failed."""


@dataclass(frozen=True)
class Run:
    """What came of one run."""

    report: Report
    probe: Probe
    slept: float

    def value(self, name: str) -> Any:
        return self.probe.findings.value(name)

    def words(self, name: str) -> str:
        return self.probe.findings.found[name].words

    def parameter(self, name: str) -> str | None:
        return {parameter.name: parameter.value for parameter in self.report.parameters}.get(name)

    @property
    def in_the_way(self) -> set[str]:
        """The findings that somebody must act on."""
        return {finding.name for finding in self.report.findings if finding.in_the_way}

    def text(self) -> str:
        out = io.StringIO()
        self.report.show(Console(file=out, width=140))
        return out.getvalue()


class Clock:
    """Time that passes by sleeping too; whoever else has to know is told."""

    def __init__(self, advance: Callable[[float], None] = lambda _: None) -> None:
        self.slept = 0.0
        self._advance = advance

    def __call__(self) -> float:
        return time.time() + self.slept

    def sleep(self, seconds: float, _why: str) -> None:
        """Let time pass, without waiting."""
        self.slept += seconds
        self._advance(seconds)


def run(target: Target, consents: Consents, clock: Clock, *, pace: int = 0, patience: float = 5, **options: Any) -> Run:
    """One whole run, whose report is checked for what no report may show."""
    sender = Sender(target, pace=pace, patience=patience, clock=clock, sleep=clock.sleep)
    probe = Probe(target, consents, sender, **options)
    for experiment in EXPERIMENTS:
        probe.perform(experiment)
    probe.conclude()
    report = Report(
        token_endpoint=target.token_endpoint,
        findings=probe.findings.all(),
        parameters=parameters.follow(probe.findings, target),
        consents=probe.logins.asked,
        requests=sender.total,
        finished_at=0,
        secrets=sender.secrets,
    )
    found = Run(report, probe, clock.slept)
    # Its own net taken away: nothing secret was there to be caught.
    for text in (replace(report, secrets=()).machine_readable(), *(finding.words for finding in report.findings)):
        assert not [secret for secret in sender.secrets if len(secret) >= 8 and secret in text]
        assert NOBODY_EXPECTED not in text
    json.loads(report.machine_readable())
    return found


def probed(pace: int = 0, **oddities: Any) -> Run:
    """A run against a server with these oddities."""
    with odd_server(Oddities(**oddities)) as server:
        found = run(server.target, OddConsents(), Clock(server.advance), pace=pace)
        assert found.report.requests == server.token_requests
    return found


class Runs:
    """Runs against the simulator."""

    def __init__(self, simulator: Driver) -> None:
        self.simulator = simulator

    def __call__(self, settings: dict[str, Any] | None = None, **options: Any) -> Run:
        """One run with the simulator in these positions."""
        changes = settings or {}
        self.simulator.set(**changes)
        return self.of(self.target(changes), **options)

    def target(self, settings: dict[str, Any] | None = None) -> Target:
        return demonstration.target(self.simulator.url, CLIENT_SECRET, settings or {})

    def of(self, target: Target, **options: Any) -> Run:
        """One run against this target; pauses advance the simulator's clock."""
        return run(target, demonstration.PlayedConsents(), Clock(self.simulator.advance), **options)
