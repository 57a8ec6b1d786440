"""The campaign's access to the deployed stack, the simulator's control API, the worker processes, and the logs."""

import contextlib
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from flowaccount_connect.domain.ids import new_attempt_id
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import from_item, grant_update, key_of
from flowaccount_connect.storage.sealing import Sealer
from flowaccount_connect.storage.stored_tokens import StoredTokens
from tools.campaign.evidence import Finish, Kill
from tools.local import service, stack
from tools.local.deployment import STACK_NAME
from tools.local.settings import Experiment, Settings
from tools.local.stack import Stack
from tools.local.steps import Steps

VISIBILITY = 10
"""Seconds after which the refresh queue delivers a killed worker's messages again. On AWS it is six minutes."""

RECENT = 1.0
"""A worker may still hold the refresh of a connection to the token endpoint that was open so many seconds ago.

It closes the connection after the answer, and the commit follows within a few hundredths of a second."""

_HEALTH = {"pk": {"S": "HEALTH"}, "sk": {"S": "token-endpoint"}}

RETURN_URL = "http://127.0.0.1:4580/connected"

# Of a line of /proc/net/tcp: local port, remote port and inode of an established connection, or of one that the other
# side has closed. One read shows all workers at one moment: asked one by one, they have gone on meanwhile.
_TCP = re.compile(rb": [0-9A-F]{8}:([0-9A-F]{4}) [0-9A-F]{8}:([0-9A-F]{4}) 0[18] \S+ \S+ \S+ +\d+ +\d+ (\d+)")


