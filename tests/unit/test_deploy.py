"""`make deploy`: what it asks, what it looks at before it makes anything, and what it says is left to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError

from tests.unit.accounts import Aws, refusal, stack
from tools.deploy import __main__ as deploy
from tools.deploy import afterwards, checks, secret
from tools.deploy.answers import Answers, collect, keep, kept_region, regions_of
from tools.deploy.session import session
from tools.local.errors import LocalError
from tools.local.parameters import overrides

ANSWERS = Answers("sandbox", "connect", {"ClientId": "client", "Environment": "sandbox"})
REGION, OTHER_REGION = "ap-southeast-1", "eu-west-1"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A samconfig.toml as the repository has it."""
    file = tmp_path / "samconfig.toml"
    file.write_text((Path(__file__).parents[2] / "samconfig.toml").read_text())
    return file


def keep_answers(config: Path, region: str = REGION, **given: str) -> Answers:
    """The answers that a deployment kept."""
    answers = collect(given, config, nobody)
    keep(answers, config, region)
    return answers


def nobody(question: str) -> str:
    pytest.fail(f"asked: {question}")


def somebody(*answers: str) -> Callable[[str], str]:
    """Who answers so, one question after the other, and no other question."""
    left = list(answers)
    return lambda question: left.pop(0) if left else nobody(question)


NO_STACK = refusal("ValidationError")
CALLER = {"Account": "111122223333", "Arn": "arn:aws:iam::111122223333:user/me"}


def concurrency(limit: int) -> dict[str, Any]:
    return {"AccountLimit": {"ConcurrentExecutions": limit}}


# ---- what it asks ------------------------------------------------------------------------------------------------


def test_with_a_client_id_nothing_is_asked(config: Path) -> None:
    answers = collect({"CLIENT_ID": "client"}, config, nobody)
    assert answers == Answers("sandbox", "flowaccount-connect", {"ClientId": "client", "Environment": "sandbox"})


def test_everything_can_be_given(config: Path) -> None:
    given = {
        "CLIENT_ID": "client",
        "ENVIRONMENT": "production",
        "EMAIL": "operator@example.com",
        "RETURN_URLS": "https://app.example/done,https://app.example/again",
        "PARAMETERS": "RefreshesPerMinute=60 DirectConnect=allowed",
    }
    answers = collect(given, config, nobody)
    assert (answers.section, answers.stack) == ("production", "flowaccount-connect-production")
    assert answers.parameters == {
        "ClientId": "client",
        "Environment": "production",
        "AlarmEmail": "operator@example.com",
        "AllowedReturnUrls": "https://app.example/done,https://app.example/again",
        "RefreshesPerMinute": "60",
        "DirectConnect": "allowed",
    }


