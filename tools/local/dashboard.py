"""`make dashboard`: the stack's CloudWatch dashboard as a picture, with the figures of the local stack.

The widgets and the alarms are those of the deployed stack. The emulator makes no metrics from the functions' logs, and
it ignores the dimensions of alarms, so this module computes both.
"""

import json
import sys
import textwrap
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from tools.local import metrics, service, stack
from tools.local.deployment import STACK_NAME
from tools.local.errors import LocalError
from tools.local.metrics import Metric, Sample
from tools.local.places import STATE, shown
from tools.local.stack import Stack
from tools.local.steps import Steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE = STATE / "dashboard" / "dashboard.png"
UNKNOWN = "unknown to the emulator"
_DAY = 86_400
_LONGEST, _SHORTEST = 3 * 3600, 900
"""The longest and the shortest time that a chart shows, in seconds."""

# By CloudWatch metric: the queue's attribute that it is made of. The emulator knows only its present value.
_OF_QUEUES = {
    "ApproximateNumberOfMessagesVisible": "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible": "ApproximateNumberOfMessagesNotVisible",
}
_OF_FUNCTIONS = {"Invocations", "Errors"}
_FAILED = ("Traceback", "Task timed out", "Worker ", "No JSON response")
"""How a line of the emulator's begins that says how an invocation failed."""


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of a widget: a value for each period, oldest first; `None` where the emulator does not know it."""

    label: str
    values: list[float | None] | None
    period: float
    """In seconds."""

    @property
    def latest(self) -> tuple[float, float] | None:
        """The latest value, and how many seconds ago its period ended; `None` without a value."""
        for ago, value in enumerate(reversed(self.values or [])):
            if value is not None:
                return value, ago * self.period
        return None


@dataclass(frozen=True, slots=True)
class Widget:
    """One widget, by the names of CloudWatch, with its figures; its place is in cells of the grid."""

    kind: str
    """`text`, `singleValue`, `timeSeries` or `alarm`."""
    title: str
    x: int
    y: int
    width: int
    height: int
    lines: list[Line] = field(default_factory=list)
    stacked: bool = False
    thresholds: dict[str, float] = field(default_factory=dict)
    """Horizontal lines of a chart, by their labels."""
    alarms: dict[str, str] = field(default_factory=dict)
    """`ALARM`, `OK` or `UNKNOWN`, by the alarm's name without the stack's name."""


class Figures:
    """The metrics of the local stack during the last day."""

    def __init__(self, up: Stack, now: float) -> None:
        self._up, self._now = up, now
        self._written: defaultdict[Metric, list[Sample]] = defaultdict(list)
        logs = service.client(up, "logs").get_paginator("filter_log_events")
        begin = int((now - _DAY) * 1000)
        for name in up.functions.values():
            failed = defaultdict[str, bool](bool)
            for page in logs.paginate(logGroupName=f"/aws/lambda/{name}", startTime=begin):
                for event in page["events"]:
                    for metric, sample in metrics.embedded(event["message"]):
                        self._written[metric].append(sample)
                    self._count(name, event, failed)

    def _count(self, function: str, event: dict[str, Any], failed: defaultdict[str, bool]) -> None:
        """Count an invocation at its last line. The emulator's own count leaves out those of the schedule."""
        line, stream = event["message"], event["logStreamName"]
        failed[stream] |= line.startswith(_FAILED)
        if line.startswith("REPORT "):
            for metric, value in (("Invocations", 1.0), ("Errors", float(failed.pop(stream)))):
                of = Metric("AWS/Lambda", metric, frozenset({("FunctionName", function)}))
                self._written[of].append(Sample(min(event["timestamp"] / 1000, self._now), value))

    @property
    def since(self) -> float:
        """When the first metric was written, in epoch seconds; the present time if none was."""
        return min((sample.at for samples in self._written.values() for sample in samples), default=self._now)

    def samples(self, metric: Metric) -> list[Sample] | None:
        """The values of a metric; `None` if nothing here knows it."""
        dimensions = dict(metric.dimensions)
        if metric.namespace == "AWS/SQS" and metric.name in _OF_QUEUES:
            url = self._up.queues[dimensions["QueueName"].removeprefix(f"{STACK_NAME}-")]
            attribute = _OF_QUEUES[metric.name]
            answer = service.client(self._up, "sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[attribute])
            return [Sample(self._now, float(answer["Attributes"][attribute]))]
        if metric.namespace.startswith("AWS/") and metric not in self._written:
            return None if metric.name not in _OF_FUNCTIONS else []
        return self._written[metric]


def read(up: Stack, now: float) -> list[Widget]:
    """The deployed dashboard, filled with the figures of the local stack at `now` (epoch seconds).

    Raises `LocalError` for a stack that was deployed without it.
    """
    cloudwatch = service.client(up, "cloudwatch")
    try:
        body = json.loads(cloudwatch.get_dashboard(DashboardName=f"{STACK_NAME}-{up.region}")["DashboardBody"])
        figures = Figures(up, now)
        states = {
            alarm["AlarmName"]: _state(alarm, figures, now)
            for page in cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=f"{up.stack_name}-")
            for alarm in page["MetricAlarms"]
        }
        return [_widget(one, figures, states, now) for one in body["widgets"]]
    except (BotoCoreError, ClientError) as error:
        reason = " ".join(str(error).split())
        raise LocalError(f"The local stack gives no figures: run `make up` once more. ({reason})") from error


