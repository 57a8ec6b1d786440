"""What a deployment's parameters make of the template: a domain, a gradual take-over, several stacks in one account."""

import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import Any

import pytest
import yaml

import flowaccount_connect_client
from flowaccount_connect import __version__
from tests.template.conftest import ROOT, read, translate
from tests.template.test_grants import grants
from tests.template.test_template import FUNCTIONS, Template, as_list, names, of_type
from tools.deploy.__main__ import PATIENCE

DOMAIN = {
    "DomainName": "connect.example.com",
    "CertificateArn": "arn:aws:acm:ap-southeast-1:111122223333:certificate/0198b5a0-1111",
}
GATEWAY = "https://api-id.execute-api.ap-southeast-1.amazonaws.com/live"
BACK = "https://app.example.com/back"
"""A redirect URI of the integrator's own."""


class Deployed:
    """The template as CloudFormation resolves it for given parameters; as much of its language as is in use there."""

    def __init__(self, template: Template, **given: str) -> None:
        defaults = {name: parameter.get("Default", "") for name, parameter in template["Parameters"].items()}
        self.template = template
        self.known = defaults | given | {"Api": "api-id", "Domain": "domain", "Api.Stage": "live"}
        self.known |= {"AWS::Region": "ap-southeast-1", "AWS::URLSuffix": "amazonaws.com", "AWS::StackName": "stack"}

    def whole(self, value: Any) -> Any:
        """A value whose conditions are decided, and nothing else worked out."""
        if isinstance(value, list):
            return [self.whole(one) for one in value]
        if not isinstance(value, dict):
            return value
        if list(value) == ["Fn::If"]:
            condition, then, otherwise = value["Fn::If"]
            return self.whole(then if self.holds(condition) else otherwise)
        return {key: self.whole(inner) for key, inner in value.items()}

    def holds(self, condition: str) -> bool:
        return bool(self.of(self.template["Conditions"][condition]))

    def of(self, value: Any) -> Any:
        """A value with its functions worked out."""
        if not isinstance(value, dict) or len(value) != 1:
            return value
        ((function, given),) = value.items()
        match function:
            case "Ref":
                # What is no parameter is a resource: its name will do.
                return self.known.get(given, given)
            case "Fn::Sub":
                return re.sub(r"\$\{([\w:.]+)\}", lambda name: str(self.known[name[1]]), given)
            case "Fn::If":
                return self.of(given[1] if self.holds(given[0]) else given[2])
            case "Fn::Equals":
                return str(self.of(given[0])) == str(self.of(given[1]))
            case "Fn::Not":
                return not self.of(given[0])
            case "Fn::Or":
                return any(map(self.of, given))
            case "Fn::And":
                return all(map(self.of, given))
            case "Condition":
                return self.holds(given)
            case "Fn::FindInMap":
                first, *keys = map(self.of, given)
                return self.template["Mappings"][first][keys[0]][keys[1]]
            case "Fn::Select":
                return str(self.of(given[1])).split(",")[int(given[0])]
            case "Fn::Join":
                separator, parts = given[0], self.of(given[1])
                return separator.join(parts.split(",") if isinstance(parts, str) else map(self.of, parts))
        return value

    def accepted(self) -> bool:
        """Whether the rules let the parameters pass."""
        return all(
            self.of(one["Assert"])
            for rule in self.template["Rules"].values()
            if self.of(rule["RuleCondition"])
            for one in rule["Assertions"]
        )

    def output(self, name: str) -> str:
        return str(self.of(self.template["Outputs"][name]["Value"]))

    def has(self, resource: str) -> bool:
        condition = self.template["Resources"][resource].get("Condition")
        return condition is None or self.holds(condition)


