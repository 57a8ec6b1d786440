"""Tables and times for people: in colours where there is a terminal, plain columns everywhere else."""

import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

STYLES = {
    "active": "green",
    "importing": "cyan",
    "refresh_failing": "yellow",
    "in_doubt": "yellow",
    "reauthorization_required": "bold red",
    "disconnected": "dim",
}
"""How a status looks; every word tells the same without its colour."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and, on a terminal, its style."""

    text: str
    style: str = ""


def cell(value: object, style: str = "") -> Cell:
    """What is known, or a dash; whatever could command a terminal is shown as a question mark."""
    text = "-" if value is None or value == "" else str(value)
    return Cell("".join(one if unicodedata.category(one)[0] != "C" else "?" for one in text), style)


def status(value: object) -> Cell:
    """A status in its colour."""
    return cell(value, STYLES.get(str(value), ""))


def moment(value: object) -> Cell:
    """A time in epoch seconds, as the clock on the wall says it."""
    if not isinstance(value, int):
        return cell(None)
    return cell(time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(value)))


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
    """Print a table."""
    stream = out or sys.stdout
    if is_coloured(stream):
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for number, heading in enumerate(headings):
            table.add_column(heading, overflow="fold", no_wrap=number < 2)  # What a person copies stays in one piece.
        for row in rows:
            table.add_row(*(Text(one.text, style=one.style) for one in row))
        Console(file=stream).print(table)
        return
    widths = [
        max(map(len, column)) for column in zip(headings, *([one.text for one in row] for row in rows), strict=True)
    ]
    for line in (headings, *([one.text for one in row] for row in rows)):
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip(), file=stream)


@contextmanager
def progress(text: str, out: TextIO | None = None) -> Iterator[Callable[[int], None]]:
    """Tells how many are done, while the block runs: in place on a terminal, elsewhere a line every thousand."""
    stream = out or sys.stderr
    if is_coloured(stream):
        from rich.console import Console

        with Console(file=stream).status(text) as status:
            yield lambda done: status.update(f"{text}: {done:,}")
        return
    yield lambda done: print(f"{text}: {done:,}", file=stream, flush=True) if done % 1_000 == 0 else None


def is_coloured(stream: TextIO) -> bool:
    """Whether colours make sense: a terminal, rich installed, and nobody said NO_COLOR."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        import rich  # noqa: F401 - comes with the extra `cli`
    except ImportError:
        return False
    return True
