"""Shows the steps of a command on the terminal, each with its time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table


class Steps:
    """Shows steps: animated on a terminal, as plain lines elsewhere. ``with steps.step("…"):`` is one step."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step: shown while the block runs, ticked when it ends, crossed when it raises."""
        started = time.monotonic()
        if not self._console.is_terminal:
            yield
            self._console.print(_line("✓", "green", title, started))
            return
        with Live(console=self._console, refresh_per_second=8, transient=True) as live:
            live.update(_Running(title, started))
            try:
                yield
            except BaseException:
                live.stop()
                self._console.print(_line("✗", "red", title, started))
                raise
        self._console.print(_line("✓", "green", title, started))

    def note(self, text: str) -> None:
        """A line that is not a step."""
        self._console.print(f"  {escape(text)}", soft_wrap=True)


class _Running:
    """A step that has not ended. Its time grows while it is shown."""

    def __init__(self, title: str, started: float) -> None:
        self._title = title
        self._started = started

    def __rich__(self) -> Table:
        return _line("…", "yellow", self._title, self._started)


def _line(mark: str, colour: str, title: str, started: float) -> Table:
    """One step as a row."""
    row = Table.grid(padding=(0, 1))
    row.add_row(f"[{colour}]{mark}[/]", escape(title), f"[dim]{time.monotonic() - started:.1f} s[/]")
    return row
