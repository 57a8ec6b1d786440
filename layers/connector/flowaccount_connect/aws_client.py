"""The calls of AWS that the functions make, signed and sent without the SDK.

Importing boto3 and making one client takes longer than everything else that a function does before its first answer,
and a `get_item` of it more time than the rest of the answer. So here is the little of it that is used: AWS's JSON
protocols, Signature Version 4, kept-alive connections, and another try of what may pass.

A client has the operations of its service as methods, with the names, parameters and answers of boto3's clients, whose
place it takes. What is tried again is what the SDK's "standard" mode tries again: no answer, a server's error, a
throttled call. When, is simpler: after a pause at random that doubles from try to try, without the SDK's quota of
retries, and all of a call within one deadline, which the SDK does not have.

Not here, since nobody needs them: proxies, dual-stack and FIPS endpoints, checks of parameters.
"""

import base64
import hashlib
import hmac
import io
import json
import os
import select
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from http.client import HTTPException, HTTPMessage, HTTPResponse, IncompleteRead
from typing import Any, NamedTuple, Self
from urllib.parse import quote, urlsplit

from flowaccount_connect import __version__
from flowaccount_connect.oauth import tls

CONNECT_TIMEOUT = 1.0
"""Seconds that a new connection may take, from the name to the end of the handshake."""

LONGEST_PAUSE = 1.0
"""Seconds before a second try, at most; the third waits twice as long, and so on."""

IDLE_AGE = 20.0
"""Seconds for which an idle connection is kept: the services, and what stands between, let go of one without a word."""

ANSWER_LIMIT = 32 * 1024 * 1024
"""Bytes of an answer, at most: twice what the largest of DynamoDB's has."""

_KEPT = 64
"""Idle connections kept for the next call."""

