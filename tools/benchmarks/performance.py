"""What `make bench` found: the table, the picture, the file for machines, the tables of docs/performance.md."""

import json
import os
import platform
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tools.benchmarks import cold, money, operations, scale, throughput
from tools.benchmarks.cold import Cold
from tools.benchmarks.lambdas import FUNCTIONS, INSTEAD, Started
from tools.benchmarks.money import Bill, Costs
from tools.benchmarks.operations import Operations
from tools.benchmarks.scale import Cost
from tools.benchmarks.throughput import Throughput

TOKEN_GOAL, REFRESH_GOAL = 0.5, 0.6


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table; `met` says whether a goal was reached, and is `None` where there is none."""

    cells: tuple[str, ...]
    met: bool | None = None
    measured: bool = True
    """Whether the exit code tells of it: what a list of prices makes of a measurement is shown, and does not count."""


@dataclass(frozen=True, slots=True)
class Section:
    """A table with its heading."""

    title: str
    columns: tuple[str, ...]
    rows: list[Row]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Figures:
    """What was measured; a section that was not is `None`."""

    cold: Cold | None = None
    operations: Operations | None = None
    throughput: Throughput | None = None
    scale: list[Cost] | None = None
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    def sections(self) -> list[Section]:
        """All tables there are figures for."""
        made: list[Section] = []
        if self.cold is not None:
            made += [_cold(self.cold), _first(self.cold), _batch(self.cold)]
        if self.operations is not None:
            made += [_cpu(self.operations), _calls(self.operations)]
        if self.throughput is not None:
            made.append(_throughput(self.throughput))
        if self.scale is not None:
            made.append(_scale(self.scale))
        if self.operations is not None:
            made += [_months(self.operations), _acts(self.operations)]
        return made

    @property
    def met(self) -> bool:
        """Whether every goal was reached of what was measured."""
        return all(row.met is not False for section in self.sections() for row in section.rows if row.measured)


def _spread(values: Sequence[float], unit: str = "") -> str:
    """The median, and from where to where the middle half lies."""
    low, middle, high = quartiles(values)
    return f"{middle:.3g}{unit} ({low:.3g} to {high:.3g})"


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; of one value three times that."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _against(value: float, floor: float, goal: float | None) -> tuple[str, str, bool | None]:
    ratio = value / floor
    return f"{ratio:.2f}", "" if goal is None else f"≤ {goal}", None if goal is None else ratio <= goal


def _cold(made: Cold) -> Section:
    floor = made.starts[cold.FLOOR]
    cpu = statistics.median(one.cpu for one in floor)
    memory = statistics.median(one.memory for one in floor)
    rows = []
    for name, starts in made.starts.items():
        ratio, goal, met = _against(statistics.median(one.cpu for one in starts), cpu, cold.GOALS.get(name))
        peak = statistics.median(one.memory for one in starts)
        ours = name in FUNCTIONS
        fits = peak <= cold.MEMORY_GOAL * memory
        cells = (_named(name, ours=ours), _spread([one.cpu for one in starts]), ratio, goal, f"{peak:.0f}")
        rows.append(Row((*cells, f"{peak / memory:.2f}"), (met is not False and fits) if ours else None))
    notes = (
        f"Memory: ours at most {cold.MEMORY_GOAL} × the floor's. The floor imports boto3 and makes one client; "
        "ours read the authorities that they trust, too, which the others do with their first call.",
    )
    columns = ("process", "CPU ms", "× floor", "goal", "peak MiB", "× floor")
    return Section(f"Cold start: fresh processes, {len(floor)} each, in turn", columns, rows, notes)


def _first(made: Cold) -> Section:
    rows = []
    for function, programs in made.first.items():
        ours = statistics.median(one.cpu for one in programs[operations.OURS])
        for name, starts in programs.items():
            title = f"{function}: {_named(name, ours=name == operations.OURS)}"
            rows.append(Row((title, *_times([one.cpu for one in starts], ours))))
    notes = ("By TLS, AWS as well: each has its handshakes in it.",)
    return Section("Cold start and the first call answered", ("process", "CPU ms", "× ours"), rows, notes)


def _batch(made: Cold) -> Section:
    floor = statistics.median(one.memory for one in made.starts[cold.FLOOR])
    rows = []
    for name, starts in made.batch.items():
        peak, ours = statistics.median(one.memory for one in starts), name == operations.OURS
        ratio, goal, met = _against(peak, floor, cold.MEMORY_GOAL if ours else None)
        done, asked = made.refreshed
        met = met and done >= 0.9 * asked if ours else None
        rows.append(Row((f"refresh: {_named(name, ours=ours)}", f"{peak:.0f}", ratio, goal), met))
    notes = ("{} of {} of ours refreshed, at cold starts in all.".format(*made.refreshed),)
    columns = ("process", "peak MiB", "× floor", "goal")
    return Section(f"Memory after a batch of {throughput.BATCH} refreshes", columns, rows, notes)


def _times(values: Sequence[float], one: float) -> tuple[str, str]:
    return _spread(values), f"{statistics.median(values) / one:.2f}"


def _cpu(made: Operations) -> Section:
    floor = statistics.median(made.token[operations.FLOOR])
    rows = []
    for name, values in made.token.items():
        goal = TOKEN_GOAL if name == operations.OURS else None
        ratio, shown, met = _against(statistics.median(values), floor, goal)
        rows.append(Row((f"token: {_named(name, ours=goal is not None)}", _spread(values), ratio, shown), met))
    for title, found, wanted in (("refresh", made.refresh, REFRESH_GOAL), ("refresh alone", made.alone, None)):
        theirs = [statistics.median(values) for name, values in found.items() if name != operations.OURS]
        for name, values in found.items():
            ours = name == operations.OURS
            ratio, shown, met = _against(statistics.median(values), min(theirs, default=1.0), wanted if ours else None)
            rows.append(Row((f"{title}: {_named(name, ours=ours)}", _spread(values), ratio, shown), met))
    notes = (
        "Ratios of tokens are to boto3's `get_item` alone, those of refreshes to the cheapest of the others. A refresh "
        "alone of ours has a TLS handshake in it; theirs keep a connection from one invocation to the next.",
    )
    columns = ("operation, warm", "CPU ms", "ratio", "goal")
    title = f"CPU of an operation; a refresh is one of a batch of {operations.REFRESHES}, or alone in its own"
    return Section(title, columns, rows, notes)


def _calls(made: Operations) -> Section:
    rows = []
    for name, calls in made.calls.items():
        asked = ", ".join(f"{count:.2g} {_short(what)}" for what, count in calls.requests.items())
        rows.append(Row((name, asked, f"{calls.read_units:.3g}", f"{calls.write_units:.3g}")))
    columns = ("operation, warm", "requests", "read units", "write units")
    return Section("Calls of an operation, counted at the wire", columns, rows)


def _short(name: str) -> str:
    service, _, operation = name.partition(".")
    return operation if service == "dynamodb" else f"{service} {operation}"


def _throughput(made: Throughput) -> Section:
    rows = [
        Row(("one by one", _milliseconds(made.one_by_one), f"{1 / made.one_by_one:.3g}", "1")),
        Row(
            (
                f"in batches of {throughput.BATCH}",
                f"{made.best * 1_000:.3g} ({min(made.batched) * 1_000:.3g} to {max(made.batched) * 1_000:.3g})",
                f"{1 / made.best:.3g}",
                f"{made.faster:.1f} (goal: {throughput.GOAL})",
            ),
            made.faster >= throughput.GOAL and made.refreshed >= 0.95 * made.asked,
        ),
    ]
    for name, seconds in made.instead.items():
        rows.append(
            Row((f"a loop: {name}", _milliseconds(seconds), f"{1 / seconds:.3g}", f"{made.one_by_one / seconds:.2f}"))
        )
    notes = (f"{made.refreshed} of {made.asked} refreshed; {made.cpu * 1_000:.2f} ms of the worker's CPU each.",)
    columns = ("one worker", "ms a refresh", "refreshes a second", "× one by one")
    title = f"Throughput where FlowAccount takes {throughput.LATENCY * 1_000:.0f} ms"
    return Section(title, columns, rows, notes)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1_000:.3g}"


def _scale(costs: list[Cost]) -> Section:
    rows = []
    for title, values in scale.figures(costs):
        ratio = values[-1] / values[0]
        rows.append(Row((title, *(f"{v:.3g}" for v in values), f"{ratio:.2f}", f"≤ {scale.GOAL}"), ratio <= scale.GOAL))
    columns = ("", *(f"{cost.connections:,} connections" for cost in costs), "ratio", "goal")
    return Section(f"Scale: one tick with {costs[0].due} connections due", columns, rows)


def _months(made: Operations) -> Section:
    costs = costs_of(made)
    rows = [_month(f"{size:,}", size, costs.month(size), goal=size == money.AT) for size in money.SIZES]
    bare = replace(costs, template=replace(costs.template, dashboards=0))
    rows.append(_month(f"{money.AT:,}, without a dashboard", money.AT, bare.month(money.AT), goal=True))
    free = costs.free(costs.month(money.AT))
    rows.append(_month(f"{money.AT:,}, less what every account has free", money.AT, free, goal=True))
    standing = money.Bill(dict(costs.standing()))
    notes = (
        f"{standing.total:.2f} USD a month are there before the first connection: {money.dominant(standing, 4)}. "
        f"{costs.metrics} metrics, {costs.template.alarms} alarms.",
        "The goal is one of list prices. The last line is what an account pays that uses its always-free allowances "
        "for nothing else; three dashboards are among them.",
    )
    columns = ("connections", "USD a month", "what dominates", "each", "goal")
    return Section("Money: a month, at list prices of ap-southeast-1", columns, rows, notes)


def _month(title: str, connections: int, bill: Bill, *, goal: bool) -> Row:
    each = bill.total / connections
    shown = f"< {money.GOAL}" if goal else ""
    cells = (title, f"{bill.total:,.2f}", money.dominant(bill), f"{each:.4f}", shown)
    return Row(cells, each < money.GOAL if goal else None, measured=False)


def _acts(made: Operations) -> Section:
    costs = costs_of(made)
    rows = []
    acts = {"1,000 token calls": costs.token(), "1,000 connects": costs.connect()}
    acts["1,000 refreshes, at 10,000 connections"] = costs.refresh(10_000)
    for name, cost in acts.items():
        bill = money.Bill({line: amount * 1_000 for line, amount in cost.items()})
        rows.append(Row((name, f"{bill.total:.4f}", money.dominant(bill))))
    return Section("Money: an act", ("", "USD", "what dominates"), rows)


def costs_of(made: Operations) -> Costs:
    """Today's template and prices, with what was counted."""
    return Costs(made.calls, money.prices(), money.template())


