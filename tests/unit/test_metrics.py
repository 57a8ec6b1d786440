"""What CloudWatch makes of log lines: metrics, statistics by period, expressions, alarms."""

import json
from typing import Any

import pytest

from tools.local.errors import LocalError
from tools.local.metrics import Metric, Sample, calculate, embedded, series, sounds, statistic

NOW = 1_800_000_000.0


def line(**values: Any) -> str:
    """A line as the functions write it."""
    directive = {
        "Namespace": "FlowAccountConnect",
        "Dimensions": [["service", "stack"]],
        "Metrics": [{"Name": name, "Unit": "Count"} for name in values],
    }
    told = {"Timestamp": int(NOW * 1000) + 250, "CloudWatchMetrics": [directive]}
    return json.dumps({"_aws": told, "service": "sweep", "stack": "s", **values})


def test_a_line_holds_each_value_of_each_metric_under_its_dimensions() -> None:
    dimensions = frozenset({("service", "sweep"), ("stack", "s")})
    latency, due = (Metric("FlowAccountConnect", name, dimensions) for name in ("ExchangeLatency", "Due"))
    assert list(embedded(line(ExchangeLatency=[10.0, 30.0], Due=4))) == [
        (latency, Sample(NOW + 0.25, 10.0)),
        (latency, Sample(NOW + 0.25, 30.0)),
        (due, Sample(NOW + 0.25, 4.0)),
    ]


def test_a_metric_counts_under_each_set_of_dimensions() -> None:
    document = json.loads(line(Due=1))
    document["_aws"]["CloudWatchMetrics"][0]["Dimensions"] = [["service"], ["service", "stack"], []]
    found = [metric.dimensions for metric, _ in embedded(json.dumps(document))]
    assert [len(one) for one in found] == [1, 2, 0]


@pytest.mark.parametrize(
    "other", ["", "REPORT RequestId: 1", '"text"', "[1]", "null", '{"message": "tick"}', '{"_aws": 1}']
)
def test_other_lines_hold_none(other: str) -> None:
    assert list(embedded(other)) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Sum", 110.0),
        ("Minimum", 1.0),
        ("Maximum", 100.0),
        ("Average", 27.5),
        ("SampleCount", 4.0),
        ("p50", 4.5),
        ("p0", 1.0),
        ("p100", 100.0),
        ("p99", 97.18),
        ("p99.9", 99.718),
    ],
)
def test_statistics(name: str, expected: float) -> None:
    assert statistic(name, [100.0, 3.0, 1.0, 6.0]) == pytest.approx(expected)
    assert statistic(name, []) is None


@pytest.mark.parametrize("name", ["tm99", "IQM", "p", "px", "sum"])
def test_a_statistic_that_is_not_known_is_no_zero(name: str) -> None:
    with pytest.raises(LocalError, match=name):
        statistic(name, [])


def test_a_series_has_a_value_for_each_period_that_has_any() -> None:
    samples = [Sample(NOW - ago, value) for ago, value in ((0, 1.0), (59, 2.0), (60, 4.0), (180, 8.0), (-1, 16.0))]
    assert series(samples, "Sum", 60, 3, NOW) == [None, 4.0, 3.0]
    assert series(samples, "Sum", 60, 4, NOW) == [8.0, None, 4.0, 3.0]
    assert series(samples, "Minimum", 240, 1, NOW) == [1.0]


def test_expressions_are_calculated_period_by_period() -> None:
    known: dict[str, list[float | None]] = {"m1": [7200.0, None, 0.0], "m2": [2.0, 1.0, 0.0]}
    assert calculate("m1 / 3600", known, 3) == [2.0, None, 0.0]
    assert calculate("(m1 - 200) / m2 + 2 * m2", known, 3) == [3504.0, None, None]
    assert calculate("FILL(m1, 0) + m2", known, 3) == [7202.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "expression", ["FILL(m1, REPEAT)", "FILL(m1)", "RATE(m1)", "m9", "__import__('os')", "m1 ** 2", "'m1'"]
)
def test_an_expression_that_is_not_known_is_refused(expression: str) -> None:
    with pytest.raises(LocalError, match="more than local/metrics"):
        calculate(expression, {"m1": [1.0]}, 1)


@pytest.mark.parametrize(
    ("values", "comparison", "needed", "missing", "expected"),
    [
        ([2.0], "GreaterThanOrEqualToThreshold", 1, "notBreaching", True),
        ([2.0], "GreaterThanThreshold", 1, "notBreaching", False),
        ([2.0], "LessThanThreshold", 1, "notBreaching", False),
        ([2.0], "LessThanOrEqualToThreshold", 1, "notBreaching", True),
        ([3.0, 1.0, 3.0], "GreaterThanThreshold", 2, "notBreaching", True),
        ([3.0, 1.0, 3.0], "GreaterThanThreshold", 3, "notBreaching", False),
        ([None, None], "LessThanThreshold", 2, "breaching", True),
        ([None, 2.0], "LessThanThreshold", 2, "breaching", False),
        ([None, None], "LessThanThreshold", 2, "notBreaching", False),
    ],
)
def test_an_alarm_sounds_when_enough_periods_are_beyond(
    values: list[float | None], comparison: str, needed: int, missing: str, expected: bool
) -> None:
    assert sounds(values, threshold=2, comparison=comparison, needed=needed, missing=missing) is expected
