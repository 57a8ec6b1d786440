"""What each role may do is enforced: by caller on the IAM routes, by function inside."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.conftest import Simulator
from tests.e2e.tampering import denied
from tools.local import service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor


@pytest.fixture
def caller_of_one(up: Stack, connection: str) -> Iterator[tuple[str, str]]:
    """The keys of a user who may read the token of one connection only."""
    iam, name = service.client(up, "iam"), "flowaccount-connect-one-connection"
    iam.create_user(UserName=name)
    arn = f"arn:aws:execute-api:{up.region}:000000000000:{up.api_id}/live/GET/connections/{connection}/token"
    statement = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": arn}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="one", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    yield key["AccessKeyId"], key["SecretAccessKey"]
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user_policy(UserName=name, PolicyName="one")
    iam.delete_user(UserName=name)


def test_a_caller_allowed_one_connection_cannot_read_another(
    up: Stack, connection: str, visitor: HttpVisitor, caller_of_one: tuple[str, str]
) -> None:
    visitor.connect(up.authorize_url, user="somchai", business="N1000002")
    allowed = service.call(up, "GET", f"/connections/{connection}/token", credentials=caller_of_one)
    assert allowed.status_code == 200
    for method, path in (("GET", "/connections/N1000002/token"), ("POST", f"/connections/{connection}/token")):
        other = service.call(up, method, path, credentials=caller_of_one, body=None if method == "GET" else {})
        assert other.status_code == 403
        assert "access_token" not in other.text


@pytest.fixture
def role_for_one(up: Stack, connection: str) -> Iterator[tuple[str, str, str]]:
    """The credentials of a service's role that may read the token of one connection only."""
    iam, name = service.client(up, "iam"), "flowaccount-connect-reader-of-one"
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]
    arn = f"arn:aws:execute-api:{up.region}:000000000000:{up.api_id}/live/GET/connections/{connection}/token"
    statement = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": arn}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=name, PolicyName="one", PolicyDocument=document)
    got = service.client(up, "sts").assume_role(RoleArn=role, RoleSessionName="service")["Credentials"]
    yield got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"]
    iam.delete_role_policy(RoleName=name, PolicyName="one")
    iam.delete_role(RoleName=name)


def test_a_role_allowed_one_connections_token_can_reach_nothing_else(
    up: Stack, connection: str, visitor: HttpVisitor, role_for_one: tuple[str, str, str]
) -> None:
    visitor.connect(up.authorize_url, user="somchai", business="N1000002")
    allowed = service.call(up, "GET", f"/connections/{connection}/token", credentials=role_for_one)
    assert (allowed.status_code, allowed.json()["support_code"]) == (200, connection)
    for method, path in (
        ("GET", "/connections/N1000002/token"),
        ("POST", f"/connections/{connection}/token"),
        ("GET", f"/connections/{connection}"),
        ("GET", "/connections/N1000002"),
    ):
        other = service.call(up, method, path, credentials=role_for_one, body=None if method == "GET" else {})
        assert other.status_code == 403, path
        assert "access_token" not in other.text
        assert "support_code" not in other.text


def test_authorize_cannot_read_the_client_secret(up: Stack) -> None:
    lambda_, iam = service.client(up, "lambda"), service.client(up, "iam")
    for function in ("authorize", "sweep", "salvage", "token"):
        role = lambda_.get_function(FunctionName=up.functions[function])["Configuration"]["Role"].rpartition("/")[2]
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
            assert "secretsmanager" not in json.dumps(document)


def test_a_token_still_living_is_served_while_the_refresh_fails(
    up: Stack, simulator: Simulator, connection: str, set_item: Any
) -> None:
    item = service.connection_item(up, connection)
    assert item is not None
    sent = int(item["requested_at"]["N"])
    set_item(connection, requested_at=sent - 1_000, access_expires_at=sent + 200)
    simulator.fault("status", status=503, body="{}", processed=False)
    answer = service.call(up, "GET", f"/connections/{connection}/token")
    assert answer.status_code == 200
    assert answer.json()["status"] == "in_doubt"
    assert answer.json()["generation"] == int(item["generation"]["N"])


def test_policies_are_enforced_here(up: Stack, simulator: Simulator, connection: str, set_item: Any) -> None:
    with denied(up, "token", "dynamodb:GetItem"):
        answer = service.call(up, "GET", f"/connections/{connection}/token")
        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert answer.headers["Retry-After"]
    with pytest.raises(ClientError, match="AccessDenied"):
        service.client(up, "s3").list_buckets()
