"""The functions' own client of AWS: signed as the SDK signs, and tried again as the SDK would."""

import contextlib
import json
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

import boto3
import botocore.session
import pytest
from botocore import auth, awsrequest
from botocore import credentials as botocore_credentials
from hypothesis import given
from hypothesis import strategies as st

from flowaccount_connect import aws_client, aws_error
from flowaccount_connect.aws_client import IDLE_AGE, AwsClient, AwsError, Credentials, sign
from flowaccount_connect.oauth import tls
from flowaccount_connect.rotation import time_left
from flowaccount_connect.rotation.refresh_function import LONGEST_INVOCATION, RefreshFunction
from flowaccount_connect.runtime import bootstrap, settings
from flowaccount_connect.runtime.observability import logger
from tests.unit import servers
from tests.unit.servers import Server, reply

KEY = Credentials("AKIDEXAMPLE", "CANARY-SECRET-KEY", "CANARY-SESSION-TOKEN")
REGION = "ap-southeast-1"
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)


_made: list[AwsClient] = []


@pytest.fixture
def server() -> Iterator[Server]:
    """A server, and at its end no connection of a client to it."""
    with Server() as running:
        yield running
        while _made:
            _made.pop().close()


class Pauses(list[float]):
    """Remembers how long was slept."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


SHORT: dict[str, Any] = {"read_timeout": 0.2, "sleep": Pauses()}


def client(server: Server, service: str = "dynamodb", **settings: Any) -> AwsClient:
    endpoint = f"http://127.0.0.1:{server.port}"
    pauses = settings.pop("sleep", Pauses())
    _made.append(AwsClient(service, region=REGION, endpoint=endpoint, by=lambda: KEY, sleep=pauses, **settings))
    return _made[-1]


def said(fields: dict[str, Any], status: int = 200) -> servers.Answer:
    return reply(status, json.dumps(fields).encode())


def get(of: AwsClient) -> dict[str, Any]:
    return of.get_item(TableName="table", Key={"pk": {"S": "a"}})


# ---- the signature ------------------------------------------------------------------------------------------------


@given(
    path=st.just("/") | WORDS.map(lambda word: f"/functions/x{quote(word, safe='')}/invocations"),
    body=st.binary(max_size=200),
    token=st.none() | WORDS,
    target=WORDS,
    at=st.integers(0, 4_000_000_000),
    service=st.sampled_from(["dynamodb", "kms", "lambda"]),
)
def test_a_request_is_signed_as_the_sdk_signs_it(
    path: str, body: bytes, token: str | None, target: str, at: int, service: str
) -> None:
    by = Credentials("AKIDEXAMPLE", "secret", token)
    headers = {"Host": f"{service}.example", "Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": target}
    request = awsrequest.AWSRequest("POST", f"https://{service}.example{path}", headers=headers, data=body)
    when = datetime.fromtimestamp(at, UTC)
    with mock.patch.object(auth, "get_current_datetime", return_value=when):
        auth.SigV4Auth(botocore_credentials.Credentials(*by), service, REGION).add_auth(request)
    ours = dict(headers)
    sign(ours, method="POST", path=path, body=body, service=service, region=REGION, by=by, at=at)
    assert ours["Authorization"] == request.headers["Authorization"]
    assert ours["X-Amz-Date"] == request.headers["X-Amz-Date"]
    assert ours.get("X-Amz-Security-Token") == request.headers.get("X-Amz-Security-Token")


def test_credentials_are_read_for_each_call_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in ("1", "2"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"id-{number}")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"CANARY-{number}")
        monkeypatch.setenv("AWS_SESSION_TOKEN", f"CANARY-{number}")
        found = aws_client.credentials()
        assert found.access_key == f"id-{number}"
        assert "CANARY" not in repr(found)


def test_without_credentials_in_the_environment_botocore_is_asked() -> None:
    """Under SnapStart a function gets them from an endpoint of its own, which botocore knows to ask."""
    with Server() as server:
        fields = {
            "AccessKeyId": "from-the-endpoint",
            "SecretAccessKey": "secret",
            "Token": "token",
            "Expiration": "2099-01-01T00:00:00Z",
        }
        server.say(said(fields))
        run = subprocess.run(
            [
                sys.executable,
                "-c",
                "from flowaccount_connect.aws_client import credentials as c; print(c().access_key)",
            ],
            env={
                "PYTHONPATH": os.pathsep.join(sys.path),
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{server.port}/credentials",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": "mine",
                "HOME": "/nonexistent",
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == "from-the-endpoint"
        assert server.asked[0].headers["authorization"] == "mine"


def test_without_any_credentials_nothing_is_sent(server: Server) -> None:
    def none() -> Credentials:
        raise AwsError("NoCredentials")

    with pytest.raises(AwsError, match="NoCredentials"):
        get(AwsClient("dynamodb", region=REGION, endpoint=f"http://127.0.0.1:{server.port}", by=none))
    assert server.asked == []


# ---- requests and answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "operation", "target", "version"),
    [
        ("dynamodb", "transact_write_items", "DynamoDB_20120810.TransactWriteItems", "1.0"),
        ("kms", "generate_data_key", "TrentService.GenerateDataKey", "1.1"),
        ("sqs", "send_message_batch", "AmazonSQS.SendMessageBatch", "1.0"),
        ("secretsmanager", "get_secret_value", "secretsmanager.GetSecretValue", "1.1"),
        ("events", "put_events", "AWSEvents.PutEvents", "1.1"),
    ],
)
def test_each_service_is_asked_in_its_protocol(
    server: Server, service: str, operation: str, target: str, version: str
) -> None:
    server.say(said({}))
    getattr(client(server, service), operation)(Name="value")
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/")
    assert asked.headers["x-amz-target"] == target
    assert asked.headers["content-type"] == f"application/x-amz-json-{version}"
    assert json.loads(asked.body)["Name"] == "value"
    assert asked.headers["x-amz-security-token"] == KEY.token


def test_bytes_go_out_and_come_back_as_bytes(server: Server) -> None:
    item = {"tokens": {"B": b"\x00\xff"}, "nested": {"M": {"B": {"S": "no bytes"}}}}
    told = {"Item": {"tokens": {"B": "AP8="}, "nested": {"M": {"B": {"S": "no bytes"}}}}}
    server.say(said(told))
    assert client(server).put_item(Item=item) == {"Item": item}
    assert json.loads(server.asked[0].body) == told


def test_kms_answers_in_bytes(server: Server) -> None:
    server.say(said({"Plaintext": "AP8=", "CiphertextBlob": "AAAA", "KeyId": "key"}))
    answer = client(server, "kms").generate_data_key(KeyId="key")
    assert answer == {"Plaintext": b"\x00\xff", "CiphertextBlob": b"\x00\x00\x00", "KeyId": "key"}


def test_a_function_is_invoked_by_its_name_or_arn(server: Server) -> None:
    server.say(reply(200, b'{"outcome": "refreshed"}'), reply(200, b"{}", "X-Amz-Function-Error: Unhandled\r\n"))
    invoking = client(server, "lambda", attempts=1)
    answer = invoking.invoke(FunctionName="arn:aws:lambda:r:1:function:refresh:live", Payload=b"{}")
    assert answer["Payload"].read() == b'{"outcome": "refreshed"}'
    assert "FunctionError" not in answer
    assert (
        server.asked[0].path
        == "/2015-03-31/functions/arn%3Aaws%3Alambda%3Ar%3A1%3Afunction%3Arefresh%3Alive/invocations"
    )
    assert server.asked[0].headers["x-amz-invocation-type"] == "RequestResponse"
    assert invoking.invoke(FunctionName="refresh", Payload=b"{}")["FunctionError"] == "Unhandled"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (
            said({"__type": "com.amazonaws#ResourceNotFoundException", "message": "CANARY"}, 400),
            "ResourceNotFoundException",
        ),
        (said({"__type": "NotFoundException"}, 400), "NotFoundException"),
        (
            reply(400, b'{"__type": "sqs#QueueDoesNotExist"}', "x-amzn-query-error: AWS.Sqs.None;Sender\r\n"),
            "AWS.Sqs.None",
        ),
        (reply(404, b"{}", "x-amzn-ErrorType: ResourceNotFound:http://example/\r\n"), "ResourceNotFound"),
        (reply(403, b"<html>CANARY</html>"), "403"),
        (reply(400, b"[" * 100_000), "400"),
    ],
)
def test_a_refusal_is_told_by_its_code_alone(server: Server, answer: servers.Answer, code: str) -> None:
    server.say(answer)
    with pytest.raises(AwsError) as caught:
        get(client(server))
    assert aws_error.code(caught.value) == code
    assert "CANARY" not in f"{caught.value!r} {caught.value}"
    assert len(server.asked) == 1, "it would be refused again"


def test_a_refused_condition_shows_what_stands_there(server: Server) -> None:
    server.say(said({"__type": "x#ConditionalCheckFailedException", "Item": {"tokens": {"B": "AP8="}}}, 400))
    with pytest.raises(AwsError) as caught:
        get(client(server))
    assert caught.value.response["Item"] == {"tokens": {"B": b"\x00\xff"}}


@pytest.mark.parametrize("service", ["dynamodb", "kms"])
@pytest.mark.parametrize(
    "body",
    [
        b"<html>CANARY",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"Item": {"tokens": {"B": "*"}}, "Plaintext": 5}',
        b'{"Item": {"tokens": {"B": "abc"}}, "Plaintext": "abc"}',
    ],
)
def test_a_success_that_cannot_be_read_is_tried_again_and_then_an_error_of_its_own(
    server: Server, service: str, body: bytes
) -> None:
    server.say(reply(200, body), said({}))
    assert client(server, service).decrypt() == {}
    server.say(reply(200, body))
    with pytest.raises(AwsError) as caught:
        client(server, service).decrypt()
    assert "CANARY" not in f"{caught.value!r} {caught.value}"
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"garbage\r\n\r\n",
    ],
)
def test_an_answer_that_is_none_is_an_error_of_its_own(server: Server, answer: bytes) -> None:
    server.say(servers.first(answer, lambda line: line.drop()))
    with pytest.raises(AwsError):
        get(client(server))
    assert len(server.asked) == 2


def test_an_answer_in_chunks_and_one_in_many_parts_are_read_whole(server: Server) -> None:
    told = {"Item": {"pk": {"S": "x" * 300_000}}}
    body = json.dumps(told).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:100_000], body[100_000:], b""))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.say(servers.first(head + chunks, lambda _: None), said(told))
    asking = client(server)
    assert get(asking) == get(asking) == told
    assert server.connections == 1


@pytest.mark.parametrize("length", ["Content-Length: 1000000\r\n", ""])
def test_no_more_is_read_than_any_service_answers(server: Server, length: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_client, "ANSWER_LIMIT", 100_000)
    head = f"HTTP/1.1 200 OK\r\n{length}\r\n".encode()
    server.say(servers.first(head + b" " * 999_998 + b"{}", lambda line: line.drop()))
    with pytest.raises(AwsError, match="HTTPException"):
        get(client(server, attempts=1))


# ---- trying again -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        servers.drop,
        servers.reset,
        reply(500),
        reply(503, b"<html>"),
        reply(429),
        said({"__type": "x#ProvisionedThroughputExceededException"}, 400),
        said({"__type": "x#ThrottlingException"}, 400),
        said({"__type": "x#TransactionInProgressException"}, 400),
        reply(200, b'{"Item', length=1_000),
        reply(200, b'{"Item": {"pk": {"S": "changed on its way"}}}', "x-amz-crc32: 1\r\n"),
    ],
)
def test_what_may_pass_is_tried_once_more_after_a_pause(server: Server, trouble: servers.Answer) -> None:
    pauses = Pauses()
    server.say(trouble, said({"Item": {}}))
    assert get(client(server, sleep=pauses)) == {"Item": {}}
    assert len(server.asked) == 2
    assert len(pauses) == 1
    assert 0 <= pauses[0] <= aws_client.LONGEST_PAUSE
    server.say(trouble)
    with pytest.raises(AwsError):
        get(client(server))
    assert len(server.asked) == 4, "and then no more"
    with pytest.raises(AwsError):
        get(client(server, attempts=1))
    assert len(server.asked) == 5


def test_a_silent_service_is_not_waited_for(server: Server) -> None:
    server.say(servers.hang)
    with pytest.raises(AwsError, match="TimeoutError"):
        get(client(server, read_timeout=0.05, attempts=1))


@pytest.mark.parametrize(
    "said_first", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"]
)
def test_an_answer_that_drips_is_not_waited_for(server: Server, said_first: bytes) -> None:
    drips = b"HTTP/1.1 200 OK\r\nX: " if not said_first else b""
    server.say(servers.first(said_first, servers.dripping(drips + b"x" * 9_999)))
    asking, before = client(server, read_timeout=0.2), time.monotonic()
    with pytest.raises(AwsError, match="TimeoutError"):
        get(asking)
    assert 0.4 <= time.monotonic() - before < 1
    assert len(server.asked) == 2


def test_a_request_that_nobody_takes_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        asking = AwsClient("dynamodb", region=REGION, endpoint=f"http://127.0.0.1:{port}", by=lambda: KEY, **SHORT)
        before = time.monotonic()
        with pytest.raises(AwsError, match="TimeoutError"):
            asking.put_item(Item={"pk": {"S": "x" * 20_000_000}})
        assert time.monotonic() - before < 1.5


def test_a_handshake_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_client, "CONNECT_TIMEOUT", 0.2)
    with Server() as server:
        server.silent = True
        asking = AwsClient("dynamodb", region=REGION, endpoint=server.url("https"), by=lambda: KEY, **SHORT)
        before = time.monotonic()
        with pytest.raises(AwsError, match="TimeoutError"):
            get(asking)
        assert 0.2 <= time.monotonic() - before < 1


def test_a_connection_that_took_long_leaves_the_handshake_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_client, "CONNECT_TIMEOUT", 0.6)
    connect = socket.socket.connect

    def slowly(made: socket.socket, address: Any) -> None:
        time.sleep(0.5)
        connect(made, address)

    with Server() as server:
        server.silent = True
        asking = AwsClient("dynamodb", region=REGION, endpoint=server.url("https"), by=lambda: KEY, attempts=1)
        with monkeypatch.context() as patched:
            patched.setattr(socket.socket, "connect", slowly)
            before = time.monotonic()
            with pytest.raises(AwsError, match="TimeoutError"):
                get(asking)
            assert 0.6 <= time.monotonic() - before < 0.95


def test_a_resolver_that_does_not_answer_is_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def silent(*_: object, **__: object) -> None:
        answered.wait(10)

    monkeypatch.setattr(aws_client, "CONNECT_TIMEOUT", 0.2)
    asking = client(server)
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", silent)
        before = time.monotonic()
        with pytest.raises(AwsError, match="TimeoutError"):
            get(asking)
        assert 0.4 <= time.monotonic() - before < 1.5
        answered.set()
    server.say(said({}))
    assert get(asking) == {}


def test_a_name_that_nobody_has_is_an_error_of_its_own(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = client(server)
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", mock.Mock(side_effect=socket.gaierror(-2, "CANARY")))
        with pytest.raises(AwsError, match="gaierror"):
            get(asking)


def test_addresses_that_do_not_answer_take_together_what_one_may(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws_client, "CONNECT_TIMEOUT", 0.4)
    server.say(said({}))
    asking, twice = client(server, attempts=1), client(server)
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(_full()) for _ in range(4)] + [("127.0.0.1", server.port)]
        patched = stack.enter_context(monkeypatch.context())
        patched.setattr(
            socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", at) for at in found]
        )
        assert get(asking) == {}, "each leaves half of the time to the ones after it"
        found.pop()
        before = time.monotonic()
        with pytest.raises(AwsError, match="TimeoutError"):
            get(twice)
        assert 0.8 <= time.monotonic() - before < 1.5


@contextlib.contextmanager
def _full() -> Iterator[tuple[str, int]]:
    """An address that takes no more connections and does not say so."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield listener.getsockname()