def test_without_a_client_id_four_things_are_asked_and_a_wrong_answer_once_more(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = somebody("test", "", "client", "operator", "operator@example.com", "https://app.example/#/done", "")
    answers = collect({}, config, ask)
    assert answers.parameters == {
        "ClientId": "client",
        "Environment": "sandbox",
        "AlarmEmail": "operator@example.com",
        "AllowedReturnUrls": "",
    }
    said = capsys.readouterr().out
    assert "ENVIRONMENT=test is not accepted: one of sandbox, production." in said
    assert "EMAIL=operator is not accepted" in said
    assert "RETURN_URLS=https://app.example/#/done is not accepted" in said


def test_answers_are_kept_for_the_next_time_beside_what_is_there(config: Path) -> None:
    config.write_text("# What sam does here.\nversion = 0.1\n\n[default.build.parameters]\nparallel = true\n")
    first = keep_answers(config, CLIENT_ID='cl"ient', RETURN_URLS="https://a.example/x,https://b.example/")
    text = config.read_text()
    assert text.startswith("# What sam does here.\n")
    assert "parallel = true" in text
    assert 'stack_name = "flowaccount-connect"' in text
    assert 'region = "ap-southeast-1"' in text
    assert collect({}, config, None) == first
    # Enter takes them again; what is given wins.
    assert collect({}, config, somebody("", "", "", "")).parameters["ClientId"] == 'cl"ient'
    assert collect({"CLIENT_ID": "other"}, config, nobody).parameters["ClientId"] == "other"


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_region_is_the_one_that_is_exported(name: str) -> None:
    assert session({name: REGION}).region_name == REGION


def test_without_one_the_region_is_that_of_the_last_time(config: Path) -> None:
    assert kept_region(config, "sandbox") is None
    keep_answers(config, CLIENT_ID="one")
    keep_answers(config, OTHER_REGION, CLIENT_ID="b", CONFIG="abroad", STACK="flowaccount-connect")
    assert (kept_region(config, "sandbox"), kept_region(config, "abroad")) == (REGION, OTHER_REGION)
    assert regions_of(config, "flowaccount-connect") == [REGION, OTHER_REGION]
    assert kept_region(config, "another") is None
    assert session({}, REGION).region_name == REGION


def test_no_second_stack_is_made_because_another_region_is_exported() -> None:
    with pytest.raises(LocalError, match="export AWS_REGION=ap-southeast-1") as refused:
        session({"AWS_REGION": OTHER_REGION}, REGION)
    assert "CONFIG=" in str(refused.value)


def test_without_any_region_nothing_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(LocalError, match="Which region"):
        session({})


def test_the_two_environments_are_two_stacks_with_answers_of_their_own(config: Path) -> None:
    keep_answers(config, CLIENT_ID="one")
    keep_answers(config, CLIENT_ID="two", ENVIRONMENT="production")
    one = Answers("sandbox", "flowaccount-connect", {"ClientId": "one", "Environment": "sandbox"})
    two = Answers("production", "flowaccount-connect-production", {"ClientId": "two", "Environment": "production"})
    assert collect({}, config, None) == one
    assert collect({"ENVIRONMENT": "production"}, config, None) == two
    for meant in (one, two):
        assert collect({"STACK": meant.stack}, config, None) == meant
        asked = collect({"STACK": meant.stack}, config, somebody("", "", "", ""))
        assert (asked.section, asked.stack) == (meant.section, meant.stack)
        assert asked.parameters.items() >= meant.parameters.items()


def test_a_section_of_its_own_is_found_by_its_stack_whatever_is_asked_or_given(config: Path) -> None:
    keep_answers(config, CLIENT_ID="one")
    keep_answers(config, CLIENT_ID="two", CONFIG="staging", STACK="fc-staging")
    for more, ask in (({}, None), ({}, somebody("", "", "", "")), ({"ENVIRONMENT": "sandbox"}, None)):
        answers = collect({"STACK": "fc-staging"} | more, config, ask)
        assert (answers.section, answers.parameters["ClientId"]) == ("staging", "two")


def test_no_stack_becomes_one_of_the_other_environment() -> None:
    account = Aws(describe_stacks=stack(parameters={"Environment": "production"}))
    (text,) = wrong(checks.before(account, ANSWERS))
    assert "is of production" in text
    assert "ENVIRONMENT=production STACK=connect" in text


def test_what_was_set_at_the_stack_itself_is_in_the_plan() -> None:
    """Sam keeps each parameter that it is not given: what the runbook set for an hour stays until somebody sees it."""
    there = stack(parameters={"ReplayPolicy": "never", "Pkce": "disabled", "ClientId": "client", "Gone": "x"})
    _, kept = checks.before(Aws(describe_stacks=there), ANSWERS)
    assert kept.text.startswith("ReplayPolicy = never")
    assert "PARAMETERS='ReplayPolicy=allowed'" in kept.text


def test_a_stack_is_not_told_to_give_up_the_table_that_it_uses() -> None:
    there = stack(parameters={"ConnectionsTable": "connect-connections-2"})
    _, kept = checks.before(Aws(describe_stacks=there), ANSWERS)
    assert "Keep it: PARAMETERS='ConnectionsTable=connect-connections-2'" in kept.text
    assert "default" not in kept.text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "make deploy CLIENT_ID=…"),
        ({"CLIENT_ID": "ü"}, "CLIENT_ID=ü is not accepted"),
        ({"CLIENT_ID": "c", "EMAIL": "nobody"}, "EMAIL=nobody is not accepted"),
        (
            {"CLIENT_ID": "c", "PARAMETERS": "Refresh=1"},
            "Refresh is no parameter of the stack. Did you mean RefreshAfter",
        ),
        ({"CLIENT_ID": "c", "PARAMETERS": "RefreshAfter"}, "write Name=value"),
    ],
)
def test_what_cannot_be_deployed_is_said_at_once(config: Path, given: dict[str, str], says: str) -> None:
    with pytest.raises(LocalError, match=says):
        collect(given, config, None)


def test_a_value_reaches_cloudformation_as_it_is() -> None:
    assert overrides({"ClientId": 'a "b\\'}) == ['ClientId="a \\"b\\\\"']


