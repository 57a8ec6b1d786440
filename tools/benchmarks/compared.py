"""The tables of what was timed: each figure as a multiple of the floor, or of what one would write instead."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from tools.benchmarks import timed
from tools.benchmarks.programs import FLOOR, FUNCTIONS
from tools.benchmarks.report import Row, Section
from tools.benchmarks.stack import BATCH
from tools.benchmarks.timed import OURS, Figures


@dataclass(frozen=True, slots=True)
class Comparison:
    """One table: a figure of several programs, and the target of some."""

    title: str
    figure: str
    targets: Mapping[str, float]
    """By program, as a multiple of the base."""
    base_title: str
    base: timed.Name | None
    """A figure of a program; `None`: the cheapest program that is not ours."""
    unit: str = timed.CPU
    at_least: bool = False
    """Whether a target is the least that is wanted, not the most."""

    def section(self, figures: Figures) -> Section:
        """As it was taken. A program whose figure could not be taken misses its target, and the table says why."""
        taken = {name: values for (figure, name), values in figures.taken[self.unit].items() if figure == self.figure}
        missed = {name: why for (figure, name), why in figures.missed.items() if figure == self.figure}
        if self.base is None:
            theirs = [values for name, values in taken.items() if name != OURS]
            base = min(theirs, key=statistics.median, default=[])
        else:
            base = figures.taken[self.unit].get(self.base, [])
        rows = [self._row(name, taken[name], base) for name in taken]
        for name in missed.keys() - taken.keys():
            target = self.targets.get(name)
            cells = (name, f"not taken: {missed[name]}", "", self._wanted(target))
            rows.append(Row(cells, None if target is None else False, taken=False))
        partly = [f"{name}: not in every round: {why}." for name, why in missed.items() if name in taken]
        return Section(self.title, ("", self.unit, f"× {self.base_title}", "target"), rows, " ".join(partly))

    def _row(self, name: str, values: list[float], base: list[float]) -> Row:
        middle, target = statistics.median(values), self.targets.get(name)
        low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [middle] * 3
        value = f"{middle:.3g} ({low:.3g} to {high:.3g})"
        if not base:
            return Row((name, value, "nothing to compare with", self._wanted(target)), None, taken=False)
        ratio = round(middle / statistics.median(base), 2)
        met = None if target is None else ratio >= target if self.at_least else ratio <= target
        return Row((name, value, f"{ratio:.2f}", self._wanted(target)), met)

    def _wanted(self, target: float | None) -> str:
        return "" if target is None else f"{'≥' if self.at_least else '≤'} {target:g}"


_READY = dict.fromkeys(FUNCTIONS, 1.0) | {"callback": 1.2, "refresh": 1.2}
_MEMORY = dict.fromkeys(FUNCTIONS, 1.1)
_FLOOR = ("floor", (timed.READY, FLOOR))
_FIRST_READ = ("floor with its first get_item", (timed.FIRST_TOKEN, FLOOR))
_GET_ITEM = ("boto3's get_item", (timed.TOKEN, FLOOR))
_ONE_BY_ONE = ("ours, one by one", (timed.WORKER, timed.ONE_BY_ONE))
_OTHERS = ("the cheapest other", None)
_SLOW = f"One worker where FlowAccount takes {timed.LATENCY * 1_000:.0f} ms"

COMPARISONS = (
    Comparison("Cold start until ready", timed.READY, _READY, *_FLOOR),
    Comparison("Cold start and a first token, by TLS", timed.FIRST_TOKEN, {OURS: 1.0}, *_FIRST_READ),
    Comparison(f"Cold start and a first batch of {BATCH}, by TLS", timed.FIRST_BATCH, {OURS: 2.5}, *_FLOOR),
    Comparison("Peak memory when ready", timed.READY, _MEMORY, *_FLOOR, timed.MEMORY),
    Comparison(f"Peak memory after a first batch of {BATCH}", timed.FIRST_BATCH, {OURS: 1.3}, *_FLOOR, timed.MEMORY),
    Comparison("A token, warm", timed.TOKEN, {OURS: 1.05}, *_GET_ITEM),
    Comparison(f"A refresh in a batch of {BATCH}, warm", timed.IN_BATCH, {OURS: 0.9}, *_OTHERS),
    Comparison("A refresh alone, with its handshake, warm", timed.ALONE, {OURS: 1.4}, *_OTHERS),
    Comparison(_SLOW, timed.WORKER, {OURS: 15}, *_ONE_BY_ONE, timed.RATE, at_least=True),
)


def sections(figures: Figures) -> list[Section]:
    """A table for each figure that was taken or could not be; none for what nobody asked for."""
    return [made for made in (one.section(figures) for one in COMPARISONS) if made.rows]
