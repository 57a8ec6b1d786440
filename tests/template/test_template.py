"""What linters do not see in template.yaml, and what must never slip into it."""

import json
import re
import string
from collections.abc import Iterator
from typing import Any

import pytest

from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.rotation.permits import Kind
from flowaccount_connect.scheduling.rate import REACH
from tests.template.conftest import ROOT

Template = dict[str, Any]

SCHEMAS = ROOT / "events" / "schemas"

FUNCTIONS = {
    "authorize": "AuthorizeFunction",
    "callback": "CallbackFunction",
    "sweep": "SweepFunction",
    "refresh": "RefreshFunction",
    "salvage": "SalvageFunction",
    "token": "TokenFunction",
    "connections": "ConnectionsFunction",
    "publish": "PublishFunction",
    "notify": "NotifyFunction",
}

COMMON = {
    "ENVIRONMENT",
    "STACK",
    "TABLE_NAME",
    "SETTINGS_VERSION",
    "RES_OPTIONS",
    "POWERTOOLS_SERVICE_NAME",
    "POWERTOOLS_METRICS_NAMESPACE",
}

TOKENS = {
    "TOKEN_ENDPOINT",
    "CLIENT_ID",
    "CLIENT_SECRET_NAME",
    "KEY_ID",
    "REFRESH_TOKEN_LIFETIME",
    "REFRESH_TOKEN_LIFETIME_LONGER",
    "CONSENT_LIFETIME",
    "CONSENT_WARNING",
    "REFRESH_AFTER",
    "SALVAGE_QUEUE_URL",
}

APP = {"APP_NAME", "APP_LOGO", "APP_CONTACT", "RESTART_URL"}

ENVIRONMENTS: dict[str, set[str]] = {
    "authorize": {
        "AUTHORIZE_ENDPOINT",
        "CLIENT_ID",
        "REDIRECT_URI",
        "ALLOWED_RETURN_URLS",
        "DIRECT_CONNECT",
        "PKCE",
        "PRESELECT_BUSINESS",
    }
    | APP,
    "callback": TOKENS | APP | {"ALLOWED_RETURN_URLS", "ISSUER", "REFRESHES_PER_MINUTE"},
    "sweep": {
        *("REFRESH_QUEUE_URL", "REFRESHES_PER_MINUTE"),
        *("REFRESH_AFTER", "REFRESH_TOKEN_LIFETIME"),
    },
    "refresh": TOKENS | {"REPLAY_POLICY", "LEASE_SECONDS", "REFRESHES_PER_MINUTE"},
    "salvage": {"REFRESH_TOKEN_LIFETIME", "REFRESH_AFTER"},
    "token": {"KEY_ID", "REFRESH_FUNCTION", "REDIRECT_URI", "DIRECT_CONNECT"},
    "connections": {
        *("REDIRECT_URI", "ALLOWED_RETURN_URLS"),
        *("KEY_ID", "REFRESH_FUNCTION", "REFRESH_TOKEN_LIFETIME"),
    },
    "publish": {"EVENT_BUS_NAME", "PUBLISH_REFRESHED", "UNPUBLISHED_QUEUE_URL"},
    # Not LOOPBACK_RECEIVERS: the local stack alone sets it.
    "notify": {
        *("NOTIFY_QUEUE_URL", "UNDELIVERED_QUEUE_URL", "WEBHOOK_URLS", "WEBHOOK_EVENTS", "WEBHOOK_SECRET"),
        *("SLACK_SECRET_NAME", "LINE_SECRET_NAME", "MAIL_TOPIC_ARN", "NOTIFICATION_LANGUAGE"),
    },
}

PUBLIC = {("get", "/authorize"), ("head", "/authorize"), ("get", "/callback")}


def of_type(template: Template, kind: str) -> dict[str, Any]:
    """Resources of one type by logical id."""
    return {name: item for name, item in template["Resources"].items() if item["Type"] == kind}


def as_list(value: Any) -> list[Any]:
    """A list of one where CloudFormation allows to leave out the list."""
    return value if isinstance(value, list) else [value]