def _state(alarm: dict[str, Any], figures: Figures, now: float) -> str:
    """The state that CloudWatch would give an alarm."""
    dimensions = frozenset((one["Name"], one["Value"]) for one in alarm["Dimensions"])
    samples = figures.samples(Metric(alarm["Namespace"], alarm["MetricName"], dimensions))
    if samples is None:
        return UNKNOWN
    periods = alarm["EvaluationPeriods"]
    sounding = metrics.sounds(
        metrics.series(samples, alarm["Statistic"], alarm["Period"], periods, now),
        threshold=alarm["Threshold"],
        comparison=alarm["ComparisonOperator"],
        needed=alarm.get("DatapointsToAlarm") or periods,
        missing=alarm["TreatMissingData"],
    )
    return "ALARM" if sounding else "OK"


def _widget(one: dict[str, Any], figures: Figures, states: dict[str, str], now: float) -> Widget:
    """A widget of the dashboard's body with its figures."""
    properties, place = one["properties"], {key: one[key] for key in ("x", "y", "width", "height")}
    if one["type"] == "text":
        return Widget("text", properties["markdown"].lstrip("# "), **place)
    if one["type"] == "alarm":
        names = [arn.rpartition(":alarm:")[2] for arn in properties["alarms"]]
        # CloudWatch marks a listed alarm that does not exist in the same way.
        found = {name.removeprefix(f"{STACK_NAME}-"): states.get(name, "does not exist") for name in names}
        return Widget("alarm", properties["title"], **place, alarms=found)
    lines = _lines(properties, figures, now)
    drawn = properties.get("annotations", {}).get("horizontal", [])
    return Widget(
        properties["view"],
        properties["title"],
        **place,
        lines=lines,
        stacked=properties.get("stacked", False),
        thresholds={line["label"]: line["value"] for line in drawn},
    )


