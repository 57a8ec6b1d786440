"""Shows the steps of a command on the terminal, each with its time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


class Steps:
    """Shows steps: animated on a terminal, as plain lines elsewhere. ``with steps.step("…"):`` is one step."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One step: shown while the block runs, ticked when it ends, crossed when it raises."""
        started, mark = time.monotonic(), "[red]✗[/]"
        try:
            with self._console.status(escape(title)):
                yield
            mark = "[green]✓[/]"
        finally:
            took = f"[dim]{time.monotonic() - started:.1f} s[/]"
            self._console.print(f"{mark} {escape(title)} {took}", soft_wrap=True)

    def note(self, text: str) -> None:
        """A line that is not a step."""
        self._console.print(f"  {escape(text)}", soft_wrap=True)
