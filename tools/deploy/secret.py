"""`make secret`: puts the client secret where the functions look for it, typed hidden, in no shell's history."""

import getpass
import json
import os
import sys
from functools import partial

from botocore.exceptions import BotoCoreError, ClientError

from tools.deploy.afterwards import outputs
from tools.deploy.answers import regions_of, samconfig
from tools.deploy.checks import Clients
from tools.deploy.session import given_region, session
from tools.local.errors import LocalError
from tools.local.places import ROOT


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
    try:
        kept, given = regions_of(samconfig(ROOT), stack), given_region(os.environ)
        here = session(os.environ, given if given in kept else next(iter(kept), None))
        name = put(partial(here.client), stack, getpass.getpass(f"client secret for {stack}: "))
        print(f"put into {name}; it is used within five minutes")
    except (LocalError, BotoCoreError, ClientError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