def _lines(properties: dict[str, Any], figures: Figures, now: float) -> list[Line]:
    """The visible figures of a widget, in its order."""
    shown_time = min(max(now - figures.since, _SHORTEST), _LONGEST)
    period: float = properties["period"]
    if properties["view"] == "singleValue":
        periods = max(_LONGEST // int(period), 1)
    else:
        # A young stack has too few periods of five minutes, so its charts have one value a minute.
        period = min(period, 60) if shown_time < 3600 else period
        periods = int(-(-shown_time // period))
    known: dict[str, list[float | None] | None] = {}
    expressions, visible = [], []
    for number, metric in enumerate(properties["metrics"]):
        options: dict[str, Any] = metric[-1] if isinstance(metric[-1], dict) else {}
        words: list[str] = [word for word in metric if isinstance(word, str)]
        name = options.get("id", f"#{number}")
        if options.get("visible", True):
            # Only the present value of a queue is known.
            label = options.get("label") or words[1]
            visible.append((name, f"{label} (now)" if words[:1] == ["AWS/SQS"] else label))
        if "expression" in options:
            expressions.append((name, options["expression"]))
            continue
        namespace, metric_name, *dimensions = words
        statistic = options.get("stat", properties["stat"])
        pairs = frozenset(zip(dimensions[::2], dimensions[1::2], strict=True))
        samples = figures.samples(Metric(namespace, metric_name, pairs))
        known[name] = None if samples is None else metrics.series(samples, statistic, period, periods, now)
    for name, expression in expressions:
        series = {key: values for key, values in known.items() if values is not None}
        known[name] = metrics.calculate(expression, series, periods)
    return [Line(label, known[name], period) for name, label in visible]


_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#eeca3b", "#b279a2", "#9d755d")
_STATES = {"OK": "#54a24b", "ALARM": "#d62728"}
_INK, _PALE = "#16191f", "#687078"


def draw(path: Path, widgets: list[Widget], now: float) -> None:
    """Draw the widgets on their grid of 24 columns, as a PNG file."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and needed at the very end only

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    rows = max(widget.y + widget.height for widget in widgets) + 1
    figure = plt.figure(figsize=(15, rows * 0.5), facecolor="#f2f3f3")
    when = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC"
    figure.text(0.012, 1 - 0.5 / rows, f"{STACK_NAME}, local stack, {when}", va="center", fontsize=10, color=_PALE)
    for widget in widgets:
        left, bottom = widget.x / 24, 1 - (widget.y + 1 + widget.height) / rows
        size = widget.width / 24, widget.height / rows
        if widget.kind == "text":
            figure.text(left + 0.012, bottom + size[1] / 2, widget.title, va="center", fontsize=15, fontweight="bold")
            continue
        card = figure.add_axes((left + 0.004, bottom + 0.1 / rows, size[0] - 0.008, size[1] - 0.2 / rows))
        card.set(xticks=(), yticks=(), facecolor="white", xlim=(0, 1), ylim=(0, 1))
        card.spines[:].set_color("#d5dbdb")
        title = textwrap.fill(widget.title, 7 * widget.width)
        card.text(0.14 / widget.width, 1 - 0.3 / widget.height, title, va="top", fontsize=10, color=_INK)
        if widget.kind == "singleValue":
            _draw_values(card, widget)
        elif widget.kind == "alarm":
            _draw_alarms(card, widget)
        else:
            _draw_chart(figure, widget, (left, bottom, *size), rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, facecolor=figure.get_facecolor())
    plt.close(figure)


def _draw_values(card: "Axes", widget: Widget) -> None:
    """Large numbers, and the age of old ones."""
    for number, line in enumerate(widget.lines):
        x = (number + 0.5) / len(widget.lines)
        latest = line.latest
        value, ago = latest or (None, 0.0)
        text = "-" if value is None else _number(value)
        card.text(x, 0.48, text, ha="center", va="center", fontsize=26, fontweight="bold", color=_INK)
        note = line.label
        if line.values is None:
            note += f"\n{UNKNOWN}"
        elif value is None:
            note += "\nnothing to tell yet"
        elif ago > line.period:
            note += f"\n{round(ago / 60)} minutes ago"
        card.text(x, 0.15, note, ha="center", va="center", fontsize=9, color=_PALE)


def _draw_alarms(card: "Axes", widget: Widget) -> None:
    """The alarms: sounding ones first, then quiet ones, then unknown ones."""
    order = [*_STATES][::-1]
    ranked = sorted(widget.alarms.items(), key=lambda one: order.index(one[1]) if one[1] in order else len(order))
    columns = 5
    rows = -(-len(ranked) // columns)
    for number, (name, state) in enumerate(ranked):
        column, row = divmod(number, rows)
        x, y = column / columns + 0.012, 0.74 - row * 0.7 / rows
        known = state in _STATES
        weight = "bold" if state == "ALARM" else "normal"
        card.plot(x, y, "s", color=_STATES.get(state, "#aab7b8"), markersize=8)
        note = name if known else f"{name} ({state})"
        card.text(x + 0.009, y, note, va="center", fontsize=9, color=_INK if known else _PALE, fontweight=weight)


def _draw_chart(figure: "Figure", widget: Widget, place: tuple[float, float, float, float], rows: int) -> None:
    """Lines, or stacked bars, over the minutes before now."""
    left, bottom, width, height = place
    axes = figure.add_axes((left + 0.035, bottom + 1.5 / rows, width - 0.05, height - 2.5 / rows))
    floor: list[float] = []
    longest = 0.0
    for line, colour in zip(widget.lines, _COLOURS, strict=False):
        if line.values is None:
            axes.plot([], [], color="#aab7b8", label=f"{line.label} ({UNKNOWN})")
            continue
        minutes = line.period / 60
        at = [(number - len(line.values) + 0.5) * minutes for number in range(len(line.values))]
        longest = max(longest, len(line.values) * minutes)
        if widget.stacked:
            floor = floor or [0.0] * len(at)
            heights = [value or 0.0 for value in line.values]
            axes.bar(at, heights, bottom=floor, width=minutes * 0.9, color=colour, label=line.label)
            floor = [below + value for below, value in zip(floor, heights, strict=True)]
        else:
            gaps = [float("nan") if value is None else value for value in line.values]
            axes.plot(at, gaps, color=colour, marker="o", markersize=3, linewidth=1.5, label=line.label, clip_on=False)
    for label, value in widget.thresholds.items():
        axes.axhline(value, color=_STATES["ALARM"], linewidth=1, linestyle="--")
        axes.annotate(label, (0.01, value), xycoords=("axes fraction", "data"), fontsize=7, va="bottom", color=_PALE)
    axes.set(xlim=(-(longest or 15), 0))
    axes.set_ylim(bottom=0, top=max(1.1 * axes.get_ylim()[1], 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#aab7b8")
    axes.grid(axis="y", color="#eaeded")
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=_PALE)
    # A narrow chart has no room for more.
    axes.locator_params(axis="x", nbins=max(int(width * 20), 3))
    axes.xaxis.set_major_formatter(lambda value, _: "now" if value == 0 else f"{value:g} min")
    columns = min(len(widget.lines), 4)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=columns, fontsize=8, frameon=False)


def _number(value: float) -> str:
    """A number with as few digits as a reader needs."""
    return (
        f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.2g}" if value < 1 else f"{value:.1f}"
    )


def main() -> None:
    """Read the figures, draw them, and say where the picture is."""
    steps = Steps()
    now = time.time()
    try:
        up = stack.read()
        with steps.step("reading the metrics of the local stack"):
            widgets = read(up, now)
        with steps.step("drawing the dashboard"):
            draw(PICTURE, widgets, now)
    except LocalError as error:
        sys.exit(f"error: {error}")
    (alarms,) = (widget.alarms for widget in widgets if widget.kind == "alarm")
    sounding = [name for name, state in alarms.items() if state == "ALARM"]
    steps.note(f"alarms that sound: {', '.join(sounding) or 'none'}")
    steps.note(f"the dashboard:     {shown(PICTURE)}")


if __name__ == "__main__":
    main()
