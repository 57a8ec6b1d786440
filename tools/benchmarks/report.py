"""The report: the same tables for the terminal, for `docs/performance.md` and for machines, and a picture of them."""

import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path


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


def exit_code(sections: Sequence[Section]) -> int:
    """2 if a figure could not be taken, 1 if one missed its target, else 0."""
    rows = [row for section in sections if section.judged for row in section.rows]
    if not all(row.taken for row in rows):
        return 2
    return int(any(row.met is False for row in rows))


def markdown(sections: Sequence[Section]) -> str:
    """The tables, and which targets were missed."""
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    lines = [f"Measured on {datetime.now(UTC):%d %B %Y}: {machine}.", ""]
    for section in sections:
        lines += [f"### {section.title}", "", f"| {' | '.join(section.columns)} |"]
        lines.append(f"|{'|'.join(['---', *['---:'] * (len(section.columns) - 1)])}|")
        for row in section.rows:
            mark = {True: " ✓", False: " ✗", None: ""}[row.met]
            lines.append(f"| {' | '.join(row.cells)}{mark} |")
        lines += ["", section.note, ""] if section.note else [""]
    missed = [f"{section.title}: {row.cells[0]}" for section in sections for row in section.rows if row.met is False]
    return "\n".join([*lines, f"Missed: {'; '.join(missed)}." if missed else "Every target is reached.", ""])


_BLOCK = re.compile(r"(<!-- bench: written by make bench -->\n).*?(<!-- /bench -->)", re.DOTALL)


def write_docs(path: Path, sections: Sequence[Section]) -> None:
    """Replace the tables of the page by these. Raises `ValueError` if the page has no place for them."""
    text = path.read_text("utf-8")
    if not _BLOCK.search(text):
        raise ValueError(f"{path.name} has no <!-- bench: written by make bench --> … <!-- /bench -->")
    path.write_text(_BLOCK.sub(lambda found: f"{found[1]}\n{markdown(sections)}\n{found[2]}", text), "utf-8")


def write_json(path: Path, sections: Sequence[Section]) -> None:
    """The file for machines."""
    path.write_text(json.dumps([asdict(one) for one in sections], indent=1, ensure_ascii=False) + "\n", "utf-8")


def draw(path: Path, sections: Sequence[Section], ours: Sequence[str]) -> None:
    """The values of each section that has some, as bars; those of `ours` in another colour."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and needed at the very end only

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    values = {s.title: {row.cells[0]: row.value for row in s.rows if row.value is not None} for s in sections}
    panels = {title: bars for title, bars in values.items() if bars} or {"nothing was timed": {"": 0.0}}
    heights = [len(bars) + 1.5 for bars in panels.values()]
    size = (8, 0.23 * sum(heights) + 0.5)
    figure, axes = plt.subplots(len(panels), figsize=size, height_ratios=heights, layout="constrained", squeeze=False)
    for (title, bars), axis in zip(panels.items(), axes[:, 0], strict=True):
        drawn = axis.barh(list(bars), list(bars.values()), color=["C0" if name in ours else "silver" for name in bars])
        axis.bar_label(drawn, fmt="%.3g", padding=3, fontsize=7)
        axis.invert_yaxis()
        axis.set_title(title, loc="left", fontsize=9, fontweight="bold")
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
