"""`flowaccount-connect doctor`: each line, right and wrong, and never a traceback whatever AWS answers."""

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given, settings, strategies

from flowaccount_connect_client import (
    AccessDenied,
    FlowAccountConnect,
    NotConfigured,
    TemporarilyUnavailable,
    __version__,
)
from flowaccount_connect_client.cli import doctor, target
from flowaccount_connect_client.cli.doctor import Account, Finding, State
from flowaccount_connect_client.cli.main import main
from tests.unit.accounts import Aws, refusal, stack
from tests.unit.clients import origin
from tests.unit.servers import Answer, Server, reply, unused_port

NOW = 1_800_000_000.0
CALLBACK = "https://api.example/live/callback"
TOPIC = "arn:aws:sns:ap-southeast-1:111122223333:connect-alarms"
CLOSED = f"http://127.0.0.1:{unused_port()}/connect/authorize"


def account(**answers: Any) -> Aws:
    """An AWS account in which all is well, but for these answers."""
    well: dict[str, Any] = {
        "describe_stacks": described(),
        "get_function_configuration": {
            "Environment": {"Variables": {"AUTHORIZE_ENDPOINT": CLOSED, "CLIENT_ID": "client-7"}}
        },
        "invoke": heard("well", "invalid_grant"),
        "list_event_source_mappings": {"EventSourceMappings": [{"State": "Enabled"}]},
        "get_account_settings": concurrency(1_000),
        "get_queue_attributes": queue(0),
        "filter_log_events": {"events": [tick(40)]},
        "describe_table": {"Table": {"DeletionProtectionEnabled": True}},
        "list_subscriptions_by_topic": {"Subscriptions": [subscribed(f"{TOPIC}:1")]},
    }
    return Aws(**well | answers)


def described(status: str = "UPDATE_COMPLETE", *, age: float = 9_000, off: float = 0, **changed: str | None) -> Any:
    """A stack. `changed` are outputs that differ; `None` takes one away."""
    outputs: dict[str, str | None] = {
        "Version": __version__,
        "ApiUrl": "https://api.example/live",
        "CallbackUrl": CALLBACK,
        "AuthorizeFunctionName": "connect-authorize",
        "RefreshFunctionName": "connect-refresh",
        "SweepFunctionName": "connect-sweep",
        "AlarmTopicArn": TOPIC,
        "TableName": "connect-connections",
        "DeadLettersUrl": "https://sqs/dead-letters",
        "SalvageQueueUrl": "https://sqs/salvage",
        "UnpublishedUrl": "https://sqs/unpublished",
    }
    created = datetime.fromtimestamp(NOW - age, timezone.utc)
    made = stack(status, outputs=outputs | changed, StackName="connect", CreationTime=created)
    return made | {"ResponseMetadata": {"HTTPHeaders": {"date": formatdate(NOW - off, usegmt=True)}}}


def heard(sign: str, error: str, detail: str | None = None) -> Callable[[], Any]:
    """What the function refresh says after a canary."""
    return lambda: {"Payload": io.BytesIO(json.dumps({"sign": sign, "error": error, "detail": detail}).encode())}


def concurrency(limit: int) -> Any:
    return {"AccountLimit": {"ConcurrentExecutions": limit, "UnreservedConcurrentExecutions": limit}}


def queue(count: int) -> Any:
    return {"Attributes": {"ApproximateNumberOfMessages": str(count), "ApproximateNumberOfMessagesNotVisible": "0"}}


def tick(ago: float, **facts: object) -> Any:
    line = {"message": "tick", "connections": 12, "capacity": 5_400, "at_risk": 0} | facts
    return {"timestamp": int((NOW - ago) * 1000), "message": json.dumps(line)}


def subscribed(arn: str, endpoint: str = "operator@example.com") -> Any:
    return {"SubscriptionArn": arn, "Endpoint": endpoint}


class Api(FlowAccountConnect):
    """The API, which answers so."""

    def __init__(self, url: str, error: Exception | None = None) -> None:
        super().__init__(url)
        self._error = error

    def connections(self, **_: object) -> Iterator[Any]:
        if self._error is not None:
            raise self._error
        yield from ()


