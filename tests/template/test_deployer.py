"""The role that deploys: enough for everything that the template makes, and nothing that reads a secret."""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import cfnlint
import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from tests.template.conftest import ROOT, read, translate
from tests.template.test_deploying import Deployed
from tests.template.test_template import Template, as_list, of_type

DEPLOYER = read((ROOT / "tools" / "deploy" / "deployer.yaml").read_text())

NOT_NEEDED = {
    "a stream to Kinesis": "kinesis:* dynamodb:*KinesisStreamingDestination",
    "a table in two regions, or made of files": "dynamodb:*TableReplica dynamodb:*Import* s3:GetObjectMetadata",
    "the items of the table": "dynamodb:*Item dynamodb:Scan dynamodb:Query",
    "a policy of the table's own": "dynamodb:DeleteResourcePolicy dynamodb:PutResourcePolicy",
    "insights into the table": "dynamodb:UpdateContributorInsights",
    "a network and a file system": "ec2:* elasticfilesystem:* s3files:*",
    "signed code": "lambda:*CodeSigningConfig",
    "capacity and loops of their own": "lambda:*CapacityProvider lambda:*Concurrency* lambda:Put*Config",
    "a runtime of one's own": "lambda:AssociateRuntimeAlias",
    "a key for logs": "logs:*KmsKey",
    "a key for functions and the bus": "kms:Decrypt kms:Encrypt kms:GenerateDataKey* kms:ReEncrypt* kms:RevokeGrant",
    "a disabled key, or one that is not rotated": "kms:Disable* kms:EnableKey",
    "managed policies and boundaries of roles": "iam:*tachRolePolicy iam:*PermissionsBoundary",
    "deliveries of logs": "firehose:* s3:REST* logs:*Delivery",
    "policies of logs": "logs:*ResourcePolic* logs:*Policy logs:*Policies",
    "lines of logs": "logs:*Stream* logs:PutLogEvents",
    "protection and tokens of logs": "logs:*Protection logs:*Authentication",
    "policies of the bus, the topic and the API": "events:*Permission sns:*ProtectionPolicy apigateway:*Policy",
    "machines of one's own": "codedeploy:RegisterOnPremisesInstance",
    "the value of the secret, and its copies elsewhere": "secretsmanager:GetSecretValue secretsmanager:*Region*",
}
"""What AWS's own handlers may ask for, by what this stack would have to have for it."""


def statements() -> Iterator[dict[str, Any]]:
    """Every statement of the role."""
    for policy in of_type(DEPLOYER, "AWS::IAM::ManagedPolicy").values():
        yield from policy["Properties"]["PolicyDocument"]["Statement"]


ALLOWED = {action for statement in statements() for action in as_list(statement["Action"])}
EVERYTHING = {
    "Deployment": "Canary10Percent5Minutes",
    "DomainName": "a.example.com",
    "CertificateArn": "arn:aws:acm:x:1:c/1",
}


def asked() -> dict[str, set[str]]:
    """What AWS's handlers of each type of resource ask for, as the types' schemas say."""
    found = {}
    # The last is of sam's own stack, whose bucket the uploads go to.
    kinds = {resource["Type"] for resource in translate(**EVERYTHING)["Resources"].values()} | {"AWS::S3::BucketPolicy"}
    for kind in kinds:
        handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema("ap-southeast-1", kind).schema["handlers"]
        steps = [handlers.get(step, {}).get("permissions", []) for step in ("create", "read", "update", "delete")]
        found[kind] = {permission for step in steps for permission in step}
    return found


ASKED = asked()


def fits(action: str, patterns: str) -> bool:
    """Whether one of the patterns means the action."""
    return any(fnmatchcase(action, pattern) for pattern in patterns.split())


@pytest.mark.parametrize("kind", sorted(ASKED))
def test_it_may_do_what_the_resources_of_the_stack_need(kind: str) -> None:
    needed = {one for one in ASKED[kind] if not any(fits(one, patterns) for patterns in NOT_NEEDED.values())}
    assert needed <= ALLOWED, sorted(needed - ALLOWED)


@pytest.mark.parametrize("why", NOT_NEEDED)
def test_what_is_said_to_be_left_out_is_asked_for_by_something(why: str) -> None:
    everything = set[str]().union(*ASKED.values())
    for pattern in NOT_NEEDED[why].split():
        assert [one for one in everything if fits(one, pattern)], pattern


SECRET = {
    *("secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue", "kms:Decrypt", "kms:GenerateDataKey"),
    *("dynamodb:GetItem", "dynamodb:Query", "dynamodb:Scan", "dynamodb:GetRecords"),
    *("dynamodb:RestoreTableToPointInTime", "lambda:InvokeFunction", "sqs:ReceiveMessage"),
    *("logs:GetLogEvents", "logs:FilterLogEvents", "iam:AttachRolePolicy", "iam:CreateUser"),
}


