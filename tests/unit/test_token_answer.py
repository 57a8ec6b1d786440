"""Answers of the token endpoint, read with suspicion: no byte of them raises, and no token of them shows."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowaccount_connect.oauth.token_answer import (
    BODY_LIMIT,
    LONGEST_ANNOUNCED,
    LONGEST_LIFETIME,
    LONGEST_RETRY_AFTER,
    Answer,
    Outcome,
    TokenSet,
    classify,
)

STATUSES = st.integers(100, 599)
HEADERS = st.dictionaries(st.sampled_from(["Retry-After", "retry-after", "Content-Type", "X"]), st.text(max_size=60))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("access_token", "refresh_token", "expires_in", "supportCode", "error", "token_type"), JSON),
)
WHOLE: dict[str, object] = {"access_token": "A" * 43, "refresh_token": "R" * 43, "supportCode": "N1234567"}
NO_ERROR: st.SearchStrategy[object] = st.sampled_from([None, "", 0, False, [], {}, "   "])
KNOWN_ERRORS = {
    "invalid_grant",
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_request",
    "temporarily_unavailable",
    "server_error",
    "unknown",
    None,
}


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def refreshed(fields: Mapping[str, object], status: int = 200) -> Answer:
    return classify(status, {"Retry-After": "30"}, body(**fields), connection_id="N1234567")


def tokens_of(answer: Answer) -> TokenSet:
    assert answer.outcome is Outcome.TOKENS
    assert answer.tokens is not None
    return answer.tokens


@given(STATUSES, HEADERS, st.binary(max_size=300), st.sampled_from([None, "N1234567"]), st.floats(0, 4e9))
def test_no_bytes_ever_raise(
    status: int, headers: dict[str, str], data: bytes, connection: str | None, now: float
) -> None:
    assert classify(status, headers, data, connection_id=connection, now=now).outcome in Outcome


@given(STATUSES, HEADERS, JSON | FIELDS, st.sampled_from([None, "N1234567"]))
def test_no_json_ever_raises_and_success_always_carries_a_token(
    status: int, headers: dict[str, str], value: Any, connection: str | None
) -> None:
    answer = classify(status, headers, json.dumps(value).encode(), connection_id=connection)
    if answer.outcome is Outcome.TOKENS:
        assert answer.tokens is not None
        assert answer.tokens.access_token.strip()
        assert isinstance(value, dict)
        assert not value.get("error") or not str(value["error"]).strip()
    else:
        assert answer.tokens is None or answer.outcome is Outcome.WRONG_CONNECTION


@given(STATUSES, HEADERS, NO_ERROR, JSON, st.sampled_from([None, "N1234567"]))
def test_whole_tokens_without_an_error_always_win(
    status: int, headers: dict[str, str], error: object, expires_in: object, connection: str | None
) -> None:
    data = body(**WHOLE, error=error, expires_in=expires_in)
    answer = classify(status, headers, data, connection_id=connection)
    assert answer.outcome is Outcome.TOKENS


@given(STATUSES, st.text(min_size=1).filter(str.strip) | st.integers(1) | st.lists(st.none(), min_size=1))
def test_tokens_beside_an_error_are_never_used(status: int, error: object) -> None:
    answer = refreshed(WHOLE | {"error": error}, status)
    assert answer.outcome is not Outcome.TOKENS
    assert answer.tokens is None


@given(st.integers(500, 599), st.sampled_from(sorted(filter(None, KNOWN_ERRORS))))
def test_a_server_fault_is_doubt_whatever_it_says(status: int, error: str) -> None:
    assert refreshed({"error": error}, status).outcome is Outcome.IN_DOUBT


@given(STATUSES, st.text())
def test_the_servers_own_words_never_become_the_error(status: int, words: str) -> None:
    assert refreshed({"error": words}, status).error in KNOWN_ERRORS


@given(
    st.text("abcdefghijklmnopqrstuvwxyzABCDEFGH0123456789", min_size=20, max_size=60),
    STATUSES,
    st.sampled_from(["N1234567", "N7654321", None, "../x"]),
    st.sampled_from([None, "N1234567"]),
)
def test_no_token_shows_in_any_text_of_an_answer(
    token: str, status: int, support_code: str | None, connection: str | None
) -> None:
    fields = {"access_token": token, "refresh_token": token[::-1] + "x", "supportCode": support_code, "error": ""}
    answer = classify(status, {"X": token}, body(**fields), connection_id=connection)
    for shown in (repr(answer), str(answer), f"{answer}", repr(answer.tokens), f"{answer.tokens!s}", ascii(answer)):
        assert token not in shown
        assert token[::-1] not in shown


BLANK: list[object] = ["", "  ", None]
NO_STRING: list[object] = [7, 0, 1.5, ["a"], [], {"a": 1}, {}, True, False]
UNREADABLE: list[object] = ["tök", "a\nb", "R\n", "a\x00", "ก", 12345, *NO_STRING]


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("connection", [None, "N1234567"])
@pytest.mark.parametrize("token", [*BLANK, *UNREADABLE])
def test_what_is_no_access_token_is_not_taken_for_one_and_proves_nothing(
    token: object, connection: str | None, status: int
) -> None:
    answer = classify(status, {}, body(**WHOLE | {"access_token": token}), connection_id=connection)
    assert answer.outcome is Outcome.IN_DOUBT


@pytest.mark.parametrize("token", BLANK)
def test_a_success_that_names_no_new_refresh_token_keeps_the_old_one(token: object) -> None:
    for fields in ({"refresh_token": token}, {}):
        assert tokens_of(refreshed({"access_token": "a", **fields})).refresh_token is None


@given(st.sampled_from(UNREADABLE) | JSON.filter(lambda value: value is not None and not isinstance(value, str)))
def test_a_new_refresh_token_that_cannot_be_read_is_never_taken_for_none(token: object) -> None:
    assert refreshed(WHOLE | {"refresh_token": token}).outcome is Outcome.IN_DOUBT
    assert classify(200, {}, body(**WHOLE | {"refresh_token": token})).outcome is Outcome.INCOMPLETE


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 429, 500])
@pytest.mark.parametrize("connection", [None, "N1234567"])
def test_tokens_that_are_not_whole_never_prove_that_nothing_was_spent(connection: str | None, status: int) -> None:
    for half in ({"access_token": "a"}, {"refresh_token": "r"}, {"access_token": "a", "refresh_token": 7}):
        answer = classify(status, {}, body(**half), connection_id=connection)
        assert answer.outcome is Outcome.IN_DOUBT


@pytest.mark.parametrize("code", ["N7654321", "n1234567", "N12345678", "1234567"])
def test_an_almost_equal_support_code_is_another_business(code: str) -> None:
    answer = refreshed(WHOLE | {"supportCode": code})
    assert answer.outcome is Outcome.WRONG_CONNECTION
    assert answer.tokens is not None


@pytest.mark.parametrize("code", [2, 1234567, "N1234567 ", " N1234567", "N1234567\n", "../N1", "N 1", "ก1", *NO_STRING])
def test_a_support_code_that_can_be_no_business_is_no_proof_of_one(code: object) -> None:
    answer = refreshed(WHOLE | {"supportCode": code})
    assert (answer.outcome, answer.tokens) == (Outcome.IN_DOUBT, None)


@pytest.mark.parametrize("code", BLANK)
def test_a_refresh_that_names_no_business_is_of_the_one_asked_for(code: object) -> None:
    assert refreshed(WHOLE | {"supportCode": code}).outcome is Outcome.TOKENS


@given(JSON | st.from_regex("[A-Za-z0-9._ -]{1,66}"), STATUSES)
def test_tokens_are_a_connections_only_if_the_answer_names_it_or_nobody(code: object, status: int) -> None:
    answer = refreshed(WHOLE | {"supportCode": code}, status)
    if answer.outcome is Outcome.TOKENS:
        assert code in (None, "N1234567") or not str(code).strip()


# What is around the tokens ------------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.sampled_from([b"", b" \r\n\t", b"\xef\xbb\xbf"]), STATUSES)
@example(b"{}", b"", 200)
@example(b'{"error":"invalid_grant"}', b"", 400)
@example(json.dumps(WHOLE | {"access_token": "b", "supportCode": "N2"}).encode(), b"", 200)
@example(b"\x00" * 100_000, b"", 200)
def test_whole_tokens_count_whatever_follows_them(junk: bytes, before: bytes, status: int) -> None:
    for connection in (None, "N1234567"):
        answer = classify(status, {}, before + body(**WHOLE) + junk, connection_id=connection)
        assert tokens_of(answer).access_token == WHOLE["access_token"]


@given(st.sampled_from(sorted(filter(None, KNOWN_ERRORS))), st.binary(min_size=1).filter(lambda junk: junk.strip()))
@example("invalid_grant", b"{}")
@example("invalid_client", json.dumps(WHOLE).encode())
@example("invalid_grant", b" " * BODY_LIMIT + b"{}")
def test_a_refusal_counts_only_where_nothing_follows_it(error: str, junk: bytes) -> None:
    answer = classify(400, {}, body(error=error) + junk, connection_id="N1234567")
    assert (answer.outcome, answer.error) == (Outcome.IN_DOUBT, None)


@pytest.mark.parametrize("half", [{"access_token": "a"}, {"access_token": "a", "supportCode": "N1234567"}])
@pytest.mark.parametrize("status", [200, 403])
def test_half_tokens_with_junk_are_doubt(half: dict[str, object], status: int) -> None:
    for connection in (None, "N1234567"):
        assert classify(status, {}, body(**half) + b"x", connection_id=connection).outcome is Outcome.IN_DOUBT


NO_UTF_8 = st.sampled_from([b"\xff", b"\xe9", b"\xa1\xd2\xc3", b"\xed\xa0\x80", b"\xc3", b"\x01", b"\n", b"\x00"])


@given(NO_UTF_8, st.integers(0, 8), st.booleans())
def test_bytes_that_are_no_text_in_another_member_cost_no_token(bad: bytes, at: int, first: bool) -> None:
    other = b'"business": "' + b"Somchai!"[:at] + bad + b"Somchai!"[at:] + b'"'
    members = json.dumps(WHOLE).encode()[1:-1]
    data = b"{" + b", ".join([other, members] if first else [members, other]) + b"}"
    for connection in (None, "N1234567"):
        answer = classify(200, {}, data, connection_id=connection)
        assert tokens_of(answer).refresh_token == WHOLE["refresh_token"]


@given(NO_UTF_8, st.sampled_from(["access_token", "refresh_token", "supportCode"]), st.integers(1, 7))
def test_bytes_that_are_no_text_in_what_is_read_are_doubt(bad: bytes, member: str, at: int) -> None:
    value = str(WHOLE[member]).encode()
    data = body(**WHOLE).replace(value, value[:at] + bad + value[at:])
    assert classify(200, {}, data, connection_id="N1234567").outcome is Outcome.IN_DOUBT
    assert classify(200, {}, data).outcome in (Outcome.IN_DOUBT, Outcome.INCOMPLETE)


def test_a_description_in_another_encoding_hides_no_error() -> None:
    # Thai in TIS-620, as older Windows servers write it.
    data = b'{"error": "invalid_client", "error_description": "\xc3\xcb\xd1\xca\xbc\xd4\xb4"}'
    assert classify(400, {}, data).outcome is Outcome.CONFIGURATION_ERROR


@given(st.integers(1, 60_000))
@settings(max_examples=10)
def test_no_token_is_too_long(length: int) -> None:
    assert tokens_of(refreshed(WHOLE | {"refresh_token": "r" * length})).refresh_token == "r" * length


# Announced lifetimes -----------------------------------------------------------------------------------------------

REFRESH_NAMES = ("refresh_token_expires_in", "refresh_expires_in", "refresh_token_timeout")


@pytest.mark.parametrize("name", ["expires_in", "authorization_expires_in", *REFRESH_NAMES])
@pytest.mark.parametrize(
    ("given_", "seconds"),
    [
        (86_400, 86_400),
        ("2592000", 2_592_000),
        (" 86400 ", 86_400),
        (8_726_400.9, 8_726_400),
        (1, 1),
        (0, None),
        (0.5, None),
        (-1, None),
        ("", None),
        ("for ever", None),
        ("nan", None),
        ("inf", None),
        (True, None),
        (None, None),
        ([3_600], None),
        ({}, None),
        (10**15, 10**15),
        ("1e12", 10**12),
    ],
)
def test_a_lifetime_is_seconds_to_a_limit_or_unknown(name: str, given_: object, seconds: int | None) -> None:
    longest = LONGEST_LIFETIME if name == "expires_in" else LONGEST_ANNOUNCED
    found = getattr(
        tokens_of(refreshed(WHOLE | {name: given_})), "refresh_expires_in" if name in REFRESH_NAMES else name
    )
    assert found == (None if seconds is None else min(seconds, longest))


@given(st.dictionaries(st.sampled_from(REFRESH_NAMES), st.integers(-5, 10**6) | st.sampled_from(["", "x", None])))
def test_of_several_announced_lifetimes_the_shortest_sane_one_counts(announced: dict[str, object]) -> None:
    tokens = classify(200, {}, body(**WHOLE, **announced)).tokens
    assert tokens is not None
    sane = [value for value in announced.values() if isinstance(value, int) and value > 0]
    assert tokens.refresh_expires_in == min(sane, default=None)
    assert tokens.authorization_expires_in is None


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5_000, "-" + "9" * 5_000, "NaN", "Infinity"])
def test_an_absurd_number_costs_no_token(number: str) -> None:
    data = json.dumps(WHOLE)[:-1] + f', "expires_in": {number}, "code": {number}}}'
    answer = classify(200, {}, data.encode(), connection_id="N1234567")
    assert tokens_of(answer).expires_in in (None, LONGEST_LIFETIME)


NOON = datetime(2026, 10, 15, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30),
        (" 30 ", 30),
        ("0", 0),
        ("999999999999999999999", LONGEST_RETRY_AFTER),
        ("3601", LONGEST_RETRY_AFTER),
        ("Thu, 15 Oct 2026 12:00:30 GMT", 30),
        ("Thu, 15 Oct 2026 12:00:30", 30),
        ("Thu, 15 Oct 2026 19:00:30 +0700", 30),
        ("Thu, 15 Oct 2026 11:00:00 GMT", 0),
        ("Fri, 16 Oct 2026 12:00:00 GMT", LONGEST_RETRY_AFTER),
        ("Thu, 15 Oct 2026 12:00:30 +9999", None),
        ("-5", None),
        ("1.5", None),
        ("\u0663\u0660", None),
        ("", None),
        ("soon", None),
    ],
)
def test_retry_after_is_seconds_from_now_within_an_hour(header: str, seconds: int | None) -> None:
    answer = classify(429, {"retry-AFTER": header}, b"", now=NOON)
    assert answer.outcome is Outcome.THROTTLED
    assert answer.retry_after == seconds


@given(st.text(max_size=80), st.floats(0, 4e9))
@example("Mon, 01 Jan 0001 00:00:00 +2359", 0.0)
@example("Fri, 31 Dec 9999 23:59:59 -2359", 0.0)
@example("Fri, 31 Dec 99999999999999 23:59:59 -2359", 0.0)
def test_no_retry_after_raises_or_sleeps_for_more_than_an_hour(header: str, now: float) -> None:
    retry_after = classify(429, {"Retry-After": header}, b"", now=now).retry_after
    assert retry_after is None or 0 <= retry_after <= LONGEST_RETRY_AFTER


def test_only_a_throttled_answer_asks_for_patience() -> None:
    assert refreshed({}, 503).retry_after is None


def test_a_body_beyond_the_cap_is_not_parsed() -> None:
    padded = body(**WHOLE, padding="x" * BODY_LIMIT)
    assert classify(200, {}, padded, connection_id="N1234567").outcome is Outcome.IN_DOUBT
    fitting = json.dumps(WHOLE).encode().ljust(BODY_LIMIT)
    assert classify(200, {}, fitting, connection_id="N1234567").outcome is Outcome.TOKENS


@pytest.mark.parametrize("data", [b"[" * 60_000, b'{"error":' * 7_000])
def test_nesting_without_end_is_doubt(data: bytes) -> None:
    assert classify(200, {}, data).outcome is Outcome.IN_DOUBT


def test_a_token_set_shows_what_may_be_shown() -> None:
    assert repr(TokenSet("a-token", "r-token", 60, "N1")) == "TokenSet(support_code='N1', expires_in=60)"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ("invalid_grant", Outcome.REJECTED),
        ("invalid_client", Outcome.CONFIGURATION_ERROR),
        ("temporarily_unavailable", Outcome.THROTTLED),
        ("server_error", Outcome.THROTTLED),
        ("slow_down", Outcome.THROTTLED),
        ("rate_limit_exceeded", Outcome.THROTTLED),
    ],
)
def test_an_error_that_decides_does_so_with_a_429_too_and_its_patience_is_told(error: str, outcome: Outcome) -> None:
    answer = refreshed({"error": error}, 429)
    assert (answer.outcome, answer.retry_after) == (outcome, 30)
