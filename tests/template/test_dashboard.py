"""The dashboard: it draws what this stack writes and every alarm, and no metric is written for nothing."""

import json
import re
from typing import Any

import pytest

from flowaccount_connect.domain.schedule import Schedule
from tests.template.conftest import ROOT
from tests.template.test_alarms import ALWAYS, OF_AWS, alarms
from tests.template.test_template import FUNCTIONS, Template, names, of_type
from tests.unit.test_alarms import NAMESPACE

OWN_WORDS = {"service", "stack", "${AWS::StackName}"}


@pytest.fixture
def widgets(template: Template) -> list[dict[str, Any]]:
    """The dashboard's widgets."""
    (dashboard,) = of_type(template, "AWS::CloudWatch::Dashboard").values()
    found: list[dict[str, Any]] = json.loads(dashboard["Properties"]["DashboardBody"]["Fn::Sub"])["widgets"]
    return found


def test_it_is_there_unless_it_is_not_wanted_and_nothing_else_goes_with_it(template: Template) -> None:
    (dashboard,) = of_type(template, "AWS::CloudWatch::Dashboard").values()
    assert template["Conditions"][dashboard["Condition"]] == {"Fn::Equals": [{"Ref": "CloudWatchDashboard"}, "enabled"]}
    assert template["Parameters"]["CloudWatchDashboard"]["Default"] == "enabled"
    assert [name for name, one in template["Resources"].items() if one.get("Condition") == dashboard["Condition"]] == [
        "Dashboard"
    ]


def drawn(widgets: list[dict[str, Any]]) -> list[list[Any]]:
    """Every metric that is drawn, without the expressions over them."""
    all_ = [metric for widget in widgets for metric in widget["properties"].get("metrics", [])]
    return [metric for metric in all_ if isinstance(metric[0], str)]


def test_its_first_row_answers_whether_all_connections_are_safe_with_thresholds_drawn(
    widgets: list[dict[str, Any]], template: Template
) -> None:
    question, *answers = [widget for widget in widgets if widget["y"] < 7]
    assert question["properties"]["markdown"] == "## Are all connections safe?"
    assert [{name for _, name, *_ in drawn([widget])} for widget in answers] == [
        {"AtRisk"},
        {"SoonestDeadline"},
        {"CapacityUsed"},
        {"Invocations", "Errors"},
    ]
    lines = [widget["properties"]["annotations"]["horizontal"] for widget in answers]
    thresholds = {alarm["MetricName"]: alarm["Threshold"] for alarm in alarms(template).values()}
    assert lines[0][0]["value"] == thresholds["AtRisk"]
    assert lines[1][0]["value"] == Schedule().refresh_token_lifetime / 2 / 3600
    assert lines[2][0]["value"] == thresholds["CapacityUsed"]
    assert all(line["label"] for several in lines for line in several)


def test_it_asks_two_questions(widgets: list[dict[str, Any]]) -> None:
    asked = [widget["properties"]["markdown"] for widget in widgets if widget["type"] == "text"]
    assert asked == ["## Are all connections safe?", "## What needs a hand?"]


def test_no_metric_is_written_that_neither_an_alarm_nor_the_dashboard_needs(
    widgets: list[dict[str, Any]], template: Template
) -> None:
    """CloudWatch bills each, beyond the first ten of an account."""
    needed = {alarm["MetricName"] for alarm in alarms(template).values() if alarm["Namespace"] == NAMESPACE}
    needed |= {name for namespace, name, *_ in drawn(widgets) if namespace == NAMESPACE}
    written = {
        name
        for function in FUNCTIONS
        for name in re.findall(r'add_metric\(f?"(\w+)"', (ROOT / "functions" / function / "app.py").read_text())
    }
    assert written == needed
    assert len(needed) <= 10


def test_its_widgets_lie_on_the_grid_and_not_on_each_other(widgets: list[dict[str, Any]]) -> None:
    taken: set[tuple[int, int]] = set()
    for widget in widgets:
        cells = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_it_draws_what_this_stack_writes(widgets: list[dict[str, Any]], template: Template) -> None:
    for namespace, name, *dimensions in drawn(widgets):
        words = [word for word in dimensions if isinstance(word, str)]
        if namespace == NAMESPACE:
            assert set(words) - OWN_WORDS <= set(FUNCTIONS), name
            assert set(words) >= OWN_WORDS, name
            source = (ROOT / "functions" / words[1] / "app.py").read_text()
            assert f'"{name}"' in source, name
        else:
            assert name in OF_AWS[namespace][0]
            kind, property_ = {
                "AWS/SQS": ("AWS::SQS::Queue", "QueueName"),
                "AWS/Lambda": ("AWS::Serverless::Function", "FunctionName"),
            }[namespace]
            named = [one["Properties"][property_] for one in of_type(template, kind).values()]
            assert words[0] == property_
            assert {"Fn::Sub": words[1]} in named


def test_it_shows_the_state_of_every_alarm_that_is_always_there(
    widgets: list[dict[str, Any]], template: Template
) -> None:
    (shown,) = [widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm"]
    every = [alarms(template)[name]["AlarmName"]["Fn::Sub"] for name in ALWAYS]
    assert sorted(arn.rpartition(":alarm:")[2] for arn in shown) == sorted(every)
    assert len(shown) <= 100, "as many as CloudWatch takes"


def test_the_stacks_of_two_regions_have_a_dashboard_each(template: Template) -> None:
    (dashboard,) = of_type(template, "AWS::CloudWatch::Dashboard").values()
    assert set(names(dashboard["Properties"]["DashboardName"])) == {"AWS::StackName", "AWS::Region"}