def test_what_merely_stands_in_the_environment_is_not_meant() -> None:
    variables = {"EMAIL": "me@home.example", "CLIENT_ID": "client", "MAKEFLAGS": " -- CLIENT_ID=client"}
    assert deploy.given(variables) == {"CLIENT_ID": "client"}
    assert deploy.given({"LAYER_ARCHITECTURE": "arm64"}) == {"LAYER_ARCHITECTURE": "arm64"}


def test_a_misspelt_variable_is_refused() -> None:
    with pytest.raises(LocalError, match=r"CLIENT is not known here"):
        deploy.given({"MAKEFLAGS": " -- CLIENT=client"})


def test_a_dollar_that_make_would_swallow_is_refused() -> None:
    with pytest.raises(LocalError, match=r"make swallows a \$"):
        deploy.given({"MAKEFLAGS": " -- CLIENT_ID=a$$b", "CLIENT_ID": "a"})


# ---- what it looks at before ---------------------------------------------------------------------------------------


def wrong(found: Any) -> list[str]:
    return [finding.text for finding in found if finding.wrong]


@pytest.mark.parametrize("name", ["connect", "flowaccount-connect", "a" * 52])
def test_a_name_that_fits(name: str) -> None:
    assert wrong(checks.name(name)) == []


@pytest.mark.parametrize("name", ["a" * 53, "Connect", "1connect", "con_nect", ""])
def test_a_name_that_does_not(name: str) -> None:
    assert len(wrong(checks.name(name))) == 1


@pytest.mark.parametrize(("limit", "says"), [(1000, "1000 functions may run at once."), (10, "ask AWS to raise it")])
def test_the_account_is_named_and_what_may_run_there_at_once(limit: int, says: str) -> None:
    account = Aws(get_caller_identity=CALLER, get_account_settings=concurrency(limit))
    whose, room = [finding.text for finding in checks.account(account, REGION)]
    assert whose == "account 111122223333, region ap-southeast-1, as arn:aws:iam::111122223333:user/me"
    assert says in room


def test_without_credentials_it_says_how_to_get_some() -> None:
    (text,) = wrong(checks.account(Aws(get_caller_identity=NoCredentialsError()), "r"))
    assert "aws configure" in text


@pytest.mark.parametrize("status", sorted(checks.UNUSABLE))
def test_a_stack_that_can_neither_be_made_nor_updated_is_named_with_what_to_do(status: str) -> None:
    account = Aws(describe_stacks=stack(status))
    (text,) = wrong(checks.before(account, ANSWERS))
    assert status in text
    commands = ("delete-stack --stack-name connect", "continue-update-rollback --stack-name connect")
    assert any(one in text for one in (*commands, "docs/deploying.md"))


def test_a_stack_at_work_is_waited_for() -> None:
    account = Aws(describe_stacks=stack("UPDATE_IN_PROGRESS"))
    assert "wait" in wrong(checks.before(account, ANSWERS))[0]


def test_a_stack_that_is_there_is_updated_whatever_bears_its_name() -> None:
    account = Aws(describe_stacks=stack(), describe_table={"Table": {}})
    assert [finding.text for finding in checks.before(account, ANSWERS)] == ["stack connect: will be updated"]


def test_an_empty_account_is_ready() -> None:
    found = [*checks.before(Aws(describe_stacks=NO_STACK), ANSWERS)]
    assert [finding.text for finding in found] == ["stack connect: will be made"]


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        ("describe_table", "the table connect-connections"),
        ("describe_secret", "restore-secret --secret-id connect/client-secret"),
        ("describe_key", "aws kms delete-alias --alias-name alias/connect"),
    ],
)
def test_what_an_earlier_stack_left_behind_is_named_with_what_to_do(operation: str, says: str) -> None:
    (text,) = wrong(checks.before(Aws(describe_stacks=NO_STACK, **{operation: {}}), ANSWERS))
    assert says in text


def test_a_kept_secret_that_is_to_be_used_is_in_nobodys_way() -> None:
    answers = Answers("sandbox", "connect", {"ClientSecretName": "connect/client-secret"})
    assert wrong(checks.before(Aws(describe_stacks=NO_STACK, describe_secret={}), answers)) == []


