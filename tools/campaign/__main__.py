"""`python -m tools.campaign`: kill refresh workers, lose answers, and account for every refresh token ever issued.

Exit code 0: every token is explained, no rule was broken, and the accounting notices a loss that is made on purpose at
the end. Exit code 1: one of these is false; the output has the history of each unexplained token. Exit code 2: the
stack could not be brought up.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tools.campaign import proof, report
from tools.campaign.accounting import account
from tools.campaign.stage import Stage, bring_up
from tools.campaign.waves import Campaign, Tally
from tools.local import stack
from tools.local.errors import LocalError
from tools.local.places import STATE, shown
from tools.local.steps import Steps

SEEDS = (1, 2, 3, 4, 5)
SIZE, STRIKES = 24, 100
"""Of each seed: its connections, of which half are refreshed in each wave, and its kills and dropped answers."""

SHORT_SIZE, SHORT_STRIKES = 14, 6
"""The same of the short campaign."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; returns the exit code."""
    options = _options(arguments)
    console = Console(highlight=False)
    seeds = options.seed or (SEEDS[:1] if options.short else SEEDS)
    size, strikes = (SHORT_SIZE, SHORT_STRIKES) if options.short else (SIZE, STRIKES)
    try:
        stage = bring_up(Steps(console))
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        return _run(stage, seeds, size, strikes, console)
    except KeyboardInterrupt:
        return 130
    finally:
        stack.down()


def _run(stage: Stage, seeds: Sequence[int], size: int, strikes: int, console: Console) -> int:
    """One campaign for each seed, the sabotage, the report."""
    results = []
    for seed in seeds:
        campaign, result = _campaign(stage, seed, size, strikes, console)
        results.append(result)
    noticed = None
    if results[-1].account.clean:
        # Comes last, because it spoils the evidence.
        noticed = proof.is_noticed(proof.sabotage(stage, campaign))
    report.show(console, results, noticed)
    report.write(STATE / "report.json", results, noticed)
    console.print(f"\n  {shown(STATE / 'report.json')}")
    return 0 if noticed and all(result.account.clean for result in results) else 1


def _campaign(stage: Stage, seed: int, size: int, strikes: int, console: Console) -> tuple[Campaign, report.Result]:
    """Run the campaign of one seed, and print its result."""
    started = time.monotonic()
    words = TextColumn("seed {task.fields[seed]}: {task.fields[kills]} kills, {task.fields[drops]} answers dropped")
    with Progress(words, BarColumn(), TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=strikes, seed=seed, kills=0, drops=0)

        def tell(tally: Tally) -> None:
            progress.update(task, completed=tally.strikes, kills=tally.kills, drops=tally.drops)

        campaign = Campaign(stage, seed, size, strikes, tell)
        evidence = campaign.run()
    result = report.Result(
        seed=seed,
        seconds=time.monotonic() - started,
        tally=campaign.tally,
        evidence=evidence,
        account=account(evidence),
    )
    mark = "[green]✓[/]" if result.account.clean else "[red]✗[/]"
    console.print(
        f"{mark} seed {seed}: {campaign.tally.kills} kills, {campaign.tally.drops} answers dropped, "
        f"{len(result.account.fates)} tokens [dim]{result.seconds:.0f} s[/]"
    )
    report.tell_blame(console, evidence, result.account, f"seed {seed}")
    return campaign, result


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.campaign", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seed", type=int, action="append", help="this seed only; may be given more than once")
    parser.add_argument("--short", action="store_true", help="one seed and a few kills, for CI")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
