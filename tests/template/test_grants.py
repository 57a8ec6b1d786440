"""Every permission that is granted, spelled out: what is granted in excess, or to another function, shows here.

That each is needed is shown by `tests/e2e/test_least_privilege.py`, but for what Lambda does in a function's name: that
is compared with what Lambda's documentation asks for.
"""

import json
import subprocess
from fnmatch import fnmatch
from typing import Any

import pytest

from tests.template.test_template import FUNCTIONS, Template, as_list, of_type, role_of, statements
from tools.local.places import EMULATOR_TOOLS, ROOT

# Action, what it is allowed on, and under which condition: the first keys of items, or the context of the key.
GRANTS: dict[str, set[str]] = {
    "authorize": {
        "dynamodb:GetItem on Table if LINK#*",
        "dynamodb:PutItem on Table if ATTEMPT#*",
    },
    "callback": {
        "dynamodb:ConditionCheckItem on Table if ATTEMPT#*, CONNECTION#*, LINK#*",
        "dynamodb:GetItem on Table if ATTEMPT#*, LINK#*",
        "dynamodb:GetItem on Table if RATE",
        "dynamodb:PutItem on Table if EVENT#*, LINK#*",
        "dynamodb:UpdateItem on Table if ATTEMPT#*, CONNECTION#*, EVENT#*, LINK#*",
        "dynamodb:UpdateItem on Table if RATE",
        "dynamodb:UpdateItem on Table if TENANT#*",
        "kms:GenerateDataKey on Key if StringEquals environment, StringEquals stack",
        "secretsmanager:GetSecretValue on secret:${Name}-??????",
        "sqs:SendMessage on SalvageQueue",
    },
    "sweep": {
        "dynamodb:GetItem on Table if COUNT, RATE",
        "dynamodb:Query on ${Table.Arn}/index/due",
        "dynamodb:UpdateItem on Table if CONNECTION#*",
        "sqs:GetQueueAttributes on RefreshQueue",
        "sqs:SendMessage on RefreshQueue",
    },
    "refresh": {
        "dynamodb:DeleteItem on Table if CONNECTION#*",
        "dynamodb:GetItem on Table if HEALTH",
        "dynamodb:GetItem on Table if RATE",
        "dynamodb:PutItem on Table if CONNECTION#*, EVENT#*",
        "dynamodb:UpdateItem on Table if HEALTH",
        "dynamodb:UpdateItem on Table if CONNECTION#*, EVENT#*",
        "dynamodb:UpdateItem on Table if RATE",
        "kms:Decrypt on Key if StringEquals environment, StringEquals stack",
        "kms:GenerateDataKey on Key if StringEquals environment, StringEquals stack",
        "secretsmanager:GetSecretValue on secret:${Name}-??????",
        "sqs:DeleteMessage on RefreshQueue",
        "sqs:GetQueueAttributes on RefreshQueue",
        "sqs:ReceiveMessage on RefreshQueue",
        "sqs:SendMessage on SalvageQueue",
    },
    "salvage": {
        "dynamodb:DeleteItem on Table if CONNECTION#*",
        "dynamodb:UpdateItem on Table if CONNECTION#*, LINK#*",
        "sqs:DeleteMessage on SalvageQueue",
        "sqs:GetQueueAttributes on SalvageQueue",
        "sqs:ReceiveMessage on SalvageQueue",
    },
    "token": {
        "dynamodb:GetItem on Table if CONNECTION#*",
        "dynamodb:UpdateItem on Table if DEMAND#*",
        "kms:Decrypt on Key if StringEquals environment, StringEquals stack",
        "lambda:InvokeFunction on RefreshFunction.Alias",
    },
    "connections": {
        "dynamodb:BatchGetItem on Table if CONNECTION#*",
        "dynamodb:ConditionCheckItem on Table if CONNECTION#*",
        "dynamodb:DeleteItem on Table if CONNECTION#*",
        "dynamodb:GetItem on Table if CONNECTION#*",
        "dynamodb:GetItem on Table if LINK#*",
        "dynamodb:PutItem on Table if CONNECTION#*",
        "dynamodb:PutItem on Table if EVENT#*, LINK#*",
        "dynamodb:Query on ${Table.Arn}/index/status",
        "dynamodb:Query on Table if HISTORY#*",
        "dynamodb:UpdateItem on Table if CONNECTION#*, EVENT#*, LINK#*",
        "dynamodb:UpdateItem on Table if TENANT#*",
        "kms:GenerateDataKey on Key if StringEquals environment, StringEquals stack",
        "lambda:InvokeFunction on RefreshFunction.Alias",
    },
    "publish": {
        "dynamodb:DescribeStream on ${Table.Arn}/stream/*",
        "dynamodb:GetRecords on ${Table.Arn}/stream/*",
        "dynamodb:GetShardIterator on ${Table.Arn}/stream/*",
        "dynamodb:ListStreams on ${Table.Arn}/stream/*",
        "dynamodb:PutItem on Table if COUNT, HISTORY#*",
        "dynamodb:UpdateItem on Table if COUNT, HISTORY#*",
        "events:PutEvents on EventBus",
        "sqs:DeleteMessage on Unpublished",
        "sqs:GetQueueAttributes on Unpublished",
        "sqs:ReceiveMessage on Unpublished",
        "sqs:SendMessage on DeadLetters",
        "sqs:SendMessage on Unpublished",
    },
    "notify": {
        "dynamodb:GetItem on Table if NOTICE#*",
        "dynamodb:UpdateItem on Table if NOTICE#*",
        "secretsmanager:GetSecretValue on secret:${AWS::StackName}/webhook-secret-??????",
        "secretsmanager:GetSecretValue on secret:${LineSecretName}-??????",
        "secretsmanager:GetSecretValue on secret:${SlackSecretName}-??????",
        "sns:Publish on MailTopic",
        "sqs:ChangeMessageVisibility on NotifyQueue",
        "sqs:DeleteMessage on NotifyQueue",
        "sqs:GetQueueAttributes on NotifyQueue",
        "sqs:ReceiveMessage on NotifyQueue",
        "sqs:SendMessage on NotifyQueue",
        "sqs:SendMessage on UndeliveredDeadLetters",
    },
}