def test_what_a_call_takes_at_worst_is_what_the_time_budgets_count_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("REFRESH_FUNCTION", "refresh")
    made = bootstrap.client("dynamodb")
    assert made.longest == time_left.LONGEST_WRITE == time_left.QUEUE_RESERVE
    waiting = bootstrap._refresh_function(settings.Reader(os.environ))._client
    assert waiting.longest == LONGEST_INVOCATION


def test_a_call_ends_in_time_whatever_its_tries_took(server: Server) -> None:
    pauses = Pauses()
    server.say(reply(500))
    asking = client(server, sleep=pauses, attempts=100)
    asking.longest = 0.3
    before = time.monotonic()
    server.say(servers.first(b"HTTP/1.1 200 OK\r\nX: ", servers.dripping(b"x" * 9_999)))
    with pytest.raises(AwsError, match="TimeoutError"):
        get(asking)
    assert 0.3 <= time.monotonic() - before < 1
    assert pauses == [], "there was no time for another try"


def test_nobody_there_is_an_error_of_its_own(server: Server) -> None:
    with pytest.raises(AwsError, match="ConnectionRefusedError"):
        get(AwsClient("dynamodb", region=REGION, endpoint="http://127.0.0.1:1", by=lambda: KEY, sleep=Pauses()))