_PART = 65_536
"""Bytes of an answer that are read at once."""


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

    `attempts` is how often a call is tried in all, where the failure may pass; `read_timeout`, in seconds, is what the
    service has for one answer, from the request to the last byte. `longest` is how many seconds a call takes at worst,
    with all its tries and pauses; not counted is the search for credentials, which takes none where the environment has
    them. Every method raises `AwsError`.
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
        # Made with the client, while the function starts, and not before the first answer.
        self._tls = tls.context() if url.scheme == "https" else None
        self._port = url.port or (443 if self._tls else 80)
        self._read_timeout = read_timeout
        self._attempts = attempts
        self._by = by
        self._clock = clock
        self._sleep = sleep
        self._idle: list[tuple[socket.socket, float]] = []
        self.longest = attempts * (CONNECT_TIMEOUT + read_timeout) + LONGEST_PAUSE * (2 ** (attempts - 1) - 1)

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
        return self._send(f"{self._path}/", headers, _ENCODER.encode(parameters).encode(), self._fields)

    def _fields(self, _status: int, _told: HTTPMessage, body: bytes) -> dict[str, Any]:
        """What a JSON service answered. Raises whatever a body does that is none of its answers."""
        answer = _DECODER.decode(body.decode()) if body else {}
        if not isinstance(answer, dict):
            raise ValueError("no object")  # noqa: TRY004 - as the parser itself would say it
        if self._service == "kms":
            answer.update({name: _bytes(answer[name]) for name in _BYTES if name in answer})
        return answer

    def close(self) -> None:
        """Close the idle connections; the next call opens a new one."""
        while (idle := self._taken()) is not None:
            idle[0].close()

    def invoke(self, *, FunctionName: str, Payload: bytes, InvocationType: str = "RequestResponse") -> dict[str, Any]:  # noqa: N803 - boto3's names
        """Lambda's Invoke; `Payload` of the answer can be read once."""
        path = f"{self._path}/2015-03-31/functions/{quote(FunctionName, safe='')}/invocations"
        headers = {"Content-Type": "application/json", "X-Amz-Invocation-Type": InvocationType}
        return self._send(path, headers, Payload, _invoked)

    def _send(
        self,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        read: Callable[[int, HTTPMessage, bytes], dict[str, Any]],
    ) -> dict[str, Any]:
        """Send a request until it is answered, was tried often enough, or its time is over: what `read` makes of it."""
        request = self._request(path, headers, body)
        until = time.monotonic() + self.longest
        attempt = 1
        while True:
            try:
                status, told, answer = self._exchange(request, until)
                if status < 300:
                    return read(status, told, answer)
            except Exception as error:
                failure, may_pass = AwsError(type(error).__name__), True
            else:
                failure = _refusal(status, told, answer)
                code = failure.response["Error"]["Code"]
                may_pass = status in _TRANSIENT or status == 429 or code in _THROTTLED
            pause = LONGEST_PAUSE * 2 ** (attempt - 1) * int.from_bytes(os.urandom(2)) / 65_536
            if attempt == self._attempts or not may_pass or time.monotonic() + pause >= until:
                raise failure
            self._sleep(pause)
            attempt += 1

    def _request(self, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """A signed request as it is sent; its signature holds for minutes, and so for all tries."""
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
        # Head and body at once: apart, they would be two records of TLS.
        return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body

    def _exchange(self, request: bytes, until: float) -> tuple[int, HTTPMessage, bytes]:
        """One try, on a connection that was kept if there is one.

        A kept one may be dead, which shows only when it is used. Where it ends without a byte of an answer, the request
        is sent once more, on a new one, at once, and even where `attempts` is 1: the service may get it twice then, as
        with any second try. One that stays silent may be the service taking its time, and counts.
        """
        if (kept := self._kept()) is not None:
            wire = _Wire(kept, min(until, time.monotonic() + self._read_timeout))
            try:
                return self._ask(wire, request)
            except (OSError, HTTPException) as error:
                # The others have idled beside it: what ended it has ended them.
                self.close()
                if wire.arrived or isinstance(error, TimeoutError):
                    raise
        connected = self._connect(min(until, time.monotonic() + CONNECT_TIMEOUT))
        return self._ask(_Wire(connected, min(until, time.monotonic() + self._read_timeout)), request)

    def _ask(self, wire: "_Wire", request: bytes) -> tuple[int, HTTPMessage, bytes]:
        try:
            wire.send(request)
            response, answer, ended = _answer(wire)
        except BaseException:
            wire.socket.close()
            raise
        if ended or len(self._idle) >= _KEPT:
            wire.socket.close()
        else:
            self._idle.append((wire.socket, self._clock()))
        return response.status, response.headers, answer

    def _taken(self) -> tuple[socket.socket, float] | None:
        """An idle connection, which is nobody else's from here on, and since when it has idled."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _kept(self) -> socket.socket | None:
        """An idle connection that is young enough and, as far as one can tell, open.

        Its age is the wall clock's: a sandbox that is frozen between two calls may stop the other one. One from the
        future, where that clock was put back, has no age.
        """
        while (idle := self._taken()) is not None:
            kept, since = idle
            if 0 <= self._clock() - since < IDLE_AGE and not _readable(kept):
                return kept
            kept.close()
        return None

    def _connect(self, until: float) -> socket.socket:
        """A new connection. An address that does not answer leaves half of the time to the ones after it."""
        failure = OSError("no address")
        addresses = _addresses(self._hostname, self._port, until)
        for family, kind, protocol, _, address in addresses:
            made: socket.socket | None = None
            try:
                made = socket.socket(family, kind, protocol)
                made.settimeout(_left(until) / (1 if address == addresses[-1][-1] else 2))
                made.connect(address)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                made.settimeout(_left(until))
            except OSError as error:
                if made is not None:
                    made.close()
                failure = error
            else:
                return self._tls.wrap_socket(made, server_hostname=self._hostname) if self._tls else made
        raise failure


class _Wire(io.RawIOBase):
    """A connection for one exchange: all that is waited for at it ends at `until`, and what arrives is counted."""

    def __init__(self, connected: socket.socket, until: float) -> None:
        self.socket = connected
        self.arrived = 0
        self._until = until

    def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self.socket.settimeout(_left(self._until))
            rest = rest[self.socket.send(rest) :]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.socket.settimeout(_left(self._until))
        arrived = self.socket.recv_into(buffer)
        self.arrived += arrived
        return arrived

    def tell(self) -> int:
        return self.arrived


class _Arriving(io.BufferedReader):
    """What arrives at a wire, for `http.client` to read; it stays open, and tells by its position what was not read."""

    def makefile(self, _mode: str) -> Self:
        return self

    def close(self) -> None:
        pass


def _answer(wire: _Wire) -> tuple[HTTPResponse, bytes, bool]:
    """The whole answer to what was asked, and whether the connection must serve nobody after it."""
    arriving = _Arriving(wire)
    response = HTTPResponse(arriving, method="POST")  # type: ignore[arg-type]  # All that it wants is `makefile`.
    response.begin()
    if response.status < 200:
        # The answer itself is still to come, and would be the next call's.
        raise HTTPException("not the answer")
    parts, size = [], 0
    while part := response.read1(_PART):
        parts.append(part)
        size += len(part)
        if size > ANSWER_LIMIT:
            raise HTTPException("too long")
    if response.length:
        raise IncompleteRead(b"", response.length)
    body = b"".join(parts)
    # DynamoDB says what its answers must add up to.
    if (checksum := response.headers.get("x-amz-crc32")) is not None and checksum != str(zlib.crc32(body)):
        raise HTTPException("checksum")
    return response, body, response.will_close or arriving.tell() != wire.arrived


def _left(until: float) -> float:
    """The seconds left until then. Raises `TimeoutError` where there are none."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _addresses(host: str, port: int, until: float) -> list[Any]:
    """The addresses of a host: asked for on a thread of its own, since nothing else ends the wait for a resolver."""
    found: list[list[Any]] = []
    failures: list[Exception] = []

    def ask() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:
            failures.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_left(until))
    if failures:
        raise failures[0]
    if not found:
        raise TimeoutError
    return found[0]