# ---- a domain ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "base", "callback"),
    [
        ({}, GATEWAY, f"{GATEWAY}/callback"),
        (DOMAIN, "https://connect.example.com", "https://connect.example.com/callback"),
        ({"RedirectUri": BACK}, GATEWAY, BACK),
        (DOMAIN | {"RedirectUri": BACK}, "https://connect.example.com", BACK),
    ],
    ids=["none", "domain", "redirect URI", "both"],
)
def test_every_address_follows_the_domain(template: Template, given: dict[str, str], base: str, callback: str) -> None:
    deployed = Deployed(template, **given)
    assert deployed.accepted()
    assert deployed.output("ApiUrl") == base
    assert deployed.output("AuthorizeUrl") == f"{base}/authorize"
    assert deployed.output("CallbackUrl") == callback
    stage = template["Resources"]["Api"]["Properties"]["Variables"]
    assert deployed.of(stage["callbackUrl"]) == f"{base}/callback"
    made = {name for name in ("Domain", "DomainMapping") if deployed.has(name)}
    assert made == ({"Domain", "DomainMapping"} if "DomainName" in given else set())


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        ({}, True),
        (DOMAIN, True),
        *(({name: value}, False) for name, value in DOMAIN.items()),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_what_a_domain_needs_is_said_before_anything_is_made(
    template: Template, given: dict[str, str], accepted: bool
) -> None:
    assert Deployed(template, **given).accepted() is accepted


TOPIC = "arn:aws:sns:ap-southeast-1:111122223333:alarms"


@pytest.mark.parametrize("topic", ["", TOPIC])
@pytest.mark.parametrize("by", ["", "WebhookUrl", "SlackSecretName", "LineSecretName", "AlarmEmail"])
def test_notify_is_there_for_whoever_is_to_hear_and_for_nobody_else(template: Template, by: str, topic: str) -> None:
    value = {"WebhookUrl": "https://app.example/", "AlarmEmail": "operator@example.com"}.get(by, "name")
    deployed = Deployed(template, **({by: value} if by else {}), AlarmTopicArn=topic)
    assert deployed.accepted()
    notify = {"NotifyFunction", "NotifyRole", "NotifyLogs", "NotifyQueue", "NotifyQueuePolicy", "NotifyRule"}
    notify |= {"UndeliveredDeadLetters", "UndeliveredAlarm"}
    for_people = {"NotifySubscription"}
    by_mail = {"MailTopic", "MailTopicPolicy", "MailSubscription"}
    all_of_them = notify | for_people | by_mail | {"WebhookSecret"}
    expected = {
        "": set(),
        "WebhookUrl": notify | {"WebhookSecret"},
        "SlackSecretName": notify | for_people,
        "LineSecretName": notify | for_people,
        "AlarmEmail": notify | for_people | by_mail,
    }
    assert {name for name in all_of_them if deployed.has(name)} == expected[by]
    assert deployed.has("AlarmTopic") is (topic == "")


