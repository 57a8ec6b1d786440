"""`make probe`: asks an authorization server what its documentation does not say, and ends in a report."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from flowaccount_connect.domain.errors import InvalidSetting
from flowaccount_connect.runtime.settings import Reader
from tools.local import processes
from tools.local.errors import LocalError
from tools.probe import demonstration, parameters, target
from tools.probe.consent import Consents, PersonAtBrowser
from tools.probe.experiments import EXPERIMENTS, REPLAY_AFTER, Probe
from tools.probe.report import Report
from tools.probe.sender import Sender
from tools.probe.target import Target

SANDBOX_PACE = 15
"""Requests a minute: the sandbox takes 20 of a client, according to third parties."""

DEMONSTRATION_PACE, DEMONSTRATION_REPLAY_AFTER = 50, 5
"""In a demonstration nobody is hurt, and nobody wants to wait."""

FOLDER = Path(".local/probe")
DEMONSTRATION = "A demonstration: this is the stand-in for FlowAccount, not FlowAccount. Its switches are guesses."
INTERRUPTED = "Interrupted: what had not been asked by then stays open."


def main(variables: Mapping[str, str] = os.environ) -> int:
    """Run the probe. The exit code: 0, 2 for a wrong setting, 130 if interrupted (the report is written then too)."""
    processes.interrupt_when_ended()
    try:
        with ExitStack() as stack:
            return _probe(variables, Console(highlight=False), stack)
    except (InvalidSetting, LocalError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _probe(variables: Mapping[str, str], console: Console, stack: ExitStack) -> int:
    read = Reader({name: value.strip() for name, value in variables.items()})
    measure_rate = read.choice("RATE_LIMIT", "0", "1") == "1"
    named = target.read(variables)
    pace = read.number("PACE", DEMONSTRATION_PACE if named is None else SANDBOX_PACE, 0, 10_000)
    probed = named or stack.enter_context(demonstration.simulator(read.optional("SIMULATOR") or "{}"))
    consents: Consents = demonstration.PlayedConsents() if named is None else PersonAtBrowser(console, sys.stdin)
    sender = Sender(probed, pace=pace, sleep=partial(_sleep, console))
    replay_after = DEMONSTRATION_REPLAY_AFTER if named is None else REPLAY_AFTER
    probe = Probe(probed, consents, sender, measure_rate=measure_rate, replay_after=replay_after)
    notes = [DEMONSTRATION] if named is None else []
    _print_the_plan(probe, probed, console, pace)
    code = 0
    try:
        for experiment in EXPERIMENTS:
            console.print(f"[dim]…[/] {escape(experiment.title)}")
            probe.perform(experiment)
    except KeyboardInterrupt:
        code = 130
        notes.append(INTERRUPTED)
    last = _report(probe, probed, " ".join(notes))
    # Written first: a second Ctrl-C ends what is shown.
    paths = last.write(FOLDER)
    last.show(console)
    console.print(escape(f"written: {' and '.join(map(str, paths))}"), soft_wrap=True)
    return code


def _report(probe: Probe, probed: Target, note: str) -> Report:
    """What is known by now."""
    probe.conclude()
    return Report(
        token_endpoint=probed.token_endpoint.partition("?")[0],
        findings=probe.findings.all(),
        parameters=parameters.follow(probe.findings, probed),
        consents=probe.logins.asked,
        requests=probe.sender.total,
        finished_at=time.time(),
        secrets=probe.sender.secrets,
        note=note,
    )


def _print_the_plan(probe: Probe, probed: Target, console: Console, pace: int) -> None:
    """What will be done, how many consents that takes, and why."""
    reasons = [experiment.why for experiment in EXPERIMENTS if experiment.why]
    console.print(f"\n[bold]The probe[/] of {escape(probed.token_endpoint)}", soft_wrap=True)
    console.print(f"\nIt takes [bold]{len(reasons)} consents[/] of one business. A login that goes wrong comes again:")
    for number, why in enumerate(reasons, 1):
        console.print(f"  {number}. {escape(why)}")
    console.print("Use a business of which nobody else holds tokens: the consents given here may end.")
    if pace:
        console.print(f"At most {pace} requests a minute are sent (PACE), so now and then it pauses.")
    if probe.measure_rate:
        console.print("[yellow]RATE_LIMIT: for some minutes every user of this client may get 429.[/]")
    console.print("Ctrl-C ends it at any time, with a report of what was found out by then.\n")


def _sleep(console: Console, seconds: float, why: str) -> None:
    """Sleep, with a line on the terminal where it takes long enough for somebody to wonder."""
    if seconds > 2:
        console.print(f"  [dim]pausing for {seconds:.0f} s, {escape(why)}[/]")
    time.sleep(seconds)


if __name__ == "__main__":
    sys.exit(main())
