"""Runs of the probe in this process, against a real server, its user played by a program and its pauses by a clock."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.simulator.driver import CLIENT_SECRET, Driver
from tools.probe import demonstration, parameters
from tools.probe.consent import Consents
from tools.probe.experiments import Probe
from tools.probe.report import Report
from tools.probe.target import Target
from tools.probe.wire import Books, Wire

NOBODY_EXPECTED = "nobody expected"
"""What a finding says where the probe itself failed."""


@dataclass(frozen=True)
class Run:
    """What came of one run."""

    report: Report
    books: Books
    probe: Probe
    slept: float

    def value(self, name: str) -> Any:
        """What was found out."""
        return {finding.name: finding.value for finding in self.report.findings}[name]

    def words(self, name: str) -> str:
        """The same in words."""
        return {finding.name: finding.words for finding in self.report.findings}[name]

    def parameter(self, name: str) -> str | None:
        """A parameter that follows."""
        return {parameter.name: parameter.value for parameter in self.report.parameters}.get(name)


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


def run(
    target: Target,
    consents: Consents,
    clock: Clock | None = None,
    *,
    pace: int = 0,
    patience: float = 5,
    **options: Any,
) -> Run:
    """One whole run, whose report is checked for what no report may show."""
    clock, books = clock or Clock(), Books(secrets={target.client_secret})
    wire = Wire(target, books, pace=pace, patience=patience, clock=clock, sleep=clock.sleep)
    probe = Probe(target, consents, wire, books, **options)
    for experiment in probe.plan():
        probe.perform(experiment)
    probe.conclude()
    report = Report(
        target=target,
        findings=probe.findings.all(),
        parameters=parameters.follow(probe.findings, target),
        obstacles=parameters.obstacles(probe.findings),
        consents=probe.asked,
        requests=books.total,
        finished_at=0,
        secrets=books.secrets,
    )
    # Its own net taken away: nothing secret was there to be caught.
    bare = replace(report, secrets=())
    for text in (bare.markdown(), bare.machine_readable()):
        assert not [secret for secret in books.secrets if len(secret) >= 8 and secret in text]
        assert NOBODY_EXPECTED not in text
    json.loads(report.machine_readable())
    return Run(report, books, probe, clock.slept)


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
        """The simulator, and the client that it knows."""
        return demonstration.target(self.simulator.url, CLIENT_SECRET, settings or {})

    def of(self, target: Target, **options: Any) -> Run:
        """One run against this target; pauses advance the simulator's clock."""
        return run(target, demonstration.PlayedConsents(), Clock(self.simulator.advance), **options)
