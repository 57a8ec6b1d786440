"""The calls of AWS that the functions make, signed and sent without the SDK.

Importing boto3 and making one client takes longer than everything else that a function does before its first answer,
and a `get_item` of it more time than the rest of the answer. So here is the little of it that is used: AWS's JSON
protocols, Signature Version 4, kept-alive connections, and the SDK's own rules for trying again ("standard" mode).

A client has the operations of its service as methods, with the names, parameters and answers of boto3's clients, whose
place it takes. Not here, since nobody needs them: proxies, dual-stack and FIPS endpoints, checks of parameters.
"""

import base64
import contextlib
import hashlib
import hmac
import io
import json
import os
import select
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from flowaccount_connect import __version__

CONNECT_TIMEOUT = 1.0
"""Seconds that a connection may take."""

LONGEST_PAUSE = 1.0
"""Seconds before a second try, at most; the third waits twice as long, and so on."""

_KEPT = 64
"""Idle connections kept for the next call."""


class _Protocol(NamedTuple):
    """How a service wants to be asked (the SDK's service models: `targetPrefix`, `jsonVersion`)."""

    target: str
    version: str


_PROTOCOLS = {
    "dynamodb": _Protocol("DynamoDB_20120810", "1.0"),
    "events": _Protocol("AWSEvents", "1.1"),
    "kms": _Protocol("TrentService", "1.1"),
    "secretsmanager": _Protocol("secretsmanager", "1.1"),
    "sqs": _Protocol("AmazonSQS", "1.0"),
}

_BYTES = ("Plaintext", "CiphertextBlob")
"""The members of KMS's answers that are bytes."""

_TRANSIENT = frozenset({500, 502, 503, 504})

_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)


class AwsError(Exception):
    """A call that was refused or not answered. `response` is what boto3's `ClientError` has: `Error` with its `Code`,
    and beside it whatever else the service said. The message is the code alone: services quote what they were given.
    """

    def __init__(self, code: str, told: Mapping[str, Any] | None = None) -> None:
        super().__init__(code)
        self.response: dict[str, Any] = {**(told or {}), "Error": {"Code": code}}


class Credentials(NamedTuple):
    """What a call is signed with. Its repr shows none of it."""

    access_key: str
    secret_key: str
    token: str | None

    def __repr__(self) -> str:
        return "Credentials(…)"


def credentials() -> Credentials:
    """The credentials of the function's role: in the environment, or (under SnapStart) where botocore finds them.

    Asked for anew at each call, since they change. Raises `AwsError`.
    """
    key, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return Credentials(key, secret, os.environ.get("AWS_SESSION_TOKEN") or None)
    try:
        found = _resolver().get_frozen_credentials()
    except Exception:
        raise AwsError("NoCredentials") from None
    return Credentials(found.access_key, found.secret_key, found.token)


@lru_cache(1)
def _resolver() -> Any:
    import botocore.session

    return botocore.session.Session().get_credentials()