def test_what_stands_in_the_way_ends_it_before_anything_is_made() -> None:
    account = Aws(get_caller_identity=CALLER, get_account_settings=concurrency(10), describe_stacks=NO_STACK)
    account.answers["describe_table"] = {}
    with pytest.raises(LocalError, match="the table connect-connections"):
        deploy.plan(account, ANSWERS, "r")
    with pytest.raises(LocalError, match="may have 52"):
        deploy.plan(account, Answers("sandbox", "a" * 60, {}), "r")


# ---- afterwards ----------------------------------------------------------------------------------------------------

OUT = {
    "CallbackUrl": "https://api.example/live/callback",
    "ClientSecretName": "connect/client-secret",
    "AlarmTopicArn": "arn:aws:sns:r:1:connect-alarms",
    "ApiUrl": "https://api.example/live",
    "AuthorizeUrl": "https://api.example/live/authorize",
}


PENDING = {"SubscriptionArn": "PendingConfirmation", "Endpoint": "operator@example.com"}


def with_secret(value: str, *subscribed: dict[str, str]) -> Aws:
    """An account with this secret, and with these who hear the alarms."""
    subscriptions = {"Subscriptions": [*subscribed]}
    return Aws(get_secret_value={"SecretString": value}, list_subscriptions_by_topic=subscriptions)


def steps(account: Aws, **parameters: str) -> list[str]:
    return [*afterwards.left_to_do(account, Answers("sandbox", "connect", parameters), OUT)]


def test_a_new_stack_has_everything_left_to_do_in_order() -> None:
    register, put, confirm, try_it = steps(with_secret('{"put_client_secret_here": "x"}', PENDING))
    assert "https://api.example/live/callback" in register
    assert "make secret STACK=connect" in put
    assert "operator@example.com" in confirm
    assert "https://api.example/live" in try_it


def test_a_topic_that_may_not_be_looked_at_ends_nothing() -> None:
    account = with_secret("{}")
    account.answers["list_subscriptions_by_topic"] = refusal("AuthorizationError")
    *_, look, try_it = steps(account)
    assert OUT["AlarmTopicArn"] in look
    assert try_it.startswith("Try it")


def test_what_is_done_is_not_named() -> None:
    confirmed = {"SubscriptionArn": "arn:aws:sns:r:1:connect-alarms:1", "Endpoint": "operator@example.com"}
    found = steps(with_secret('{"client_secret": "s"}', confirmed), DirectConnect="allowed")
    assert [step.partition(" ")[0] for step in found] == ["Register", "Try"]
    assert found[-1].endswith("https://api.example/live/authorize")


def test_the_topic_of_the_mailbox_is_looked_at_too() -> None:
    account = with_secret("{}", PENDING)
    out = OUT | {"MailTopicArn": "arn:aws:sns:r:1:connect-mail"}
    found = [*afterwards.left_to_do(account, ANSWERS, out)]
    asked = [given["TopicArn"] for operation, given in account.calls if operation == "list_subscriptions_by_topic"]
    assert asked == [out["AlarmTopicArn"], out["MailTopicArn"]]
    assert any("operator@example.com" in step for step in found)


def test_alarms_that_nobody_hears_are_named() -> None:
    assert any("Subscribe somebody" in step for step in steps(with_secret('{"client_secret": "s"}')))


@pytest.mark.parametrize("protected", [False, True])
def test_the_table_is_protected_once_it_is_there(protected: bool) -> None:
    account = Aws(describe_table={"Table": {"DeletionProtectionEnabled": protected}}, update_table={})
    afterwards.protect(account, "connect-connections")
    changes = [given for operation, given in account.calls if operation == "update_table"]
    assert changes == [] if protected else [{"TableName": "connect-connections", "DeletionProtectionEnabled": True}]


def test_the_client_secret_is_put_where_the_functions_look_for_it() -> None:
    account = Aws(describe_stacks=stack(outputs=OUT), put_secret_value={})
    assert secret.put(account, "connect", 'se"cret') == "connect/client-secret"
    assert account.calls[-1][1] == {
        "SecretId": "connect/client-secret",
        "SecretString": '{"client_secret": "se\\"cret"}',
    }


@pytest.mark.parametrize("value", ["", " CANARY", "CANARY\n", "CAN\x00ARY"])
def test_what_cannot_be_a_client_secret_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(LocalError) as refused:
        secret.put(Aws(), "connect", value)
    assert "CANARY" not in str(refused.value)


def test_of_a_stack_that_is_not_there_it_says_so() -> None:
    with pytest.raises(LocalError, match="There is no stack connect"):
        secret.put(Aws(describe_stacks=NO_STACK), "connect", "secret")
