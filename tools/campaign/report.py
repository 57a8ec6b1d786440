"""The report: a table on the terminal, and JSON."""

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tools.campaign.accounting import Account, Fate, history
from tools.campaign.evidence import Evidence
from tools.campaign.waves import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of one seed."""

    seed: int
    seconds: float
    tally: Tally
    evidence: Evidence
    account: Account

    def figures(self) -> dict[str, Any]:
        """All reported figures of the seed, ready for JSON. Windows in milliseconds."""
        windows = [window * 1000 for window in self.account.windows]
        faults = Counter(fault for request in self.evidence.requests for fault in request.faults)
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "waves": self.tally.waves,
            "kills": self.tally.kills,
            "kills_that_met_no_refresh": self.tally.missed,
            "kills_by_aim": dict(Counter(kill.aim for kill in self.evidence.kills)),
            "dropped_answers": self.tally.drops,
            "faults": dict(faults),
            "tokens_issued": len(self.account.fates),
            "tokens": {fate.value: self.account.count(fate) for fate in Fate},
            "delivered_to_a_killed_receiver": self.account.delivered_to_the_dead,
            "reconnects": len(self.evidence.reconnects),
            "declared_dead": len(self.evidence.dead),
            "wrongly_declared_dead": self.account.wrongly_dead,
            "breaches": self.account.breaches,
            "window_ms": {
                "refreshes": len(windows),
                "median": round(statistics.median(windows), 1) if windows else None,
                "p99": round(sorted(windows)[int(len(windows) * 0.99)], 1) if windows else None,
                "max": round(max(windows), 1) if windows else None,
            },
        }


_ROWS = {
    "waves": "waves of refreshes",
    "kills": "workers killed in a refresh",
    "delivered_to_a_killed_receiver": "  after its answer came, before the commit",
    "dropped_answers": "answers dropped",
    "tokens_issued": "refresh tokens issued",
}
_VERDICTS = {
    "declared_dead": "connections declared dead",
    "wrongly_declared_dead": "  wrongly",
}


def show(console: Console, results: Sequence[Result], noticed: bool | None) -> None:
    """Print the report: a table, and whether the accounting noticed the loss that was made on purpose."""
    every = [result.figures() for result in results]
    rows = [(title, [one[name] for one in every]) for name, title in _ROWS.items()]
    rows += [(f"  {fate.value}", [one["tokens"][fate.value] for one in every]) for fate in Fate]
    rows += [(title, [one[name] for one in every]) for name, title in _VERDICTS.items()]
    rows.append(("rules broken", [len(one["breaches"]) for one in every]))
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for result in results:
        table.add_column(f"seed {result.seed}", justify="right")
    table.add_column("all", justify="right", style="bold")
    for title, numbers in rows:
        table.add_row(title, *map(str, numbers), str(sum(numbers)))
    for name, title in (("median", "window, median (ms)"), ("max", "window, longest (ms)")):
        table.add_row(title, *(str(one["window_ms"][name]) for one in every))
    console.print()
    console.print(table)
    console.print()
    if noticed is not None:
        word = "was noticed" if noticed else "WAS NOT NOTICED: the accounting proves nothing"
        console.print(f"  A connection that was set back to an earlier token on purpose {word}.", soft_wrap=True)


def tell_blame(console: Console, evidence: Evidence, account: Account, title: str) -> None:
    """Print the broken rules, and the history of each connection with a broken rule or an unexplained token."""
    if account.clean:
        return
    console.print(f"\n[bold red]{escape(title)}: something is not explained[/]")
    for breach in account.breaches:
        console.print(f"  {escape(breach)}", soft_wrap=True)
    for business in sorted(account.blamed):
        console.print(f"\n  [bold]{escape(business)}[/]")
        for line in history(evidence, business, account.fates):
            console.print(f"    {escape(line)}", soft_wrap=True)


def write(path: Path, results: Sequence[Result], noticed: bool | None) -> None:
    """Write the report as JSON."""
    document = {
        "clean": all(result.account.clean for result in results),
        "sabotage_noticed": noticed,
        "kills": sum(result.tally.kills for result in results),
        "dropped_answers": sum(result.tally.drops for result in results),
        "tokens_issued": sum(len(result.account.fates) for result in results),
        "tokens": {fate.value: sum(result.account.count(fate) for result in results) for fate in Fate},
        "seeds": [result.figures() for result in results],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
