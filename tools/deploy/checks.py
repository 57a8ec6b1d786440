"""What is looked at before anything is made: whatever would fail half-way is said first, with what to do."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tools.deploy.answers import Answers
from tools.local import parameters
from tools.local.places import TOOLS

Clients = Callable[[str], Any]
"""A boto3 client of the account to deploy to, by the service's name."""

LONGEST_NAME = 52
"""Characters that a stack's name may have: with `-connections` after it, it is the name of a function."""

ENOUGH = 10
"""Concurrent executions of a new AWS account."""

_DELETE = "aws cloudformation delete-stack --stack-name {stack}"

UNUSABLE = {
    "ROLLBACK_COMPLETE": f"a first deployment that failed. Delete it: {_DELETE}",
    "ROLLBACK_FAILED": "a first deployment that failed; see docs/deploying.md, If the first deployment fails",
    "REVIEW_IN_PROGRESS": f"a change set that nobody executed. Delete it: {_DELETE}",
    "DELETE_FAILED": f"a deletion that failed. Repeat it: {_DELETE}",
    "UPDATE_ROLLBACK_FAILED": "a deployment that could not be taken back. Mend what `aws cloudformation "
    "describe-stack-events --stack-name {stack}` names, then: aws cloudformation continue-update-rollback "
    "--stack-name {stack}",
}
"""States of a stack from which it can be neither made nor updated, and what to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. What is `wrong` stops the deployment."""

    text: str
    wrong: bool = False


def tools() -> Iterator[Finding]:
    """Whether this machine can build."""
    if sys.version_info[:2] != (3, 13):
        yield Finding("python3.13 is missing: the functions are built by it. Install it, then make clean.", wrong=True)
    if shutil.which("uv", path=f"{TOOLS}:{os.environ.get('PATH', '')}") is None:
        yield Finding("uv is missing: make bootstrap installs it.", wrong=True)


def name(stack: str) -> Iterator[Finding]:
    """Whether AWS takes the stack's name for all that is named after it."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", stack):
        yield Finding(
            f"{stack} is no name for a stack: lower-case letters, digits and dashes, a letter first.", wrong=True
        )
    elif len(stack) > LONGEST_NAME:
        yield Finding(f"{stack} has {len(stack)} characters; a stack's name may have {LONGEST_NAME}.", wrong=True)


def account(clients: Clients, region: str) -> Iterator[Finding]:
    """Whose account it is, and how many functions may run there at once."""
    try:
        caller = clients("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        reason = " ".join(str(error).split())
        yield Finding(f"AWS does not know who is asking: aws configure, or aws sso login. ({reason})", wrong=True)
        return
    yield Finding(f"account {caller['Account']}, region {region}, as {caller['Arn']}")
    try:
        limit = clients("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    except (BotoCoreError, ClientError):
        yield Finding("how many functions may run at once is not known: lambda:GetAccountSettings is not allowed")
        return
    note = (
        " A new account has so few; ask AWS to raise it (Service Quotas) before customers come."
        if limit <= ENOUGH
        else ""
    )
    yield Finding(f"{limit} functions may run at once.{note}")


def before(clients: Clients, answers: Answers) -> Iterator[Finding]:
    """The stack as it is; and where there is none, what an earlier one of this name has left in the way."""
    found = stack(clients, answers.stack)
    if found is None:
        yield from leftovers(clients, answers)
        yield Finding(f"stack {answers.stack}: will be made")
    elif found["StackStatus"] in UNUSABLE:
        what = UNUSABLE[found["StackStatus"]].format(stack=answers.stack)
        yield Finding(f"stack {answers.stack} is {found['StackStatus']}: {what}", wrong=True)
    elif found["StackStatus"].endswith("_IN_PROGRESS"):
        yield Finding(f"stack {answers.stack} is {found['StackStatus']}: wait for it to end.", wrong=True)
    else:
        yield Finding(f"stack {answers.stack}: will be updated")
        yield from same_environment(found, answers)
        yield from kept(found, answers)


def stack(clients: Clients, name: str) -> dict[str, Any] | None:
    """The stack of this name, or `None`."""
    try:
        found: dict[str, Any] = clients("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return None
        raise
    return found


def same_environment(found: dict[str, Any], answers: Answers) -> Iterator[Finding]:
    """Whether the stack keeps its environment: what is sealed for one opens for no other."""
    there = {one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", [])}.get("Environment")
    if there and there != answers.parameters["Environment"]:
        text = f"stack {answers.stack} is of {there}, and this would make it {answers.parameters['Environment']}"
        yield Finding(f"{text}: make deploy ENVIRONMENT={there} STACK={answers.stack}", wrong=True)


_HOLDS = ("ConnectionsTable", "ClientSecretName", "AlarmEmail", "AlarmTopicArn")
"""Parameters whose default would take something away that the stack uses."""


def kept(found: dict[str, Any], answers: Answers) -> Iterator[Finding]:
    """What was set at the stack itself, and stays: neither the template's default nor given or kept here."""
    defaults = parameters.defaults()
    for one in found.get("Parameters", []):
        name, value = one["ParameterKey"], one["ParameterValue"]
        if name not in answers.parameters and name in defaults and value != defaults[name]:
            keep, back = f"PARAMETERS='{name}={value}'", f"PARAMETERS='{name}={defaults[name]}'"
            what = f"Keep it: {keep}" if name in _HOLDS else f"Back to the default: {back}"
            yield Finding(f"{name} = {value}, as it was set at the stack before. {what}")


def leftovers(clients: Clients, answers: Answers) -> Iterator[Finding]:
    """What keeps its name after its stack was deleted, so that no new one can be made under it."""
    table = answers.parameters.get("ConnectionsTable") or f"{answers.stack}-connections"
    if _there(lambda: clients("dynamodb").describe_table(TableName=table)):
        yield Finding(
            f"the table {table} of an earlier stack is there. It may hold customers' connections: {_HOW}", wrong=True
        )
    secret = f"{answers.stack}/client-secret"
    if not answers.parameters.get("ClientSecretName") and _there(
        lambda: clients("secretsmanager").describe_secret(SecretId=secret)
    ):
        restore = f"aws secretsmanager restore-secret --secret-id {secret}, then PARAMETERS=ClientSecretName={secret}"
        text = f"the secret {secret} of an earlier stack is there, or is being deleted. To use it: {restore}. {_HOW}"
        yield Finding(text, wrong=True)
    if _there(lambda: clients("kms").describe_key(KeyId=f"alias/{answers.stack}")):
        yield Finding(
            f"the key alias/{answers.stack} is there: aws kms delete-alias --alias-name alias/{answers.stack}",
            wrong=True,
        )


_HOW = "see docs/deploying.md, Removal; or choose another name (STACK=…)."
_ABSENT = {"ResourceNotFoundException", "NotFoundException"}


def _there(look: Callable[[], object]) -> bool:
    try:
        look()
    except ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            return False
        raise
    return True
