"""The report: in sentences on the terminal, as JSON, and as a figure."""

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tools.campaign.accounting import Account, Fate, history
from tools.campaign.evidence import Evidence
from tools.campaign.waves import AIMS, Tally


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


def show(console: Console, results: Sequence[Result], noticed: bool | None) -> None:
    """Print the report: a table and sentences."""
    rows: list[tuple[str, list[str]]] = []
    every = [result.figures() for result in results]
    for title, name in (("waves of refreshes", "waves"), ("workers killed in a refresh", "kills")):
        rows.append((title, [str(one[name]) for one in every]))
    rows.append(("answers dropped", [str(one["dropped_answers"]) for one in every]))
    rows.append(("refresh tokens issued", [str(one["tokens_issued"]) for one in every]))
    rows += [(f"  {fate.value}", [str(one["tokens"][fate.value]) for one in every]) for fate in Fate]
    rows.append(("declared dead, rightly", [str(r["declared_dead"] - r["wrongly_declared_dead"]) for r in every]))
    rows.append(("declared dead, wrongly", [str(one["wrongly_declared_dead"]) for one in every]))
    rows.append(("other rules broken", [str(len(one["breaches"])) for one in every]))
    rows.append(("window, median (ms)", [str(one["window_ms"]["median"]) for one in every]))
    rows.append(("window, longest (ms)", [str(one["window_ms"]["max"]) for one in every]))
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for result in results:
        table.add_column(f"seed {result.seed}", justify="right")
    table.add_column("all", justify="right", style="bold")
    for title, cells in rows:
        whole = not title.startswith("window,")
        table.add_row(title, *cells, str(sum(map(int, cells))) if whole else "")
    console.print()
    console.print(table)
    console.print()
    for line in _words(results):
        console.print(f"  {line}", soft_wrap=True)
    if noticed is not None:
        word = "was noticed" if noticed else "WAS NOT NOTICED: the accounting proves nothing"
        console.print(f"  A connection that was set back to an earlier token on purpose {word}.", soft_wrap=True)


def _words(results: Sequence[Result]) -> list[str]:
    """The summary of the table, in sentences."""
    issued = sum(len(r.account.fates) for r in results)
    kills, drops = sum(r.tally.kills for r in results), sum(r.tally.drops for r in results)
    killed, unexplained = (sum(r.account.count(f) for r in results) for f in (Fate.KILLED, Fate.UNEXPLAINED))
    late = sum(r.account.delivered_to_the_dead for r in results)
    windows = [window * 1000 for result in results for window in result.account.windows]
    lines = [
        f"{kills} workers were killed in the middle of a refresh and {drops} answers were dropped.",
        f"Of {issued} refresh tokens that were issued, {unexplained or 'none'} are unexplained.",
        f"{killed} were lost with the worker that should have received them. {late} of these workers had received the "
        "answer and not finished the commit.",
    ]
    if windows:
        lines.append(
            "The time from a token's issue to the log line after its commit was "
            f"{statistics.median(windows):.0f} ms at the median and {max(windows):.0f} ms at most, over "
            f"{len(windows)} undisturbed refreshes."
        )
    return lines


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


def keep(path: Path, evidence: Evidence) -> None:
    """Write the evidence of one seed as JSON. It has no tokens."""
    path.write_text(json.dumps(asdict(evidence)) + "\n")


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


_COLOURS = {
    Fate.SPENT: "#4c78a8",
    Fate.STORED: "#54a24b",
    Fate.DROPPED: "#eeca3b",
    Fate.KILLED: "#f58518",
    Fate.SUPERSEDED: "#b8b0ac",
    Fate.UNEXPLAINED: "#e45756",
}


def draw(path: Path, results: Sequence[Result]) -> None:
    """Write the report as a figure (PNG): the fates of the tokens, the aims of the kills, the time to the commit."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and needed at the very end only

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (fates, aims, windows) = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
    names = [f"seed {result.seed}" for result in results]
    below = [0] * len(results)
    for fate, colour in _COLOURS.items():
        counts = [result.account.count(fate) for result in results]
        fates.bar(names, counts, bottom=below, color=colour, label=f"{fate.value} ({sum(counts)})")
        below = [low + count for low, count in zip(below, counts, strict=True)]
    fates.set_title(f"{sum(below)} refresh tokens, each with its fate")
    fates.set_ylim(top=max([*below, 1]) * 1.5)
    fates.legend(fontsize=8, loc="upper left")
    by_aim = Counter(kill.aim for result in results for kill in result.evidence.kills)
    shown = [aim for aim in AIMS.values() if by_aim[aim]]
    aims.barh(shown, [by_aim[aim] for aim in shown], color="#f58518")
    aims.invert_yaxis()
    hit = sum(result.tally.kills for result in results)
    aims.set_title(f"{sum(by_aim.values())} kills, by aim; {hit} met a refresh")
    measured = [window * 1000 for result in results for window in result.account.windows]
    if measured:
        windows.hist(measured, bins=40, color="#4c78a8")
        median = statistics.median(measured)
        windows.axvline(median, color="black", linewidth=1)
        windows.set_title(f"issue to commit, median {median:.0f} ms")
    windows.set_xlabel("milliseconds")
    windows.set_ylabel("refreshes")
    figure.savefig(path, dpi=120)
    plt.close(figure)
