"""What the functions lean on in the services beside the table, by the functions' own clients."""

import json
from collections.abc import Iterator

import pytest

from flowaccount_connect.oauth.client_secret import ClientSecret, SecretMisconfigured
from flowaccount_connect.scheduling.refresh_queue import Message, RefreshQueue
from flowaccount_connect.storage.sealing import CannotOpen, Sealer, TokenPair
from tests.contract import engines
from tests.contract.engines import functions_client, owners_client


@pytest.fixture(scope="module")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the services are."""
    with engines.ministack(tmp_path_factory.mktemp("services")) as url:
        yield url


def test_a_queue_says_for_each_message_whether_it_took_it(ministack: str) -> None:
    url = owners_client(ministack, "sqs").create_queue(QueueName="refresh")["QueueUrl"]
    sqs = functions_client(ministack, "sqs")
    entries = [{"Id": "0", "MessageBody": "good"}, {"Id": "1", "MessageBody": "bad\x00"}]
    answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert [one["Id"] for one in answer["Successful"]] == ["0"]
    assert [one["Id"] for one in answer["Failed"]] == ["1"]
    queue = RefreshQueue(sqs, url)
    assert queue.send([Message(connection_id=name, refresh_at=0, delay=0) for name in ("N1", "N2")]) == 0
    assert queue.waiting() == 3


def test_a_key_seals_and_opens(ministack: str) -> None:
    key = owners_client(ministack, "kms").create_key()["KeyMetadata"]["KeyId"]
    kms = functions_client(ministack, "kms")
    sealer = Sealer(kms, key, stack="connect", environment="sandbox")
    tokens = TokenPair("access", "refresh")
    sealed = sealer.seal(tokens, sealer.data_key(), owner="N1", grant_id="g1")
    other = Sealer(kms, key, stack="connect", environment="sandbox")
    assert other.open(sealed, owner="N1", grant_id="g1") == tokens
    with pytest.raises(CannotOpen):
        Sealer(kms, key, stack="another", environment="sandbox").open(sealed, owner="N1", grant_id="g1")


def test_a_secret_is_read_and_one_that_is_not_there_is_named(ministack: str) -> None:
    text = json.dumps({"client_secret": "CANARY"})
    owners_client(ministack, "secretsmanager").create_secret(Name="client", SecretString=text)
    secrets = functions_client(ministack, "secretsmanager")
    assert ClientSecret(secrets, "client").get() == "CANARY"
    with pytest.raises(SecretMisconfigured, match="ResourceNotFoundException"):
        ClientSecret(secrets, "other").get()


def test_a_bus_takes_events(ministack: str) -> None:
    owners_client(ministack, "events").create_event_bus(Name="connect")
    entry = {"EventBusName": "connect", "Source": "connect", "DetailType": "connected", "Detail": "{}", "Time": 5}
    (taken,) = functions_client(ministack, "events").put_events(Entries=[entry])["Entries"]
    assert taken["EventId"]