def test_a_second_try_of_a_transaction_is_the_same_transaction(server: Server) -> None:
    server.say(servers.drop, said({}))
    writing = client(server)
    writing.transact_write_items(TransactItems=[])
    writing.transact_write_items(TransactItems=[])
    writing.transact_write_items(TransactItems=[], ClientRequestToken="mine")
    first, again, another, given = (json.loads(asked.body)["ClientRequestToken"] for asked in server.asked)
    assert first == again != another
    assert given == "mine"


# ---- connections --------------------------------------------------------------------------------------------------


def test_a_connection_serves_one_call_after_another(server: Server) -> None:
    server.say(said({}))
    asking = client(server)
    for _ in range(3):
        get(asking)
    assert server.connections == 1
    asking.close()
    get(asking)
    assert server.connections == 2


def test_a_connection_that_is_said_to_end_is_not_kept(server: Server) -> None:
    server.say(reply(200, b"{}", "Connection: close\r\n"))
    asking = client(server)
    get(asking)
    assert asking._idle == []
    get(asking)
    assert server.connections == 2


def test_a_connection_that_ended_while_idle_is_not_used(server: Server) -> None:
    def once(line: servers.Line, asked: servers.Asked) -> None:
        said({})(line, asked)
        line.drop()

    server.say(once, said({}))
    asking = client(server, attempts=1)
    get(asking)
    # Unless the server's own thread was first; on loopback the end has arrived when this returns.
    with contextlib.suppress(OSError):
        server.lines[0].socket.shutdown(socket.SHUT_RDWR)
    assert get(asking) == {}
    assert server.connections == 2


