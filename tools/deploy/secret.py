"""`make secret`: puts the client secret where the functions look for it, typed hidden, in no shell's history."""

import getpass
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tools.deploy.afterwards import outputs
from tools.deploy.checks import Clients
from tools.local.errors import LocalError


def put(clients: Clients, stack: str, secret: str) -> str:
    """Puts the secret in; returns its name in Secrets Manager. Raises `LocalError` for one that cannot be right."""
    if not secret or secret != secret.strip() or not secret.isprintable():
        raise LocalError(
            "That is no client secret: it is empty, or has a space at its ends or a character that cannot be typed."
        )
    name = outputs(clients, stack).get("ClientSecretName")
    if name is None:
        raise LocalError(f"There is no stack {stack} in this account and region.")
    clients("secretsmanager").put_secret_value(SecretId=name, SecretString=json.dumps({"client_secret": secret}))
    return name


def main() -> None:
    """Asks for it, and says where it was put."""
    stack = os.environ.get("STACK") or "flowaccount-connect"
    make: Callable[..., Any] = boto3.client
    try:
        name = put(make, stack, getpass.getpass(f"client secret for {stack}: "))
        print(f"put into {name}; it is used within five minutes")
    except (LocalError, BotoCoreError, ClientError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