def _invoked(status: int, told: HTTPMessage, body: bytes) -> dict[str, Any]:
    """What Lambda answered."""
    answer: dict[str, Any] = {"StatusCode": status, "Payload": io.BytesIO(body)}
    if (error := told.get("X-Amz-Function-Error")) is not None:
        answer["FunctionError"] = error
    return answer


def _endpoint(service: str, region: str) -> str:
    """Where a service is: as the SDK's own variables say, or in its region, which tells the partition."""
    for name in (f"AWS_ENDPOINT_URL_{_NAMES.get(service, service).upper()}", "AWS_ENDPOINT_URL"):
        if given := os.environ.get(name):
            return given
    suffix = next((found for start, found in _SUFFIXES.items() if region.startswith(start)), "amazonaws.com")
    return f"https://{service}.{region}.{suffix}"


_SUFFIXES = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "eu-isoe-": "cloud.adc-e.uk",
    "us-isof-": "csp.hci.ic.gov",
}
"""Where the partitions other than AWS's first are, by how their regions begin."""

_NAMES = {"events": "eventbridge", "secretsmanager": "secrets_manager"}
"""Services that the SDK's variables call by other names."""


def _readable(idle: socket.socket) -> bool:
    """Whether something arrived on an idle connection: its end, or what nobody asked for."""
    if isinstance(idle, ssl.SSLSocket) and idle.pending():
        return True
    poll = select.poll()
    poll.register(idle.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no place in a request")


def _binary(fields: dict[str, Any]) -> dict[str, Any]:
    """An attribute value of DynamoDB that is bytes, among everything that is none."""
    value = fields.get("B")
    return {"B": _bytes(value)} if len(fields) == 1 and isinstance(value, str) else fields


def _bytes(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


_ENCODER = json.JSONEncoder(default=_text)
_DECODER = json.JSONDecoder(object_hook=_binary)


def _refusal(status: int, headers: HTTPMessage, body: bytes) -> AwsError:
    """What an answer that is no success says: its code, and what comes with it."""
    try:
        told = _DECODER.decode(body.decode())
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
