"""AWS and the token endpoint as a function meets them, in a process of their own that counts what it is asked.

DynamoDB's requests go on to DynamoDB Local, and are counted with the units they consume there; KMS, Secrets Manager,
SQS, EventBridge and Lambda answer at once, KMS with keys that it really wraps. So what a benchmark measures of a
function's process is that function, and what it counts is what went over the wire.

All of it is there twice, by plain HTTP and by TLS; the token endpoint is only ever named by the latter.
"""

import asyncio
import base64
import json
import multiprocessing
import os
import secrets
import ssl
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from local import ports
from local.errors import LocalError
from tools.benchmarks.authority import authority

CLIENT_SECRET = "secret"  # noqa: S105 - any does
SUPPORT_CODE = "N7777777"
"""The business that every consent is for."""

_WRAPPED = 184
"""Bytes of a data key that KMS has wrapped."""

_TOKEN = 43
"""Characters of FlowAccount's tokens."""


@dataclass(slots=True)
class Count:
    """What was asked since the last time: requests by operation, and what those of DynamoDB consumed."""

    requests: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)
    """Capacity units, by operation of DynamoDB."""

    @property
    def read_units(self) -> float:
        """Of table and indexes."""
        return sum(units for operation, units in self.units.items() if operation in _READS)

    @property
    def write_units(self) -> float:
        """Of table and indexes."""
        return sum(units for operation, units in self.units.items() if operation not in _READS)

    def of(self, service: str) -> int:
        """Requests of one service, such as `dynamodb`."""
        return sum(count for name, count in self.requests.items() if name.partition(".")[0] == service)


_READS = ("dynamodb.GetItem", "dynamodb.Query", "dynamodb.BatchGetItem", "dynamodb.Scan")

_SERVICES = {
    "DynamoDB_20120810": "dynamodb",
    "TrentService": "kms",
    "secretsmanager": "secretsmanager",
    "AmazonSQS": "sqs",
    "AWSEvents": "events",
}


@dataclass(frozen=True, slots=True)
class Wire:
    """Where they are: two URLs for all of AWS, one without TLS and one with it, and the token endpoint's."""

    url: str
    secure: str

    @property
    def token_endpoint(self) -> str:
        """Gives tokens to whoever asks."""
        return f"{self.secure}/token"

    def counted(self) -> Count:
        """What was asked since this was last called."""
        with urllib.request.urlopen(f"{self.url}/counted", timeout=30) as answer:  # noqa: S310 - our own, on loopback
            told = json.load(answer)
        return Count(Counter(told["requests"]), Counter(told["units"]))


@contextmanager
def wire(dynamodb: str, latency: float = 0.0) -> Iterator[Wire]:
    """Serve in front of the DynamoDB at a URL; a token request takes `latency` seconds. Raises `LocalError`."""
    plain = secure = ports.choose()
    while secure == plain:
        secure = ports.choose()
    listening = {plain: None, secure: str(authority().chain)}
    arguments = (listening, dynamodb, latency)
    process = multiprocessing.get_context("spawn").Process(target=_run, args=arguments, daemon=True)
    process.start()
    try:
        until = time.monotonic() + 30
        while not all(ports.answers(ports.HOST, port, 1) for port in listening):
            if time.monotonic() > until or not process.is_alive():
                raise LocalError("The benchmark's endpoints did not start.")
            time.sleep(0.05)
        yield Wire(f"http://{ports.HOST}:{plain}", f"https://{ports.HOST}:{secure}")
    finally:
        process.terminate()
        process.join()


def _run(listening: dict[int, str | None], dynamodb: str, latency: float) -> None:
    asyncio.run(_Server(dynamodb, latency).serve(listening))