def _forgotten(server: Server, asking: AwsClient, count: int = 1, ending: servers.Answer = servers.reset) -> None:
    """Have `count` idle connections that the server ends as soon as one is used, and new ones that work."""
    together = threading.Barrier(count)

    def at_once(line: servers.Line, asked: servers.Asked) -> None:
        together.wait(10)
        said({})(line, asked)

    def forgetful(line: servers.Line, asked: servers.Asked) -> None:
        (ending if line.number <= count else said({}))(line, asked)

    server.say(at_once)
    ask = asking.invoke if asking._service == "lambda" else asking.get_item
    with ThreadPoolExecutor(count) as pool:
        for one in [pool.submit(ask, FunctionName="f", Payload=b"{}") for _ in range(count)]:
            one.result(10)
    assert server.connections == count
    server.say(forgetful)


@pytest.mark.parametrize("ending", [servers.reset, servers.drop])
def test_idle_connections_that_were_forgotten_fail_no_call_however_many(server: Server, ending: servers.Answer) -> None:
    pauses = Pauses()
    asking = client(server, sleep=pauses)
    _forgotten(server, asking, 5, ending)
    for _ in range(3):
        assert get(asking) == {}
    assert server.connections == 6, "one that was dead is one too many: the others are not tried"
    assert pauses == []