def sign(
    headers: dict[str, str],
    *,
    method: str,
    path: str,
    body: bytes,
    service: str,
    region: str,
    by: Credentials,
    at: float,
) -> None:
    """Add to `headers` what makes them a signed request (Signature Version 4, "Create a signed AWS API request").

    `headers` have the `Host`, and all of them are signed; `path` is as it is sent, without a query; `at` is in epoch
    seconds.
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    headers["X-Amz-Date"] = moment
    if by.token:
        headers["X-Amz-Security-Token"] = by.token
    lines = sorted((name.lower(), value) for name, value in headers.items())
    names = ";".join(name for name, _ in lines)
    canonical = "\n".join(
        (
            method,
            quote(path, safe="/-_.~"),
            "",
            *(f"{name}:{value}" for name, value in lines),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = _signing_key(by.secret_key, moment[:8], region, service)
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={by.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )


@lru_cache(16)
def _signing_key(secret_key: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class AwsClient:
    """A client of one service in one region. Safe for several threads, each call on a connection of its own.

    `attempts` is how often a call is tried in all, where the failure may pass; `read_timeout`, in seconds, bounds each
    wait for the service. Every method raises `AwsError`.
    """

    def __init__(
        self,
        service: str,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        read_timeout: float = 2.0,
        attempts: int = 2,
        by: Callable[[], Credentials] = credentials,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._service = service
        self._region = region or os.environ.get("AWS_REGION") or os.environ["AWS_DEFAULT_REGION"]
        url = urlsplit(endpoint or _endpoint(service, self._region))
        self._host, self._hostname, self._path = url.netloc, url.hostname or "", url.path.rstrip("/")
        self._port, self._secure = url.port, url.scheme == "https"
        self._read_timeout = read_timeout
        self._attempts = attempts
        self._by = by
        self._clock = clock
        self._sleep = sleep
        self._idle: list[HTTPConnection] = []

    def __getattr__(self, operation: str) -> Callable[..., dict[str, Any]]:
        """An operation of a JSON service: `get_item` is GetItem."""
        if operation.startswith("_") or self._service not in _PROTOCOLS:
            raise AttributeError(operation)
        made = partial(self._operation, "".join(word.capitalize() for word in operation.split("_")))
        self.__dict__[operation] = made
        return made

    def _operation(self, operation: str, **parameters: Any) -> dict[str, Any]:
        if operation == "TransactWriteItems":
            # So that a second try of a transaction whose success got lost is no second transaction.
            parameters.setdefault("ClientRequestToken", os.urandom(16).hex())
        protocol = _PROTOCOLS[self._service]
        headers = {
            "Content-Type": f"application/x-amz-json-{protocol.version}",
            "X-Amz-Target": f"{protocol.target}.{operation}",
        }
        _, _, body = self._send(f"{self._path}/", headers, json.dumps(parameters, default=_text).encode())
        answer: dict[str, Any] = json.loads(body, object_hook=_binary) if body else {}
        if self._service == "kms":
            answer.update({name: base64.b64decode(answer[name]) for name in _BYTES if name in answer})
        return answer

    def close(self) -> None:
        """Close the idle connections; the next call opens a new one."""
        while self._idle:
            self._idle.pop().close()

    def invoke(self, *, FunctionName: str, Payload: bytes, InvocationType: str = "RequestResponse") -> dict[str, Any]:  # noqa: N803 - boto3's names
        """Lambda's Invoke; `Payload` of the answer can be read once."""
        path = f"{self._path}/2015-03-31/functions/{quote(FunctionName, safe='')}/invocations"
        headers = {"Content-Type": "application/json", "X-Amz-Invocation-Type": InvocationType}
        status, told, body = self._send(path, headers, Payload)
        answer: dict[str, Any] = {"StatusCode": status, "Payload": io.BytesIO(body)}
        if (error := told.get("X-Amz-Function-Error")) is not None:
            answer["FunctionError"] = error
        return answer

    def _send(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any, bytes]:
        """Send a request until it is answered or was tried often enough: status, headers and body of a success."""
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                status, told, answer = self._exchange(path, headers, body)
            except (OSError, HTTPException) as error:
                if last:
                    raise AwsError(type(error).__name__) from None
            else:
                if status < 300:
                    return status, told, answer
                refusal = _refusal(status, told, answer)
                code = refusal.response["Error"]["Code"]
                if last or not (status in _TRANSIENT or status == 429 or code in _THROTTLED):
                    raise refusal
            self._sleep(LONGEST_PAUSE * 2 ** (attempt - 1) * int.from_bytes(os.urandom(2)) / 65_536)
        raise AssertionError("at least one attempt")

    def _exchange(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any, bytes]:
        signed = {"Host": self._host, **headers}
        sign(
            signed,
            method="POST",
            path=path,
            body=body,
            service=self._service,
            region=self._region,
            by=self._by(),
            at=self._clock(),
        )
        signed["User-Agent"] = f"flowaccount-connect/{__version__}"
        signed["Accept-Encoding"] = "identity"
        signed["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
        connection = self._connection()
        try:
            # Head and body at once: `request` would send each by itself, as two records of TLS.
            connection.sock.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
            response = HTTPResponse(connection.sock, method="POST")
            response.begin()
            answer = response.read()
        except BaseException:
            connection.close()
            raise
        if response.will_close or len(self._idle) >= _KEPT:
            connection.close()
        else:
            self._idle.append(connection)
        # DynamoDB says what its answers must add up to.
        if (checksum := response.headers.get("x-amz-crc32")) is not None and checksum != str(zlib.crc32(answer)):
            raise HTTPException("checksum")
        return response.status, response.headers, answer

    def _connection(self) -> HTTPConnection:
        """A connection that nobody uses: one that was kept and is still open, or a new one."""
        while self._idle:
            with contextlib.suppress(IndexError):
                kept = self._idle.pop()
                if kept.sock is not None and not _readable(kept.sock.fileno()):
                    return kept
                kept.close()
        if self._secure:
            made: HTTPConnection = HTTPSConnection(self._hostname, self._port, timeout=CONNECT_TIMEOUT, context=_tls())
        else:
            made = HTTPConnection(self._hostname, self._port, timeout=CONNECT_TIMEOUT)
        try:
            made.connect()
        except BaseException:
            made.close()
            raise
        made.sock.settimeout(self._read_timeout)
        return made


def _endpoint(service: str, region: str) -> str:
    """Where a service is: as the SDK's own variables say, or in its region."""
    for name in (f"AWS_ENDPOINT_URL_{_NAMES.get(service, service).upper()}", "AWS_ENDPOINT_URL"):
        if given := os.environ.get(name):
            return given
    return f"https://{service}.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


_NAMES = {"events": "eventbridge", "secretsmanager": "secrets_manager"}
"""Services that the SDK's variables call by other names."""


@lru_cache(1)
def _tls() -> ssl.SSLContext:
    """Certificates are verified, against the authorities that `requests` trusts, too."""
    import certifi

    return ssl.create_default_context(cafile=certifi.where())


def _readable(descriptor: int) -> bool:
    """Whether something arrived on an idle connection: its end, or what nobody asked for."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no place in a request")


def _binary(fields: dict[str, Any]) -> dict[str, Any]:
    """An attribute value of DynamoDB that is bytes, among everything that is none."""
    value = fields.get("B")
    return {"B": base64.b64decode(value)} if len(fields) == 1 and isinstance(value, str) else fields


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> AwsError:
    """What an answer that is no success says: its code, and what comes with it."""
    try:
        told = json.loads(body, object_hook=_binary)
    except (ValueError, RecursionError):
        told = None
    fields: dict[str, Any] = told if isinstance(told, dict) else {}
    # SQS still tells the codes that its older protocol had, and Lambda tells them in a header only.
    for text in (headers.get("x-amzn-query-error"), headers.get("x-amzn-ErrorType"), fields.get("__type")):
        if isinstance(text, str) and text:
            return AwsError(text.partition(";")[0].partition(":")[0].rpartition("#")[2], fields)
    return AwsError(str(status), fields)


if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
    # What the first call would have to load is part of the snapshot, then; credentials and connections never are.
    import botocore.session  # noqa: F401

    _tls()
