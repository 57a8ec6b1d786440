"""`python -m benchmarks.throughput`: one refresh worker, an endpoint that takes 300 ms, a batch against one by one.

The worker is `functions/refresh` as it is deployed: its handler, the rotation, the token endpoint over loopback HTTP,
DynamoDB Local with the deployed table; the key service and the secret answer at once. Exit code 0 if a batch is at
least 15 times as fast; 1 if not.
"""

import argparse
import asyncio
import importlib.util
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock
from urllib.parse import parse_qs

from rich.console import Console
from rich.progress import track

from benchmarks import components
from local import ports
from local.errors import LocalError
from local.places import ROOT

BATCH = 50
LATENCY = 0.3
GOAL = 15


def serve(port: int, latency: float) -> None:
    """The token endpoint, in a process of its own: tokens for whoever asks, after `latency` seconds."""
    asyncio.run(_serve(port, latency))


async def _serve(port: int, latency: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(int(v) for k, _, v in (h.partition(b":") for h in head.split(b"\r\n")) if k == _LENGTH)
                token = parse_qs(await reader.readexactly(length))[b"refresh_token"][0].decode()
                await asyncio.sleep(latency)
                body = json.dumps({"access_token": f"a{token}", "refresh_token": f"{token}+", "expires_in": 86_400})
                lines = ["HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}", "", body]
                writer.write("\r\n".join(lines).encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


_LENGTH = b"Content-Length"


@contextmanager
def endpoint(latency: float) -> Iterator[str]:
    """The URL of the token endpoint."""
    port = ports.choose()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(port, latency), daemon=True)
    process.start()
    try:
        until = time.monotonic() + 20
        while not ports.answers("127.0.0.1", port, 1) and time.monotonic() < until:
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/token"
    finally:
        process.terminate()
        process.join()


class Context:
    """The context of an invocation that has 45 seconds."""

    aws_request_id = "benchmark"

    def __init__(self) -> None:
        self._end = time.monotonic() + 45

    def get_remaining_time_in_millis(self) -> int:
        """As Lambda says it."""
        return int((self._end - time.monotonic()) * 1_000)


class Secrets:
    """A client secret that is there at once."""

    def get_secret_value(self, **_: Any) -> Any:
        """GetSecretValue."""
        return {"SecretString": '{"client_secret": "secret"}'}


@dataclass(slots=True)
class Units:
    """What a worker's requests consume of the table."""

    requests: int = 0
    written: float = 0.0
    """Write units, of the table and its indexes."""

    def watch(self, table: Any) -> None:
        """Count what a client does from here on."""

        def ask(params: dict[str, Any], **_: Any) -> dict[str, Any]:
            return params | {"ReturnConsumedCapacity": "TOTAL"}

        def count(parsed: dict[str, Any], **_: Any) -> None:
            self.requests += 1
            self.written += parsed.get("ConsumedCapacity", {}).get("CapacityUnits", 0)

        table.meta.events.register("provide-client-params.dynamodb.UpdateItem", ask)
        table.meta.events.register("after-call.dynamodb.UpdateItem", count)


def worker(url: str, token_url: str, kms: components.LocalKms, table: str, units: Units) -> ModuleType:
    """`functions/refresh` as at a cold start, over these components."""
    from flowaccount_connect import wiring  # noqa: PLC0415 - after the environment is set

    os.environ |= {
        "ENVIRONMENT": "sandbox",
        "STACK": "connect",
        "TABLE_NAME": table,
        "TOKEN_ENDPOINT": token_url,
        "CLIENT_ID": "client",
        "CLIENT_SECRET_NAME": "secret",
        "KEY_ID": components.LocalKms.KEY,
        "SALVAGE_QUEUE_URL": "http://127.0.0.1/salvage",
        "REFRESHES_PER_MINUTE": "60000",
        "AWS_ENDPOINT_URL_DYNAMODB": url,
        "AWS_DEFAULT_REGION": "ap-southeast-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "POWERTOOLS_METRICS_NAMESPACE": "FlowAccountConnect",
        "POWERTOOLS_SERVICE_NAME": "refresh",
    }
    real = wiring.client
    stand_ins = {"kms": kms, "secretsmanager": Secrets(), "sqs": None}

    def client(service: str, **kwargs: Any) -> Any:
        if service in stand_ins:
            return stand_ins[service]
        made = real(service, **kwargs)
        units.watch(made)
        return made

    spec = importlib.util.spec_from_file_location("refresh", ROOT / "functions" / "refresh" / "app.py")
    if spec is None or spec.loader is None:
        raise LocalError("functions/refresh/app.py is missing.")
    module = importlib.util.module_from_spec(spec)
    # What it logs goes nowhere, but is written.
    nowhere = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    with mock.patch.object(wiring, "client", client), redirect_stdout(nowhere):
        spec.loader.exec_module(module)
    return module


def records(numbers: Sequence[int]) -> dict[str, Any]:
    """An event of the refresh queue."""
    bodies = [json.dumps({"connection_id": components.name_of(number)}) for number in numbers]
    return {
        "Records": [
            {"messageId": str(i), "body": body, "eventSource": "aws:sqs", "attributes": {"SentTimestamp": "0"}}
            for i, body in enumerate(bodies)
        ]
    }


def timed(handler: Callable[[Any, Any], Any], numbers: Sequence[int]) -> float:
    """Seconds that one invocation takes for these connections."""
    event = records(numbers)
    began = time.perf_counter()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        handler(event, Context())
    return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole of it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--batch", type=int, default=BATCH, help=f"messages of a batch (default: {BATCH})")
    parser.add_argument("--batches", type=int, default=4, help="batches that are measured (default: 4)")
    options = parser.parse_args(arguments)
    console, kms, now = Console(highlight=False), components.LocalKms(), int(time.time())
    batch, batches = options.batch, options.batches
    first, many, one = (
        range(batch),
        range(batch, batch * (batches + 1)),
        range(batch * (batches + 1), batch * (batches + 2)),
    )
    due = one.stop
    try:
        with components.dynamodb() as url, endpoint(LATENCY) as token_url:
            table = components.client(url)
            for _ in components.fill(table, "connections", due, due=due, now=now, kms=kms):
                pass
            units = Units()
            handler = worker(url, token_url, kms, "connections", units).handler
            # Warms up, gently, since an engine that has just started answers slowly: connections, threads, the engine.
            for some in (*itertools.batched(first[: batch // 2], 5, strict=False), first[batch // 2 :]):
                timed(handler, some)
            kms.calls, units.requests, units.written, cpu = 0, 0, 0.0, time.process_time()
            together = sum(timed(handler, some) for some in itertools.batched(many, batch, strict=True))
            cpu = time.process_time() - cpu
            consumed = (units.requests, units.written, kms.calls)
            words = f"one by one, {batch} times"
            alone = sum(timed(handler, [number]) for number in track(one, words, console=console, transient=True))
            # What a busy machine did not get done in time is left to the next tick, and not counted.
            of_many, of_one = _refreshed(table, many), _refreshed(table, one)
    except LocalError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    ratio = (of_many / together) / (of_one / alone)
    requests, written, kms_calls = (count / of_many for count in consumed)
    rows = {
        "endpoint latency": f"{LATENCY * 1_000:.0f} ms",
        "one by one": f"{alone / of_one * 1_000:.0f} ms a refresh, {of_one} of {len(one)} refreshed",
        f"in batches of {batch}": f"{together / of_many * 1_000:.1f} ms a refresh, {of_many} of {len(many)} refreshed",
        "one worker": f"{60 / together * of_many:,.0f} refreshes a minute",
        "of that the worker's CPU": f"{cpu / of_many * 1_000:.1f} ms a refresh, which bounds it",
        "a refresh of a batch": f"{requests:.2f} writes of {written:.2f} units in all, {kms_calls:.2f} calls of KMS",
        "faster by": f"{ratio:.1f} times (goal: {GOAL})",
    }
    for title, value in rows.items():
        console.print(f"{title:26}{value}")
    return 0 if ratio >= GOAL and of_many + of_one >= 0.95 * (len(many) + len(one)) else 1


def _refreshed(table: Any, numbers: Sequence[int]) -> int:
    """How many of these connections have been refreshed."""
    from flowaccount_connect.store import ConnectionStore  # noqa: PLC0415

    store = ConnectionStore(table, "connections")
    found = [store.get(components.name_of(number)) for number in numbers]
    return sum(one is not None and one.generation == 2 for one in found)


if __name__ == "__main__":
    sys.exit(main())
