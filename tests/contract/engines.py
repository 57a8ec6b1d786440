"""The engines that the contract is held against, started on free loopback ports.

Tables are made by boto3; what is tested goes through the client that the functions have.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
from botocore.config import Config

from flowaccount_connect.runtime import aws
from tools.local import dynamodb_local as local_engine
from tools.local import emulator, ports, processes
from tools.local.errors import LocalError
from tools.local.places import EMULATOR_TOOLS


@contextlib.contextmanager
def ministack(folder: Path) -> Iterator[str]:
    """The URL of a MiniStack that asks nobody for permissions; `folder` is its temporary directory."""
    executable = EMULATOR_TOOLS / "ministack"
    if not executable.is_file():
        raise LocalError(f"MiniStack is not at {executable}: `make bootstrap` sets it up.")
    port, log = ports.choose(), folder / "log"
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "BIND_HOST": ports.HOST,
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    process = processes.start([str(executable)], environment, log, folder)
    processes.wait_until(lambda: emulator.is_healthy(port), process, 60, f"MiniStack did not start: {log} says why.")
    try:
        yield emulator.url(port)
    finally:
        processes.stop(process)


@contextlib.contextmanager
def dynamodb_local() -> Iterator[str]:
    """The URL of a DynamoDB Local, fetched first where it is not there; it keeps everything in memory."""
    process, url = local_engine.start()
    try:
        yield url
    finally:
        processes.stop(process)


def owners_client(url: str, service: str = "dynamodb") -> Any:
    """A client of whoever sets the stack up."""
    return boto3.client(  # type: ignore[call-overload]
        service,
        endpoint_url=url,
        region_name=emulator.REGION,
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
        **emulator.ADMINISTRATOR,
    )


def functions_client(url: str, service: str = "dynamodb") -> Any:
    """A client as the functions have it."""
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": emulator.REGION,
        "AWS_ENDPOINT_URL": url,
    }
    with mock.patch.dict(os.environ, environment):
        # DynamoDB Local has tables for each access key, and a session remembers the key that it saw first.
        aws.shared_session.cache_clear()
        return aws.client(service)