def examined(aws: Aws, api: Exception | None = None, now: float = NOW) -> list[Finding]:
    return list(doctor.examine(Account("connect", aws, lambda url: Api(url, api), clock=lambda: now)))


def of(found: list[Finding], check: str) -> list[tuple[State, str, str]]:
    return [(one.state, one.text, one.fix) for one in found if one.check == check]


def only(found: list[Finding], check: str) -> tuple[State, str, str]:
    (one,) = of(found, check)
    return one


def seen(check: str, api: Exception | None = None, **answers: Any) -> tuple[State, str, str]:
    """What a check finds of an account in which all else is well."""
    return only(examined(account(**answers), api), check)


# ---- the stack ----------------------------------------------------------------------------------------------------


def test_of_a_stack_that_is_well_every_line_is_right_but_what_cannot_be_reached() -> None:
    aws = account()
    found = examined(aws)
    assert [one.check for one in found if one.state is not State.RIGHT] == ["redirect URI"]
    assert [one.check for one in found] == [
        "stack",
        "version",
        "clock",
        "api",
        "redirect URI",
        "client secret",
        "client",
        "schedule",
        "connections",
        "workers",
        "concurrency",
        "table",
        "queues",
        "alarms",
    ]
    assert [operation for operation, _ in aws.calls if operation.startswith(("put", "update", "delete"))] == []


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("CREATE_COMPLETE", State.RIGHT),
        ("UPDATE_COMPLETE", State.RIGHT),
        ("UPDATE_IN_PROGRESS", State.UNKNOWN),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", State.UNKNOWN),
        ("UPDATE_ROLLBACK_COMPLETE", State.WRONG),
        ("UPDATE_ROLLBACK_FAILED", State.WRONG),
    ],
)
def test_the_stacks_own_state(status: str, state: State) -> None:
    found, text, _ = seen("stack", describe_stacks=described(status))
    assert (found, status in text) == (state, True)


def test_a_stack_that_is_not_there_ends_it() -> None:
    (one,) = examined(account(describe_stacks=refusal("ValidationError")))
    assert (one.state, "no stack connect" in one.text, "--stack" in one.fix) == (State.UNKNOWN, True, True)


def test_another_stack_of_that_name_is_no_flowaccount_connect() -> None:
    found = examined(account(describe_stacks=described(ApiUrl=None)))
    assert [one.check for one in found] == ["stack", "stack"]
    assert "no FlowAccount Connect" in found[-1].fix


@pytest.mark.parametrize(
    ("deployed", "state"),
    [
        (__version__, State.RIGHT),
        ("0.3.99", State.RIGHT),
        ("0.2.9", State.WRONG),
        ("1.0.0", State.WRONG),
        (None, State.WRONG),
    ],
)
def test_stack_and_command_are_of_one_version(deployed: str | None, state: State) -> None:
    found, text, fix = seen("version", describe_stacks=described(Version=deployed))
    assert (found, __version__ in text, bool(fix)) == (state, True, state is State.WRONG)


@pytest.mark.parametrize(
    ("off", "state", "says"),
    [(0, State.RIGHT, ""), (59, State.RIGHT, ""), (120, State.WRONG, "120 s ahead"), (-90, State.WRONG, "90 s behind")],
)
def test_this_machines_clock_is_compared_with_awss(off: float, state: State, says: str) -> None:
    found, text, _ = seen("clock", describe_stacks=described(off=off))
    assert (found, says in text) == (state, True)


def test_a_clock_that_aws_refuses_is_named_and_not_only_the_refusal() -> None:
    answer: Any = {
        "Error": {"Code": "SignatureDoesNotMatch", "Message": "CANARY"},
        "ResponseMetadata": {"HTTPHeaders": {"Date": formatdate(time.time() - 4_000, usegmt=True)}},
    }
    refused = ClientError(answer, "DescribeStacks")
    (one,) = examined(account(describe_stacks=refused))
    assert (one.check, one.state, "ahead of" in one.text) == ("clock", State.WRONG, True)