class Stage:
    """The running local stack. Linux only, since `/proc` has the open connections of a worker."""

    def __init__(self, up: Stack) -> None:
        assert up.simulator_url is not None  # noqa: S101 - this campaign brought it up with one
        self.up = up
        self._simulator = up.simulator_url
        self._simulator_port = int(up.simulator_url.rpartition(":")[2])
        self._session = requests.Session()
        self._mark = f"/ministack-lambda-{up.functions['refresh']}-"
        self._here = up.logs["emulator"].rpartition("/log/")[0]
        self._known: dict[int, psutil.Process] = {}
        self._others: set[int] = set()
        self._open_at: dict[tuple[int, int], float] = {}
        """By process id and port: when a connection to the token endpoint was last seen open. Epoch seconds."""
        self.table = self.client("dynamodb")
        # Taken once: threads that ask a client for its exceptions at the same time may get classes that differ.
        self._condition_failed = self.table.exceptions.ConditionalCheckFailedException
        self.queues = self.client("sqs")
        self.functions = self.client("lambda")
        self.sealer = Sealer(self.client("kms"), up.key_id, stack=STACK_NAME, environment="sandbox")

    def client(self, name: str) -> Any:
        """A client of an AWS service with the rights of the stack's IAM user, which tries once."""
        once = Config(retries={"total_max_attempts": 1}, read_timeout=60, max_pool_connections=32)
        return service.client(self.up, name, once)

    # The simulator

    def control(self, method: str, path: str, body: object = None) -> Any:
        """One request to the simulator's control API."""
        answer = self._session.request(method, f"{self._simulator}/_control/{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def token_requests(self, after: int = 0) -> list[dict[str, Any]]:
        """The requests to the token endpoint after the request of that number, oldest first."""
        seen: list[dict[str, Any]] = self.control("GET", f"requests?after={after}")["requests"]
        return [one for one in seen if one["kind"] == "token"]

    def ledger(self) -> list[dict[str, Any]]:
        """All issued refresh tokens."""
        entries: list[dict[str, Any]] = self.control("GET", "ledger")["entries"]
        return [entry for entry in entries if entry["kind"] == "refresh_token"]

    # The table

    def items(self) -> dict[str, dict[str, Any]]:
        """All items of connections in the table, by business."""
        found: dict[str, dict[str, Any]] = {}
        for page in self.table.get_paginator("scan").paginate(TableName=self.up.table, ConsistentRead=True):
            for item in page["Items"]:
                if item["sk"]["S"] == "CONNECTION":
                    found[item["pk"]["S"].removeprefix("CONNECTION#")] = item
        return found

    def item(self, business: str) -> dict[str, Any]:
        """The item of one connection in the table; empty if the table has none."""
        answer = self.table.get_item(TableName=self.up.table, Key=key_of(business), ConsistentRead=True)
        item: dict[str, Any] = answer.get("Item", {})
        return item

    def refresh_token(self, item: dict[str, Any]) -> str:
        """The refresh token of an item, opened as the product would. The caller must not print it."""
        connection = from_item(item)
        if connection.sealed is None:
            return ""
        return self.sealer.open(connection.sealed, owner=connection.id, grant_id=connection.grant_id).refresh_token

    def store(self, business: str, grant_id: str, rotated: StoredTokens) -> None:
        """Write a connection as the callback does."""
        update = grant_update(
            self.up.table,
            Commit(
                connection_id=business,
                grant_id=grant_id,
                attempt_id=new_attempt_id(),
                environment="sandbox",
                tokens=rotated,
            ),
            now=rotated.requested_at,
        )
        self.table.update_item(**update)

    def let_fall_due(self, business: str) -> None:
        """Make an active connection due now, as if time had passed.

        The time between two refusals has passed, too. So a second refusal is final.
        """
        apart, then = str(Schedule().refusals_apart), str(int(time.time()) - 1)
        self._change(business, "refused_at = refused_at - :apart", "attribute_exists(refused_at)", apart={"N": apart})
        # An active connection has `refresh_at`, and no other one.
        self._change(business, "refresh_at = :then", "attribute_exists(refresh_at)", then={"N": then})

    def let_lease_end(self, business: str, attempt: str) -> None:
        """End the lease of an attempt whose process is gone, as if time had passed."""
        then = str(int(time.time()) - 1)
        self._change(business, "lease_until = :then", "attempt_id = :attempt", then={"N": then}, attempt={"S": attempt})

    def _change(self, business: str, change: str, condition: str, **values: dict[str, str]) -> None:
        """Change an item if the condition holds."""
        with contextlib.suppress(self._condition_failed):
            self.table.update_item(
                TableName=self.up.table,
                Key=key_of(business),
                UpdateExpression=f"SET {change}",
                ConditionExpression=condition,
                ExpressionAttributeValues={f":{name}": value for name, value in values.items()},
            )

    def forget_doubts(self) -> None:
        """Make the token endpoint count as well.

        After a few dropped answers the product takes the endpoint for unwell, and stops sending tokens. That is right,
        but a campaign needs waves in which tokens are sent. So it deletes the item of the endpoint's health, and ends
        the idle workers, since each one remembers for ten seconds what it read.
        """
        for process in self.workers():
            self._end_if_idle(process)
        self.table.delete_item(TableName=self.up.table, Key=_HEALTH)

    def clear(self) -> None:
        """Start anew: no connections, no messages, an empty ledger, an endpoint that is well."""
        for process in self.workers():
            self.end(process)
        self.table.delete_item(TableName=self.up.table, Key=_HEALTH)
        for url in self.up.queues.values():
            self.queues.purge_queue(QueueUrl=url)
        for business in self.items():
            self.table.delete_item(TableName=self.up.table, Key=key_of(business))
        self.control("POST", "reset")
        self.control("POST", "settings", {"rate_limit": False})

    # The workers

    def invoke(self, business: str) -> str:
        """Invoke `refresh` for a due connection and return the outcome, `died` if the worker was killed."""
        event = json.dumps({"connection_id": business}).encode()
        try:
            answer = self.functions.invoke(FunctionName=self.up.functions["refresh"], Payload=event)
        except (BotoCoreError, ClientError) as error:
            return type(error).__name__  # The evidence shows later what the worker did.
        result = json.loads(answer["Payload"].read())
        return "died" if "FunctionError" in answer else str(result.get("outcome", result.get("error")))

    def send(self, businesses: list[str]) -> None:
        """Send messages to the refresh queue, as `sweep` does."""
        entries = [
            {"Id": str(number), "MessageBody": json.dumps({"connection_id": business})}
            for number, business in enumerate(businesses)
        ]
        if entries:
            self.queues.send_message_batch(QueueUrl=self.up.queues["refresh"], Entries=entries)

    def workers(self) -> list[psutil.Process]:
        """The living worker processes of `refresh` that the emulator of this stack has started."""
        for pid in set(psutil.pids()) - self._known.keys() - self._others:
            try:
                process = psutil.Process(pid)
                command = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if self._mark in command and self._here in command:
                self._known[pid] = process
            elif command and "ministack" not in command:
                # For a moment a new worker looks like its parent (ministack), so that is checked again next time.
                self._others.add(pid)
        for pid, process in list(self._known.items()):
            if not _lives(process):
                del self._known[pid]
        return list(self._known.values())

    def connections(self) -> dict[int, list[int]]:
        """By process id of a worker: the local ports of its connections to the token endpoint."""
        by_inode = {}
        for line in _TCP.finditer(Path("/proc/net/tcp").read_bytes()):
            local, remote, inode = line.groups()
            if int(remote, 16) == self._simulator_port:
                by_inode[f"socket:[{int(inode)}]"] = int(local, 16)
        found = {process.pid: _held(process.pid, by_inode) for process in self.workers()} if by_inode else {}
        now = time.time()
        self._open_at |= {(pid, port): now for pid, ports in found.items() for port in ports}
        return found

    def held(self, process: psutil.Process) -> int:
        """The number of refreshes that a worker may have in its hands, by its open and recent connections."""
        self.connections()
        since = time.time() - RECENT
        return sum(1 for (pid, _), at in self._open_at.items() if pid == process.pid and at >= since)

    def is_idle(self, process: psutil.Process) -> bool:
        """Whether a worker waits for an invocation: then its main thread reads its standard input (see `/proc`)."""
        try:
            return Path(f"/proc/{process.pid}/syscall").read_text().startswith("0 0x0 ")
        except OSError:
            return not _lives(process)

    def kill(self, process: psutil.Process, aim: str) -> Kill | None:
        """Kill -9 a worker, after stopping it for a moment to count the refreshes in its hands.

        Returns `None` if it was gone, or if it was idle. An idle worker goes on.
        """
        with self._stopped(process) as stopped:
            if not stopped or self.is_idle(process):
                return None
            at, held = time.time(), self.held(process)
            self.end(process)
        return Kill(at=at, pid=process.pid, aim=aim, held=held)

    def _end_if_idle(self, process: psutil.Process) -> None:
        """End a worker that waits for an invocation. A busy worker goes on, since it may have a token."""
        with self._stopped(process) as stopped:
            if stopped and self.is_idle(process):
                self.end(process)

    @contextlib.contextmanager
    def _stopped(self, process: psutil.Process) -> Iterator[bool]:
        """Stop a worker for a moment; whether it could be stopped."""
        try:
            process.send_signal(signal.SIGSTOP)
        except psutil.Error:
            yield False
            return
        try:
            yield True
        finally:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)

    def end(self, process: psutil.Process) -> None:
        """Kill -9 a worker, and wait until it is gone."""
        with contextlib.suppress(psutil.Error):
            process.kill()
        until = time.monotonic() + 5
        while _lives(process) and time.monotonic() < until:
            time.sleep(0.002)

    def log(self, since: float) -> list[dict[str, Any]]:
        """The structured lines that `refresh` has logged."""
        pages = self.client("logs").get_paginator("filter_log_events")
        group = f"/aws/lambda/{self.up.functions['refresh']}"
        lines = []
        for page in pages.paginate(logGroupName=group, startTime=int(since * 1000)):
            lines += [_json(event["message"]) for event in page["events"]]
        return [line for line in lines if "message" in line and _at(line) >= since]

    @staticmethod
    def finishes(log: list[dict[str, Any]]) -> list[Finish]:
        """The log lines of `refresh` about attempts that ended."""
        lines = [line for line in log if line["message"] == "refresh"]
        in_invocation = Counter(line["request_id"] for line in lines)
        return [
            Finish(
                at=_at(line),
                business=line["connection_id"],
                attempt=line["attempt_id"],
                outcome=line["outcome"],
                exchange=line["exchange_ms"] / 1000 if "exchange_ms" in line else None,
                alone=in_invocation[line["request_id"]] == 1,
            )
            for line in lines
            if "attempt_id" in line
        ]


def bring_up(steps: Steps) -> Stage:
    """Bring the campaign's own stack up, with its schedule disabled. Raises `LocalError`."""
    parameters = {
        "AllowedReturnUrls": RETURN_URL,
        "RefreshesPerMinute": "60000",
    }
    experiment = Experiment(schedule=False, workers=3, public_rate_limit=1_000)
    stage = Stage(stack.up(Settings(parameters=parameters, experiment=experiment), steps))
    stage.queues.set_queue_attributes(
        QueueUrl=stage.up.queues["refresh"], Attributes={"VisibilityTimeout": str(VISIBILITY)}
    )
    return stage


def _held(pid: int, by_inode: dict[str, int]) -> list[int]:
    """The ports of those sockets that a process has open. `by_inode` has the port by the target of a descriptor."""
    ports = []
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                port = by_inode.get(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
                ports += [port] if port is not None else []
    return ports


def _lives(process: psutil.Process) -> bool:
    """Whether a process exists and is not a zombie. Assumes that its id is not used again within this short time."""
    try:
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"


def _at(line: dict[str, Any]) -> float:
    """When a structured line was written."""
    return datetime.strptime(line["timestamp"], "%Y-%m-%d %H:%M:%S,%f%z").timestamp()


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
