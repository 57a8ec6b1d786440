"""`make bench`: what the product takes, beside the floor and what one would write instead, in ten minutes at most.

Prints tables, draws `.local/bench/performance.png` and writes `.local/bench/performance.json`. Exit code 0 if every
goal was reached for what is measured, 1 if not, 2 if it could not be measured. The price is shown beside its goal, and
does not count: it is a list's, of which half has nothing to do with this machine.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import track

from local.errors import LocalError
from local.places import LOCAL, ROOT, shown
from tools.benchmarks import cold, components, lambdas, operations, performance, scale, throughput
from tools.benchmarks.performance import Figures

SECTIONS = ("cold", "operations", "throughput", "scale")
FOLDER = LOCAL / "bench"
PAGE = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "performance.png"


def measure(sections: Sequence[str], console: Console, *, short: bool = False) -> Figures:
    """Measure these sections one after the other. `short` is for a look whether it works. Raises `LocalError`."""
    figures = Figures()
    with console.status("building what is deployed"):
        functions = lambdas.product(lambdas.built())
        floor = lambdas.floor(functions)
        instead = lambdas.instead(bytecode=True)
        shipped = lambdas.instead(bytecode=False)

    def each[One](title: str, rounds: int, made: Iterator[One]) -> One:
        last = None
        for last in track(made, title, total=rounds + 1, console=console, transient=True):  # noqa: B007
            pass
        if last is None:
            raise AssertionError("at least one round")
        return last

    if "cold" in sections:
        rounds, batch = (1, 5) if short else (cold.ROUNDS, throughput.BATCH)
        started = cold.measure(functions, floor, instead, shipped, rounds=rounds, batch=batch)
        figures.cold = each("cold starts", rounds, started)
    if "operations" in sections:
        rounds, tokens, refreshes = (1, 5, 5) if short else (operations.ROUNDS, operations.TOKENS, operations.REFRESHES)
        made = operations.measure(functions, floor, instead, rounds=rounds, tokens=tokens, refreshes=refreshes)
        figures.operations = each("warm operations", rounds, made)
    if "throughput" in sections:
        batch, batches = (4, 1) if short else (throughput.BATCH, throughput.BATCHES)
        with console.status("one worker at 300 ms"):
            figures.throughput = throughput.measure(functions, instead, batch=batch, batches=batches)
    if "scale" in sections:
        sizes, due, rounds = ((200, 400), 20, 1) if short else ((scale.SMALL, scale.LARGE), scale.DUE, scale.ROUNDS)
        with components.dynamodb() as url:
            figures.scale = scale.measure(url, sizes, due, rounds, console)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole of it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections (default: all)")
    parser.add_argument("--short", action="store_true", help="to see that it works; its figures are worthless")
    parser.add_argument("--write-docs", action="store_true", help="write tables and picture into docs/, too")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        figures = measure(options.only, console, short=options.short)
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    performance.show(console, figures)
    performance.write_json(FOLDER / "performance.json", figures)
    performance.draw(FOLDER / "performance.png", figures)
    console.print(f"\n{shown(FOLDER)}/performance.json and .png have all figures.")
    if options.write_docs:
        performance.write_docs(PAGE, figures)
        performance.draw(PICTURE, figures)
        console.print(f"{shown(PAGE)} and {shown(PICTURE)} have been written.")
    return 0 if figures.met else 1


if __name__ == "__main__":
    sys.exit(main())
