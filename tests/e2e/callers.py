"""Callers of the stack that may do less than its own user: users with a key, and roles."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from tools.local import emulator, service
from tools.local.stack import Stack


def _name() -> str:
    """A new name, of those that the stack's user may use."""
    return f"flowaccount-connect-{uuid.uuid4().hex}"


def calling(up: Stack, *paths: str) -> str:
    """A policy that allows these paths of the API, each behind its method: `GET/connections`."""
    arns = [f"arn:aws:execute-api:{up.region}:{emulator.ACCOUNT}:{up.api_id}/live/{path}" for path in paths]
    statement = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": arns}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@contextmanager
def user(up: Stack, policy: str | None = None) -> Iterator[tuple[str, str]]:
    """The key of a new user with this policy, or without any permission, for as long as the block runs."""
    iam, name = service.client(up, "iam"), _name()
    iam.create_user(UserName=name)
    if policy is not None:
        iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    try:
        yield key["AccessKeyId"], key["SecretAccessKey"]
    finally:
        iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        if policy is not None:
            iam.delete_user_policy(UserName=name, PolicyName="own")
        iam.delete_user(UserName=name)


@contextmanager
def role(up: Stack, policy: str) -> Iterator[tuple[str, str, str]]:
    """The credentials of a service that has assumed a new role with this policy, for as long as the block runs."""
    iam, name = service.client(up, "iam"), _name()
    principal = {"AWS": f"arn:aws:iam::{emulator.ACCOUNT}:root"}
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=policy)
    got = service.client(up, "sts").assume_role(RoleArn=arn, RoleSessionName="service")["Credentials"]
    try:
        yield got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"]
    finally:
        iam.delete_role_policy(RoleName=name, PolicyName="own")
        iam.delete_role(RoleName=name)
