"""AWS and the token endpoint as a function meets them: by TLS, counting what they are asked.

DynamoDB's requests go on to DynamoDB Local, and are counted with the units that they consume. KMS, Secrets Manager,
SQS, EventBridge and Lambda answer at once, KMS with keys that it really wraps. All of it runs in the bench's own
process; the measured functions run in others, so it costs them no CPU.
"""

import base64
import json
import os
import secrets
import ssl
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qs

import trustme
import urllib3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HOST = "127.0.0.1"

_WRAPPED = 184
"""Bytes of a data key that KMS has wrapped."""

_TOKEN = 43
"""Characters of FlowAccount's tokens."""

_READS = ("dynamodb.GetItem", "dynamodb.Query", "dynamodb.BatchGetItem", "dynamodb.Scan")

_SERVICES = {
    "DynamoDB_20120810": "dynamodb",
    "TrentService": "kms",
    "secretsmanager": "secretsmanager",
    "AmazonSQS": "sqs",
    "AWSEvents": "events",
}

_FORWARDED = ("x-amz-target", "content-type", "x-amz-date", "authorization", "x-amz-security-token")


@cache
def root() -> trustme.CA:
    """The certificate authority of this process. It signs with RSA of 2,048 bits, as public ones do."""
    return trustme.CA(key_type=trustme.KeyType.RSA)


@dataclass(slots=True)
class Count:
    """Requests by operation, and the capacity units that those of DynamoDB consumed, of the table and its indexes."""

    requests: Counter[str] = field(default_factory=Counter)
    read_units: float = 0.0
    write_units: float = 0.0


