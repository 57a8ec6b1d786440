"""Which stack is meant, and with whose AWS credentials."""

import json
import os
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

from flowaccount_connect_client import Api, NotConfigured

LOCAL = Path(".local/stack.json")
"""What a local stack says of itself, in this folder or one above."""

_PATIENCE = 60.0


def api(*, url: str | None, stack_name: str | None, local: bool) -> Api:
    """The API at `url`, of a stack by its name, of the local stack, or the one that the environment names.

    Raises `NotConfigured`.
    """
    if local:
        session, stack = _local("api_url")
        return Api(stack["api_url"], session=session, patience=_PATIENCE)
    if stack_name:
        url = _output(stack_name, "ApiUrl")
    return Api(url, session=_session(), patience=_PATIENCE)


def tables(*, stack_name: str | None, local: bool) -> tuple[Any, str]:
    """A DynamoDB client with the operator's own credentials, and the name of the stack's table.

    Raises `NotConfigured`.
    """
    patient = Config(retries={"mode": "standard", "total_max_attempts": 10}, max_pool_connections=32)
    if local:
        session, stack = _local("aws_endpoint_url", "table")
        endpoint = stack["aws_endpoint_url"]
        return session.create_client("dynamodb", endpoint_url=endpoint, config=patient), stack["table"]
    if not stack_name:
        raise NotConfigured("This works on the stack's table itself: say which stack, with --stack-name.")
    table = _output(stack_name, "TableName")
    return _session().create_client("dynamodb", config=patient), table


def _session() -> botocore.session.Session:
    """The operator's session. AWS_REGION goes first, as it does with the AWS CLI 2; botocore does not know it."""
    session = botocore.session.Session()
    if region := os.environ.get("AWS_REGION"):
        session.set_config_variable("region", region)
    return session


def _local(*names: str) -> tuple[botocore.session.Session, dict[str, str]]:
    """A session with the local stack's credentials, and what it says of these."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        try:
            stack: dict[str, Any] = json.loads((folder / LOCAL).read_text("utf-8"))
            session = botocore.session.Session()
            session.set_credentials(stack["access_key_id"], stack["secret_access_key"])
            session.set_config_variable("region", stack["region"])
            return session, {name: stack[name] for name in names}
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError, OSError):
            raise NotConfigured(f"{LOCAL} cannot be read: bring the local stack up again (make up).") from None
    raise NotConfigured(f"No local stack is up: there is no {LOCAL} here or above. Run `make up` in the repository.")


def _output(stack_name: str, name: str) -> str:
    """One of the stack's outputs."""
    try:
        client: Any = _session().create_client("cloudformation")
        stacks = client.describe_stacks(StackName=stack_name)["Stacks"]
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise NotConfigured(
            f"The stack {stack_name} cannot be looked up ({code}): check its name, the region and the credentials"
            + (", or give the API's URL with --url." if name == "ApiUrl" else ".")
        ) from None
    except NoRegionError:
        raise NotConfigured("No AWS region: set AWS_REGION to that of the stack.") from None
    except BotoCoreError as error:
        raise NotConfigured(f"AWS cannot be asked for the stack {stack_name}: {type(error).__name__}.") from None
    for output in stacks[0].get("Outputs", []):
        if output["OutputKey"] == name:
            return str(output["OutputValue"])
    raise NotConfigured(f"The stack {stack_name} has no output {name}: it is no FlowAccount Connect.")
