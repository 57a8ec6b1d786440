"""boto3's clients as the functions have them: their limits, and what they make of bad answers and dead connections."""

import base64
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zlib import crc32

import certifi
import pytest
from botocore import xform_name
from botocore.exceptions import SSLError

from flowaccount_connect.domain.error_code import error_code
from flowaccount_connect.rotation import time_left
from flowaccount_connect.rotation.refresh_function import LONGEST_INVOCATION, RefreshFunction
from flowaccount_connect.runtime import aws, bootstrap, settings
from flowaccount_connect.runtime.observability import logger
from flowaccount_connect.storage.dynamodb import StoreUnavailable, call
from tests.unit import servers
from tests.unit.servers import Certificates, Server, reply

BATCH = settings.CONNECTIONS
"""The messages that `refresh` works on at once, each on a thread of its own."""

LONGEST_PAUSE = 1.0
"""Seconds between two attempts, at most: botocore's retry mode "standard" before the second attempt."""


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # The pause between two attempts.


@pytest.fixture
def made(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes clients of the server; their connections are closed at the end."""
    clients = []

    def make(service: str = "dynamodb", **limits: Any) -> Any:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        clients.append(aws.client(service, **limits))
        return clients[-1]

    yield make
    for one in clients:
        one.close()


def said(fields: dict[str, Any], status: int = 200) -> servers.Answer:
    """An answer of DynamoDB, with its checksum."""
    body = json.dumps(fields).encode()
    return reply(status, body, f"x-amz-crc32: {crc32(body)}\r\n")


def get(client: Any) -> Any:
    return client.get_item(TableName="table", Key={"pk": {"S": "a"}})


# ---- how long a call takes ----------------------------------------------------------------------------------------


def test_the_limits_of_a_call_are_what_the_time_budgets_count_on(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = made().meta.config
    assert config.retries == {"mode": "standard", "total_max_attempts": 2}
    longest = 2 * (config.connect_timeout + config.read_timeout) + LONGEST_PAUSE
    assert longest == time_left.LONGEST_WRITE == time_left.QUEUE_RESERVE
    monkeypatch.setenv("REFRESH_FUNCTION", "refresh")
    config = bootstrap._refresh_function(settings.Reader(os.environ))._client.meta.config
    assert config.retries["total_max_attempts"] == 1
    assert config.connect_timeout + config.read_timeout == LONGEST_INVOCATION


def test_a_silent_service_is_not_waited_for(server: Server, made: Any) -> None:
    with pytest.raises(StoreUnavailable, match="ReadTimeoutError"):
        call(made(read_timeout=0.05).get_item, TableName="table", Key={})
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "trouble",
    [
        servers.drop,
        servers.reset,
        reply(500),
        reply(503, b"<html>"),
        said({"__type": "x#ProvisionedThroughputExceededException"}, 400),
        said({"__type": "x#ThrottlingException"}, 400),
        said({"__type": "x#TransactionInProgressException"}, 400),
        reply(200, b'{"Item', "x-amz-crc32: 1\r\n", length=1_000),
        reply(200, b'{"Item": {"pk": {"S": "changed on its way"}}}', "x-amz-crc32: 1\r\n"),
    ],
)
def test_what_may_pass_is_tried_once_more(server: Server, made: Any, trouble: servers.Answer) -> None:
    server.say(trouble, said({"Item": {"pk": {"S": "a"}}}))
    assert get(made())["Item"] == {"pk": {"S": "a"}}
    assert len(server.asked) == 2
    server.say(trouble)
    with pytest.raises(StoreUnavailable):
        call(made().get_item, TableName="table", Key={})
    assert len(server.asked) == 4, "and then no more"


# ---- what is an answer --------------------------------------------------------------------------------------------


def test_an_item_that_is_not_there_is_an_empty_answer(server: Server, made: Any) -> None:
    server.say(said({}), reply(200, b"{}"))
    assert "Item" not in call(made().get_item, TableName="table", Key={})
    assert "Item" not in call(made().get_item, TableName="table", Key={}), "an emulator may send no checksum"


BODIES = [b"<html>CANARY</html>", b"", b"[]", b"null", b'"CANARY"', b"\xff\xfe\x00", b'{"Item": {"pk"', b"[" * 100_000]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("checksum", ["", f"x-amz-crc32: {crc32(b'{}')}\r\n"])
def test_a_success_that_is_no_answer_is_no_missing_item(server: Server, made: Any, body: bytes, checksum: str) -> None:
    server.say(reply(200, body, checksum))
    with pytest.raises(StoreUnavailable) as caught:
        call(made().get_item, TableName="table", Key={})
    assert "CANARY" not in str(caught.value)


def test_an_answer_that_breaks_off_without_a_length_is_no_missing_item(server: Server, made: Any) -> None:
    body = json.dumps({"Item": {"pk": {"S": "a"}}}).encode()
    head = f"HTTP/1.1 200 OK\r\nx-amz-crc32: {crc32(body)}\r\n\r\n".encode()
    server.say(servers.first(head + body[:-3], lambda line: line.drop()))
    with pytest.raises(StoreUnavailable, match="NoAnswer"):
        call(made().get_item, TableName="table", Key={})


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    ("service", "operation", "parameters"),
    [
        ("kms", "decrypt", {"CiphertextBlob": b"x"}),
        ("secretsmanager", "get_secret_value", {"SecretId": "x"}),
        ("sqs", "send_message", {"QueueUrl": "http://queue", "MessageBody": "x"}),
        ("events", "put_events", {"Entries": []}),
    ],
)
def test_what_other_services_did_not_say_is_no_answer_either(
    server: Server, made: Any, service: str, operation: str, parameters: dict[str, Any], body: bytes
) -> None:
    server.say(reply(200, body))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of whatever type: its code is all that is used
        getattr(made(service), operation)(**parameters)
    assert error_code(caught.value) in {"NoAnswer", "AttributeError", "RecursionError", "UnicodeDecodeError"}


def test_an_answer_without_members_has_an_empty_body(server: Server, made: Any) -> None:
    server.say(reply(200, b""))
    made("sqs").change_message_visibility(QueueUrl="http://queue", ReceiptHandle="r", VisibilityTimeout=1)


def test_a_refusal_is_told_by_its_code_alone(server: Server, made: Any) -> None:
    server.say(said({"__type": "com.amazonaws#ResourceNotFoundException", "message": "CANARY"}, 400))
    with pytest.raises(StoreUnavailable) as caught:
        call(made().get_item, TableName="CANARY", Key={})
    assert str(caught.value) == "ResourceNotFoundException"
    assert caught.value.__suppress_context__
    assert len(server.asked) == 1, "it would be refused again"


def test_a_second_try_of_a_transaction_is_the_same_transaction(server: Server, made: Any) -> None:
    server.say(servers.drop, said({}))
    writing = made()
    writing.transact_write_items(TransactItems=[])
    writing.transact_write_items(TransactItems=[])
    writing.transact_write_items(TransactItems=[], ClientRequestToken="mine")
    first, again, another, given = (json.loads(asked.body)["ClientRequestToken"] for asked in server.asked)
    assert first == again != another
    assert given == "mine"


# ---- connections --------------------------------------------------------------------------------------------------


def dead(server: Server, client: Any, count: int, ending: servers.Answer) -> None:
    """Have `count` kept connections that the server ends as soon as one is used, and new ones that work."""
    together = threading.Barrier(count)

    def at_once(line: servers.Line, asked: servers.Asked) -> None:
        together.wait(10)
        said({})(line, asked)

    def forgetful(line: servers.Line, asked: servers.Asked) -> None:
        (ending if line.number <= count else said({}))(line, asked)

    server.say(at_once)
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(get, [client] * count))
    assert server.connections == count
    server.say(forgetful)


@pytest.mark.parametrize("ending", [servers.reset, servers.drop])
def test_connections_that_died_in_a_freeze_fail_no_call(server: Server, made: Any, ending: servers.Answer) -> None:
    client = made()
    dead(server, client, 5, ending)
    for _ in range(6):
        get(client)
    assert server.connections > 5


def test_each_invocation_of_refresh_has_a_connection_of_its_own(server: Server, made: Any) -> None:
    server.say(reply(200, b'{"retry_after": 7}'))
    asking = RefreshFunction(made("lambda", attempts=1), "arn:aws:lambda:r:1:function:refresh:live", logger)
    for number in (1, 2):
        assert asking.refresh("N1", 1) == 7
        assert server.connections == number
    assert server.asked[0].path.endswith("/arn%3Aaws%3Alambda%3Ar%3A1%3Afunction%3Arefresh%3Alive/invocations")


def test_a_batch_keeps_a_connection_for_each_of_its_threads(server: Server, made: Any) -> None:
    client = made()
    for _ in range(2):
        together = threading.Barrier(BATCH)

        def at_once(line: servers.Line, asked: servers.Asked, together: threading.Barrier = together) -> None:
            together.wait(20)
            said({})(line, asked)

        server.say(at_once)
        with ThreadPoolExecutor(BATCH) as pool:
            list(pool.map(get, [client] * BATCH))
    assert server.connections == BATCH


# ---- who is believed ----------------------------------------------------------------------------------------------


@pytest.fixture
def cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> Path:
    """Amazon's authorities beside those of all, as the layer has them; here of one who signs for 127.0.0.1."""
    monkeypatch.setattr(certifi, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / aws.AMAZON_ROOTS).write_bytes(certificates.good.read_bytes())
    return tmp_path / aws.AMAZON_ROOTS


@pytest.mark.parametrize(
    ("region", "enough"),
    [
        *((region, True) for region in ("ap-southeast-1", "us-east-1", "ap-southeast-99")),
        *((region, False) for region in ("cn-north-1", "us-gov-west-1", "eusc-de-east-1")),
    ],
)
def test_amazons_own_authorities_are_enough_in_the_main_partition_alone(
    cut: Path, region: str, enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    assert aws._authorities() == (str(cut) if enough else None)


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_authorities_that_somebody_chose_are_kept(cut: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/mine.pem")
    assert aws._authorities() is None


def test_where_nobody_cut_them_all_authorities_are_read() -> None:
    assert aws._authorities() is None


def test_a_certificate_of_nobody_known_is_refused(
    cut: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    for known in (True, False):
        if not known:
            cut.write_bytes(certificates.other_host.read_bytes())
        with Server(tls=certificates.context(certificates.good)) as server:
            server.say(said({}))
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.url("https"))
            client = aws.client("dynamodb")
            if known:
                get(client)
            else:
                with pytest.raises(SSLError):
                    get(client)
                assert server.asked == []
            client.close()


def test_modules_load_without_garbage_collection_and_no_later_one_looks_at_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import gc

    seen = []
    monkeypatch.setattr(aws, "client", lambda _: seen.append(gc.isenabled()))
    for name, value in {"STACK": "s", "TABLE_NAME": "t", "ENVIRONMENT": "sandbox"}.items():
        monkeypatch.setenv(name, value)
    gc.unfreeze()
    bootstrap.salvage()
    assert seen == [False]
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


# ---- what an answer always has, and what no log has ----------------------------------------------------------------


CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "BatchGetItem": ("dynamodb", {"RequestItems": {}}),
    "Decrypt": ("kms", {"CiphertextBlob": b"x"}),
    "GenerateDataKey": ("kms", {"KeyId": "key"}),
    "GetQueueAttributes": ("sqs", {"QueueUrl": "https://sqs.example/1/q"}),
    "PutEvents": ("events", {"Entries": []}),
    "Query": ("dynamodb", {"TableName": "table"}),
    "SendMessage": ("sqs", {"QueueUrl": "https://sqs.example/1/q", "MessageBody": "x"}),
}


@pytest.mark.parametrize("operation", aws.ALWAYS)
@pytest.mark.parametrize("fields", [{}, {"message": "of a box between"}])
def test_a_success_without_what_its_operation_always_has_is_no_answer(
    server: Server, made: Any, operation: str, fields: dict[str, str]
) -> None:
    service, given = CALLS[operation]
    server.say(reply(200, json.dumps(fields).encode()))
    with pytest.raises(aws.NoAnswer):
        getattr(made(service), xform_name(operation))(**given)


@pytest.mark.parametrize(
    ("service", "operation", "given", "said_by_it"),
    [
        ("secretsmanager", "get_secret_value", {"SecretId": "s"}, {"SecretString": "CANARY-SECRET"}),
        ("kms", "decrypt", {"CiphertextBlob": b"x"}, {"Plaintext": base64.b64encode(b"CANARY-KEY").decode()}),
    ],
)
def test_no_log_level_shows_what_aws_answers(
    server: Server,
    made: Any,
    caplog: pytest.LogCaptureFixture,
    service: str,
    operation: str,
    given: dict[str, Any],
    said_by_it: dict[str, str],
) -> None:
    """Lambda sets the level of the root logger, if somebody chooses DEBUG for a function."""
    server.say(reply(200, json.dumps(said_by_it).encode()))
    with caplog.at_level(logging.DEBUG):
        getattr(made(service), operation)(**given)
    assert server.asked
    assert not any(value in caplog.text for value in ("CANARY", *said_by_it.values()))
