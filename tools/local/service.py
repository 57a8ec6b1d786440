"""Acts as the integrator's service on this machine: calls the IAM routes of the local stack, reads its resources."""

import json
import time
from typing import Any

import boto3
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from tools.local.errors import LocalError
from tools.local.stack import Stack


def client(stack: Stack, service: str, config: Config | None = None) -> Any:
    """A client of an AWS service on the local stack, with the rights of its IAM user."""
    return boto3.client(  # type: ignore[call-overload]
        service,
        endpoint_url=stack.aws_endpoint_url,
        region_name=stack.region,
        aws_access_key_id=stack.access_key_id,
        aws_secret_access_key=stack.secret_access_key,
        config=config,
    )


def call(
    stack: Stack,
    method: str,
    path: str,
    *,
    body: object = None,
    credentials: tuple[str, str] | tuple[str, str, str] | None = None,
    patience: float = 40,
) -> requests.Response:
    """One signed request (SigV4, service `execute-api`) to a route of the API; `path` begins with a slash.

    `credentials` are an access key id, its secret and, for an assumed role, the session token. The default is the key
    of the stack's IAM user. `patience` is in seconds.
    """
    key = credentials or (stack.access_key_id, stack.secret_access_key)
    data = None if body is None else body if isinstance(body, str) else json.dumps(body)
    request = AWSRequest(method, stack.api_url + path, data=data)
    if data is not None:
        request.headers["Content-Type"] = "application/json"
    SigV4Auth(Credentials(*key), "execute-api", stack.region).add_auth(request)
    return requests.request(
        method,
        stack.api_url + path,
        data=data,
        headers=dict(request.headers),
        timeout=patience,
        allow_redirects=False,
    )


def invoke(stack: Stack, function: str, event: object) -> Any:
    """Invoke a function by its short name and return its answer. Raises `LocalError` if it fails."""
    answer = client(stack, "lambda").invoke(FunctionName=stack.functions[function], Payload=json.dumps(event).encode())
    payload = json.loads(answer["Payload"].read() or b"null")
    if "FunctionError" in answer:
        raise LocalError(f"{function} failed ({payload.get('errorType')}). Its log group says why.")
    return payload


def connection_item(stack: Stack, connection_id: str) -> dict[str, Any] | None:
    """A connection's item in the table, or `None`."""
    answer = client(stack, "dynamodb").get_item(
        TableName=stack.table,
        Key={"pk": {"S": f"CONNECTION#{connection_id}"}, "sk": {"S": "CONNECTION"}},
        ConsistentRead=True,
    )
    item: dict[str, Any] | None = answer.get("Item")
    return item


def until_generation(stack: Stack, connection_id: str, generation: int, patience: float) -> dict[str, Any]:
    """A connection's item as soon as it has reached `generation`. Raises `LocalError` after `patience` seconds."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        item = connection_item(stack, connection_id)
        if item is not None and int(item["generation"]["N"]) >= generation:
            return item
        time.sleep(0.2)
    raise LocalError(f"{connection_id} was not rotated. The log of {stack.functions['refresh']} says why.")
