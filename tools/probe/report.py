"""The report: on the terminal, as Markdown, and for programs. No secret gets into any of them."""

import json
import time
import unicodedata
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tools.probe.findings import QUESTIONS, Finding
from tools.probe.parameters import Parameter, overrides
from tools.probe.target import Target

REMOVED = "[removed]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of one run."""

    target: Target
    findings: list[Finding]
    parameters: list[Parameter]
    obstacles: list[str]
    consents: int
    requests: int
    finished_at: float
    """Epoch seconds."""
    secrets: Collection[str]
    """What must not get out; whatever server put it where."""
    note: str | None = None
    """What else the reader has to know: that it was a demonstration, or that it was interrupted."""

    def machine_readable(self) -> str:
        """JSON: findings by name, parameters by name, and the line to copy."""
        return self._clean(
            json.dumps(
                {
                    "finished_at": int(self.finished_at),
                    "authorize_endpoint": _plain(self.target.authorize_endpoint),
                    "token_endpoint": _plain(self.target.token_endpoint),
                    "note": self.note,
                    "consents": self.consents,
                    "requests": self.requests,
                    "obstacles": self.obstacles,
                    "findings": {
                        finding.name: {"question": QUESTIONS[finding.name], "known": finding.known}
                        | {name: value for name, value in asdict(finding).items() if name != "name"}
                        for finding in self.findings
                    },
                    "parameters": {
                        parameter.name: {"value": parameter.value, "because": parameter.because}
                        for parameter in self.parameters
                    },
                    "parameter_overrides": overrides(self.parameters),
                },
                indent=2,
                ensure_ascii=False,
            )
        )

    def markdown(self) -> str:
        """The same for people."""
        moment = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(self.finished_at))
        lines = [
            "# What the probe found out",
            "",
            f"{_plain(self.target.token_endpoint)}, {moment}; {self.consents} consents, {self.requests} requests.",
            *(["", f"**{self.note}**"] if self.note else []),
            *(["", "## In the way", "", *(f"- {sentence}" for sentence in self.obstacles)] if self.obstacles else []),
            "",
            "## Parameters that follow",
            "",
            "| parameter | value | because |",
            "|---|---|---|",
            *(self._row(one.name, _shown(one), one.because) for one in self.parameters),
            "",
            "```",
            overrides(self.parameters) or "every default fits",
            "```",
            "",
            "## Findings",
            "",
            "| question | answer | seen |",
            "|---|---|---|",
            *(self._row(QUESTIONS[one.name], _answer(one), "; ".join(one.evidence)) for one in self.findings),
            "",
        ]
        return self._clean("\n".join(lines))

    def show(self, console: Console) -> None:
        """Print it."""
        findings = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        findings.add_column("Question", ratio=2)
        findings.add_column("Answer", ratio=3)
        for finding in self.findings:
            answer = self._clean(_answer(finding))
            if finding.name == "surprises" and finding.evidence:
                answer = self._clean(" ".join((finding.words, *finding.evidence)))
            findings.add_row(escape(QUESTIONS[finding.name]), escape(answer), style="" if finding.known else "dim")
        parameters = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for heading in ("Parameter", "Value", "Because"):
            parameters.add_column(heading, overflow="fold")
        for parameter in self.parameters:
            style = "green" if parameter.value is not None else "dim"
            because = escape(self._clean(parameter.because))
            parameters.add_row(parameter.name, f"[{style}]{escape(self._clean(_shown(parameter)))}[/]", because)
        console.print("\n[bold]What was found out[/]")
        console.print(findings)
        console.print("[bold]What follows for the stack[/]")
        console.print(parameters)
        for sentence in self.obstacles:
            console.print(f"[bold red]In the way:[/] {escape(sentence)}")
        if self.note:
            console.print(f"[bold yellow]{escape(self.note)}[/]")
        line = overrides(self.parameters)
        console.print("\n[bold]To copy:[/]" if line else "\nEvery default fits.")
        if line:
            console.print(self._clean(line), soft_wrap=True, markup=False, highlight=False)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write `probe.md` and `probe.json` to a folder; where they are. Raises `OSError`, the old ones whole then."""
        paths = folder / "probe.md", folder / "probe.json"
        for path, text in zip(paths, (self.markdown(), self.machine_readable() + "\n"), strict=True):
            fresh = path.with_suffix(".new")
            fresh.write_text(text, "utf-8")
            fresh.replace(path)
        return paths

    def _row(self, *cells: str) -> str:
        """A row of a Markdown table."""
        return f"| {' | '.join(self._clean(cell).replace('|', '\\|').replace('\n', ' ') for cell in cells)} |"

    def _clean(self, text: str) -> str:
        """A text without secrets, and without what could command a terminal."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            if len(secret) >= 8:
                # As it is, and as JSON writes it.
                text = text.replace(secret, REMOVED).replace(json.dumps(secret)[1:-1], REMOVED)
        return "".join(one for one in text if one == "\n" or unicodedata.category(one)[0] != "C")


def _plain(url: str) -> str:
    """A URL without its query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _answer(finding: Finding) -> str:
    return finding.words if finding.known else f"Not found out. {finding.words}"


def _shown(parameter: Parameter) -> str:
    return parameter.value if parameter.value is not None else "(default)"
