"""`make bench`: what the product takes, beside the floor and what one would write instead.

Prints tables. Exit code 0 if every target was reached, 1 if not, 2 if a figure could not be taken. Prices do not count:
half of what they are made of is not of this machine.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.markdown import Markdown

from tools.benchmarks import calls, compared, money, programs, report
from tools.benchmarks.report import Row, Section
from tools.benchmarks.stack import stack
from tools.benchmarks.timed import OURS, Figures, Run
from tools.local.errors import LocalError
from tools.local.places import ROOT, shown

PARTS = ("calls", "cold", "warm", "worker")
PAGE = ROOT / "docs" / "performance.md"


def measure(only: Sequence[str], console: Console, *, short: bool) -> list[Section]:
    """Measure these parts; what cannot be measured has a section that says why. Raises `LocalError` if nothing can."""
    with console.status("building what is deployed"):
        functions, others = programs.product(programs.built()), programs.others()
    figures, made = Figures(), list[Section]()
    with stack(functions) as measured:
        # First, while nothing is due.
        if "calls" in only:
            with figures.taking("calls", OURS), console.status("calls"):
                counted = calls.count(measured, due=100 if short else 300)
                made += [calls.section(counted), money.section(counted)]
        parts: Mapping[str, Callable[[Run], None]] = {
            "cold": lambda run: run.cold(*((1, 1) if short else (15, 3))),
            "warm": lambda run: run.warm(*((1, 20) if short else (7, 200))),
            "worker": lambda run: run.worker(*((1, 5) if short else (4, 10))),
        }
        for part in [part for part in parts if part in only]:
            with figures.taking(part, OURS):
                parts[part](Run(measured, others, console, figures))
    problems = [
        Section(f"Not measured: {part}", ("",), [Row((why,), False, taken=False)])
        for (part, _), why in figures.missed.items()
        if part in PARTS
    ]
    return [*compared.sections(figures), *made, *problems]


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole of it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts (default: all)")
    parser.add_argument("--short", action="store_true", help="to see that it works; its figures are worthless")
    parser.add_argument("--write-docs", action="store_true", help="write the tables into docs/, too")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        sections = measure(options.only, console, short=options.short)
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console.print(Markdown(report.markdown(sections)))
    if options.write_docs:
        report.write_docs(PAGE, sections)
        console.print(f"{shown(PAGE)} has been written.")
    return report.exit_code(sections)


if __name__ == "__main__":
    sys.exit(main())
