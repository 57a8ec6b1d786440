"""CloudWatch's arithmetic, which the emulator lacks: metrics in log lines, statistics, expressions, alarms.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

import ast
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tools.local.errors import LocalError


@dataclass(frozen=True, slots=True)
class Metric:
    """The identity of a metric in CloudWatch."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric; `at` is in epoch seconds."""

    at: float
    value: float


def embedded(line: str) -> Iterator[tuple[Metric, Sample]]:
    """The metrics in one log line, in the embedded metric format; none in any other line."""
    try:
        document = json.loads(line)
    except ValueError:
        return
    header = document.get("_aws") if isinstance(document, dict) else None
    if not isinstance(header, dict):
        return
    at = header["Timestamp"] / 1000
    for directive in header["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            dimensions = frozenset((name, str(document[name])) for name in names)
            for metric in directive["Metrics"]:
                values = document[metric["Name"]]
                for value in values if isinstance(values, list) else [values]:
                    yield Metric(directive["Namespace"], metric["Name"], dimensions), Sample(at, float(value))


_STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "Sum": sum,
    "Minimum": min,
    "Maximum": max,
    "Average": lambda values: sum(values) / len(values),
    "SampleCount": len,
}


def statistic(name: str, values: Sequence[float]) -> float | None:
    """One statistic of the values of one period, by CloudWatch's name (`Sum`, `p99`, …); `None` without values.

    Raises `LocalError` for a name that is not known here.
    """
    if name not in _STATISTICS and not (name[:1] == "p" and name[1:].replace(".", "", 1).isdigit()):
        raise LocalError(f"The dashboard asks for the statistic {name}, which local/metrics.py does not know: add it.")
    if not values:
        return None
    if name in _STATISTICS:
        return float(_STATISTICS[name](values))
    return float(np.percentile(values, float(name[1:])))


def series(samples: Sequence[Sample], name: str, period: float, periods: int, now: float) -> list[float | None]:
    """A statistic of each of the last periods (seconds), oldest first; the last ends now, not at a full minute."""
    found: list[list[float]] = [[] for _ in range(periods)]
    for sample in samples:
        age = now - sample.at
        if 0 <= age < period * periods:
            found[periods - 1 - int(age // period)].append(sample.value)
    return [statistic(name, values) for values in found]


_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def calculate(expression: str, known: Mapping[str, Sequence[float | None]], periods: int) -> list[float | None]:
    """A metric math expression over series by their ids. The result is `None` for a missing value and for x / 0.

    Raises `LocalError` for anything but the four operations and `FILL` with a number.
    """

    def value(node: ast.expr, at: int) -> float | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return float(node.value)
        if isinstance(node, ast.Name) and node.id in known:
            return known[node.id][at]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            left, right = value(node.left, at), value(node.right, at)
            if left is None or right is None or (isinstance(node.op, ast.Div) and right == 0):
                return None
            return _OPERATORS[type(node.op)](left, right)
        match node:
            case ast.Call(func=ast.Name(id="FILL"), args=[filled, ast.Constant() as instead], keywords=[]):
                found = value(filled, at)
                return value(instead, at) if found is None else found
        raise LocalError(f"The dashboard's expression {expression!r} is more than local/metrics.py knows: add it.")

    body = ast.parse(expression, mode="eval").body
    return [value(body, at) for at in range(periods)]


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


def sounds(values: Sequence[float | None], *, threshold: float, comparison: str, needed: int, missing: str) -> bool:
    """Whether an alarm sounds: at least `needed` of the last periods' values are beyond the threshold.

    `missing` says how a period without a value counts: `breaching` or `notBreaching`. This stack uses no others.
    """
    beyond = _COMPARISONS[comparison]
    hits = [missing == "breaching" if value is None else beyond(value, threshold) for value in values]
    return sum(hits) >= needed
