"""Webhooks, verified as the Standard Webhooks specification has it."""

import base64
import hashlib
import hmac
import json
import time

import pytest
from hypothesis import given, strategies

from flowaccount_connect_client import InvalidArgument, InvalidSignature, NotConfigured
from flowaccount_connect_client.webhooks import TOLERANCE, verify

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 24).decode()
EVENT = {"id": "e-1", "detail-type": "connection.at_risk", "detail": {"tenant": "ร้าน"}}
PAYLOAD = json.dumps(EVENT, ensure_ascii=False).encode()
NOW = 1_800_000_000


def signature(secret: str, payload: bytes, *, id_: str = "msg_1", at: int = NOW) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.digest(key, f"{id_}.{at}.".encode() + payload, hashlib.sha256)).decode()


def headers(signatures: str, *, at: object = NOW) -> dict[str, str]:
    return {"Webhook-Id": "msg_1", "WEBHOOK-TIMESTAMP": str(at), "webhook-signature": signatures}


def test_the_specifications_own_example_is_verified() -> None:
    given_headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert verify('{"test": 2432232314}', given_headers, secret, now=1_614_265_330) == {"test": 2_432_232_314}


def test_an_event_is_what_was_signed() -> None:
    signed = headers(signature(SECRET, PAYLOAD))
    assert verify(PAYLOAD, signed, SECRET, now=NOW) == EVENT
    assert verify(PAYLOAD.decode(), signed, SECRET, now=NOW) == EVENT
    now = int(time.time())
    assert verify(PAYLOAD, headers(signature(SECRET, PAYLOAD, at=now), at=now), SECRET) == EVENT


def test_while_a_secret_is_changed_both_are_valid() -> None:
    both = f"v1a,xx {signature(OTHER, PAYLOAD)} {signature(SECRET, PAYLOAD)}"
    assert verify(PAYLOAD, headers(both), SECRET, now=NOW) == EVENT
    assert verify(PAYLOAD, headers(signature(SECRET, PAYLOAD)), [OTHER, SECRET], now=NOW) == EVENT


@pytest.mark.parametrize("age", [-TOLERANCE - 1, TOLERANCE + 1])
def test_what_is_old_or_of_tomorrow_is_refused(age: int) -> None:
    signed = headers(signature(SECRET, PAYLOAD))
    with pytest.raises(InvalidSignature, match="clock"):
        verify(PAYLOAD, signed, SECRET, now=NOW + age)
    assert verify(PAYLOAD, signed, SECRET, now=NOW + age - age // abs(age)) == EVENT


@given(
    payload=strategies.binary(max_size=40),
    signatures=strategies.text(max_size=60),
    at=strategies.text(max_size=30) | strategies.integers().map(str),
    id_=strategies.text(max_size=9),
)
def test_nothing_that_was_not_signed_is_an_event(payload: bytes, signatures: str, at: str, id_: str) -> None:
    given_headers = {"webhook-id": id_, "webhook-timestamp": at, "webhook-signature": signatures}
    with pytest.raises(InvalidSignature):
        verify(payload, given_headers, SECRET, now=NOW)


@given(strategies.integers(0, len(PAYLOAD) - 1), strategies.integers(1, 255))
def test_one_changed_byte_is_refused(at: int, by: int) -> None:
    changed = bytearray(PAYLOAD)
    changed[at] ^= by
    with pytest.raises(InvalidSignature):
        verify(bytes(changed), headers(signature(SECRET, PAYLOAD)), SECRET, now=NOW)


@pytest.mark.parametrize("name", ["Webhook-Id", "WEBHOOK-TIMESTAMP", "webhook-signature"])
def test_each_header_is_needed(name: str) -> None:
    signed = headers(signature(SECRET, PAYLOAD))
    del signed[name]
    with pytest.raises(InvalidSignature):
        verify(PAYLOAD, signed, SECRET, now=NOW)


def test_another_id_is_another_webhook() -> None:
    with pytest.raises(InvalidSignature):
        verify(PAYLOAD, headers(signature(SECRET, PAYLOAD, id_="msg_2")), SECRET, now=NOW)


def test_a_secret_that_is_too_short_is_none_and_a_body_that_was_parsed_is_the_apps_mistake() -> None:
    with pytest.raises(NotConfigured, match="24 bytes"):
        verify(PAYLOAD, headers("v1,x"), "whsec_c2hvcnQ=", now=NOW)
    for parsed in ({"type": "connected"}, None, 7):
        with pytest.raises(InvalidArgument):
            verify(parsed, headers("v1,x"), SECRET, now=NOW)  # type: ignore[arg-type]


@given(strategies.text(max_size=20) | strategies.just("whsec_") | strategies.just("whsec_%%%"))
def test_what_is_no_secret_is_named_and_not_shown(secret: str) -> None:
    with pytest.raises(NotConfigured) as caught:
        verify(PAYLOAD, headers(signature(SECRET, PAYLOAD)), "CANARY" + secret + "!", now=NOW)
    assert "CANARY" not in str(caught.value)
    with pytest.raises(NotConfigured):
        verify(PAYLOAD, headers("v1,x"), [], now=NOW)