def resource_name(resource: Any) -> str:
    """A resource as the template names it."""
    if "Fn::GetAtt" in resource:
        return str(resource["Fn::GetAtt"][0])
    if "Ref" in resource:
        return str(resource["Ref"])
    text = as_list(resource["Fn::Sub"])[0]
    return str(text).rpartition("${AWS::AccountId}:")[2] or str(text)


def condition_of(statement: dict[str, Any]) -> str:
    """A statement's condition in a word or two; nothing where it has none."""
    words = []
    for operator, tests in statement.get("Condition", {}).items():
        if tests.keys() == {"dynamodb:LeadingKeys"}:
            assert operator == "ForAllValues:StringLike"
            words += sorted(tests["dynamodb:LeadingKeys"])
        else:
            words += [f"{operator} {key.rpartition(':')[2]}" for key in sorted(tests)]
    return ", ".join(words)


def grants(role: dict[str, Any]) -> list[str]:
    """Everything a role is allowed, one action on one resource each."""
    return [
        f"{action} on {resource_name(resource)}" + (f" if {condition}" if (condition := condition_of(item)) else "")
        for item in statements(role)
        for action in as_list(item["Action"])
        for resource in as_list(item["Resource"])
    ]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_granted_exactly_this(template: Template, function: str) -> None:
    granted = grants(role_of(template, function))
    group = template["Resources"][FUNCTIONS[function]]["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]
    logs = {f"logs:{action} on {group}" for action in ("CreateLogStream", "PutLogEvents")}
    assert set(granted) == GRANTS[function] | logs
    assert len(granted) == len(set(granted)), "granted twice"


def test_every_role_is_a_functions_the_ticks_or_the_deployments(template: Template) -> None:
    roles = {f"{name.removesuffix('Function')}Role" for name in FUNCTIONS.values()} | {"TickRole", "DeploymentRole"}
    assert set(of_type(template, "AWS::IAM::Role")) == roles
    tick = template["Resources"]["TickRole"]
    assert set(grants(tick)) == {
        "lambda:InvokeFunction on SweepFunction.Alias",
        "sqs:SendMessage on DeadLetters",
    }


READS_A_QUEUE = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
READS_A_STREAM = {
    f"dynamodb:{action}" for action in ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")
}
STREAM = "${Table.Arn}/stream/*"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_lambda_may_read_a_functions_sources_and_no_other(template: Template, function: str) -> None:
    events = template["Resources"][FUNCTIONS[function]]["Properties"].get("Events", {}).values()
    needed = set()
    for event in events:
        if event["Type"] == "SQS":
            needed |= {f"{action} on {resource_name(event['Properties']['Queue'])}" for action in READS_A_QUEUE}
        if event["Type"] == "DynamoDB":
            needed |= {f"{action} on {STREAM}" for action in READS_A_STREAM}
    sent_to = [resource_name(event["Properties"]["Queue"]) for event in events if event["Type"] == "SQS"]
    granted = {
        one
        for one in grants(role_of(template, function))
        if (action := one.partition(" ")[0]) in READS_A_STREAM | READS_A_QUEUE
        # Those count the messages of a queue that they do not take from.
        and not (action == "sqs:GetQueueAttributes" and one.rpartition(" ")[2] not in sent_to)
    }
    assert granted == needed


def test_lambda_may_put_away_what_it_gives_up(template: Template) -> None:
    for function, logical_id in FUNCTIONS.items():
        for event in template["Resources"][logical_id]["Properties"].get("Events", {}).values():
            if "DestinationConfig" in event["Properties"]:
                queue = resource_name(event["Properties"]["DestinationConfig"]["OnFailure"]["Destination"])
                assert f"sqs:SendMessage on {queue}" in grants(role_of(template, function))


TRANSACTIONS: dict[str, list[list[tuple[str, str]]]] = {
    "callback": [
        # What a link brought waits for the app, unless it belongs to another tenant.
        [("ConditionCheckItem", "CONNECTION#N1"), ("UpdateItem", "LINK#1"), ("UpdateItem", "ATTEMPT#1")],
        # A refusal is announced.
        [("PutItem", "EVENT#N1"), ("UpdateItem", "LINK#1")],
        # A business is connected.
        [("UpdateItem", "CONNECTION#N1"), ("UpdateItem", "ATTEMPT#1")],
    ],
    "connections": [
        # A token is imported.
        [("ConditionCheckItem", "CONNECTION#N1"), ("PutItem", "CONNECTION#N1")],
        # It is given up.
        [("UpdateItem", "CONNECTION#N1"), ("DeleteItem", "CONNECTION#N1")],
        # What a link brought is confirmed, or refused and announced.
        [("UpdateItem", "CONNECTION#N1"), ("UpdateItem", "LINK#1")],
        [("UpdateItem", "LINK#1"), ("PutItem", "EVENT#N1")],
    ],
    "refresh": [
        # An import is refused, and announced.
        [("UpdateItem", "CONNECTION#N1"), ("PutItem", "EVENT#N1")],
        # An import becomes a connection.
        [("UpdateItem", "CONNECTION#N1"), ("DeleteItem", "CONNECTION#N1")],
    ],
    "salvage": [[("UpdateItem", "CONNECTION#N1"), ("DeleteItem", "CONNECTION#N1")]],
    "publish": [[("PutItem", "HISTORY#N1"), ("UpdateItem", "COUNT")]],
}
"""What the functions write in one call of `TransactWriteItems`: an action on an item's first key, each."""


@pytest.mark.parametrize("function", TRANSACTIONS)
def test_one_statement_allows_all_that_one_transaction_touches(template: Template, function: str) -> None:
    """AWS may judge `dynamodb:LeadingKeys` over all items of a transaction together."""
    for transaction in TRANSACTIONS[function]:
        for action, _ in transaction:
            assert any(
                f"dynamodb:{action}" in as_list(item["Action"])
                and all(
                    any(fnmatch(key, pattern) for pattern in item["Condition"]["ForAllValues:StringLike"][LEADING])
                    for _, key in transaction
                )
                for item in statements(role_of(template, function))
                if LEADING in item.get("Condition", {}).get("ForAllValues:StringLike", {})
            ), (action, transaction)


LEADING = "dynamodb:LeadingKeys"


def test_the_local_stack_judges_a_transactions_keys_together_and_apart() -> None:
    """Both must pass there, since AWS does not document which of the two it does."""
    request = {
        "TransactItems": [
            {"Update": {"TableName": "table", "Key": {"pk": {"S": "CONNECTION#N1"}}}},
            {"Put": {"TableName": "table", "Item": {"pk": {"S": "EVENT#N1"}}}},
        ]
    }
    program = f"""
import json, runpy, sys
checks = runpy.run_path({str(ROOT / "tools" / "local" / "ministack_policies.py")!r})["transaction_checks"]
found = checks("dynamodb:TransactWriteItems", sys.stdin.buffer.read(), "ap-southeast-1", "000000000000")
print(json.dumps([[action, table.keys] for action, table in found]))
"""
    done = subprocess.run(
        [str(EMULATOR_TOOLS / "python"), "-P", "-c", program],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
    )
    both = ["CONNECTION#N1", "EVENT#N1"]
    assert json.loads(done.stdout.splitlines()[-1]) == [
        ["dynamodb:UpdateItem", ["CONNECTION#N1"]],
        ["dynamodb:UpdateItem", both],
        ["dynamodb:PutItem", ["EVENT#N1"]],
        ["dynamodb:PutItem", both],
    ]
