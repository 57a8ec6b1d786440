"""`python -m tools.simulation.simulate`: our schedule and those of others through the same days, side by side.

Exit code 0 if our stack lost no connection and stayed within its rate; 1 if not.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from flowaccount_connect.rotation.time_left import LONGEST_EXCHANGE
from tools.local.places import STATE, shown
from tools.simulation import report
from tools.simulation.record import Record
from tools.simulation.trace import HOSTILE, MONTH, SHORT, Trace

OURS = "ours"
POLICIES = (OURS, "Nango", "Vault plugin", "authproxy", "on demand")
FOLDER = STATE / "simulation"


def traces(seed: int, days: int | None, short: bool) -> list[Trace]:
    """What is simulated: a stack with a raised rate, production's default, and a calm month: the others' best case."""
    if short:
        # The same share of what the rate can carry, and a whole lifetime beyond the longest outage.
        small = Trace(
            name="short",
            seed=seed,
            connections=1_500,
            days=days or 9,
            refreshes_per_minute=6,
            accepted=8,
            troubles=SHORT,
        )
        calm = replace(small, name="short, calm", accepted=None, troubles=(), bulk=0.0, imported=0.0)
        return [small, calm]
    month = days or 30
    large = Trace(
        name="100,000 at 420 a minute",
        seed=seed,
        connections=100_000,
        days=month,
        refreshes_per_minute=420,
        accepted=560,
        troubles=MONTH,
    )
    default = replace(large, name="25,000 at 75 a minute", connections=25_000, refreshes_per_minute=75, accepted=100)
    calm = replace(default, name="25,000, nothing ever fails", accepted=None, troubles=(), bulk=0.0, imported=0.0)
    hostile = replace(default, name="25,000 among others' troubles", days=10, troubles=HOSTILE, alone=0.05)
    return [large, default, calm, hostile]


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole of it; returns the exit code."""
    options = _options(arguments)
    console = Console(highlight=False)
    began = time.monotonic()
    chosen = traces(options.seed, options.days, options.short)
    records = _run(chosen, options.jobs, console)
    passed = all(_passed(record) for record in records if record.policy == OURS)
    report.show(console, chosen, records)
    FOLDER.mkdir(parents=True, exist_ok=True)
    document = {
        "passed": passed,
        "seconds": round(time.monotonic() - began, 1),
        "results": [record.figures() for record in records],
    }
    (FOLDER / "report.json").write_text(json.dumps(document, indent=2) + "\n")
    picture = options.picture or FOLDER / "report.svg"
    report.draw(picture, chosen[0], [record for record in records if record.trace.name == chosen[0].name])
    where = shown(picture) if options.picture is None else str(picture)
    console.print(f"\n  {shown(FOLDER / 'report.json')}   {where}   [dim]{document['seconds']} s[/]")
    if not passed:
        console.print("[bold red]Our stack lost a connection, or sent more than it may.[/]")
    return 0 if passed else 1


def handful(trace: Trace) -> int:
    """How many tokens a brown-out may cost: what is sent before the first missing answers are given up."""
    return max(5, int(trace.refreshes_per_minute * LONGEST_EXCHANGE / 60))


def _passed(record: Record) -> bool:
    """Whether our stack lost nothing that it held, and kept to its rate. In a brown-out a handful is lost to it."""
    swallowed = record.swallowed
    few = all(lost <= handful(record.trace) for lost in swallowed)
    lost = record.lost == sum(swallowed) and (record.ended == 0 or bool(record.trace.alone))
    return few and lost and record.peak <= record.trace.refreshes_per_minute


def _run(chosen: Sequence[Trace], jobs: int, console: Console) -> list[Record]:
    """Every policy on every trace, each in a process of its own, the longest first."""
    plan = [(trace, policy) for policy in POLICIES for trace in chosen if policy == OURS or not trace.alone]
    done: dict[tuple[str, str], Record] = {}
    with (
        ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool,
        console.status(f"{len(plan)} to go") as status,
    ):
        futures = [pool.submit(simulate, trace, policy) for trace, policy in plan]
        for future in as_completed(futures):
            record = future.result()
            done[record.trace.name, record.policy] = record
            line = f"{record.policy}: {record.trace.name}: {record.lost} lost, {record.sent:,} requests"
            console.print(f"[green]✓[/] {line} [dim]{record.seconds:.0f} s[/]")
            status.update(f"{len(plan) - len(done)} to go")
    return [done[trace.name, policy] for trace in chosen for policy in POLICIES if (trace.name, policy) in done]


def simulate(trace: Trace, policy: str) -> Record:
    """One policy on one trace, in a process of the pool."""
    if policy == OURS:
        from tools.simulation.keeping import Keeping  # noqa: PLC0415 - the peers need nothing of ours

        return Keeping(trace).run()
    from tools.simulation.peers import PEERS  # noqa: PLC0415

    return PEERS[policy](trace).run()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.simulation.simulate", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=1, help="another trace (default: 1)")
    parser.add_argument("--days", type=int, help="fewer days, or more (default: 30)")
    parser.add_argument("--short", action="store_true", help="1,500 connections over 9 days, for CI")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    parser.add_argument("--picture", type=Path, help="draw the picture there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
