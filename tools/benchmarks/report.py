"""The report: the same tables for the terminal and for `docs/performance.md`."""

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table. `met`: whether its target was reached; `None` where it has none."""

    cells: tuple[str, ...]
    met: bool | None = None
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