# ---- the API ------------------------------------------------------------------------------------------------------


def test_an_api_that_does_not_answer_is_wrong_and_one_that_may_not_be_called_is_unknown() -> None:
    assert seen("api")[0] is State.RIGHT
    away = TemporarilyUnavailable("unreachable", 0, "The stack's API cannot be reached.")
    state, text, fix = seen("api", away)
    assert (state, "cannot be reached" in text, "docs/runbook.md#api-errors" in fix) == (State.WRONG, True, True)
    closed = AccessDenied("permission_denied", 403, "On policy.")
    closed.denial = "permission"
    state, _, fix = seen("api", closed)
    assert (state, "execute-api:Invoke" in fix) == (State.UNKNOWN, True)
    closed.denial = "keys"
    assert seen("api", closed)[0] is State.WRONG


def test_a_domain_that_points_nowhere_yet_is_told_where_it_has_to_point() -> None:
    away = TemporarilyUnavailable("unreachable", 0, "The stack's API cannot be reached.")
    aws = account(describe_stacks=described(DomainTarget="d-1.execute-api.example"))
    assert "d-1.execute-api.example (CNAME)" in only(examined(aws, away), "api")[2]


# ---- FlowAccount's side -------------------------------------------------------------------------------------------


def asked_of(server: Server, *answers: Answer) -> Aws:
    """An account whose authorize endpoint answers the right redirect URI, and then a made-up one."""
    server.say(*answers)
    endpoint = f"{origin(server)}/connect/authorize"
    variables = {"AUTHORIZE_ENDPOINT": endpoint, "CLIENT_ID": "client-7"}
    return account(get_function_configuration={"Environment": {"Variables": variables}})


def to(path: str) -> Answer:
    return reply(302, headers=f"Location: {path}\r\n")


LOGIN, ERROR = to("/account/login?ReturnUrl=%2Fconnect"), to("/home/error?errorId=CfDJ8")
PAGE, STRANDED = reply(200, b"<html>login"), reply(400, b"<html>invalid")


@pytest.mark.parametrize(
    ("registered", "made_up", "state"),
    [
        (LOGIN, ERROR, State.RIGHT),
        (PAGE, STRANDED, State.RIGHT),
        (PAGE, ERROR, State.RIGHT),
        (ERROR, ERROR, State.WRONG),
        (STRANDED, STRANDED, State.WRONG),
        # The answers show nothing, or the wrong way round, or are of something in between.
        (LOGIN, LOGIN, State.UNKNOWN),
        (PAGE, PAGE, State.UNKNOWN),
        (ERROR, LOGIN, State.UNKNOWN),
        (reply(403), reply(403), State.UNKNOWN),
        (reply(503), reply(503), State.UNKNOWN),
    ],
)
def test_the_redirect_uri_is_registered_where_a_made_up_one_is_refused_and_it_is_not(
    server: Server, registered: Answer, made_up: Answer, state: State
) -> None:
    found, text, fix = only(examined(asked_of(server, registered, made_up)), "redirect URI")
    assert found is state
    assert CALLBACK in (text if state is State.RIGHT else fix)
    assert all("client_id=client-7" in one.path and "response_type=code" in one.path for one in server.asked)
    assert "redirect_uri=https%3A%2F%2Fapi.example%2Flive%2Fcallback&" in server.asked[0].path


@pytest.mark.parametrize(
    ("sign", "error", "states"),
    [
        ("well", "invalid_grant", [State.RIGHT, State.RIGHT]),
        ("configuration", "invalid_client", [State.RIGHT, State.WRONG]),
        ("configuration", "unknown", [State.RIGHT, State.WRONG]),
        ("doubt", "timeout", [State.RIGHT, State.WRONG]),
        ("nothing", "secret_misconfigured", [State.WRONG, State.UNKNOWN]),
        ("nothing", "secret_unavailable", [State.UNKNOWN]),
        ("nothing", "throttled", [State.UNKNOWN]),
        ("nothing", "no_room_in_the_rate", [State.UNKNOWN]),
    ],
)
def test_secret_and_client_are_known_by_one_canary_of_the_stacks_own(
    sign: str, error: str, states: list[State]
) -> None:
    aws = account(invoke=heard(sign, error, "the secret connect/client-secret must be JSON"))
    found = examined(aws)
    assert [state for state, _, _ in of(found, "client secret") + of(found, "client")] == states
    ((_, given),) = [call for call in aws.calls if call[0] == "invoke"]
    assert given == {"FunctionName": "connect-refresh", "Qualifier": "live", "Payload": b'{"canary": true}'}