def _named(name: str, *, ours: bool) -> str:
    return f"**{name}**" if ours else name


def show(console: Console, figures: Figures) -> None:
    """The tables, and which goals were not reached."""
    for section in figures.sections():
        table = Table(box=None, pad_edge=False, title=f"\n{section.title}", title_justify="left", title_style="bold")
        for number, column in enumerate(section.columns):
            table.add_column(column, justify="right" if number else "left", overflow="fold")
        for row in section.rows:
            style = {True: "green", False: "bold red", None: None}[row.met]
            table.add_row(*(cell.replace("**", "") for cell in row.cells), style=style)
        console.print(table)
        for note in section.notes:
            console.print(note, style="dim")
    missed = [row for section in figures.sections() for row in section.rows if row.met is False]
    measured, priced = (", ".join(_plain(row) for row in missed if row.measured is one) for one in (True, False))
    console.print(f"\n[bold red]Missed:[/] {measured}" if measured else "\nEvery goal for what is measured is met.")
    if priced:
        console.print(f"[bold red]Dearer than the goal:[/] {priced} (which the exit code does not tell)")


def _plain(row: Row) -> str:
    return row.cells[0].replace("**", "")


def as_json(figures: Figures) -> dict[str, Any]:
    """All figures, for machines. Milliseconds and MiB, seconds a refresh, US dollars."""
    told: dict[str, Any] = {"began": figures.began.isoformat(timespec="seconds"), "machine": machine()}
    if figures.cold is not None:
        told["cold"] = _started(figures.cold.starts)
        told["first"] = {function: _started(programs) for function, programs in figures.cold.first.items()}
        told["batch"] = _started(figures.cold.batch)
    if figures.operations is not None:
        made = figures.operations
        told["cpu"] = {"token": made.token, "refresh": made.refresh, "refresh alone": made.alone}
        told["calls"] = {
            name: {
                "requests": calls.requests,
                "read_units": calls.read_units,
                "write_units": calls.write_units,
                "cpu": calls.cpu,
                "logged": calls.logged,
                "metrics": sorted(map(".".join, calls.metrics)),
            }
            for name, calls in made.calls.items()
        }
        costs = costs_of(made)
        told["money"] = {
            "month": {str(size): dict(costs.month(size).lines) for size in money.SIZES},
            "token": dict(costs.token()),
            "connect": dict(costs.connect()),
        }
    if figures.throughput is not None:
        made_ = figures.throughput
        told["throughput"] = {
            "batched": made_.batched,
            "one_by_one": made_.one_by_one,
            "instead": made_.instead,
            "cpu": made_.cpu,
        }
    if figures.scale is not None:
        told["scale"] = [
            {"connections": c.connections, "due": c.due, "requests": c.requests, "read_units": c.read_units}
            | {"milliseconds": c.milliseconds}
            for c in figures.scale
        ]
    told["met"] = figures.met
    return told