def test_a_kept_connection_that_ends_is_no_try(server: Server) -> None:
    asking = client(server, attempts=1)
    _forgotten(server, asking)
    assert get(asking) == {}


def test_a_refresh_is_asked_for_although_the_kept_connection_was_dead(server: Server) -> None:
    asking = client(server, "lambda", attempts=1)
    _forgotten(server, asking)
    server.say(servers.reset, reply(200, b'{"retry_after": 7}'))
    assert RefreshFunction(asking, "refresh", logger).refresh("N1", 1) == 7


def test_a_new_connection_that_ends_is_a_try(server: Server) -> None:
    server.say(servers.reset, said({}))
    with pytest.raises(AwsError):
        get(client(server, attempts=1))


@pytest.mark.parametrize(
    "trouble", [servers.hang, servers.first(b"HTTP/1.1 2", lambda line: line.drop()), reply(200, b"{", length=9)]
)
def test_a_kept_connection_that_is_silent_or_breaks_off_is_a_try(server: Server, trouble: servers.Answer) -> None:
    asking = client(server, attempts=1, read_timeout=0.2)
    _forgotten(server, asking, 2, trouble)
    with pytest.raises(AwsError):
        get(asking)
    assert asking._idle == [], "the other is not tried either"
    assert get(asking) == {}


