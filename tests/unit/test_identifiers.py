"""The names things go by: what may name a connection, grants in the order of time, secrets that cannot be guessed."""

import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowaccount_connect.domain.ids import (
    fingerprint,
    is_connection_id,
    new_attempt_id,
    new_grant_id,
    new_secret,
)


@pytest.mark.parametrize("value", ["N1234567", "a", "A.b_c-9", "0", "N" * 64, "-", "_"])
def test_a_support_code_of_letters_digits_and_three_signs_names_a_connection(value: str) -> None:
    assert is_connection_id(value)


@pytest.mark.parametrize(
    "value",
    [
        *("", "N" * 65, ".", "..", "../N1", "N%31", "N\u0301", "\u0e011", "N\u0661", "N\uff11", "\u212a1"),
        *("N1\n", "\nN1", "N1\r\n", "N1\x00", "N 1", "N/1", "N#1", "N1;"),
        *(None, 1_234_567, b"N1234567", ["N1234567"], True),
    ],
)
def test_nothing_else_names_a_connection(value: object) -> None:
    assert not is_connection_id(value)


@given(st.text())
def test_what_names_a_connection_is_plain_ascii(value: str) -> None:
    if is_connection_id(value):
        assert value.isascii()
        assert 1 <= len(value) <= 64
        assert not set(value) & set("/#?%&\\ \n\r\t\"'<>")


@given(st.floats(0, 2**37), st.floats(0.001, 2**37))
def test_of_two_grants_the_later_compares_greater(first: float, apart: float) -> None:
    second = first + apart
    if int(second * 1000) > int(first * 1000):
        assert new_grant_id(lambda: first) < new_grant_id(lambda: second)


@given(st.floats(0, 2**38))
def test_a_grant_id_is_a_uuid_of_version_seven(now: float) -> None:
    text = new_grant_id(lambda: now)
    value = uuid.UUID(text)
    assert str(value) == text
    assert value.version == 7
    assert value.variant == uuid.RFC_4122
    assert value.int >> 80 == int(now * 1000)


def test_grants_of_one_moment_differ() -> None:
    assert len({new_grant_id(lambda: 1_800_000_000.0) for _ in range(1_000)}) == 1_000


def test_attempts_are_told_apart_and_fit_a_client_request_token() -> None:
    ids = {new_attempt_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert {len(i) for i in ids} == {32}


def test_a_secret_is_256_random_bits_that_need_no_encoding() -> None:
    secrets = {new_secret() for _ in range(1_000)}
    assert len(secrets) == 1_000
    assert {len(secret) for secret in secrets} == {43}
    assert all(secret.replace("-", "").replace("_", "").isalnum() for secret in secrets)


def test_a_fingerprint_is_sha256_and_shows_nothing() -> None:
    assert fingerprint("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(st.text())
@example("\ud800")
def test_every_text_has_a_fingerprint(text: str) -> None:
    assert len(fingerprint(text)) == 64