def test_it_reads_nothing_that_is_secret() -> None:
    assert not SECRET & ALLOWED
    assert not [action for action in ALLOWED if "*" in action]


def test_it_reaches_this_stack_only() -> None:
    """What is not named after the stack is listed here."""
    wide = {
        (statement["Sid"], resource if isinstance(resource, str) else resource["Fn::Sub"].rpartition(":")[2])
        for statement in statements()
        for resource in as_list(statement["Resource"])
        if not (isinstance(resource, dict) and "${Stack}" in resource["Fn::Sub"])
    }
    assert wide == {
        ("Stack", "stack/aws-sam-cli-managed-default/*"),
        ("Transform", "transform/Serverless-2016-10-31"),
        ("Uploads", "aws-sam-cli-managed-default-*"),
        ("WithoutResource", "*"),
        ("Sources", "*"),
        ("LookAtSources", "*"),
        *(("Api", path) for path in ("/restapis", "/restapis/*", "/domainnames", "/domainnames/*", "/tags/*")),
        ("Gradually", "*"),
        ("RoleOfDomains", "role/aws-service-role/ops.apigateway.amazonaws.com/AWSServiceRoleForAPIGateway"),
        ("MakeKey", "*"),
        ("Key", "key/*"),
        ("KeyAlias", "key/*"),
        ("Settings", "application"),
        ("Settings", "application/*"),
    }
    conditions = {one["Sid"] for one in statements() if "Condition" in one}
    assert conditions == {"Sources", "HandOverRoles", "Key", "RoleOfDomains"}


def test_no_statement_waits_for_a_tag_that_cloudformation_does_not_give() -> None:
    """It tags keys with nothing: their type says so."""
    tagging = PROVIDER_SCHEMA_MANAGER.get_resource_schema("ap-southeast-1", "AWS::KMS::Key").schema["tagging"]
    assert tagging["cloudFormationSystemTags"] is False
    for statement in statements():
        if any(action.startswith("kms:") for action in as_list(statement["Action"])):
            assert "aws:cloudformation:" not in json.dumps(statement.get("Condition", {}))


def test_the_names_that_aws_makes_begin_with_the_stacks_whole_name() -> None:
    """A role and a schedule have 64 characters; AWS shortens the stack's name to make room for 12 of its own."""
    longest = max(
        len(name)
        for name, resource in translate(**EVERYTHING)["Resources"].items()
        if resource["Type"] in ("AWS::IAM::Role", "AWS::Scheduler::Schedule") and "Name" not in resource["Properties"]
    )
    room = 64 - 12 - 2 - longest
    assert DEPLOYER["Parameters"]["Stack"]["AllowedPattern"] == f"[a-z][a-z0-9-]{{0,{room - 1}}}"


BY_ACTION = json.loads((Path(cfnlint.__file__).parent / "data/AdditionalSpecs/Policies.json").read_text())
"""What AWS's service authorization reference says of each action, as cfn-lint has it."""


def test_what_aws_knows_without_a_resource_is_allowed_for_all_resources() -> None:
    """A statement that names resources does not allow such an action."""
    for statement in statements():
        for action in as_list(statement["Action"]):
            service, _, name = action.partition(":")
            if not BY_ACTION[service]["Actions"].get(name.lower(), {}).get("Resources"):
                assert as_list(statement["Resource"]) == ["*"], action


def test_aws_takes_policies_of_that_size() -> None:
    for name, policy in of_type(DEPLOYER, "AWS::IAM::ManagedPolicy").items():
        text = json.dumps(policy["Properties"]["PolicyDocument"], separators=(",", ":"))
        text = re.sub(r'\{"Fn::Sub":("[^"]*")\}', r"\1", text).replace("${Stack}", "s" * 33)
        text = text.replace("${AWS::Region}", "ap-southeast-1").replace("${AWS::Partition}", "aws")
        assert len(text.replace("${AWS::AccountId}", "1" * 12)) <= 6_144, name


def trusted(**given: str) -> list[Any]:
    """Who may assume the role, with these parameters."""
    deployed = Deployed(DEPLOYER, **given)
    document = DEPLOYER["Resources"]["Deployer"]["Properties"]["AssumeRolePolicyDocument"]
    return [deployed.of(statement) for statement in document["Statement"]]


def test_one_environment_of_one_repository_may_assume_it() -> None:
    (statement,) = trusted(Repository="someone/connect", GitHubEnvironment="production")
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    conditions = statement["Condition"]["StringEquals"]
    assert conditions["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
    subject = conditions["token.actions.githubusercontent.com:sub"]["Fn::Sub"]
    assert subject == "repo:${Repository}:environment:${GitHubEnvironment}"


def test_without_a_repository_the_account_decides(template: Template) -> None:
    (statement,) = trusted()
    assert statement["Action"] == "sts:AssumeRole"
    assert DEPLOYER["Resources"]["GitHub"]["Condition"] == "MakeProvider"