def test_a_secret_that_cannot_be_right_says_why_and_how_to_put_it_in() -> None:
    why = "the client_secret has white space at its ends"
    _, text, fix = seen("client secret", invoke=heard("nothing", "secret_misconfigured", why))
    assert (text, "make secret STACK=connect" in fix) == (why, True)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"errorType": "Runtime.ImportModuleError", "errorMessage": "CANARY"}',
        b'{"error": "invalid_connection_id", "detail": "CANARY"}',  # A release before this one.
        b"null",
        b"",
    ],
)
def test_a_function_that_fails_or_is_older_is_no_verdict(answer: bytes) -> None:
    state, text, _ = seen("client secret", invoke=lambda: {"FunctionError": "Unhandled", "Payload": io.BytesIO(answer)})
    assert (state, "CANARY" in text) == (State.UNKNOWN, False)


# ---- at work ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "age", "state", "says"),
    [
        ([tick(3_000), tick(40), tick(100)], 9_000, State.RIGHT, "40 s ago"),
        ([tick(600)], 9_000, State.WRONG, "10 minutes"),
        ([], 9_000, State.WRONG, "has not ticked lately"),
        ([], 60, State.UNKNOWN, "has not ticked yet"),
        ([{"timestamp": NOW * 1000, "message": "START"}], 9_000, State.WRONG, "lately"),
        ([{"timestamp": NOW * 1000, "message": '["tick"]'}], 9_000, State.WRONG, "lately"),
    ],
)
def test_the_schedule_ticks(events: list[Any], age: float, state: State, says: str) -> None:
    aws = account(filter_log_events={"events": events}, describe_stacks=described(age=age))
    found, text, _ = only(examined(aws), "schedule")
    assert (found, says in text) == (state, True)
    assert ("filter_log_events", "/aws/lambda/connect-sweep") in [
        (operation, given.get("logGroupName")) for operation, given in aws.calls
    ]


@pytest.mark.parametrize("there", [[], [{"State": "Disabled"}], [{"State": "Disabling"}]])
def test_refreshes_that_were_stopped_are_named_with_what_starts_them(there: list[dict[str, str]]) -> None:
    state, text, fix = seen("workers", list_event_source_mappings={"EventSourceMappings": there})
    assert (state, "disabled" in text, "feed refresh --enabled" in fix) == (State.WRONG, True, True)


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({}, State.RIGHT),
        ({"connections": 0}, State.RIGHT),
        ({"connections": 3_780}, State.RIGHT),
        ({"connections": 3_781}, State.WRONG),
        ({"at_risk": 1}, State.WRONG),
        ({"connections": None}, State.RIGHT),
        ({"capacity": None}, State.UNKNOWN),
    ],
)
def test_what_the_last_tick_saw_of_the_connections(facts: dict[str, object], state: State) -> None:
    assert seen("connections", filter_log_events={"events": [tick(40, **facts)]})[0] is state


@pytest.mark.parametrize(
    ("limit", "state", "says"),
    [
        (1_000, State.RIGHT, ""),
        (10, State.RIGHT, "A new account has so few"),
        (9, State.WRONG, "Service Quotas"),
    ],
)
def test_the_accounts_concurrency_suffices(limit: int, state: State, says: str) -> None:
    found, text, fix = seen("concurrency", get_account_settings=concurrency(limit))
    assert (found, says in text + fix) == (state, True)


