"""Tables and times for people: in colours where a terminal has them, plain columns everywhere else."""

import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from flowaccount_connect_client.results import Connection

STYLES = {
    "active": "green",
    "importing": "cyan",
    "refresh_failing": "yellow",
    "in_doubt": "yellow",
    "reauthorization_required": "bold red",
    "disconnected": "dim",
}
"""How a status looks. The words alone say the same."""

_GAP = "  "


@dataclass(frozen=True)
class Cell:
    """A text and, on a terminal, its style."""

    text: str
    style: str = ""


def cell(value: object, style: str = "") -> Cell:
    """What is known, or a dash. Signs that could command a terminal become question marks."""
    text = "-" if value is None or value == "" else str(value)
    return Cell("".join(one if unicodedata.category(one)[0] != "C" else "?" for one in text), style)


def is_at_risk(one: Connection) -> bool:
    """Whether the refresh token of a connection that goes on dies soon."""
    return one.at_risk_since is not None and one.status in ("active", "refresh_failing", "in_doubt")


def status(value: object, *, at_risk: bool = False) -> Cell:
    """A status in its colour; an active connection at risk says so, and is not green."""
    return cell(f"{value}, at risk", "yellow") if at_risk else cell(value, STYLES.get(str(value), ""))


def moment(value: object) -> Cell:
    """A time in epoch seconds, as local time with its offset."""
    if not isinstance(value, int):
        return cell(None)
    try:
        return cell(time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(value)))
    except (ValueError, OverflowError, OSError):  # A time that this system's calendar does not reach.
        return cell(value)


def left(value: object, now: float) -> Cell:
    """How long until a time in epoch seconds."""
    if not isinstance(value, int):
        return cell(None)
    minutes = int(value - now) // 60
    if value <= now:
        return cell("passed", "red")
    text = f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
    return cell(text, "red" if minutes < 60 else "yellow" if minutes < 360 else "")


def show(headings: Sequence[str], rows: Sequence[Sequence[Cell]], out: TextIO | None = None) -> None:
    """Print a table. On a terminal that is too narrow for it each row becomes a block, one value a line.

    Nothing is cut off or broken: what a person copies stays in one piece.
    """
    stream = out or sys.stdout
    lines = _table(headings, rows)
    if stream.isatty() and max(map(_width_of, lines)) > shutil.get_terminal_size().columns:
        lines = [line for row in rows for line in _block(headings, row)]
    for line in lines:
        _print(line, stream)


def _table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    table = [[Cell(heading, "bold") for heading in headings], *map(list, rows)]
    widths = [max(_width(one.text) for one in column) for column in zip(*table, strict=True)]
    lines = [
        [
            Cell(one.text + " " * (width - _width(one.text)) + _GAP, one.style)
            for one, width in zip(row, widths, strict=True)
        ]
        for row in table
    ]
    return lines if any(headings) else lines[1:]


def _block(headings: Sequence[str], row: Sequence[Cell]) -> list[list[Cell]]:
    if not any(headings):
        name, *values = row
        return [[Cell(f"{name.text}: "), *values]]
    named = [[Cell(f"{heading}: "), one] for heading, one in zip(headings, row, strict=True) if one.text != "-"]
    return [*named, [Cell("")]]


def line(cells: Sequence[Cell], out: TextIO | None = None) -> None:
    """Print one line."""
    _print(cells, out or sys.stdout)


def _print(line: Sequence[Cell], stream: TextIO) -> None:
    if not is_coloured(stream):
        print("".join(one.text for one in line).rstrip(), file=stream)
        return
    from rich.console import Console
    from rich.text import Text

    text = Text.assemble(*((one.text, one.style) for one in line))
    text.rstrip()
    Console(file=stream, highlight=False, soft_wrap=True).print(text)


def _width_of(line: Sequence[Cell]) -> int:
    return _width("".join(one.text for one in line).rstrip())


def _width(text: str) -> int:
    """The columns that a text takes: Thai vowels above and below take none, wide signs two."""
    return sum(
        0 if unicodedata.category(one) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


@contextmanager
def progress(text: str, out: TextIO | None = None) -> Iterator[Callable[[int], None]]:
    """Shows how many are done, while the block runs: in place on a terminal, elsewhere a line every thousand."""
    stream = out or sys.stderr
    if is_coloured(stream):
        from rich.console import Console

        with Console(file=stream).status(text) as status:
            yield lambda done: status.update(f"{text}: {done:,}")
        return
    yield lambda done: print(f"{text}: {done:,}", file=stream, flush=True) if done % 1_000 == 0 else None


def is_coloured(stream: TextIO) -> bool:
    """Whether colours make sense: a terminal, rich installed, and no NO_COLOR."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        import rich  # noqa: F401 - comes with the extra `cli`
    except ImportError:
        return False
    return True
