"""What only a test does to the deployed stack: end a function's processes, take a permission away."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tools.local import service
from tools.local.stack import Stack


def workers(up: Stack, function: str) -> list[int]:
    """The process ids of a function's warm workers, which the emulator of this stack has started."""
    listed = subprocess.run(["ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True, check=True).stdout
    mark = f"/ministack-lambda-{up.functions[function]}-"
    here = up.logs["emulator"].rpartition("/log/")[0]
    lines = [line.strip().split(None, 1) for line in listed.splitlines()]
    return [int(pid) for pid, command in lines if mark in command and here in command]


def restart(up: Stack, function: str) -> None:
    """End a function's warm workers, so that its next invocation starts cold."""
    killed = workers(up, function)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while not all(map(_ended, killed)) and time.monotonic() < until:
        time.sleep(0.05)


def _ended(pid: int) -> bool:
    """Whether the emulator can see that a process has ended. One that is ending looks like any other to it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def denied(up: Stack, function: str, action: str, keys: str | None = None) -> Iterator[None]:
    """A function's role without `action`, of these first `keys` only if given, for as long as the block runs."""
    role = service.client(up, "lambda").get_function(FunctionName=up.functions[function])["Configuration"]["Role"]
    iam, name = service.client(up, "iam"), role.rpartition("/")[2]
    statement: dict[str, object] = {"Effect": "Deny", "Action": action, "Resource": "*"}
    if keys is not None:
        statement["Condition"] = {"ForAnyValue:StringLike": {"dynamodb:LeadingKeys": keys}}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=name, PolicyName="denied-by-a-test", PolicyDocument=document)
    try:
        yield
    finally:
        iam.delete_role_policy(RoleName=name, PolicyName="denied-by-a-test")
