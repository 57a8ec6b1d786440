"""The alarms: each means something, tells somebody, has its entry in the runbook; nothing that fails goes without."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.template.test_template import FUNCTIONS, Template, of_type, timeout

RUNBOOK = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()
# What AWS itself counts, and by which dimensions.
OF_AWS = {
    "AWS/Lambda": ({"Errors", "Throttles", "Duration", "IteratorAge"}, {"FunctionName"}),
    "AWS/SQS": (
        {
            "ApproximateNumberOfMessagesVisible",
            "ApproximateNumberOfMessagesNotVisible",
            "NumberOfMessagesSent",
        },
        {"QueueName"},
    ),
    "AWS/ApiGateway": ({"5XXError"}, {"ApiName", "Stage"}),
}


def slugs(section: str) -> list[str]:
    """The entries of a section of the runbook, as links name them."""
    text = RUNBOOK.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return [re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"\n### (.+)", text)]


def alarms(template: Template) -> dict[str, Any]:
    """The alarms' properties by logical id."""
    return {name: alarm["Properties"] for name, alarm in of_type(template, "AWS::CloudWatch::Alarm").items()}


def watched(template: Template, metric: str) -> dict[str, Any]:
    """The alarms on one of AWS's metrics, by the resource they watch."""
    found = {}
    for alarm in alarms(template).values():
        if alarm["MetricName"] == metric and alarm["Namespace"] in ("AWS/Lambda", "AWS/SQS"):
            (dimension,) = alarm["Dimensions"]
            value = dimension["Value"]
            found[value["Ref"] if "Ref" in value else value["Fn::GetAtt"][0]] = alarm
    return found


def test_every_alarm_says_what_it_means_and_ends_with_its_entry_in_the_runbook(template: Template) -> None:
    linked = set()
    for name, alarm in alarms(template).items():
        meaning, _, entry = alarm["AlarmDescription"]["Fn::Sub"].rpartition(" ${RunbookUrl}#")
        assert len(meaning) > 30, name
        assert meaning.endswith("."), name
        linked.add(entry)
    assert linked == set(slugs("Alarms"))
    assert len(slugs("Alarms")) == len(set(slugs("Alarms")))


def test_every_entry_says_what_it_means_what_to_look_at_what_to_do_and_what_not() -> None:
    for entry in RUNBOOK.partition("\n## Alarms\n")[2].partition("\n## ")[0].split("\n### ")[1:]:
        for word in ("Means", "Look", "Do"):
            assert f"- **{word}.**" in entry, entry.partition("\n")[0]
        assert "- **Do not** " in entry, entry.partition("\n")[0]


def test_the_runbook_links_to_what_it_has() -> None:
    there = set(slugs("Alarms")) | set(slugs("When something bigger happens"))
    assert set(re.findall(r"\]\(#([a-z0-9-]+)\)", RUNBOOK)) <= there
    for page, _ in re.findall(r"\]\(([a-z]+\.md)(#[a-z0-9-]+)?\)", RUNBOOK):
        assert (Path(__file__).parents[2] / "docs" / page).is_file(), page


def test_every_alarm_tells_the_operator_when_it_sounds_and_when_it_is_over(template: Template) -> None:
    told = {"Fn::If": ["MailOperator", [{"Ref": "OperatorTopic"}], {"Ref": "AWS::NoValue"}]}
    for name, alarm in alarms(template).items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == told, name


def test_alarms_are_named_after_their_stack(template: Template) -> None:
    names = [alarm["AlarmName"]["Fn::Sub"] for alarm in alarms(template).values()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"\$\{AWS::StackName\}-[a-z-]+", name) for name in names)


def test_of_two_stacks_in_one_account_each_has_its_own_alarms(template: Template) -> None:
    for name, alarm in alarms(template).items():
        dimensions = {one["Name"]: one["Value"] for one in alarm["Dimensions"]}
        if alarm["Namespace"] == "FlowAccountConnect":
            assert set(dimensions) == {"service", "stack"}, name
            assert dimensions["service"] in FUNCTIONS, name
            assert dimensions["stack"] == {"Ref": "AWS::StackName"}, name
        else:
            metrics, expected = OF_AWS[alarm["Namespace"]]
            assert alarm["MetricName"] in metrics, name
            assert set(dimensions) == expected, name


def test_what_is_only_counted_when_it_happens_is_fine_when_it_is_missing(template: Template) -> None:
    for name, alarm in alarms(template).items():
        assert alarm["TreatMissingData"] == ("breaching" if name == "HeartbeatMissing" else "notBreaching"), name


@pytest.mark.parametrize("metric", ["Errors", "Throttles", "Duration"])
def test_every_function_is_watched(template: Template, metric: str) -> None:
    assert set(watched(template, metric)) == set(FUNCTIONS.values())


def test_a_duration_is_alarmed_at_four_fifths_of_the_timeout(template: Template) -> None:
    by_function = watched(template, "Duration")
    for function, logical_id in FUNCTIONS.items():
        assert by_function[logical_id]["Threshold"] == timeout(template, function) * 800, function


def test_every_queue_of_dead_letters_is_watched(template: Template) -> None:
    queues = {name for name in of_type(template, "AWS::SQS::Queue") if name.endswith("DeadLetters")}
    visible = set(watched(template, "ApproximateNumberOfMessagesVisible"))
    # A function takes these up at once and hides them until the next try.
    hidden = set(watched(template, "ApproximateNumberOfMessagesNotVisible"))
    assert hidden == {"SalvageDeadLetters", "Unpublished"}
    assert visible | hidden == queues | {"Unpublished"}
    taken = {
        event["Properties"]["Queue"]["Fn::GetAtt"][0]
        for function in FUNCTIONS.values()
        for event in template["Resources"][function]["Properties"].get("Events", {}).values()
        if event["Type"] == "SQS"
    }
    assert hidden <= taken
    assert not visible & taken


def test_the_use_of_the_salvage_queue_is_alarmed(template: Template) -> None:
    assert set(watched(template, "NumberOfMessagesSent")) == {"SalvageQueue"}
