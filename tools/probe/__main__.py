"""`make probe`: asks an authorization server what its documentation does not tell, and ends in a report."""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from flowaccount_connect.runtime.settings import InvalidSetting, Reader
from tools.local.errors import LocalError
from tools.local.steps import Steps
from tools.probe import demonstration, parameters, target
from tools.probe.consent import BrowserConsents, Consents
from tools.probe.experiments import MAY_KILL, MOST_CONSENTS, REPLAY_AFTER, Probe
from tools.probe.report import Report
from tools.probe.target import Target
from tools.probe.wire import Books, Wire

SANDBOX_PACE = 15
"""Requests a minute: the sandbox is said to take 20 of a client."""

DEMONSTRATION_PACE = 50
DEMONSTRATION_REPLAY_AFTER = 5

DEMONSTRATION = "A demonstration: this is the stand-in for FlowAccount, not FlowAccount. Its switches are guesses."


def main(arguments: list[str] | None = None, variables: Mapping[str, str] = os.environ) -> int:
    """Run the probe. The exit code: 0, 2 for a wrong setting, 130 if interrupted (the report is written then too).

    A closed terminal and a polite kill interrupt it as Ctrl-C does.
    """
    options = _options(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Whoever had it ignored, as nohup does, wants it so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    console = Console(highlight=False)
    try:
        with ExitStack() as stack:
            return _probe(options, variables, console, stack)
    except (InvalidSetting, LocalError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.probe",
        description="Finds out how an authorization server behaves where its documentation is silent; docs/probe.md.",
        epilog="Environment: CLIENT_ID, CLIENT_SECRET (asked for if missing), REDIRECT_URI; AUTHORIZE_ENDPOINT and"
        " TOKEN_ENDPOINT (FlowAccount's sandbox if missing), BUSINESS_API; PACE, PATIENCE, CONSENT_PATIENCE,"
        " REPLAY_AFTER; RATE_LIMIT=1, LIFETIMES=1, OPEN=1, PLAN=1. Without any of the first, a demonstration against"
        " the simulator, with SIMULATOR as its settings.",
    )
    parser.add_argument("--report", type=Path, default=Path(".local/probe"), help="folder for probe.md and probe.json")
    return parser.parse_args(arguments)


def _probe(options: argparse.Namespace, variables: Mapping[str, str], console: Console, stack: ExitStack) -> int:
    read = Reader({name: value.strip() for name, value in variables.items()})
    patience, person = read.number("PATIENCE", 20, 1, 300), read.number("CONSENT_PATIENCE", 600, 1, 86_400)
    measure_rate, measure_lifetimes = (_is_on(read, name) for name in ("RATE_LIMIT", "LIFETIMES"))
    probed = target.read(variables)
    # In a demonstration nobody is hurt, and nobody wants to wait.
    usual = (SANDBOX_PACE, REPLAY_AFTER) if probed is not None else (DEMONSTRATION_PACE, DEMONSTRATION_REPLAY_AFTER)
    pace, replay_after = read.number("PACE", usual[0], 0, 10_000), read.number("REPLAY_AFTER", usual[1], 0, 86_400)
    consents: Consents
    if probed is None:
        with Steps(console).step("starting the stand-in for FlowAccount"):
            probed = stack.enter_context(demonstration.simulator(read.optional("SIMULATOR") or "{}"))
        consents, note = demonstration.PlayedConsents(), DEMONSTRATION
    else:
        note = None
        consents = BrowserConsents(probed.redirect_uri, console, patience=person, opens=_is_on(read, "OPEN"))
    books = Books()
    books.secrets.add(probed.client_secret)
    wire = Wire(probed, books, pace=pace, patience=patience, sleep=_sleeping(console))
    probe = Probe(
        probed,
        consents,
        wire,
        books,
        measure_rate=measure_rate,
        measure_lifetimes=measure_lifetimes,
        replay_after=replay_after,
    )
    _tell_the_plan(probe, probed, console, pace)
    if _is_on(read, "PLAN"):
        return 0
    _can_be_written(options.report)
    if isinstance(consents, BrowserConsents):
        stack.enter_context(consents.ready())

    def report(note: str | None) -> Report:
        probe.conclude()
        return Report(
            target=probed,
            findings=probe.findings.all(),
            parameters=parameters.follow(probe.findings, probed),
            obstacles=parameters.obstacles(probe.findings),
            consents=probe.asked,
            requests=books.total,
            finished_at=time.time(),
            secrets=books.secrets,
            note=note,
        )

    steps, interrupted = Steps(console), False
    try:
        for experiment in probe.plan():
            if isinstance(consents, BrowserConsents):
                # A live line would fight with what a person types.
                console.print(f"[dim]…[/] {escape(experiment.title)}")
                probe.perform(experiment)
            else:
                with steps.step(experiment.title):
                    probe.perform(experiment)
            # A machine may go down in a day and a half.
            _written(report(f"{note or ''} Not at its end yet.".strip()), options.report)
    except (KeyboardInterrupt, OSError):
        # The latter where the terminal that it wrote to is gone.
        interrupted, note = True, f"{note or ''} Interrupted: what had not been asked by then stays open.".strip()
    last = report(note)
    # Written first: an impatient second Ctrl-C ends what is shown, and a terminal may be gone.
    said = _written(last, options.report)
    with suppress(OSError):
        last.show(console)
        for line in said:
            console.print(escape(line), soft_wrap=True)
    return 130 if interrupted else 0


def _can_be_written(folder: Path) -> None:
    """Make the folder of the report. Raises `InvalidSetting` where that, or writing into it, is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InvalidSetting(f"--report: {folder} cannot be written to ({error.strerror})") from None


def _written(report: Report, folder: Path) -> list[str]:
    """Write the report, and say where it is, or why it is nowhere: what was found out is shown all the same."""
    try:
        return [f"written: {path}" for path in report.write(folder)]
    except OSError as error:
        return [f"The report could not be written to {folder}: {error.strerror}."]


def _tell_the_plan(probe: Probe, probed: Target, console: Console, pace: int) -> None:
    """What will be done, how many consents that takes, and why."""
    planned = probe.plan()
    needed = sum(experiment.consents for experiment in planned)
    console.print(f"\n[bold]The probe[/] of {escape(probed.token_endpoint)}", soft_wrap=True)
    console.print(
        f"\nIt takes [bold]{needed} consents[/] of one business, since a code works once, and up to {MAY_KILL} more if"
        f" the server ends a consent when a token is reused ({MOST_CONSENTS} at the very most). A login that goes wrong"
        " is asked for once more:"
    )
    number = 0
    for experiment in planned:
        for _ in range(experiment.consents):
            number += 1
            console.print(f"  {number}. {escape(experiment.why)}")
    console.print(
        "Use a business of which nobody else holds tokens: some experiments may end the consents they use. Other"
        " consents, clients and businesses are left alone."
    )
    if pace:
        console.print(f"At most {pace} requests a minute are sent (PACE), so now and then it pauses.")
    if probe.measure_rate:
        console.print("[yellow]RATE_LIMIT: for some minutes every user of this client may get 429.[/]")
    if probe.measure_lifetimes:
        console.print("[yellow]LIFETIMES: it goes on for a day and a half; keep this machine awake.[/]")
    console.print("Ctrl-C ends it at any time, with a report of what was found out by then.\n")


def _sleeping(console: Console) -> Callable[[float, str], None]:
    """Sleep, and say so where it takes long enough for somebody to wonder."""

    def sleep(seconds: float, why: str) -> None:
        if seconds > 2:
            console.print(f"  [dim]pausing for {seconds:.0f} s, {escape(why)}[/]")
        time.sleep(seconds)

    return sleep


def _is_on(read: Reader, name: str) -> bool:
    return read.choice(name, "0", "1") == "1"


if __name__ == "__main__":
    sys.exit(main())
