"""Which stack is meant, and with whose AWS credentials."""

import json
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from flowaccount_connect_client import FlowAccountConnect, NotConfigured, signing
from flowaccount_connect_client.cli import doctor

LOCAL = Path(".local/stack.json")
"""What a local stack says of itself, in this folder or one above."""

PATIENCE = 60.0
"""How long a command repeats a request where only time helps, in seconds."""

SHORT_PATIENCE = 5.0
"""The same for a page that somebody waits for."""


def api(*, url: str | None, stack_name: str | None, local: bool, patience: float = PATIENCE) -> FlowAccountConnect:
    """The API at `url`, of a stack by its name, of the local stack, or the one that the environment names.

    Raises `NotConfigured`.
    """
    if local:
        session, stack = _local("api_url")
        return FlowAccountConnect(stack["api_url"], session=session, patience=patience)
    if stack_name:
        url = _output(stack_name, "ApiUrl")
    return FlowAccountConnect(url, patience=patience)


DEFAULT_STACK = "flowaccount-connect"
"""The name that `make deploy` gives a stack."""


def account(*, stack_name: str | None, local: bool) -> doctor.Account:
    """Where a stack of this name is, asked with the operator's own credentials. Raises `NotConfigured`."""
    patient = Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=10)
    if local:
        session, stack = _local("aws_endpoint_url", "api_url", "stack_name")
        endpoint, url = stack["aws_endpoint_url"], stack["api_url"]
        return doctor.Account(
            stack["stack_name"],
            lambda service: session.create_client(service, endpoint_url=endpoint, config=patient),
            # The output names the address that the API would have on AWS.
            lambda _: FlowAccountConnect(url, session=session, patience=0),
        )
    return doctor.Account(
        stack_name or DEFAULT_STACK,
        lambda service: _client(service, config=patient),
        lambda url: FlowAccountConnect(url, patience=0),
    )


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
        raise NotConfigured("This works on the stack's table itself: name the stack with --stack-name.")
    table = _output(stack_name, "TableName")
    return _client("dynamodb", config=patient), table


def invoke(function: str, event: object, *, stack_name: str | None, local: bool) -> Any:
    """What a function of the stack answers, with the operator's own credentials. Raises `NotConfigured`."""
    if local:
        session, stack = _local("aws_endpoint_url", "functions")
        functions: Any = stack["functions"]
        if function not in functions:
            raise NotConfigured(f"The local stack has no function {function}: nothing is configured for it.")
        name = functions[function]
        client: Any = session.create_client("lambda", endpoint_url=stack["aws_endpoint_url"])
    elif stack_name:
        client, name = _client("lambda", config=Config(read_timeout=60)), f"{stack_name}-{function}"
    else:
        raise NotConfigured("This works on the stack itself: name the stack with --stack-name.")
    try:
        answer = client.invoke(FunctionName=name, Qualifier="live", Payload=json.dumps(event).encode())
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise NotConfigured(
            f"{name} cannot be invoked ({code}): check the stack's name, the region, the credentials, and whether a "
            "receiver is configured."
        ) from None
    except BotoCoreError as error:
        raise NotConfigured(f"AWS cannot be asked to run {name}: {type(error).__name__}.") from None
    if "FunctionError" in answer:
        raise NotConfigured(f"{name} failed. Its log group says why.")
    return json.loads(answer["Payload"].read())


def _client(service: str, **options: Any) -> Any:
    """A client of AWS's in the region of the library's own requests. Raises `NotConfigured`."""
    session = signing.session()
    try:
        region = signing.region_of(session)
        if region:
            return session.create_client(service, region_name=region, **options)
    except (BotoCoreError, ValueError, OSError) as error:
        raise NotConfigured(
            f"The AWS settings of this process are of no use ({type(error).__name__}): check AWS_PROFILE, "
            "AWS_ENDPOINT_URL and the files of AWS's configuration."
        ) from None
    raise NotConfigured("No AWS region: set AWS_REGION to that of the stack.")


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
        stacks = _client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
    except ClientError as error:
        code = error.response["Error"]["Code"]
        raise NotConfigured(
            f"The stack {stack_name} cannot be looked up ({code}): check its name, the region and the credentials"
            + (", or give the API's URL with --url." if name == "ApiUrl" else ".")
        ) from None
    except BotoCoreError as error:
        raise NotConfigured(f"AWS cannot be asked for the stack {stack_name}: {type(error).__name__}.") from None
    for output in stacks[0].get("Outputs", []):
        if output["OutputKey"] == name:
            return str(output["OutputValue"])
    raise NotConfigured(f"The stack {stack_name} has no output {name}: it is no FlowAccount Connect.")
