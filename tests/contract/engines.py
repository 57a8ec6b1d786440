"""The engines that the contract is held against, started on free loopback ports.

Tables are made by boto3; what is tested goes through the client that the functions have.
"""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
from botocore.config import Config

from flowaccount_connect.runtime import aws
from tools.local import dynamodb_local as local_engine
from tools.local import processes

ROOT = Path(__file__).resolve().parents[2]

REGION = "ap-southeast-1"

_STARTING = 60
"""How long an engine may take to start, in seconds."""


class Missing(Exception):
    """An engine is not installed."""


@contextlib.contextmanager
def ministack(folder: Path) -> Iterator[Any]:
    """A client of MiniStack's DynamoDB; `folder` is its temporary directory."""
    given = os.environ.get("FLOWACCOUNT_MINISTACK")
    executable = Path(given) if given else ROOT / ".local" / "emulator-venv" / "bin" / "ministack"
    if not executable.is_file():
        raise Missing(f"MiniStack is not at {executable}: `make test` sets it up.")
    port = _free_port()
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    with _running([str(executable)], environment, folder, port) as client:
        yield client


@contextlib.contextmanager
def dynamodb_local() -> Iterator[Any]:
    """A client of DynamoDB Local, fetched first where it is not there; it keeps everything in memory."""
    process, url = local_engine.start()
    try:
        yield _client(url)
    finally:
        processes.stop(process)


def functions_client(made_by: Any, service: str = "dynamodb") -> Any:
    """A client as the functions have it, of the engine of another client."""
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": made_by.meta.endpoint_url,
    }
    with mock.patch.dict(os.environ, environment):
        # DynamoDB Local has tables for each access key, and a session remembers the key that it saw first.
        aws.shared_session.cache_clear()
        return aws.client(service)


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str], folder: Path, port: int) -> Iterator[Any]:
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
    try:
        client = _client(f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + _STARTING
        while True:
            try:
                client.list_tables()
                break
            except Exception:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} did not start: {log.read_text()[-2_000:]}") from None
                time.sleep(0.2)
        try:
            yield client
        finally:
            client.close()
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _client(url: str) -> Any:
    return boto3.client(
        "dynamodb",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
