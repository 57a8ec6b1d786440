"""The AWS emulator (MiniStack). It listens on loopback only, and enforces signatures and policies."""

import contextlib
import http.client
import os
import subprocess
import time
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

# The emulator's administrator, whom it neither checks nor limits. For deploying, never for testing.
ADMINISTRATOR = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}

# Functions inherit the emulator's environment. If these are set, programs need them to reach other machines.
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
    """The endpoint URL for the AWS SDKs."""
    return f"http://{ports.HOST}:{port}"


def start(port: int) -> processes.Process:
    """Starts an empty emulator and waits until it answers. Raises ``LocalError``; then nothing runs."""
    clear()
    temporary = _HOME / "tmp"
    temporary.mkdir(parents=True)
    command = [str(EMULATOR_TOOLS / "python"), "-P", str(Path(__file__).with_name("ministack_policies.py"))]
    process = processes.start(command, environment(port, temporary, EMULATOR_TOOLS), LOG, _HOME)
    failure = f"The AWS emulator did not start on port {port}. The end of {shown(LOG)} says why."
    processes.wait_until(lambda: is_healthy(port), process, 30, failure)
    return process


def environment(port: int, temporary: Path, tools: Path) -> dict[str, str]:
    """The whole environment of the emulator and the functions. It has nothing else of the calling shell."""
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
        # At INFO it would repeat the functions' log lines, which are in their log groups.
        "LOG_LEVEL": "WARNING",
        # The functions inherit LOG_LEVEL, and their logger would obey it. On AWS they log from INFO on.
        "POWERTOOLS_LOG_LEVEL": "INFO",
        # Receivers of webhooks, and the stand-ins of Slack and LINE, are on this machine.
        "LOOPBACK_RECEIVERS": "allowed",
        # This stack does not use these listeners.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }


def clear() -> None:
    """Removes the files of an emulator that has ended.

    Each worker had a copy of whole layers. That takes minutes on a slow disk, so nobody waits for it.
    """
    ended = _HOME.with_name(f"emulator-{time.time_ns()}")
    with contextlib.suppress(FileNotFoundError):
        _HOME.rename(ended)
        remove = '/bin/rm -rf "$0" </dev/null >/dev/null 2>&1 &'
        subprocess.run(["/bin/sh", "-c", remove, str(ended)], check=False)


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
