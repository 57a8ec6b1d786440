"""Real components to measure with: DynamoDB Local, the deployed table in it, and connections as they are stored."""

import contextlib
import itertools
import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from flowaccount_connect.aws_client import AwsClient, Credentials
from flowaccount_connect.domain.connection import Sealed
from flowaccount_connect.domain.ids import new_attempt_id, new_grant_id, new_secret
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.storage.connections import ConnectionStore, due_shard, grant_update, key_of
from flowaccount_connect.storage.dynamodb import n, s
from flowaccount_connect.storage.sealing import Kms, Sealer, TokenPair
from tests.contract import deployed
from tools.local import dynamodb_local, processes

STACK = "connect"

_REGION = "ap-southeast-1"
_BATCH = 25
_PART = 2_500
_FIRST = 1_000_000


@contextlib.contextmanager
def dynamodb() -> Iterator[str]:
    """The URL of an empty DynamoDB Local, which is ended afterwards."""
    process, url = dynamodb_local.start()
    try:
        yield url
    finally:
        while _clients:
            _clients.pop().close()
        processes.stop(process)


def engine_of(url: str) -> Any:
    """The SDK's client of it, for what the product never asks."""
    return boto3.client(
        "dynamodb",
        endpoint_url=url,
        region_name=_REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - any do
        config=Config(proxies={}),
    )


def client(url: str, service: str = "dynamodb") -> AwsClient:
    """The product's client of it, closed with the `dynamodb` that is up."""
    made = AwsClient(service, region=_REGION, endpoint=url, read_timeout=60, by=_credentials)
    _clients.append(made)
    return made


_clients: list[AwsClient] = []


def _credentials() -> Credentials:
    return Credentials("local", "local", None)


def name_of(number: int) -> str:
    """The id of a connection."""
    return f"N{_FIRST + number}"


@dataclass(frozen=True, slots=True)
class Filling:
    """How a table is filled: the first `due` connections are due at `now`, the others within the next six hours.

    Items are what a callback writes: `like` was written as it does it, the others are its like.
    """

    table: str
    like: Mapping[str, Any]
    due: int
    now: int

    def item(self, number: int, sealed: Sealed | None) -> dict[str, Any]:
        """The item of a connection; without tokens of its own it has as many bytes of somebody else's."""
        connection_id, schedule = name_of(number), Schedule()
        # What is due is so by up to ten minutes; the others are spread over the six hours.
        requested_at = self.now - schedule.refresh_after - number % 600 - 1
        if number >= self.due:
            requested_at = self.now - number % (schedule.refresh_after * 8 // 10)
        status, _, _ = self.like["listed_as"]["S"].partition("#")
        refresh_at = schedule.refresh_at(requested_at) if number >= self.due else self.now - number % 600 - 1
        own = {} if sealed is None else {"tokens": {"B": sealed.ciphertext}, "data_key": {"B": sealed.data_key}}
        return {
            **self.like,
            **own,
            "pk": key_of(connection_id)["pk"],
            "due_shard": s(due_shard(connection_id)),
            "listed_as": s(f"{status}#{due_shard(connection_id)}"),
            "requested_at": n(requested_at),
            "refresh_at": n(refresh_at),
            "deadline": n(schedule.deadline(requested_at)),
            "access_expires_at": n(schedule.deadline(requested_at)),
        }


def create(url: str, name: str) -> None:
    """Create the table as it is deployed."""
    engine_of(url).create_table(TableName=name, **deployed.table())


def fill(url: str, name: str, numbers: range, *, due: int, now: int, kms: Kms) -> None:
    """Add connections to a table, their tokens sealed as `refresh` seals them."""
    sealer = Sealer(kms, "key", stack=STACK, environment="sandbox")
    filling, grant_id = _begin(url, name, due, now)
    client_ = client(url)

    def write(batch: tuple[int, ...]) -> None:
        items = []
        for number in batch:
            tokens = TokenPair(new_secret(), new_secret())
            sealed = sealer.seal(tokens, sealer.data_key(), owner=name_of(number), grant_id=grant_id)
            items.append(filling.item(number, sealed))
        _put(client_, name, items)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, itertools.batched(numbers, _BATCH, strict=False)))


def fill_alike(url: str, name: str, connections: int, *, due: int, now: int) -> Iterator[int]:
    """Add connections to a table whose tokens nobody will open; yields how many there are by now.

    By as many processes as two cores have use for: each item is in three trees of the engine's.
    """
    filling, _ = _begin(url, name, due, now)
    parts = [(url, filling, range(at, min(at + _PART, connections))) for at in range(0, connections, _PART)]
    written = 0
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for count in pool.map(_fill_part, parts):
            written += count
            yield written


def _fill_part(part: tuple[str, Filling, range]) -> int:
    url, filling, numbers = part
    client_ = client(url)

    def write(batch: tuple[int, ...]) -> None:
        _put(client_, filling.table, [filling.item(number, None) for number in batch])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, itertools.batched(numbers, _BATCH, strict=False)))
    return len(numbers)


def _begin(url: str, name: str, due: int, now: int) -> tuple[Filling, str]:
    """The item of the first connection, as a callback writes it."""
    engine, grant_id = engine_of(url), new_grant_id()
    engine.update_item(**_callback(name, grant_id, now))
    like = engine.get_item(TableName=name, Key=key_of(name_of(0)))["Item"]
    return Filling(name, like, due, now), grant_id


def _put(client_: AwsClient, table: str, items: Sequence[Mapping[str, Any]]) -> None:
    requests = [{"PutRequest": {"Item": item}} for item in items]
    while requests:
        answer = client_.batch_write_item(RequestItems={table: requests})
        requests = answer["UnprocessedItems"].get(table, [])


def _callback(table: str, grant_id: str, now: int) -> dict[str, Any]:
    """The write of a first consent; sealed tokens and wrapped key have the lengths that real ones have."""
    from flowaccount_connect.rotation.new_tokens import timed  # noqa: PLC0415 - the heart is not needed to fill a table

    rotated = timed(Sealed(b"tokens".ljust(121), b"key".ljust(184)), 86_400, now, Schedule())
    return grant_update(
        table,
        name_of(0),
        grant_id=grant_id,
        attempt_id=new_attempt_id(),
        environment="sandbox",
        tokens=rotated,
        now=now,
    )


def refreshed(url: str, name: str, numbers: Sequence[int]) -> int:
    """How many of these connections have been refreshed, once."""
    store = ConnectionStore(client(url), name)
    found = [store.get(name_of(number)) for number in numbers]
    return sum(one is not None and one.generation == 2 for one in found)


def fill_instead(url: str, name: str, numbers: range, *, now: int, kms: Kms) -> None:
    """Add the connections of the programs in `instead` to a table, as their `vault` stores them."""
    client_ = client(url)
    for batch in itertools.batched(numbers, _BATCH, strict=False):
        items = []
        for number in batch:
            made = kms.generate_data_key(KeyId="key", KeySpec="AES_256", EncryptionContext={"stack": STACK})
            tokens = json.dumps({"access_token": new_secret(), "refresh_token": new_secret()}).encode()
            nonce = os.urandom(12)
            sealed = nonce + AESGCM(made["Plaintext"]).encrypt(nonce, tokens, name_of(number).encode())
            items.append(
                {
                    "pk": s(name_of(number)),
                    "sk": s("T"),
                    "tokens": {"B": sealed},
                    "data_key": {"B": made["CiphertextBlob"]},
                    "expires_at": n(now + 86_400),
                    "version": n(1),
                }
            )
        _put(client_, name, items)
