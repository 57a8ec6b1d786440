"""The client secret: cached, refetched only where it may have changed, and never shown."""

import json
import threading

import pytest

from flowaccount_connect.oauth.client_secret import (
    MAX_AGE,
    RETRY_AFTER,
    ClientSecret,
    SecretMisconfigured,
    SecretUnavailable,
)
from tests.unit.fakes import Clock, FakeSecretsManager
from tests.unit.tables import client_error


@pytest.fixture
def manager() -> FakeSecretsManager:
    return FakeSecretsManager()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def secret(manager: FakeSecretsManager, clock: Clock) -> ClientSecret:
    return ClientSecret(manager, "stack/client-secret", clock=clock)


def test_the_secret_is_looked_up_once_while_it_is_young(
    secret: ClientSecret, manager: FakeSecretsManager, clock: Clock
) -> None:
    assert [secret.get(), secret.get()] == ["the-secret"] * 2
    clock.now += MAX_AGE - 1
    assert secret.get() == "the-secret"
    assert manager.asked == 1


def test_an_old_secret_is_looked_up_again(secret: ClientSecret, manager: FakeSecretsManager, clock: Clock) -> None:
    secret.get()
    clock.now += MAX_AGE
    manager.text = '{"client_secret": "newer"}'
    assert secret.get() == "newer"


def test_without_a_secret_in_hand_an_outage_is_told_apart_from_a_mistake(
    secret: ClientSecret, manager: FakeSecretsManager, clock: Clock
) -> None:
    manager.error = client_error("InternalServiceError")
    with pytest.raises(SecretUnavailable, match=r"^InternalServiceError$"):
        secret.get()
    manager.error = TimeoutError("CANARY")
    clock.now += RETRY_AFTER
    with pytest.raises(SecretUnavailable, match=r"^TimeoutError$"):
        secret.get()


def test_of_many_that_meet_an_outage_one_waits_for_it_and_an_old_secret_serves(
    secret: ClientSecret, manager: FakeSecretsManager, clock: Clock
) -> None:
    manager.error = client_error("InternalServiceError")
    for _ in range(10):
        with pytest.raises(SecretUnavailable):
            secret.get()
    assert manager.asked == 1
    manager.error = None
    clock.now += RETRY_AFTER
    assert secret.get() == "the-secret"
    clock.now += 10 * MAX_AGE
    manager.error = client_error("InternalServiceError")
    asked = manager.asked
    assert [secret.get() for _ in range(10)] == ["the-secret"] * 10
    assert secret.newer_than("the-secret") is None
    assert manager.asked == asked + 1


@pytest.mark.parametrize(
    "code",
    ["ResourceNotFoundException", "AccessDeniedException", "InvalidRequestException", "DecryptionFailure"],
)
def test_a_secret_that_is_missing_or_not_ours_to_read_names_itself(
    secret: ClientSecret, manager: FakeSecretsManager, code: str
) -> None:
    manager.error = client_error(code)
    with pytest.raises(SecretMisconfigured, match="stack/client-secret") as caught:
        secret.get()
    assert "CANARY" not in str(caught.value)
    assert code in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "CANARY",
        "",
        "{CANARY",
        '"CANARY"',
        '["CANARY"]',
        "null",
        "7",
        '{"secret": "CANARY"}',
        '{"client_secret": ""}',
        '{"client_secret": "  "}',
        '{"client_secret": null}',
        '{"client_secret": ["CANARY"]}',
        "[" * 100_000,
        None,
    ],
)
def test_a_secret_that_is_not_json_or_not_complete_says_what_it_must_be_and_quotes_nothing(
    secret: ClientSecret, manager: FakeSecretsManager, text: str | None
) -> None:
    manager.text = text
    with pytest.raises(SecretMisconfigured, match=r'must be JSON of the form \{"client_secret"') as caught:
        secret.get()
    error: BaseException | None = caught.value
    while error is not None:
        assert "CANARY" not in repr(error)
        error = error.__cause__ or error.__context__


INVISIBLE = ("\n", "\r\n", "\t", " ", "\u00a0", "\u200b", "\ufeff", "\u2028", "\x00", "\x7f", "\u202e", "\u00ad")


@pytest.mark.parametrize("unseen", INVISIBLE, ids=ascii)
def test_what_nobody_sees_around_a_secret_is_not_sent(
    secret: ClientSecret, manager: FakeSecretsManager, unseen: str
) -> None:
    manager.text = json.dumps({"client_secret": f"{unseen}{unseen}a secret{unseen}"})
    assert secret.get() == "a secret"


@pytest.mark.parametrize("unseen", [one for one in INVISIBLE if one != " "], ids=ascii)
def test_what_nobody_sees_inside_a_secret_is_said(
    secret: ClientSecret, manager: FakeSecretsManager, unseen: str
) -> None:
    manager.text = json.dumps({"client_secret": f"CANARY{unseen}CANARY"})
    with pytest.raises(SecretMisconfigured, match="has an invisible character inside: store it again") as caught:
        secret.get()
    assert "CANARY" not in repr(caught.value)


def test_a_byte_order_mark_before_the_json_is_skipped(secret: ClientSecret, manager: FakeSecretsManager) -> None:
    manager.text = '\ufeff{"client_secret": "the-secret"}\r\n'
    assert secret.get() == "the-secret"


def test_a_broken_secret_is_looked_up_again_once_it_is_mended(
    secret: ClientSecret, manager: FakeSecretsManager
) -> None:
    manager.text = "{}"
    with pytest.raises(SecretMisconfigured):
        secret.get()
    manager.text = '{"client_secret": "mended"}'
    assert secret.get() == "mended"


def test_a_refused_secret_is_looked_up_again_and_only_a_newer_one_is_given(
    secret: ClientSecret, manager: FakeSecretsManager
) -> None:
    assert secret.newer_than(secret.get()) is None
    manager.text = '{"client_secret": "newer"}'
    assert secret.newer_than("the-secret") == "newer"
    assert secret.get() == "newer"


def test_what_another_thread_has_looked_up_already_is_not_looked_up_again(
    secret: ClientSecret, manager: FakeSecretsManager
) -> None:
    secret.get()
    assert secret.newer_than("an-older-one") == "the-secret"
    assert manager.asked == 1


def test_many_threads_share_one_look_up(secret: ClientSecret, manager: FakeSecretsManager) -> None:
    threads = [threading.Thread(target=secret.get) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert manager.asked == 1


@pytest.mark.parametrize("error", [client_error("ThrottlingException"), client_error("ResourceNotFoundException")])
def test_no_newer_secret_is_found_where_none_can_be_looked_up(
    secret: ClientSecret, manager: FakeSecretsManager, error: Exception
) -> None:
    secret.get()
    manager.error = error
    assert secret.newer_than("the-secret") is None
    assert secret.get() == "the-secret"


def test_the_secret_does_not_show(secret: ClientSecret) -> None:
    value = secret.get()
    assert value not in f"{secret!r} {secret}"