def _started(programs: Mapping[str, Sequence[Started]]) -> dict[str, list[dict[str, float]]]:
    return {
        name: [{"cpu": one.cpu, "wall": one.wall, "memory": one.memory} for one in starts]
        for name, starts in programs.items()
    }


def machine() -> str:
    """Where it was measured."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


_BLOCK = re.compile(r"(<!-- bench: written by make bench -->\n).*?(<!-- /bench -->)", re.DOTALL)


def write_docs(path: Path, figures: Figures) -> None:
    """Replace the tables of the page by these. Raises `ValueError` if the page has no place for them."""
    text = path.read_text("utf-8")
    if not _BLOCK.search(text):
        raise ValueError(
            f"{path.name} has no place for the tables: <!-- bench: written by make bench --> … <!-- /bench -->"
        )
    lines = [f"Measured on {figures.began:%d %B %Y}: {machine()}.\n"]
    for section in figures.sections():
        lines += [f"### {section.title}\n", *_markdown(section), ""]
        lines += [f"{note}\n" for note in section.notes]
    block = "\n".join(lines)
    path.write_text(_BLOCK.sub(lambda found: f"{found[1]}\n{block}\n{found[2]}", text), "utf-8")


def _markdown(section: Section) -> Iterable[str]:
    yield f"| {' | '.join(section.columns)} |"
    yield f"|{'|'.join(['---', *['---:'] * (len(section.columns) - 1)])}|"
    for row in section.rows:
        mark = {True: " ✓", False: " ✗", None: ""}[row.met]
        yield f"| {' | '.join(row.cells)}{mark} |"


def draw(path: Path, figures: Figures) -> None:
    """Cold starts, CPU and throughput side by side; a panel for each that was measured."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and needed at the very end only

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    panels: list[tuple[str, dict[str, float], float | None]] = []
    if figures.cold is not None:
        starts = {name: statistics.median(s.cpu for s in one) for name, one in figures.cold.starts.items()}
        panels.append(("Cold start, CPU ms", starts, starts[cold.FLOOR]))
    if figures.operations is not None:
        token = {n: statistics.median(v) for n, v in figures.operations.token.items()}
        panels.append(("A token, CPU ms", token, token[operations.FLOOR]))
        refresh = {n: statistics.median(v) for n, v in figures.operations.refresh.items()}
        panels.append(("A refresh, CPU ms", refresh, None))
    if figures.throughput is not None:
        made = figures.throughput
        rates = {"in batches": 1 / made.best, "one by one": 1 / made.one_by_one}
        rates |= {name: 1 / seconds for name, seconds in made.instead.items()}
        panels.append(("One worker, refreshes a second at 300 ms", rates, None))
    if not panels:
        return
    heights = [len(values) + 1.5 for _, values, _ in panels]
    size = (8, 0.23 * sum(heights) + 0.5)
    figure, axes = plt.subplots(
        len(panels), 1, figsize=size, height_ratios=heights, layout="constrained", squeeze=False
    )
    for (title, values, floor), axis in zip(panels, axes[:, 0], strict=True):
        theirs = [*INSTEAD, *(name + cold.SHIPPED for name in INSTEAD), cold.FLOOR, operations.FLOOR]
        colours = ["#b8b0ac" if name in theirs else "#4c78a8" for name in values]
        bars = axis.barh(list(values), list(values.values()), color=colours)
        axis.bar_label(bars, fmt=lambda value: f"{value:.3g}", padding=3, fontsize=7)
        if floor is not None:
            axis.axvline(floor, color="#e45756", linewidth=1)
        axis.invert_yaxis()
        axis.set_title(title, loc="left", fontsize=9, fontweight="bold")
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_json(path: Path, figures: Figures) -> None:
    """The file for machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(figures), indent=1) + "\n", "utf-8")