def test_what_no_receiver_took_is_counted_where_one_is_configured() -> None:
    assert of(examined(account()), "receivers") == []
    made = described(UndeliveredUrl="https://sqs/undelivered")
    for count, state in ((0, State.RIGHT), (2, State.WRONG)):
        found = of(examined(account(describe_stacks=made, get_queue_attributes=queue(count))), "receivers")
        assert [one[0] for one in found] == [state]


def test_a_table_that_one_call_deletes_is_named_with_the_command_that_protects_it() -> None:
    state, _, fix = seen("table", describe_table={"Table": {}})
    assert state is State.WRONG
    assert "aws dynamodb update-table --table-name connect-connections --deletion-protection-enabled" in fix


def test_a_stack_that_takes_no_deployment_is_not_told_to_deploy_again() -> None:
    state, _, fix = seen("stack", describe_stacks=described("UPDATE_ROLLBACK_FAILED"))
    assert (state, "continue-update-rollback --stack-name connect" in fix) == (State.WRONG, True)
    assert "Deploy again" not in fix


def test_what_fills_a_queue_is_named_with_its_entry_in_the_runbook() -> None:
    assert seen("queues")[0] is State.RIGHT
    found = of(examined(account(get_queue_attributes=queue(3))), "queues")
    assert [state for state, _, _ in found] == [State.WRONG] * 3
    assert next(text for _, text, _ in found) == "3 dead letters"


@pytest.mark.parametrize(
    ("subscriptions", "states"),
    [
        ([], [State.WRONG]),
        ([subscribed("PendingConfirmation")], [State.WRONG]),
        ([subscribed("Deleted")], [State.WRONG]),
        ([subscribed(f"{TOPIC}:1")], [State.RIGHT]),
        ([subscribed(f"{TOPIC}:1"), subscribed("PendingConfirmation", "b@example.com")], [State.WRONG, State.RIGHT]),
    ],
)
def test_alarms_have_somebody_to_tell_who_has_confirmed(subscriptions: list[Any], states: list[State]) -> None:
    found = of(examined(account(list_subscriptions_by_topic={"Subscriptions": subscriptions})), "alarms")
    assert [state for state, _, _ in found] == states


def test_a_mailbox_that_has_not_confirmed_is_not_heard_by_what_writes_to_it() -> None:
    made = described(MailTopicArn="arn:aws:sns:r:1:connect-mail", NotifyFunctionName="connect-notify")
    own = subscribed(f"{TOPIC}:1", "arn:aws:sqs:r:1:connect-notify")
    for arn, state in (("PendingConfirmation", State.WRONG), ("arn:aws:sns:r:1:connect-mail:2", State.RIGHT)):
        aws = account(describe_stacks=made, list_subscriptions_by_topic={"Subscriptions": [own, subscribed(arn)]})
        assert {one[0] for one in of(examined(aws), "alarms")} == {state}


def test_every_entry_of_the_runbook_that_is_named_is_there() -> None:
    root = Path(__file__).parents[2]
    headings = {
        line.lstrip("#").strip().lower().replace(" ", "-")
        for line in (root / "docs" / "runbook.md").read_text().splitlines()
        if line.startswith("#")
    }
    source = Path(doctor.__file__).read_text()
    named = {part.split('"')[0].split(".")[0] for part in source.split("{_RUNBOOK}")[1:]} - {"{entry}"}
    assert named | {entry for _, entry in doctor._QUEUES.values()} <= headings
    assert len(named) >= 5


# ---- what may not be looked at, and what AWS answers otherwise -------------------------------------------------------

