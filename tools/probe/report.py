"""The report: each question, its answer, and what follows; for people and for programs, without secrets."""

import json
import time
import unicodedata
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tools.probe.findings import QUESTIONS, Finding
from tools.probe.parameters import Parameter, overrides

REMOVED = "[removed]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of one run."""

    token_endpoint: str
    findings: list[Finding]
    parameters: list[Parameter]
    consents: int
    requests: int
    finished_at: float
    """Epoch seconds."""
    secrets: Collection[str]
    """What the report must not show, wherever a server put it."""
    note: str = ""
    """What else the reader has to know: that it was a demonstration, or that it was interrupted."""

    def machine_readable(self) -> str:
        """JSON: findings by name, parameters by name, and the line to copy."""
        content = {
            "finished_at": int(self.finished_at),
            "token_endpoint": self.token_endpoint,
            "note": self.note,
            "consents": self.consents,
            "requests": self.requests,
            "findings": {one.name: {"question": QUESTIONS[one.name], **asdict(one)} for one in self.findings},
            "parameters": {one.name: asdict(one) for one in self.parameters},
            "parameter_overrides": overrides(self.parameters),
        }
        return self._clean(json.dumps(content, indent=2, ensure_ascii=False))

    def show(self, console: Console) -> None:
        """Print it: one row for each question."""
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for heading in ("Question", "Answer", "What follows"):
            table.add_column(heading, ratio=1, overflow="fold")
        for finding in self.findings:
            answer = finding.words if finding.value is not None else f"Not found out. {finding.words}"
            answer = f"IN THE WAY: {answer}" if finding.in_the_way else answer
            chosen = [one for one in self.parameters if one.question == finding.name]
            follows = [f"{one.name}={one.value or '(default)'}. {one.because}" for one in chosen]
            cells = (QUESTIONS[finding.name], answer, "\n".join(follows))
            style = "red" if finding.in_the_way else "" if finding.value is not None else "dim"
            table.add_row(*(escape(self._clean(cell)) for cell in cells), style=style)
        moment = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.finished_at))
        console.print(
            f"\n{escape(self.token_endpoint)}, {moment}; {self.consents} consents, {self.requests} requests",
            soft_wrap=True,
        )
        console.print(table)
        if self.note:
            console.print(f"[bold yellow]{escape(self.note)}[/]")
        line = overrides(self.parameters)
        console.print("\n[bold]To copy:[/]" if line else "\nEvery default fits.")
        if line:
            console.print(self._clean(line), soft_wrap=True, markup=False, highlight=False)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write `probe.txt` and `probe.json`, and return their paths. Raises `OSError`."""
        folder.mkdir(parents=True, exist_ok=True)
        text, data = folder / "probe.txt", folder / "probe.json"
        data.write_text(self.machine_readable() + "\n", "utf-8")
        with text.open("w", encoding="utf-8") as file:
            self.show(Console(file=file, width=140, highlight=False))
        return text, data

    def _clean(self, text: str) -> str:
        """A text without secrets, and without what could command a terminal."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            if len(secret) >= 8:
                # As it is, and as JSON writes it.
                text = text.replace(secret, REMOVED).replace(json.dumps(secret)[1:-1], REMOVED)
        return "".join(one for one in text if one == "\n" or unicodedata.category(one)[0] != "C")