class _Server:
    def __init__(self, dynamodb: str, latency: float) -> None:
        self._dynamodb = urlsplit(dynamodb)
        self._latency = latency
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._count = Count()
        self._key = AESGCM(AESGCM.generate_key(256))

    async def serve(self, listening: dict[int, str | None]) -> None:
        """On each port, with the certificates of a file where there is one."""
        for port, chain in listening.items():
            tls = None
            if chain is not None:
                tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                tls.load_cert_chain(chain)
            await asyncio.start_server(self._client, ports.HOST, port, backlog=512, ssl=tls)
        await asyncio.Event().wait()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                first, headers, body = await _read(reader)
                path = first.split()[1]
                status, kind, answer = await self._answer(path, headers, body)
                lines = [
                    f"HTTP/1.1 {status} Answer",
                    "Server: Server",
                    "Date: Tue, 24 Nov 2026 12:00:00 GMT",
                    f"Content-Type: {kind}",
                    f"Content-Length: {len(answer)}",
                    "Connection: keep-alive",
                    "x-amzn-RequestId: 9OQLFPSH3Q4MVHHB8Q6O1C6F3JVV4KQNSO5AEMVJF66Q9ASUAAJG",
                    f"x-amz-crc32: {zlib.crc32(answer)}",
                    "\r\n",
                ]
                writer.write("\r\n".join(lines).encode() + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        if path == "/counted":
            told = {"requests": self._count.requests, "units": self._count.units}
            self._count = Count()
            return 200, "application/json", json.dumps(told).encode()
        if path == "/token":
            self._count.requests["token endpoint.POST"] += 1
            await asyncio.sleep(self._latency)
            return 200, "application/json", json.dumps(_tokens(body)).encode()
        if path.startswith("/2015-03-31/functions/"):
            self._count.requests["lambda.Invoke"] += 1
            return 202, "application/json", b""
        target, _, operation = headers["x-amz-target"].partition(".")
        service = _SERVICES[target]
        name = f"{service}.{operation}"
        self._count.requests[name] += 1
        fields = json.loads(body)
        if name == "dynamodb.TransactWriteItems":
            return await self._transaction(headers, fields)
        if service == "dynamodb":
            return await self._forward(name, headers, fields)
        answer = self._kms(operation, fields) if service == "kms" else _others(name, fields)
        return 200, headers.get("content-type", "application/json"), json.dumps(answer).encode()

    async def _transaction(self, headers: dict[str, str], fields: dict[str, Any]) -> tuple[int, str, bytes]:
        """Write by write, each for twice its units, as AWS counts them; DynamoDB Local counts four times as much for
        the first, and the others not at all. Nothing that is measured here meets a refusal, or another writer."""
        target, kind = headers["x-amz-target"].partition(".")[0], headers["content-type"]
        for part in fields["TransactItems"]:
            ((action, write),) = part.items()
            if action == "ConditionCheck":
                self._count.units["dynamodb.TransactWriteItems"] += 2
                continue
            told = headers | {"x-amz-target": f"{target}.{action}Item"}
            status, kind, answer = await self._forward("dynamodb.TransactWriteItems", told, write, times=2)
            if status != 200:
                return status, kind, answer
        return 200, kind, b"{}"

    async def _forward(
        self, name: str, headers: dict[str, str], fields: dict[str, Any], *, times: int = 1
    ) -> tuple[int, str, bytes]:
        """To DynamoDB Local, asking what it consumes; the answer is what was asked for."""
        asked = json.dumps(fields | {"ReturnConsumedCapacity": "TOTAL"}).encode()
        kept = ("x-amz-target", "content-type", "x-amz-date", "authorization", "x-amz-security-token")
        lines = ["POST / HTTP/1.1", f"Host: {self._dynamodb.netloc}", f"Content-Length: {len(asked)}"]
        lines += [f"{name}: {headers[name]}" for name in kept if name in headers]
        reader, writer = await self._connection()
        writer.write("\r\n".join([*lines, "\r\n"]).encode() + asked)
        first, told, answer = await _read(reader)
        self._idle.append((reader, writer))
        status = int(first.split()[1])
        if status == 200:
            found = json.loads(answer)
            consumed = found.pop("ConsumedCapacity", None) or []
            for one in consumed if isinstance(consumed, list) else [consumed]:
                self._count.units[name] += one["CapacityUnits"] * times
            answer = json.dumps(found).encode()
        return status, told["content-type"], answer

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._idle:
            return self._idle.pop()
        return await asyncio.open_connection(self._dynamodb.hostname, self._dynamodb.port)

    def _kms(self, operation: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Wraps and unwraps under one key in memory, with the context; blobs are as long as KMS's."""
        context = json.dumps(fields.get("EncryptionContext", {}), sort_keys=True).encode()
        if operation == "Decrypt":
            blob = base64.b64decode(fields["CiphertextBlob"])
            padded = self._key.decrypt(blob[:12], blob[12:], context)
            plaintext = padded[1 : 1 + padded[0]]
            return {"KeyId": fields.get("KeyId", "key"), "Plaintext": base64.b64encode(plaintext).decode()}
        plaintext = os.urandom(32)
        padded = (bytes([len(plaintext)]) + plaintext).ljust(_WRAPPED - 28, b"\0")
        nonce = os.urandom(12)
        blob = nonce + self._key.encrypt(nonce, padded, context)
        return {
            "KeyId": fields["KeyId"],
            "CiphertextBlob": base64.b64encode(blob).decode(),
            "Plaintext": base64.b64encode(plaintext).decode(),
        }


def _tokens(body: bytes) -> dict[str, Any]:
    form = parse_qs(body)
    answer: dict[str, Any] = {
        "access_token": secrets.token_urlsafe(_TOKEN)[:_TOKEN],
        "refresh_token": secrets.token_urlsafe(_TOKEN)[:_TOKEN],
        "expires_in": 86_400,
        "token_type": "Bearer",
    }
    if form[b"grant_type"] == [b"authorization_code"]:
        answer["supportCode"] = SUPPORT_CODE
    return answer


def _others(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    match name:
        case "secretsmanager.GetSecretValue":
            return {"Name": fields["SecretId"], "SecretString": json.dumps({"client_secret": CLIENT_SECRET})}
        case "sqs.GetQueueAttributes":
            return {"Attributes": {}}
        case "sqs.SendMessageBatch":
            return {"Successful": [{"Id": one["Id"], "MessageId": one["Id"]} for one in fields["Entries"]]}
        case "events.PutEvents":
            return {"FailedEntryCount": 0, "Entries": [{"EventId": "event"} for _ in fields["Entries"]]}
        case _:
            raise ValueError(f"{name} is not counted on")


async def _read(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """A request or an answer: its first line, its headers in lower case, its body."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return first, headers, body
