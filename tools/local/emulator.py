"""The AWS emulator (MiniStack), on loopback only, enforcing signatures and policies."""

import http.client
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tools.local import ports, processes
from tools.local.places import EMULATOR_TOOLS, LOGS, STATE, shown

DEFAULT_PORT = 4566
REGION = "ap-southeast-1"
ACCOUNT = "000000000000"
LOG = LOGS / "emulator.log"
_HOME = STATE / "emulator"

# The emulator's own administrator, which it neither checks nor limits: for deploying, never for testing.
ADMINISTRATOR = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}

# Functions inherit the emulator's environment. These, where set, tell how to reach the outside.
_OUTSIDE = (
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
)


def url(port: int) -> str:
    """What the AWS SDKs call the endpoint URL."""
    return f"http://{ports.HOST}:{port}"


def start(port: int) -> processes.Process:
    """Starts an empty emulator and waits until it answers. Raises ``LocalError``, with nothing running."""
    temporary = _HOME / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    command = [str(EMULATOR_TOOLS / "python"), "-P", str(Path(__file__).with_name("ministack_policies.py"))]
    process = processes.start(command, environment(port, temporary, EMULATOR_TOOLS), LOG, _HOME)
    failure = f"The AWS emulator did not start on port {port}; the end of {shown(LOG)} says why."
    processes.wait_until(lambda: is_healthy(port), process, 30, failure)
    return process


def environment(port: int, temporary: Path, tools: Path) -> dict[str, str]:
    """The emulator's whole environment, and the functions': nothing of the calling shell leaks into it."""
    kept = {name: os.environ[name] for name in _OUTSIDE if os.environ.get(name)}
    return kept | {
        "PATH": f"{tools}:/usr/bin:/bin",
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "BIND_HOST": ports.HOST,
        "MINISTACK_HOST": ports.HOST,
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "MINISTACK_ACCOUNT_ID": ACCOUNT,
        "AUTH": "true",
        "LAMBDA_EXECUTOR": "local",
        # At INFO it repeats the functions' own log lines, which are in their log groups already.
        "LOG_LEVEL": "WARNING",
        # Listeners that this stack has no use for.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }


def clear() -> None:
    """Removes what an emulator that has ended left behind."""
    shutil.rmtree(_HOME, ignore_errors=True)


def is_healthy(port: int) -> bool:
    """Whether an emulator answers on this port."""
    return ports.http_status(port, "/_ministack/health") == http.client.OK


def client(service: str, port: int) -> Any:
    """A boto3 client of the emulator's administrator."""
    make: Callable[..., Any] = boto3.client
    return make(
        service,
        region_name=REGION,
        endpoint_url=url(port),
        config=Config(retries={"total_max_attempts": 2}, connect_timeout=5, read_timeout=60),
        **ADMINISTRATOR,
    )