OPERATIONS = {
    "describe_stacks": ("DescribeStacks", "cloudformation:DescribeStacks"),
    "get_function_configuration": ("GetFunctionConfiguration", "lambda:GetFunctionConfiguration"),
    "invoke": ("Invoke", "lambda:InvokeFunction"),
    "filter_log_events": ("FilterLogEvents", "logs:FilterLogEvents"),
    "get_account_settings": ("GetAccountSettings", "lambda:GetAccountSettings"),
    "get_queue_attributes": ("GetQueueAttributes", "sqs:GetQueueAttributes"),
    "list_subscriptions_by_topic": ("ListSubscriptionsByTopic", "sns:ListSubscriptionsByTopic"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException", "AuthorizationError", "403"])
def test_what_may_not_be_looked_at_names_the_permission_and_is_neither_right_nor_wrong(
    operation: str, code: str
) -> None:
    name, permission = OPERATIONS[operation]
    found = examined(account(**{operation: refusal(code, name)}))
    (one,) = [one for one in found if one.text == "may not be looked at"]
    assert (one.state, permission in one.fix) == (State.UNKNOWN, True)
    assert "CANARY" not in repr(found)


words = strategies.text(max_size=5)
anything: strategies.SearchStrategy[Any] = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | words,
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
errors = strategies.sampled_from(
    [
        refusal("ThrottlingException"),
        refusal("UnrecognizedClientException"),
        ClientError({}, "Any"),
        ClientError({"Error": {}, "ResponseMetadata": {"HTTPHeaders": None}}, "Any"),  # type: ignore[typeddict-item]
        EndpointConnectionError(endpoint_url="https://CANARY"),
        NotConfigured("No AWS region."),
        RecursionError(),
        ValueError("CANARY"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(operation=strategies.sampled_from(sorted(OPERATIONS)), answer=anything | errors)
def test_whatever_aws_answers_there_is_a_line_and_no_traceback(operation: str, answer: Any) -> None:
    found = examined(account(**{operation: answer}))
    assert found
    assert "CANARY" not in repr([one.text for one in found])


# ---- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def there(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes `doctor` look at an account."""

    def use(aws: Aws) -> None:
        monkeypatch.setattr(target, "account", lambda **_: Account("connect", aws, Api, clock=lambda: NOW))

    return use


def test_its_exit_code_and_json_are_for_scripts(
    server: Server, there: Callable[[Aws], None], capsys: pytest.CaptureFixture[str]
) -> None:
    well = asked_of(server, LOGIN, ERROR, LOGIN, ERROR, ERROR, ERROR)
    there(well)
    assert main(["doctor"]) == 0
    seen = capsys.readouterr().out
    assert seen.splitlines()[-1] == "nothing to do"
    assert f"ok       redirect URI   {CALLBACK} is registered" in seen
    well.answers["get_account_settings"] = refusal("AccessDenied")
    assert main(["doctor", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["stack"], found["to_do"], found["unknown"]) == ("connect", 0, 1)
    assert {"check": "alarms", "state": "right", "text": f"1 subscribed to {TOPIC}", "fix": ""} in found["checks"]
    assert main(["--json", "doctor"]) == 1
    assert json.loads(capsys.readouterr().out)["to_do"] == 1


def test_where_it_cannot_look_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert main(["doctor", "--stack", "connect"]) == 2
    assert "set AWS_REGION" in capsys.readouterr().out
    assert main(["doctor", "--local"]) == 2
    assert "make up" in capsys.readouterr().err
    assert main(["doctor", "--url", "https://api.example/live"]) == 2
    assert "--stack" in capsys.readouterr().err


def test_it_finds_a_stack_at_aws_by_its_name(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", origin(server))
    server.say(reply(400, b"<ErrorResponse><Error><Code>ValidationError</Code></Error></ErrorResponse>"))
    assert main(["doctor"]) == 2
    assert b"StackName=flowaccount-connect" in server.asked[0].body
    assert main(["--stack-name", "other", "doctor"]) == 2
    assert b"StackName=other" in server.asked[1].body
    assert "/eu-west-1/cloudformation/" in server.asked[0].headers["authorization"]


def test_nothing_that_aws_answers_commands_the_terminal(
    there: Callable[[Aws], None], capsys: pytest.CaptureFixture[str]
) -> None:
    waiting: Mapping[str, Any] = subscribed("PendingConfirmation", "a\x1b[2Jb@example.com")
    there(account(list_subscriptions_by_topic={"Subscriptions": [waiting]}))
    assert main(["doctor"]) == 1
    assert "\x1b" not in capsys.readouterr().out