@pytest.mark.parametrize(("later", "connections"), [(IDLE_AGE - 1, 1), (IDLE_AGE, 2), (-1, 2), (-1_000_000, 2)])
def test_an_idle_connection_is_not_used_once_it_is_old(server: Server, later: float, connections: int) -> None:
    now = 1_800_000_000.0
    server.say(said({}))
    asking = client(server, clock=lambda: now)
    get(asking)
    now += later
    get(asking)
    assert server.connections == connections


@pytest.mark.parametrize("status", [102, 103])
def test_what_comes_before_an_answer_is_not_taken_for_one_nor_the_answer_for_the_next_call_s(
    server: Server, status: int
) -> None:
    early = f"HTTP/1.1 {status} Early\r\nLink: x\r\n\r\n".encode()

    def both(line: servers.Line, asked: servers.Asked) -> None:
        line.send(early)
        time.sleep(0.05)  # As a packet of its own.
        said({"Item": json.loads(asked.body)["Key"]})(line, asked)

    server.say(both, said({"Item": "second"}), said({"Item": "third"}))
    asking = client(server)
    assert asking.get_item(Key="first") == {"Item": "second"}, "the second try's"
    assert asking.get_item(Key="third") == {"Item": "third"}


@pytest.mark.parametrize("apart", [False, True])
def test_a_connection_on_which_more_came_than_was_asked_for_serves_nobody(server: Server, apart: bool) -> None:
    def answer_of(fields: dict[str, Any]) -> bytes:
        body = json.dumps(fields).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    whose, nobodys = answer_of({"Item": "mine"}), answer_of({"Item": "nobody's"})

    def too_much(line: servers.Line, _: servers.Asked) -> None:
        if apart:
            line.send(whose)
            line.send(nobodys)
        else:
            line.send(whose + nobodys[:20])
            come.wait(10)
            line.send(nobodys[20:])

    come = threading.Event()
    server.say(too_much, said({"Item": "the next"}))
    asking = client(server)
    assert get(asking) == {"Item": "mine"}
    if apart and asking._idle:
        assert select.select([asking._idle[0][0]], [], [], 10)[0]
    else:
        assert asking._idle == []
    come.set()
    assert get(asking) == {"Item": "the next"}
    assert server.connections == 2


def test_what_tls_has_decrypted_already_is_seen_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = servers.Certificates(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificates.good))
    monkeypatch.setattr(tls, "context", lambda: trusting)
    whose = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: "
    whose += b"x" * (8_192 - len(whose) - 6) + b"\r\n\r\n{}"  # All that is read at once: the rest of the record stays.
    with Server(tls=certificates.context(certificates.good)) as server:
        nobodys = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        server.say(servers.first(whose + nobodys, lambda _: None), said({"Item": "the next"}))
        asking = AwsClient("dynamodb", region=REGION, endpoint=server.url("https"), by=lambda: KEY)
        assert get(asking) == {}
        assert get(asking) == {"Item": "the next"}
        asking.close()
        assert server.connections == 2


