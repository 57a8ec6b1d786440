"""The report: tables for the terminal, for `docs/performance.md` and for machines, and a picture of the same."""

import json
import os
import platform
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table. `met`: whether its target was reached; `None` where it has none."""

    cells: tuple[str, ...]
    met: bool | None = None
    value: float | None = None
    """What the picture shows."""
    taken: bool = True
    """Whether it could be measured."""


@dataclass(frozen=True, slots=True)
class Section:
    """A table with its heading."""

    title: str
    columns: tuple[str, ...]
    rows: list[Row]
    note: str = ""
    judged: bool = True
    """Whether the exit code depends on its targets."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of several programs, as a multiple of a base, with the targets of some."""

    title: str
    unit: str
    values: Mapping[str, Sequence[float]]
    base_title: str
    base: Sequence[float]
    targets: Mapping[str, float]
    missed: Mapping[str, str] = field(default_factory=dict)
    """Why the figure of a program, or some rounds of it, could not be taken."""
    at_least: bool = False
    """Whether a target is the least that is wanted, not the most."""

    def section(self) -> Section:
        """As a table. A program whose figure could not be taken misses its target."""
        names = [*self.values, *(name for name in self.missed if name not in self.values)]
        partly = [f"{name}: not in every round: {why}." for name, why in self.missed.items() if name in self.values]
        columns = ("", self.unit, f"× {self.base_title}", "target")
        return Section(self.title, columns, [self._row(name) for name in names], " ".join(partly))

    def _row(self, name: str) -> Row:
        target, values = self.targets.get(name), self.values.get(name)
        wanted = "" if target is None else f"{'≥' if self.at_least else '≤'} {target:g}"
        if not values or not self.base:
            why = self.missed.get(name) or f"no {self.base_title} to compare with"
            return Row((name, f"not taken: {why}", "", wanted), None if target is None else False, taken=False)
        middle = statistics.median(values)
        low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [middle] * 3
        ratio = round(middle / statistics.median(self.base), 2)
        met = None if target is None else ratio >= target if self.at_least else ratio <= target
        return Row((name, f"{middle:.3g} ({low:.3g} to {high:.3g})", f"{ratio:.2f}", wanted), met, middle)


def show(console: Console, sections: Sequence[Section]) -> None:
    """The tables, and which targets were not reached."""
    for section in sections:
        table = Table(box=None, pad_edge=False, title=f"\n{section.title}", title_justify="left", title_style="bold")
        for number, column in enumerate(section.columns):
            table.add_column(column, justify="right" if number else "left", overflow="fold")
        for row in section.rows:
            table.add_row(*row.cells, style={True: "green", False: "bold red", None: None}[row.met])
        console.print(table)
        if section.note:
            console.print(section.note, style="dim")
    missed = [f"{section.title}: {row.cells[0]}" for section in sections for row in section.rows if row.met is False]
    console.print("\n[bold red]Missed:[/]" if missed else "\nEvery target is met.", *missed, sep="\n  ")


def exit_code(sections: Sequence[Section]) -> int:
    """2 if a figure could not be taken, 1 if one missed its target, else 0."""
    rows = [row for section in sections if section.judged for row in section.rows]
    if not all(row.taken for row in rows):
        return 2
    return int(any(row.met is False for row in rows))


def machine() -> str:
    """Where it was measured."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def write_json(path: Path, sections: Sequence[Section]) -> None:
    """The file for machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine(), "sections": [asdict(section) for section in sections]}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


_BLOCK = re.compile(r"(<!-- bench: written by make bench -->\n).*?(<!-- /bench -->)", re.DOTALL)


def write_docs(path: Path, sections: Sequence[Section], date: str) -> None:
    """Replace the tables of the page by these. Raises `ValueError` if the page has no place for them."""
    text = path.read_text("utf-8")
    if not _BLOCK.search(text):
        raise ValueError(f"{path.name} has no <!-- bench: written by make bench --> … <!-- /bench -->")
    lines = [f"Measured on {date}: {machine()}.", ""]
    for section in sections:
        lines += [f"### {section.title}", "", f"| {' | '.join(section.columns)} |"]
        lines.append(f"|{'|'.join(['---', *['---:'] * (len(section.columns) - 1)])}|")
        for row in section.rows:
            lines.append(f"| {' | '.join(row.cells)}{ {True: ' ✓', False: ' ✗', None: ''}[row.met] } |")
        lines += ["", *([section.note, ""] if section.note else [])]
    block = "\n".join(lines)
    path.write_text(_BLOCK.sub(lambda found: f"{found[1]}\n{block}\n{found[2]}", text), "utf-8")


def draw(path: Path, sections: Sequence[Section], ours: Sequence[str]) -> None:
    """The values of each section that has some, as bars; those of `ours` in another colour."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and needed at the very end only

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    panels = {s.title: {row.cells[0]: row.value for row in s.rows if row.value is not None} for s in sections}
    panels = {title: values for title, values in panels.items() if values}
    if not panels:
        return
    heights = [len(values) + 1.5 for values in panels.values()]
    size = (8, 0.23 * sum(heights) + 0.5)
    figure, axes = plt.subplots(
        len(panels), 1, figsize=size, height_ratios=heights, layout="constrained", squeeze=False
    )
    for (title, values), axis in zip(panels.items(), axes[:, 0], strict=True):
        colours = ["#4c78a8" if name in ours else "#b8b0ac" for name in values]
        axis.bar_label(axis.barh(list(values), list(values.values()), color=colours), fmt="%.3g", padding=3, fontsize=7)
        axis.invert_yaxis()
        axis.set_title(title, loc="left", fontsize=9, fontweight="bold")
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
