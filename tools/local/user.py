"""The IAM user of the local stack: the rights of an integrator's services, and further rights that tests need.

The emulator checks this user's signatures and policies, unlike its administrator's.
"""

import contextlib
import json
from typing import Any

from tools.local import emulator
from tools.local.deployment import API_ID, STACK_NAME

NAME = "flowaccount-connect-local"


def ensure(port: int, known: tuple[str, str] | None) -> tuple[str, str]:
    """Makes the user and a key, or keeps the ``known`` key if it exists. Returns key id and secret."""
    iam = emulator.client("iam", port)
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_user(UserName=NAME)
    iam.put_user_policy(UserName=NAME, PolicyName="local", PolicyDocument=json.dumps(_policy()))
    keys = [key["AccessKeyId"] for key in iam.list_access_keys(UserName=NAME)["AccessKeyMetadata"]]
    if known and known[0] in keys:
        return known
    for key in keys:
        iam.delete_access_key(UserName=NAME, AccessKeyId=key)
    made = iam.create_access_key(UserName=NAME)["AccessKey"]
    return made["AccessKeyId"], made["SecretAccessKey"]


def _policy() -> dict[str, Any]:
    """A policy that allows everything on this stack's resources, and nothing else."""

    def arn(service: str, resource: str, region: str = emulator.REGION) -> str:
        return f"arn:aws:{service}:{region}:{emulator.ACCOUNT}:{resource}"

    def allow(actions: list[str], *resources: str) -> dict[str, Any]:
        return {"Effect": "Allow", "Action": actions, "Resource": list(resources)}

    table = arn("dynamodb", f"table/{STACK_NAME}-connections")
    return {
        "Version": "2012-10-17",
        "Statement": [
            allow(["execute-api:Invoke"], arn("execute-api", f"{API_ID}/*")),
            allow(["lambda:*"], arn("lambda", f"function:{STACK_NAME}-*")),
            allow(["dynamodb:*"], f"{table}*"),
            allow(["sqs:*"], arn("sqs", f"{STACK_NAME}-*")),
            allow(["logs:*"], arn("logs", "log-group:/aws/*")),
            allow(["events:*"], arn("events", f"event-bus/{STACK_NAME}"), arn("events", f"rule/{STACK_NAME}/*")),
            allow(["sns:*"], arn("sns", f"{STACK_NAME}-*")),
            allow(
                [
                    "logs:DescribeLogGroups",
                    "lambda:GetAccountSettings",
                    "lambda:ListEventSourceMappings",
                    "sns:Unsubscribe",
                    "scheduler:*",
                    "kms:*",
                ],
                "*",
            ),
            allow(["cloudwatch:GetDashboard", "cloudwatch:DescribeAlarms", "cloudwatch:GetMetricStatistics"], "*"),
            allow(["secretsmanager:*"], arn("secretsmanager", f"secret:{STACK_NAME}/*")),
            allow(
                ["cloudformation:Describe*", "cloudformation:Get*"],
                arn("cloudformation", f"stack/{STACK_NAME}/*"),
            ),
            # For tests that make callers of their own, or remove a statement from a role and see what breaks.
            allow(["iam:*"], arn("iam", f"user/{STACK_NAME}-*", ""), arn("iam", f"role/{STACK_NAME}-*", "")),
            allow(["sts:AssumeRole"], arn("iam", f"role/{STACK_NAME}-*", "")),
        ],
    }
