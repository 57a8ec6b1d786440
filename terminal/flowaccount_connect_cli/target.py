"""Which stack is meant, and with whose AWS credentials."""

import json
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from flowaccount_connect.client import Api, NotConfigured

LOCAL = Path(".local/stack.json")
"""What a local stack says of itself, in this folder or one above."""

_PATIENCE = 60.0


def api(*, url: str | None, stack_name: str | None, local: bool) -> Api:
    """The API at `url`, of a stack by its name, of the local stack, or the one that the environment names.

    Raises `NotConfigured`.
    """
    if local:
        return _local()
    if stack_name:
        return Api(_output(stack_name), patience=_PATIENCE)
    return Api(url, patience=_PATIENCE)


def _local() -> Api:
    here = Path.cwd()
    for folder in (here, *here.parents):
        try:
            stack: dict[str, Any] = json.loads((folder / LOCAL).read_text("utf-8"))
            session = botocore.session.Session()
            session.set_credentials(stack["access_key_id"], stack["secret_access_key"])
            session.set_config_variable("region", stack["region"])
            return Api(stack["api_url"], session=session, patience=_PATIENCE)
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError, OSError):
            raise NotConfigured(f"{LOCAL} cannot be read: bring the local stack up again (make up).") from None
    raise NotConfigured(f"No local stack is up: there is no {LOCAL} here or above. Run `make up` in the repository.")


def _output(stack_name: str) -> str:
    """The stack's output ApiUrl."""
    try:
        client: Any = botocore.session.Session().create_client("cloudformation")
        stacks = client.describe_stacks(StackName=stack_name)["Stacks"]
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise NotConfigured(
            f"The stack {stack_name} cannot be looked up ({code}): check its name, the region and the credentials, "
            "or give the API's URL with --url."
        ) from None
    except BotoCoreError as error:
        raise NotConfigured(f"AWS cannot be asked for the stack {stack_name}: {type(error).__name__}.") from None
    for output in stacks[0].get("Outputs", []):
        if output["OutputKey"] == "ApiUrl":
            return str(output["OutputValue"])
    raise NotConfigured(f"The stack {stack_name} has no output ApiUrl: it is no FlowAccount Connect.")