def test_calls_at_once_have_a_connection_each_and_their_own_answers(server: Server) -> None:
    together = threading.Barrier(8)

    def echo(line: servers.Line, asked: servers.Asked) -> None:
        together.wait(10)
        said({"Item": json.loads(asked.body)["Key"]})(line, asked)

    server.say(echo)
    asking = client(server, read_timeout=20)
    keys = [{"pk": {"S": str(number)}} for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda key: asking.get_item(Key=key)["Item"], keys))
    assert answers == keys
    assert server.connections == 8


def test_a_certificate_of_nobody_known_is_refused(tmp_path: Path) -> None:
    certificates = servers.Certificates(tmp_path)
    with Server(tls=certificates.context(certificates.good)) as server:
        asking = AwsClient("dynamodb", region=REGION, endpoint=server.url("https"), by=lambda: KEY, sleep=Pauses())
        with pytest.raises(AwsError, match="SSLCertVerificationError"):
            get(asking)
        assert server.asked == []


def test_a_certificate_of_a_known_authority_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = servers.Certificates(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificates.good))
    monkeypatch.setattr(tls, "context", lambda: trusting)
    with Server(tls=certificates.context(certificates.good)) as server:
        server.say(said({}))
        asking = AwsClient("dynamodb", region=REGION, endpoint=server.url("https"), by=lambda: KEY)
        assert get(asking) == {}
        assert get(asking) == {}
        asking.close()
        assert server.connections == 1


# ---- where a service is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "region", "variables", "host"),
    [
        ("dynamodb", REGION, {}, "dynamodb.ap-southeast-1.amazonaws.com"),
        ("kms", "cn-north-1", {}, "kms.cn-north-1.amazonaws.com.cn"),
        ("sqs", REGION, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "127.0.0.1:9"),
        ("kms", REGION, {"AWS_ENDPOINT_URL": "http://a:9", "AWS_ENDPOINT_URL_KMS": "http://b:9"}, "b:9"),
        ("secretsmanager", REGION, {"AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://b:9"}, "b:9"),
        ("events", REGION, {"AWS_ENDPOINT_URL_EVENTBRIDGE": "http://b:9"}, "b:9"),
        ("lambda", "us-gov-west-1", {}, "lambda.us-gov-west-1.amazonaws.com"),
        ("dynamodb", "eusc-de-east-1", {}, "dynamodb.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_an_endpoint_is_where_the_sdk_would_look_for_it(
    monkeypatch: pytest.MonkeyPatch, service: str, region: str, variables: dict[str, str], host: str
) -> None:
    make: Any = boto3.client

    for name in list(os.environ):
        if name.startswith("AWS_ENDPOINT_URL"):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    theirs = make(service, region_name=region, aws_access_key_id="a", aws_secret_access_key="b")
    assert theirs.meta.endpoint_url.endswith(f"://{host}")
    assert AwsClient(service, region=region)._host == host


def test_every_partition_that_the_sdk_knows_is_found_by_its_regions() -> None:
    partitions = botocore.session.Session().get_component("data_loader").load_data("partitions")["partitions"]
    regions = {
        region: partition["outputs"]["dnsSuffix"]
        for partition in partitions
        for region in partition["regions"]
        if not region.endswith("-global")
    }
    assert len(regions) > 30
    for region, suffix in regions.items():
        assert AwsClient("kms", region=region, endpoint="")._host == f"kms.{region}.{suffix}"


def test_an_address_of_a_kind_that_the_machine_lacks_leaves_the_call_to_the_next(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def both(*args: Any, **kwargs: Any) -> list[Any]:
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 1, 0, 0)), *resolve(*args, **kwargs)]

    class NoneOfThat(socket.socket):
        def __init__(self, family: int = -1, *args: Any, **kwargs: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError("Address family not supported by protocol")
            super().__init__(family, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", both)
    monkeypatch.setattr(socket, "socket", NoneOfThat)
    server.say(said({}))
    assert client(server).get_item(TableName="t", Key={}) == {}
