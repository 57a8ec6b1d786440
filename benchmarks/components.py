"""Real components to measure with: DynamoDB Local, the deployed table in it, and connections as they are stored."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from flowaccount_connect.connection import Sealed
from flowaccount_connect.dynamodb import n, s
from flowaccount_connect.identifiers import new_attempt_id, new_grant_id, new_secret
from flowaccount_connect.schedule import Schedule
from flowaccount_connect.sealing import DataKey, Sealer, Tokens
from flowaccount_connect.store import due_shard, grant_update, key_of
from local import dynamodb_local, processes
from tests.contract import deployed

_BATCH = 25
_FIRST = 1_000_000


@contextlib.contextmanager
def dynamodb() -> Iterator[str]:
    """The URL of an empty DynamoDB Local, which is ended afterwards."""
    process, url = dynamodb_local.start()
    try:
        yield url
    finally:
        processes.stop(process)


def client(url: str, connections: int = 16) -> Any:
    """A client of it."""
    return boto3.client(
        "dynamodb",
        endpoint_url=url,
        region_name="ap-southeast-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - any do
        config=Config(max_pool_connections=connections, proxies={}),
    )


def name_of(number: int) -> str:
    """The id of a connection."""
    return f"N{_FIRST + number}"


def fill(table: Any, name: str, connections: int, *, due: int, now: int, kms: "LocalKms") -> Iterator[int]:
    """Create a table and fill it with connections, the first `due` of them due at `now`; yields how many there are.

    Items are what a callback writes: the first one is written as it does it, the others are its like.
    """
    table.create_table(TableName=name, **deployed.table())
    schedule = Schedule()
    sealer = Sealer(kms, LocalKms.KEY, stack="connect", environment="sandbox")
    key = sealer.data_key()

    def item(number: int, like: dict[str, Any], grant_id: str) -> dict[str, Any]:
        connection_id = name_of(number)
        # What is due is so by up to ten minutes; the others are spread over the six hours.
        requested_at = now - schedule.refresh_after - number % 600 - 1
        if number >= due:
            requested_at = now - number % (schedule.refresh_after * 8 // 10)
        sealed = sealer.seal(Tokens(new_secret(), new_secret()), key, owner=connection_id, grant_id=grant_id)
        status, _, _ = like["listed_as"]["S"].partition("#")
        return like | {
            "pk": key_of(connection_id)["pk"],
            "tokens": {"B": sealed.ciphertext},
            "due_shard": s(due_shard(connection_id)),
            "listed_as": s(f"{status}#{due_shard(connection_id)}"),
            "requested_at": n(requested_at),
            "refresh_at": n(schedule.refresh_at(requested_at) if number >= due else now - number % 600 - 1),
            "deadline": n(schedule.deadline(requested_at)),
            "access_expires_at": n(schedule.deadline(requested_at)),
        }

    grant_id = new_grant_id()
    table.update_item(**_callback(name, grant_id, key, now))
    like = table.get_item(TableName=name, Key=key_of(name_of(0)))["Item"]

    def write(batch: tuple[int, ...]) -> int:
        requests = [{"PutRequest": {"Item": item(number, like, grant_id)}} for number in batch]
        while requests:
            requests = table.batch_write_item(RequestItems={name: requests})["UnprocessedItems"].get(name, [])
        return len(batch)

    written = 0
    with ThreadPoolExecutor(4) as pool:
        batched = itertools.batched(range(connections), _BATCH, strict=False)
        for batches in itertools.batched(batched, 100, strict=False):
            written += sum(pool.map(write, batches))
            yield written


def _callback(table: str, grant_id: str, key: DataKey, now: int) -> dict[str, Any]:
    """The write of a first consent."""
    from flowaccount_connect.rotation import timed  # noqa: PLC0415 - the heart is not needed to fill a table

    rotated = timed(Sealed(b"tokens", key.wrapped), 86_400, now, Schedule())
    return grant_update(
        table,
        name_of(0),
        grant_id=grant_id,
        attempt_id=new_attempt_id(),
        environment="sandbox",
        rotated=rotated,
        now=now,
    )


class LocalKms:
    """Stands for KMS: data keys wrapped under one key in memory, with their context, at once."""

    KEY = "key"

    def __init__(self) -> None:
        self._key = AESGCM(AESGCM.generate_key(256))
        self.calls = 0

    def generate_data_key(self, **kwargs: Any) -> Any:
        """GenerateDataKey."""
        self.calls += 1
        plaintext, nonce = os.urandom(32), os.urandom(12)
        context = repr(kwargs["EncryptionContext"]).encode()
        return {"Plaintext": plaintext, "CiphertextBlob": nonce + self._key.encrypt(nonce, plaintext, context)}

    def decrypt(self, **kwargs: Any) -> Any:
        """Decrypt."""
        self.calls += 1
        blob, context = kwargs["CiphertextBlob"], repr(kwargs["EncryptionContext"]).encode()
        return {"Plaintext": self._key.decrypt(blob[:12], blob[12:], context)}