class Wire(ThreadingHTTPServer):
    """The server."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, dynamodb: str) -> None:
        super().__init__((HOST, 0), _Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A server shows a chain, as public ones do: its own certificate, and one between it and the root.
        between = root().create_child_ca(key_type=trustme.KeyType.RSA)
        between.issue_cert(HOST, key_type=trustme.KeyType.RSA).configure_cert(tls)
        # The thread that answers makes the handshake, not the one that accepts.
        self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://{HOST}:{self.server_port}"
        self._latency = 0.0
        # DynamoDB Local closes idle connections now and then: the request is sent again on a new one.
        again = urllib3.Retry(3, backoff_factor=0.05, allowed_methods=None)
        self._dynamodb = urllib3.connection_from_url(dynamodb, maxsize=64, retries=again, timeout=30)
        self._businesses = count(1_000_000)
        self._key = AESGCM(AESGCM.generate_key(256))
        self._count, self._lock = Count(), threading.Lock()

    def delay(self, seconds: float) -> None:
        """From now on a refresh takes FlowAccount so long."""
        self._latency = seconds

    def counted(self) -> Count:
        """What was asked since this was last called."""
        with self._lock:
            counted, self._count = self._count, Count()
        return counted

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Status and body for one request."""
        if path == "/token":
            self._asked("token endpoint.POST")
            return 200, json.dumps(self._tokens(body)).encode()
        if path == "/webhook":
            self._asked("receiver.POST")
            return 200, b""
        if path.startswith("/2015-03-31/functions/"):
            self._asked("lambda.Invoke")
            return 202, b""
        target, _, operation = headers["x-amz-target"].partition(".")
        service, fields = _SERVICES[target], json.loads(body)
        self._asked(f"{service}.{operation}")
        if operation == "TransactWriteItems":
            return self._transaction(headers, fields)
        if service == "dynamodb":
            return self._forward(f"dynamodb.{operation}", headers, fields)
        answer = self._kms(operation, fields) if service == "kms" else _others(f"{service}.{operation}", fields)
        return 200, json.dumps(answer).encode()

    def _asked(self, name: str) -> None:
        with self._lock:
            self._count.requests[name] += 1

    def _consumed(self, name: str, units: float) -> None:
        with self._lock:
            if name in _READS:
                self._count.read_units += units
            else:
                self._count.write_units += units

    def _transaction(self, headers: Mapping[str, str], fields: dict[str, Any]) -> tuple[int, bytes]:
        """Write by write, each for twice its units, as AWS counts them; DynamoDB Local counts the first four times and
        the others not at all. Nothing that is measured here meets a refusal, or another writer."""
        target = headers["x-amz-target"].partition(".")[0]
        for part in fields["TransactItems"]:
            ((action, write),) = part.items()
            if action == "ConditionCheck":
                self._consumed("dynamodb.TransactWriteItems", 2)
                continue
            told = {**headers, "x-amz-target": f"{target}.{action}Item"}
            status, answer = self._forward("dynamodb.TransactWriteItems", told, write, times=2)
            if status != 200:
                return status, answer
        return 200, b"{}"

    def _forward(
        self, name: str, headers: Mapping[str, str], fields: dict[str, Any], *, times: int = 1
    ) -> tuple[int, bytes]:
        """To DynamoDB Local, asking what it consumes, which the answer leaves out again."""
        kept = {header: headers[header] for header in _FORWARDED if header in headers}
        asked = json.dumps(fields | {"ReturnConsumedCapacity": "TOTAL"})
        answer = self._dynamodb.urlopen("POST", "/", body=asked, headers=kept)
        if answer.status != 200:
            return answer.status, answer.data
        found = answer.json()
        consumed = found.pop("ConsumedCapacity", None) or []
        for one in consumed if isinstance(consumed, list) else [consumed]:
            self._consumed(name, one["CapacityUnits"] * times)
        return 200, json.dumps(found).encode()

    def _kms(self, operation: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Wraps and unwraps under one key in memory, with the context; blobs are as long as KMS's."""
        context = json.dumps(fields.get("EncryptionContext", {}), sort_keys=True).encode()
        if operation == "Decrypt":
            blob = base64.b64decode(fields["CiphertextBlob"])
            plaintext = self._key.decrypt(blob[:12], blob[12:], context)[:32]
            return {"KeyId": fields.get("KeyId", "key"), "Plaintext": base64.b64encode(plaintext).decode()}
        plaintext, nonce = os.urandom(32), os.urandom(12)
        blob = nonce + self._key.encrypt(nonce, plaintext.ljust(_WRAPPED - 28, b"\0"), context)
        told = {"CiphertextBlob": blob, "Plaintext": plaintext}
        return {"KeyId": fields["KeyId"]} | {name: base64.b64encode(value).decode() for name, value in told.items()}

    def _tokens(self, body: bytes) -> dict[str, Any]:
        """Tokens for whoever asks; each code is another business's."""
        access, refresh = (secrets.token_urlsafe(_TOKEN)[:_TOKEN] for _ in range(2))
        made = {"access_token": access, "refresh_token": refresh, "expires_in": 86_400, "token_type": "Bearer"}
        if parse_qs(body)[b"grant_type"] != [b"authorization_code"]:
            time.sleep(self._latency)
            return made
        with self._lock:
            return made | {"supportCode": f"N{next(self._businesses)}"}


class _Handler(BaseHTTPRequestHandler):
    server: Wire
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        """One request, and its answer with the headers that AWS sends."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        status, answer = self.server.answer(self.path, headers, body)
        self.send_response(status)
        for name, value in {
            "Content-Type": headers["content-type"] if "x-amz-target" in headers else "application/json",
            "Content-Length": len(answer),
            "x-amzn-RequestId": "9OQLFPSH3Q4MVHHB8Q6O1C6F3JVV4KQNSO5AEMVJF66Q9ASUAAJG",
            "x-amz-crc32": zlib.crc32(answer),
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""


def _others(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    match name:
        case "secretsmanager.GetSecretValue" if fields["SecretId"] == "webhook":
            return {"Name": "webhook", "SecretString": "whsec_" + "QUJD" * 11, "CreatedDate": 0}
        case "secretsmanager.GetSecretValue":
            return {"Name": fields["SecretId"], "SecretString": json.dumps({"client_secret": "secret"})}
        case "sqs.GetQueueAttributes":
            return {"Attributes": {}}
        case "sqs.SendMessageBatch":
            return {"Successful": [{"Id": one["Id"], "MessageId": one["Id"]} for one in fields["Entries"]]}
        case "events.PutEvents":
            return {"FailedEntryCount": 0, "Entries": [{"EventId": "event"} for _ in fields["Entries"]]}
    raise ValueError(f"the benchmark has no answer for {name}")


@contextmanager
def wire(dynamodb: str) -> Iterator[Wire]:
    """Serve in front of the DynamoDB at a URL."""
    with Wire(dynamodb) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            served.shutdown()
            thread.join()