def test_a_domain_speaks_tls_1_2_in_the_stacks_own_region(template: Template) -> None:
    domain = template["Resources"]["Domain"]["Properties"]
    assert domain["SecurityPolicy"] == "TLS_1_2"
    assert domain["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
    assert domain["RegionalCertificateArn"] == {"Ref": "CertificateArn"}
    mapping = template["Resources"]["DomainMapping"]["Properties"]
    assert mapping["Stage"] == {"Ref": "Api.Stage"}
    assert "BasePath" not in mapping


# ---- a new version takes over ------------------------------------------------------------------------------------


def test_a_new_version_takes_over_at_once_by_default(translated: Template) -> None:
    assert not [item for item in translated["Resources"].values() if "CodeDeploy" in item["Type"]]
    for alias in of_type(translated, "AWS::Lambda::Alias").values():
        assert "UpdatePolicy" not in alias


def alarms_of(group: dict[str, Any]) -> set[str]:
    """The alarms that a deployment group watches."""
    condition, gradually, _ = group["AlarmConfiguration"]["Fn::If"]
    assert condition == "DeployGradually"
    return {alarm["Name"]["Ref"] for alarm in gradually["Alarms"]}


def test_a_new_version_takes_over_gradually_where_wanted_and_alarms_put_it_back(template: Template) -> None:
    kinds = [kind for kind in template["Parameters"]["Deployment"]["AllowedValues"] if kind != "AllAtOnce"]
    assert {kind: mapped["Enabled"] for kind, mapped in template["Mappings"]["Gradually"].items()} == {
        "AllAtOnce": "false",
        **dict.fromkeys(kinds, "true"),
    }
    gradual = translate(Deployment="Canary10Percent5Minutes")
    alarms = of_type(template, "AWS::CloudWatch::Alarm")
    for name, logical_id in FUNCTIONS.items():
        policy = gradual["Resources"][f"{logical_id}Aliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        group = gradual["Resources"][policy["DeploymentGroupName"]["Ref"]]["Properties"]
        assert group["AutoRollbackConfiguration"]["Enabled"] is True
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
        assert group["DeploymentConfigName"]["Fn::Sub"][1] == {"ConfigName": "Canary10Percent5Minutes"}
        watched = alarms_of(group)
        assert f"{logical_id.removesuffix('Function')}Errors" in watched, name
        assert watched <= set(alarms), name
        # It would keep every deployment off for as long as the schedule is disabled.
        assert "TickMissing" not in watched, name


RECEIVERS: tuple[dict[str, str], ...] = (
    {},
    {"WebhookUrl": "https://app.example/hook"},
    {"AlarmEmail": "operator@example.com"},
)


@pytest.mark.parametrize("kind", ["AllAtOnce", "Canary10Percent5Minutes"])
@pytest.mark.parametrize("receivers", RECEIVERS)
def test_nothing_that_is_made_refers_to_what_is_not_made(kind: str, receivers: dict[str, str]) -> None:
    """CloudFormation refuses such a template: "Unresolved resource dependencies"."""
    deployed = Deployed(translate(Deployment=kind, **receivers), Deployment=kind, **receivers)
    resources = deployed.template["Resources"]
    made = {name for name in resources if deployed.has(name)}
    assert ("NotifyFunctionDeploymentGroup" in made) == (kind != "AllAtOnce" and bool(receivers))
    for name in made:
        assert set(awaited(deployed.whole(resources[name]))) & set(resources) <= made, name


def test_who_shifts_the_calls_may_do_nothing_else(template: Template) -> None:
    gradual = translate(Deployment="Linear10PercentEvery1Minute")
    assert set(of_type(gradual, "AWS::IAM::Role")) == set(of_type(template, "AWS::IAM::Role")), "SAM made a role"
    role = template["Resources"]["DeploymentRole"]
    assert role["Condition"] == "DeployGradually"
    functions = {
        name: template["Resources"][logical_id]["Properties"]["FunctionName"]["Fn::Sub"]
        for name, logical_id in FUNCTIONS.items()
    }
    assert set(grants(role)) == {
        *(
            f"lambda:{action} on function:{name}"
            for name in functions.values()
            for action in ("GetAlias", "UpdateAlias")
        ),
        *(f"lambda:GetProvisionedConcurrencyConfig on function:{name}:live" for name in functions.values()),
        "cloudwatch:DescribeAlarms on alarm:*",
    }


KINDS: list[str] = read((ROOT / "template.yaml").read_text())["Parameters"]["Deployment"]["AllowedValues"]
"""The ways in which a new version can take over."""


def awaited(value: Any) -> Iterator[str]:
    """The logical ids that CloudFormation looks up before it makes this, whatever the conditions."""
    if isinstance(value, dict):
        for key, inner in value.items():
            match key:
                case "Ref" | "DependsOn":
                    yield from as_list(inner)
                case "Fn::GetAtt":
                    yield inner[0] if isinstance(inner, list) else inner.partition(".")[0]
                case "Fn::Sub":
                    text, *values = as_list(inner)
                    yield from re.findall(r"\$\{(\w+)[.}]", text)
                    yield from awaited(values)
                case _:
                    yield from awaited(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from awaited(inner)


def order(translated: Template) -> dict[str, set[str]]:
    """What each resource waits for, an alias for its deployment group too."""
    resources = translated["Resources"]
    return {name: set(awaited(resource)) & set(resources) for name, resource in resources.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("domain", [{}, DOMAIN])
def test_nothing_waits_for_itself(kind: str, domain: dict[str, str]) -> None:
    waits = order(translate(Deployment=kind, **domain))
    assert ("DeploymentRole" in waits["RefreshFunctionDeploymentGroup"]) if kind != "AllAtOnce" else True
    TopologicalSorter(waits).prepare()  # raises for a circle, and names it


def minutes(kind: str) -> int:
    """How long CodeDeploy takes for a function at most."""
    numbers = [int(number) for number in re.findall(r"(\d+)(?:Minute|Percent)", kind)]
    return 0 if not numbers else numbers[1] * (100 // numbers[0] if kind.startswith("Linear") else 1)


def test_the_workflow_outlasts_the_slowest_take_over() -> None:
    assert [minutes(kind) for kind in KINDS] == [0, 5, 10, 30, 10, 100]
    waits = order(translate(Deployment=KINDS[-1]))
    taken: dict[str, int] = {}
    for name in TopologicalSorter(waits).static_order():
        taken[name] = max((taken[one] for one in waits[name]), default=0)
        taken[name] += max(map(minutes, KINDS)) if name.endswith("Aliaslive") else 0
    slowest = max(taken.values())
    # Token's and connections' alias wait for refresh's.
    assert slowest == 2 * 100
    workflow = (ROOT / ".github" / "workflows" / "deploy.yml").read_text()
    (job,) = yaml.safe_load(workflow)["jobs"].values()
    assert slowest + 15 <= PATIENCE <= job["timeout-minutes"] - 30, "checks and build come first"


# ---- several stacks in one account -------------------------------------------------------------------------------


NAMED = {
    "AWS::Serverless::Function": "FunctionName",
    "AWS::Serverless::LayerVersion": "LayerName",
    "AWS::Serverless::Api": "Name",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::Events::EventBus": "Name",
    "AWS::KMS::Alias": "AliasName",
    "AWS::SecretsManager::Secret": "Name",
    "AWS::AppConfig::Application": "Name",
    "AWS::ApiGateway::DomainName": "DomainName",
}
"""Types whose name must be unlike all others in an account and region, and the property that gives it."""

NAMELESS = {
    "AWS::KMS::Key",
    "AWS::IAM::Role",
    "AWS::SNS::TopicPolicy",
    "AWS::SNS::Subscription",
    "AWS::SQS::QueuePolicy",
    "AWS::Events::Rule",
    "AWS::AppConfig::ConfigurationProfile",
    "AWS::AppConfig::HostedConfigurationVersion",
    "AWS::ApiGateway::BasePathMapping",
}
"""Types that CloudFormation names itself, or whose name counts within something of the stack's own."""


def test_two_stacks_do_not_get_into_each_others_way(template: Template) -> None:
    for logical_id, resource in template["Resources"].items():
        if resource["Type"] in NAMELESS:
            assert not {"RoleName", "AliasName"} & set(resource["Properties"]), logical_id
            continue
        given = resource["Properties"][NAMED[resource["Type"]]]
        assert {"AWS::StackName", "DomainName"} & set(names(given)), f"{logical_id} has the same name in every stack"
    assert not [name for name, output in template["Outputs"].items() if "Export" in output]


LONGEST = {
    "AWS::Serverless::Function": 64,
    "AWS::Serverless::LayerVersion": 140,
    "AWS::Serverless::Api": 1024,
    "AWS::DynamoDB::Table": 255,
    "AWS::SQS::Queue": 80,
    "AWS::SNS::Topic": 256,
    "AWS::Logs::LogGroup": 512,
    "AWS::CloudWatch::Alarm": 255,
    "AWS::CloudWatch::Dashboard": 255,
    "AWS::Events::EventBus": 256,
    "AWS::KMS::Alias": 256,
    "AWS::SecretsManager::Secret": 512,
    "AWS::AppConfig::Application": 64,
}
"""How many characters AWS takes as the name of each of these."""


def test_it_is_told_how_long_a_stacks_name_may_be(template: Template) -> None:
    room = []
    for resource in template["Resources"].values():
        given = str(resource["Properties"].get(NAMED.get(resource["Type"], ""), ""))
        for text in re.findall(r"'((?:[\w/-]*)\$\{AWS::StackName\}[^']*)'", given):
            rest = text.replace("${AWS::StackName}", "").replace("${AWS::Region}", "ap-southeast-1")
            assert "$" not in rest
            room.append(LONGEST[resource["Type"]] - len(rest))
    assert len(room) > 45
    assert f"{min(room)} characters" in (ROOT / "docs" / "deploying.md").read_text()


# ---- a release ---------------------------------------------------------------------------------------------------


def test_a_release_has_one_number(template: Template) -> None:
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    deployed = template["Outputs"]["Version"]["Value"]
    assert {deployed, newest[1], flowaccount_connect_client.__version__} == {__version__}