def statements(role: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All statements of a role's inline policies."""
    for policy in role["Properties"].get("Policies", []):
        for statement in policy["PolicyDocument"]["Statement"]:
            # A statement that is there under a condition only.
            yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def texts(value: Any) -> Iterator[str]:
    """Every string inside a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def names(value: Any) -> Iterator[str]:
    """Every name that a value refers to, by ``Ref`` or in the text of a ``Sub``."""
    if isinstance(value, dict):
        if isinstance(value.get("Ref"), str):
            yield value["Ref"]
        if "Fn::Sub" in value:
            yield from re.findall(r"\$\{([\w:]+)", as_list(value["Fn::Sub"])[0])
        for inner in value.values():
            yield from names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from names(inner)


def role_of(template: Template, function: str) -> dict[str, Any]:
    """The role of one function."""
    tenant = template["Resources"][FUNCTIONS[function]]["Properties"]["Role"]["Fn::GetAtt"]
    role: dict[str, Any] = template["Resources"][tenant[0]]
    return role


def operations(translated: Template) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and definition of every route, as the gateway gets them."""
    for path, methods in translated["Resources"]["Api"]["Properties"]["Body"]["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


# ---- the API ---------------------------------------------------------------------------------------------


def test_connections_answers_the_routes_that_lead_to_it(template: Template) -> None:
    source = (ROOT / "functions" / "connections" / "app.py").read_text()
    answered = set(re.findall(r'^    \("([A-Z]+)", "(/[^"]*)"\): ', source, re.MULTILINE))
    events = template["Resources"]["ConnectionsFunction"]["Properties"]["Events"].values()
    assert answered == {(event["Properties"]["Method"], event["Properties"]["Path"]) for event in events}


def test_every_route_but_the_public_ones_needs_iam(translated: Template) -> None:
    open_routes = {
        (method, path)
        for method, path, operation in operations(translated)
        if not any("AWS_IAM" in security for security in operation.get("security", []))
    }
    assert open_routes == PUBLIC


def test_the_gateway_itself_invokes_the_functions_not_the_caller(translated: Template) -> None:
    for method, path, operation in operations(translated):
        assert "credentials" not in operation["x-amazon-apigateway-integration"], f"{method} {path}"


def test_routes_go_to_the_alias(translated: Template) -> None:
    for method, path, operation in operations(translated):
        uri = json.dumps(operation["x-amazon-apigateway-integration"]["uri"])
        assert "Aliaslive" in uri, f"{method} {path} goes around the alias"


def test_public_routes_are_throttled(translated: Template) -> None:
    stage = translated["Resources"]["ApiliveStage"]["Properties"]
    # A slash of the path is ~1 there, after a slash that is none: `/~1authorize`.
    limited = {
        (setting["HttpMethod"].lower(), setting["ResourcePath"])
        for setting in stage["MethodSettings"]
        if "ThrottlingRateLimit" in setting and "ThrottlingBurstLimit" in setting
    }
    assert limited == {(method, "/" + path.replace("/", "~1")) for method, path in PUBLIC}


def test_no_log_of_the_gateway_has_a_query_a_path_or_a_body(translated: Template) -> None:
    stage = translated["Resources"]["ApiliveStage"]["Properties"]
    assert not any(setting.get("DataTraceEnabled") for setting in stage["MethodSettings"])
    assert not any(setting.get("LoggingLevel") for setting in stage["MethodSettings"])
    line = json.loads(stage["AccessLogSetting"]["Fn::If"][1]["Format"])
    allowed = {
        "$context.extendedRequestId",
        "$context.requestTimeEpoch",
        "$context.httpMethod",
        "$context.resourcePath",
        "$context.status",
        "$context.responseLatency",
        "$context.integration.status",
        # Not userArn: a user's path may hold quotes, and nothing here is escaped.
        "$context.identity.caller",
        "$context.identity.sourceIp",
        "$context.error.responseType",
    }
    assert set(line.values()) == allowed
    assert line["request_id"] == "$context.extendedRequestId", "a client can set the other"


def gateway_responses(translated: Template) -> dict[str, Any]:
    """API Gateway's own errors, by their kind."""
    found: dict[str, Any] = translated["Resources"]["Api"]["Properties"]["Body"][
        "x-amazon-apigateway-gateway-responses"
    ]
    return found


def test_the_gateways_own_errors_are_problem_details_of_their_own_status(translated: Template) -> None:
    responses = gateway_responses(translated)
    assert set(responses) == {
        *("DEFAULT_4XX", "DEFAULT_5XX", "THROTTLED"),
        *("ACCESS_DENIED", "EXPIRED_TOKEN", "INVALID_SIGNATURE", "MISSING_AUTHENTICATION_TOKEN"),
    }
    for kind, response in responses.items():
        assert "statusCode" not in response, kind
        # What AWS gives as JSON, quotes and all, stands for a value here.
        text = response["responseTemplates"]["application/json"].replace("$context.error.messageString", '"words"')
        assert "$context.error" not in text, f"{kind}: words of AWS that nobody has quoted"
        problem = json.loads(text)
        # A client can set the other request id. AWS's words help whoever signed wrongly, or by a wrong clock.
        same = {"type": "about:blank", "request_id": "$context.extendedRequestId"}
        words = {} if kind == "DEFAULT_5XX" else {"detail": "words"}
        assert problem == same | words | {name: problem[name] for name in ("title", "code")}, kind
        assert re.fullmatch(r"[a-z_]+", problem["code"]), kind
        headers = response["responseParameters"]
        assert headers["gatewayresponse.header.Content-Type"] == "'application/problem+json'", kind
        assert headers["gatewayresponse.header.Cache-Control"] == "'no-store'", kind
        assert (kind == "THROTTLED") == ("gatewayresponse.header.Retry-After" in headers), kind


# ---- who may do what -------------------------------------------------------------------------------------


def test_every_function_has_a_role_of_its_own(template: Template, translated: Template) -> None:
    functions = of_type(template, "AWS::Serverless::Function")
    assert set(functions) == set(FUNCTIONS.values())
    roles = [json.dumps(function["Properties"]["Role"]) for function in functions.values()]
    assert len(set(roles)) == len(roles)
    assert set(of_type(translated, "AWS::IAM::Role")) == set(of_type(template, "AWS::IAM::Role")), "SAM made a role"


def test_no_role_has_a_managed_policy(translated: Template) -> None:
    for name, role in of_type(translated, "AWS::IAM::Role").items():
        assert "ManagedPolicyArns" not in role["Properties"], name


def test_only_callback_and_refresh_read_the_client_secret(template: Template) -> None:
    readers = {
        name
        for name in FUNCTIONS
        for item in statements(role_of(template, name))
        if any(action.startswith("secretsmanager:") for action in as_list(item["Action"]))
    }
    assert readers == {"callback", "refresh", "notify"}
    read = [item["Resource"] for item in statements(role_of(template, "notify")) if "secretsmanager" in item["Action"]]
    suffixes = [one["Fn::Sub"].rpartition(":secret:")[2] for one in read]
    assert suffixes == [
        "${AWS::StackName}/webhook-secret-??????",
        "${SlackSecretName}-??????",
        "${LineSecretName}-??????",
    ]


def test_a_wildcard_stands_only_at_the_tail_of_an_arn_of_ours(template: Template) -> None:
    for name, role in of_type(template, "AWS::IAM::Role").items():
        for item in statements(role):
            assert item["Effect"] == "Allow", name
            assert "NotAction" not in item, name
            assert "NotResource" not in item, name
            assert not any("*" in action for action in as_list(item["Action"])), f"{name} {item['Sid']}"
            if item["Action"] == "cloudwatch:DescribeAlarms":
                # It reads, and how it is asked is CodeDeploy's affair.
                assert item["Resource"]["Fn::Sub"].endswith(":${AWS::AccountId}:alarm:*"), name
                continue
            for resource in as_list(item["Resource"]):
                for text in texts(resource):
                    assert "*" not in text or re.fullmatch(
                        r"(arn:[^*]*\$\{AWS::StackName\}|\$\{Table\.Arn\})[^*]*\*", text
                    ), name


def test_keys_are_used_in_this_stacks_context_only(template: Template) -> None:
    for function in FUNCTIONS:
        for item in statements(role_of(template, function)):
            if any(action.startswith("kms:") for action in as_list(item["Action"])):
                assert item["Condition"]["StringEquals"] == {
                    "kms:EncryptionContext:stack": {"Ref": "AWS::StackName"},
                    "kms:EncryptionContext:environment": {"Ref": "Environment"},
                }, function


def test_the_schedule_has_its_role_its_dead_letters_and_bounded_retries(translated: Template) -> None:
    (schedule,) = of_type(translated, "AWS::Scheduler::Schedule").values()
    properties = schedule["Properties"]
    assert "Name" not in properties
    assert properties["Target"]["RoleArn"] == {"Fn::GetAtt": ["TickRole", "Arn"]}
    assert properties["Target"]["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["DeadLetters", "Arn"]}}
    assert properties["Target"]["RetryPolicy"]["MaximumRetryAttempts"] <= 3
    assert "Aliaslive" in json.dumps(properties["Target"]["Arn"])


# ---- queues, times, logs ---------------------------------------------------------------------------------


def timeout(template: Template, function: str) -> int:
    """A function's timeout in seconds."""
    seconds: int = template["Resources"][FUNCTIONS[function]]["Properties"]["Timeout"]
    return seconds


def test_a_message_stays_hidden_for_six_times_the_functions_timeout_and_the_batchs_window(template: Template) -> None:
    checked = 0
    for function, logical_id in FUNCTIONS.items():
        for event in template["Resources"][logical_id]["Properties"].get("Events", {}).values():
            if event["Type"] == "SQS":
                queue = template["Resources"][event["Properties"]["Queue"]["Fn::GetAtt"][0]]
                window = event["Properties"].get("MaximumBatchingWindowInSeconds", 0)
                assert queue["Properties"]["VisibilityTimeout"] >= 6 * timeout(template, function) + window, function
                assert event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"], function
                checked += 1
    assert checked == 4


def test_the_refresh_queue_hands_over_batches_to_a_bounded_number_of_workers(template: Template) -> None:
    function = template["Resources"]["RefreshFunction"]["Properties"]
    (source,) = function["Events"].values()
    assert source["Properties"]["Queue"] == {"Fn::GetAtt": ["RefreshQueue", "Arn"]}
    # Beyond ten, AWS asks for a window; nobody waits in it for longer than slots are taken ahead.
    assert source["Properties"]["BatchSize"] == 50
    assert 1 <= source["Properties"]["MaximumBatchingWindowInSeconds"] < REACH[Kind.SCHEDULED]
    assert source["Properties"]["ScalingConfig"] == {"MaximumConcurrency": 2}, (
        "SQS knows no less; a new account has ten"
    )
    queue = template["Resources"]["RefreshQueue"]["Properties"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["DeadLetters", "Arn"]}
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 5
    assert queue["MessageRetentionPeriod"] == Schedule().refresh_token_lifetime


def test_every_queue_is_encrypted_and_has_dead_letters_or_is_such_a_queue(template: Template) -> None:
    queues = of_type(template, "AWS::SQS::Queue")
    # Nothing leaves these two but what could be written or published: it comes back until it can.
    dead_letters = {"DeadLetters", "SalvageQueue", "Unpublished", "UndeliveredDeadLetters"}
    for name, queue in queues.items():
        assert queue["Properties"]["SqsManagedSseEnabled"] is True, name
        if name in dead_letters:
            assert queue["Properties"]["MessageRetentionPeriod"] == 1_209_600, name
        else:
            target = queue["Properties"]["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
            assert target in dead_letters, name
            assert queue["Properties"]["RedrivePolicy"]["maxReceiveCount"] > 1, name


def test_the_stream_is_read_without_what_its_reader_writes(template: Template) -> None:
    stream = template["Resources"]["PublishFunction"]["Properties"]["Events"]["Stream"]["Properties"]
    patterns = [json.loads(one["Pattern"])["dynamodb"] for one in stream["FilterCriteria"]["Filters"]]
    # What else they ask for: tests/unit/test_stream_filter.py.
    assert {kind for pattern in patterns for kind in pattern["Keys"]["sk"]["S"]} == {"CONNECTION", "IMPORT", "EVENT"}


def test_nothing_of_the_stream_is_lost_silently(template: Template, translated: Template) -> None:
    stream = template["Resources"]["PublishFunction"]["Properties"]["Events"]["Stream"]["Properties"]
    assert stream["StartingPosition"] == "TRIM_HORIZON"
    assert stream["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert stream["BisectBatchOnFunctionError"] is True
    assert "MaximumRetryAttempts" not in stream, "what does not depend on the record must not drop it"
    assert 43_200 <= stream["MaximumRecordAgeInSeconds"] < 86_400, "while the stream still has it"
    assert stream["DestinationConfig"]["OnFailure"]["Destination"] == {"Fn::GetAtt": ["DeadLetters", "Arn"]}
    events = template["Resources"]["PublishFunction"]["Properties"]["Events"]
    assert events["Unpublished"]["Properties"]["Queue"] == {"Fn::GetAtt": ["Unpublished", "Arn"]}


def test_only_two_queues_are_read_by_a_bounded_number_of_workers(template: Template) -> None:
    """A bound makes Lambda ask an idle queue more often, and each question is billed."""
    bounded = {
        (function, name)
        for function, logical_id in FUNCTIONS.items()
        for name, event in template["Resources"][logical_id]["Properties"].get("Events", {}).items()
        if "ScalingConfig" in event["Properties"]
    }
    # A receiver that hangs must not use up the concurrency that refreshes need.
    assert bounded == {("refresh", "Queue"), ("notify", "Queue")}


def test_webhooks_can_be_of_every_event_that_has_a_schema_and_of_no_other(template: Template) -> None:
    pattern = template["Parameters"]["WebhookEvents"]["AllowedPattern"]
    types = {path.name.removesuffix(".v1.json") for path in SCHEMAS.iterdir()}
    assert set(re.findall(r"[a-z_]{5,}", pattern)) - {"connection"} == {one.partition(".")[2] for one in types}
    assert all(re.fullmatch(pattern, one) for one in types | {""})
    assert not any(
        re.fullmatch(pattern, one) for one in ("connected", "connection.x", "connection", "Connection.connected")
    )
    (name, to_all) = template["Resources"]["NotifyRule"]["Properties"]["EventPattern"]["detail-type"]["Fn::If"][:2]
    assert (name, to_all) == (
        "SendWebhooks",
        [{"Fn::If": ["PickEvents", {"prefix": "connection."}, {"anything-but": ["connection.refreshed"]}]}],
    )


@pytest.mark.parametrize("topic", ["AlarmTopic", "MailTopic"])
def test_only_own_alarms_send_to_a_topic(template: Template, topic: str) -> None:
    policy = template["Resources"][f"{topic}Policy"]
    assert policy["Condition"] == template["Resources"][topic]["Condition"]
    (alarms,) = policy["Properties"]["PolicyDocument"]["Statement"]
    assert alarms["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert (alarms["Action"], alarms["Resource"]) == ("sns:Publish", {"Ref": topic})
    (source,) = alarms["Condition"]["ArnLike"].values()
    assert source["Fn::Sub"].endswith(":${AWS::AccountId}:alarm:${AWS::StackName}-*")


def test_the_stack_makes_a_topic_for_alarms_unless_it_is_given_one_and_one_for_an_address(template: Template) -> None:
    resources = template["Resources"]
    assert resources["AlarmTopic"]["Condition"] == "OwnTopic"
    assert resources["MailTopic"]["Condition"] == resources["MailSubscription"]["Condition"] == "MailOperator"
    assert resources["MailSubscription"]["Properties"]["TopicArn"] == {"Ref": "MailTopic"}


def test_a_lease_outlives_the_function_that_holds_it(template: Template) -> None:
    variables = template["Resources"]["RefreshFunction"]["Properties"]["Environment"]["Variables"]
    assert int(variables["LEASE_SECONDS"]) > timeout(template, "refresh")


def test_functions_behind_the_gateway_end_before_it_gives_up(template: Template) -> None:
    for function in ("authorize", "callback", "token", "connections"):
        assert timeout(template, function) < 29, function


def test_a_sweep_ends_before_the_next_tick(template: Template) -> None:
    assert timeout(template, "sweep") < 60


def test_lambda_repeats_neither_a_refresh_nor_a_sweep(translated: Template) -> None:
    for function in ("Refresh", "Sweep"):
        configuration = translated["Resources"][f"{function}FunctionEventInvokeConfig"]["Properties"]
        assert configuration["MaximumRetryAttempts"] == 0, function


def test_every_function_logs_to_a_group_of_its_own_that_forgets(template: Template) -> None:
    groups = of_type(template, "AWS::Logs::LogGroup")
    used = set()
    for name, logical_id in FUNCTIONS.items():
        group = template["Resources"][logical_id]["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]
        assert group in groups, name
        used.add(group)
    assert len(used) == len(FUNCTIONS)
    for group, resource in groups.items():
        assert resource["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"}, group


def test_a_version_in_flight_stays_when_the_next_one_takes_over(translated: Template) -> None:
    """A version whose description changes is replaced, and what is replaced is deleted unless it is retained."""
    versions = of_type(translated, "AWS::Lambda::Version")
    assert len(versions) == len(FUNCTIONS)
    for name, version in versions.items():
        assert (version["DeletionPolicy"], version["UpdateReplacePolicy"]) == ("Retain", "Retain"), name


# ---- what is kept ----------------------------------------------------------------------------------------


def test_what_holds_customers_connections_survives_the_stack(template: Template) -> None:
    for name in ("Table", "Key", "ClientSecret"):
        assert template["Resources"][name]["DeletionPolicy"] == "RetainExceptOnCreate", name
        assert template["Resources"][name]["UpdateReplacePolicy"] == "Retain", name


def test_nothing_of_a_failed_first_deployment_stands_in_the_way_of_the_second(template: Template) -> None:
    """What is kept is kept `ExceptOnCreate`, and the table is not protected from the rollback that deletes it."""
    assert "DeletionProtectionEnabled" not in template["Resources"]["Table"]["Properties"]
    for name, resource in template["Resources"].items():
        assert resource.get("DeletionPolicy", "Delete") in ("Delete", "RetainExceptOnCreate"), name


def test_the_table_keeps_what_it_promises(template: Template) -> None:
    table = template["Resources"]["Table"]["Properties"]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert table["SSESpecification"]["SSEEnabled"] is True
    indexes = {index["IndexName"]: index["Projection"] for index in table["GlobalSecondaryIndexes"]}
    assert indexes == {
        "due": {
            "ProjectionType": "INCLUDE",
            "NonKeyAttributes": ["deadline", "generation", "at_risk", "in_doubt"],
        },
        "status": {"ProjectionType": "KEYS_ONLY"},
    }


def test_the_secret_the_stack_makes_holds_no_client_secret(template: Template) -> None:
    generated = template["Resources"]["ClientSecret"]["Properties"]["GenerateSecretString"]
    assert json.loads(generated["SecretStringTemplate"]) == {}
    assert generated["GenerateStringKey"] != "client_secret"
    assert "SecretString" not in template["Resources"]["ClientSecret"]["Properties"]


def test_no_kind_of_characters_is_left_out_character_by_character(template: Template) -> None:
    """AWS refuses that: "All characters of the desired type have been excluded". A switch leaves a kind out."""
    kinds = {
        "ExcludeUppercase": string.ascii_uppercase,
        "ExcludeLowercase": string.ascii_lowercase,
        "ExcludeNumbers": string.digits,
        "ExcludePunctuation": string.punctuation,
    }
    generated = [
        one["Properties"]["GenerateSecretString"] for one in of_type(template, "AWS::SecretsManager::Secret").values()
    ]
    assert len(generated) == 2
    for one in generated:
        for switch, characters in kinds.items():
            assert one.get(switch) is True or not set(characters) <= set(one.get("ExcludeCharacters", "")), switch


# ---- settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_functions_environment_is_what_it_reads(translated: Template, function: str) -> None:
    variables = translated["Resources"][FUNCTIONS[function]]["Properties"]["Environment"]["Variables"]
    assert set(variables) == COMMON | ENVIRONMENTS[function]
    assert variables["POWERTOOLS_SERVICE_NAME"] == function
    assert not [name for name, value in variables.items() if not isinstance(value, str | dict)], "not a text"


def test_a_changed_setting_reaches_the_alias(template: Template) -> None:
    """A parameter that a function depends on is part of the settings' version, and so of the function's."""
    document = set(names(template["Resources"]["SettingsVersion"]["Properties"]["Content"]))
    conditions = {condition: set(names(definition)) for condition, definition in template["Conditions"].items()}
    shared = template["Globals"]["Function"]
    assert shared["Environment"]["Variables"]["SETTINGS_VERSION"] == {"Ref": "SettingsVersion"}
    assert shared["AutoPublishAlias"] == "live"
    for logical_id in FUNCTIONS.values():
        properties = template["Resources"][logical_id]["Properties"]
        assert properties["AutoPublishAliasAllProperties"] is True, logical_id
        assert properties["VersionDescription"] == {"Fn::Sub": "Settings ${SettingsVersion}"}, logical_id
        # What is the alias's own is in no version.
        settings = {k: v for k, v in (shared | properties).items() if k not in ("Events", "DeploymentPreference")}
        used = set(names([settings, shared["Environment"]]))
        used |= {name for word in texts(settings) for name in conditions.get(word, ())}
        assert used & set(template["Parameters"]) <= document, logical_id


def test_a_changed_layer_reaches_the_alias(template: Template) -> None:
    assert template["Globals"]["LayerVersion"]["PublishLambdaVersion"] is True


def test_every_parameter_is_described_constrained_grouped_and_labelled(template: Template) -> None:
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    assert set(interface["ParameterLabels"]) == set(template["Parameters"])
    for name, parameter in template["Parameters"].items():
        assert len(parameter["Description"]) > 20, name
        assert {"AllowedValues", "AllowedPattern", "MinValue"} & set(parameter), name
        if "AllowedValues" not in parameter:
            assert "ConstraintDescription" in parameter, name
        assert "NoEcho" not in parameter, f"{name}: secrets are no parameters"
        assert "Default" in parameter or name == "ClientId", name


def test_each_environment_has_flowaccounts_own_endpoints_and_a_rate_below_its_limit(
    template: Template,
) -> None:
    mapping = template["Mappings"]["FlowAccount"]
    assert mapping["sandbox"]["AuthorizeEndpoint"] == "https://sandbox-auth.flowaccount.com/connect/authorize"
    assert mapping["sandbox"]["TokenEndpoint"] == "https://openapi.flowaccount.com/test/token"
    assert mapping["production"]["AuthorizeEndpoint"] == "https://auth.flowaccount.com/connect/authorize"
    assert mapping["production"]["TokenEndpoint"] == "https://openapi.flowaccount.com/v1/token"
    assert int(mapping["sandbox"]["RefreshesPerMinute"]) < 20
    assert int(mapping["production"]["RefreshesPerMinute"]) < 100


def test_every_output_is_described(template: Template) -> None:
    for name, output in template["Outputs"].items():
        assert len(output["Description"]) > 10, name


def test_a_line_above_every_resource_says_why_it_exists(request: pytest.FixtureRequest) -> None:
    lines = (request.config.rootpath / "template.yaml").read_text().splitlines()
    start, end = lines.index("Resources:"), lines.index("Outputs:")
    for number in range(start + 1, end):
        if re.fullmatch(r"  \w+:", lines[number]):
            assert lines[number - 1].startswith("  # "), f"line {number + 1}: {lines[number].strip()}"
