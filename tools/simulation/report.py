"""The table and the picture of a simulation."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.simulation.record import Record
from tools.simulation.trace import DAY, START, Trace, Trouble


def show(console: Console, traces: Sequence[Trace], records: Sequence[Record]) -> None:
    """One table for each trace."""
    for trace in traces:
        accepted = f", FlowAccount accepts {trace.accepted}" if trace.accepted is not None else ""
        table = Table(box=None, pad_edge=False, title_justify="left", title_style="bold")
        table.title = f"\n{trace.name}: {trace.connections:,} connections, {trace.days} days{accepted}"
        for column in ("", "lost", "refreshes", "requests", "peak a minute", "worst time to deadline"):
            table.add_column(column, justify="right" if column else "left")
        for record in records:
            if record.trace.name == trace.name:
                lost = f"{record.lost:,} ({record.lost / trace.connections:.1%})" if record.lost else "none"
                table.add_row(
                    record.policy,
                    f"[red]{lost}[/]" if record.lost else f"[green]{lost}[/]",
                    f"{record.refreshed:,}",
                    f"{record.sent:,}",
                    f"{record.peak:,}",
                    f"{duration(record.worst)}{', then lost' if record.lost else ''}",
                )
        console.print(table)


def duration(seconds: float) -> str:
    """Hours and minutes, or seconds where it is less than two minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{int(seconds // 3_600)} h {int(seconds % 3_600 // 60):02} min"


_COLOURS = {
    Trouble.OUTAGE: "#e45756",
    Trouble.LIMITED: "#eeca3b",
    Trouble.LIMITED_SILENTLY: "#eeca3b",
    Trouble.SLOW: "#b8b0ac",
    Trouble.CRASHES: "#b8b0ac",
    Trouble.PAUSED: "#72b7b2",
    Trouble.TABLE: "#72b7b2",
}
_NAMES = {
    "#e45756": "FlowAccount is down",
    "#eeca3b": "rate-limited",
    "#b8b0ac": "slow, or workers crash",
    "#72b7b2": "no scheduler, or no table",
}


def draw(path: Path, trace: Trace, records: Sequence[Record]) -> None:
    """Time to deadline over the days, a panel for each policy: from the least to the most, and how many are alive."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and needed at the very end only

    mpl.use("Agg")
    # The same bytes for the same figures; and text stays text.
    mpl.rcParams |= {"svg.hashsalt": "", "svg.fonttype": "none", "path.simplify": True}
    from matplotlib import pyplot as plt  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    figure, panels = plt.subplots(len(records), 1, figsize=(10, 10), sharex=True, sharey=True, layout="constrained")
    for panel, record in zip(panels, records, strict=True):
        step = max(len(record.days) // 240, 1)
        days = record.days[::step]
        for period in trace.troubles:
            begin, end = ((edge - START) / DAY for edge in (period.begin, period.end))
            panel.axvspan(begin, end, color=_COLOURS[period.trouble], alpha=0.35, linewidth=0)
        panel.fill_between(days, record.least[::step], record.most[::step], color="#4c78a8", alpha=0.3, linewidth=0)
        panel.plot(days, record.median[::step], color="#4c78a8", linewidth=1)
        panel.plot(days, record.least[::step], color="#1f3552", linewidth=1)
        alive = panel.twinx()
        share = [a / max(c, 1) * 100 for a, c in zip(record.alive[::step], record.connected[::step], strict=True)]
        alive.plot(days, share, color="#54a24b", linewidth=1.5)
        alive.set(ylim=(-2, 105), yticks=(0, 50, 100), yticklabels=("0 %", "50 %", "100 %"))
        alive.tick_params(colors="#54a24b")
        lost = f"{record.lost:,} of {trace.connections:,} lost" if record.lost else "none lost"
        panel.set_title(f"{record.policy}: {lost}", fontsize=10, loc="left", fontweight="bold")
        panel.set(ylim=(0, 25), yticks=(0, 6, 12, 18, 24), xlim=(0, trace.days), ylabel="hours left")
    panels[-1].set_xlabel("days")
    troubles = [Patch(color=colour, alpha=0.35, label=name) for colour, name in _NAMES.items()]
    lines = [
        Patch(color="#4c78a8", alpha=0.3, label="time to deadline, least to most, median"),
        Patch(color="#54a24b", label="connections alive"),
    ]
    figure.legend(handles=lines + troubles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    title = f"{trace.connections:,} connections at {trace.refreshes_per_minute} refreshes a minute"
    figure.suptitle(f"{title}: time until a refresh token dies", fontsize=12)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
    plt.close(figure)
