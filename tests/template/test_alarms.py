"""The alarms: few, each of one class, each to somebody, each with its entry in the runbook."""

import re
from typing import Any

from tests.template.conftest import ROOT
from tests.template.test_template import FUNCTIONS, Template, of_type
from tools.local import metrics

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
# What AWS itself counts, and by which dimensions.
OF_AWS = {
    "AWS/Lambda": ({"Errors", "Invocations", "IteratorAge"}, {"FunctionName"}),
    "AWS/SQS": ({"ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible"}, {"QueueName"}),
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
        meaning, _, entry = alarm["AlarmDescription"].rpartition(" docs/runbook.md#")
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
        assert (ROOT / "docs" / page).is_file(), page


ALWAYS = {
    *("TickMissing", "ConnectionsAtRisk", "TokensLost", "Unwell", "ConnectingRefused", "Unanswered"),
    *("ReauthorizationsAboveNormal", "CapacityNearlyUsed", "DeadLettersAlarm", "PendingCommits"),
    *("EventsUnpublished", "EventsLate", "ApiErrors"),
}
"""The alarms of every stack: one for each class of what needs a hand."""

NOTIFYING = {"UndeliveredAlarm"}
"""Only where a receiver is configured."""

GRADUALLY = {f"{logical_id.removesuffix('Function')}Errors" for logical_id in FUNCTIONS.values()}
"""Those that put a gradual deployment back."""

EVENTS = {"TokensLost", "ConnectingRefused", "ReauthorizationsAboveNormal"}
"""What has happened, and is never over."""


def test_there_is_one_alarm_for_each_class_and_no_other_unless_a_deployment_needs_it(template: Template) -> None:
    there = of_type(template, "AWS::CloudWatch::Alarm")
    assert set(there) == ALWAYS | NOTIFYING | GRADUALLY
    conditions = {name: alarm.get("Condition") for name, alarm in there.items()}
    expected = dict.fromkeys(ALWAYS) | dict.fromkeys(GRADUALLY, "DeployGradually") | dict.fromkeys(NOTIFYING, "Notify")
    assert conditions == expected | {"NotifyErrors": "NotifyGradually"}


def test_every_alarm_goes_to_the_topic_whether_or_not_there_is_an_address(template: Template) -> None:
    topic = {"Fn::If": ["OwnTopic", {"Ref": "AlarmTopic"}, {"Ref": "AlarmTopicArn"}]}
    mail = {"Fn::If": ["MailOperator", {"Ref": "MailTopic"}, {"Ref": "AWS::NoValue"}]}
    for name, alarm in alarms(template).items():
        # What says that no function runs, or not the one that writes to people, does not wait for that one.
        straight = [mail] if name in ("TickMissing", "UndeliveredAlarm") else []
        assert alarm["AlarmActions"] == [topic, *straight], name
    assert template["Outputs"]["AlarmTopicArn"]["Value"] == topic


def test_what_has_a_state_to_return_from_says_when_it_does(template: Template) -> None:
    """And nothing else: that no token is being lost any more is no news, and no mail."""
    stateful = {name for name, alarm in alarms(template).items() if "OKActions" in alarm}
    assert stateful == (ALWAYS | NOTIFYING) - EVENTS
    for name in stateful:
        assert alarms(template)[name]["OKActions"] == alarms(template)[name]["AlarmActions"], name


def test_nothing_sounds_before_the_first_tick_was_due(template: Template, translated: Template) -> None:
    """The one alarm that takes silence for bad news is made after the schedule that ends the silence."""
    schedule = template["Resources"]["TickMissing"]["DependsOn"]
    assert translated["Resources"][schedule]["Type"] == "AWS::Scheduler::Schedule"


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
        assert alarm["TreatMissingData"] == ("breaching" if name == "TickMissing" else "notBreaching"), name


def test_each_function_can_put_its_deployment_back(template: Template) -> None:
    assert set(watched(template, "Errors")) == set(FUNCTIONS.values())


def test_every_queue_of_dead_letters_is_watched(template: Template) -> None:
    queues = {name for name in of_type(template, "AWS::SQS::Queue") if name.endswith("DeadLetters")}
    # One for all that is given up, but for what is driven back whole; what holds a token is not.
    assert queues == {"DeadLetters", "UndeliveredDeadLetters"}
    visible = set(watched(template, "ApproximateNumberOfMessagesVisible"))
    # A function takes these up at once and hides them until the next try.
    hidden = set(watched(template, "ApproximateNumberOfMessagesNotVisible"))
    assert hidden == {"SalvageQueue", "Unpublished"}
    assert visible | hidden == queues | hidden
    taken = {
        event["Properties"]["Queue"]["Fn::GetAtt"][0]
        for function in FUNCTIONS.values()
        for event in template["Resources"][function]["Properties"].get("Events", {}).values()
        if event["Type"] == "SQS"
    }
    assert hidden <= taken
    assert not visible & taken


def test_the_tick_is_missing_if_none_came_or_none_ended_well(template: Template) -> None:
    """By what Lambda counts of the function: 0 for a run that ended well, 1 for one that failed."""
    alarm = alarms(template)["TickMissing"]
    values: dict[str, list[float | None]] = {
        "none came": [None] * 5,
        "all failed": [1.0] * 5,
        "some failed, some did not come": [1.0, None, 1.0, None, 1.0],
        "one ended well": [1.0, 1.0, 0.0, None, 1.0],
        "all ended well": [0.0] * 5,
    }
    sounds = {
        name: metrics.sounds(
            last,
            threshold=alarm["Threshold"],
            comparison=alarm["ComparisonOperator"],
            needed=alarm["EvaluationPeriods"],
            missing=alarm["TreatMissingData"],
        )
        for name, last in values.items()
    }
    assert [name for name, sound in sounds.items() if sound] == list(values)[:3]
    assert metrics.statistic(alarm["Statistic"], [1.0, 0.0]) == 0.0, "of two ticks in a minute one ended well"
