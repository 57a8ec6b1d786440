"""The functions' own client of AWS: signed as the SDK signs, and tried again as the SDK would."""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

import boto3
import pytest
from botocore import auth, awsrequest
from botocore import credentials as botocore_credentials
from hypothesis import given
from hypothesis import strategies as st

from flowaccount_connect import aws_client, aws_error
from flowaccount_connect.aws_client import AwsClient, AwsError, Credentials, sign
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
    monkeypatch.setattr(aws_client, "_tls", lambda: trusting)
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
