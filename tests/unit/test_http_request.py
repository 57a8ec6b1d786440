"""Events of API Gateway, read without trust: whatever they look like, only a `Failure` is ever raised."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowaccount_connect.domain.errors import Failure
from flowaccount_connect.http.request import LONGEST_BODY, LONGEST_PARAMETER, json_answer, read, redirect

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
NAMES = [
    "multiValueQueryStringParameters",
    "queryStringParameters",
    "headers",
    "pathParameters",
    "stageVariables",
    "requestContext",
    "body",
    "httpMethod",
]
EVENTS = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, JSON))


def with_query(**query: list[str]) -> dict[str, Any]:
    return {"multiValueQueryStringParameters": query}


def refused(reading: Callable[[], object]) -> Failure:
    """The refusal of what is read."""
    with pytest.raises(Failure) as caught:
        reading()
    return caught.value


@given(EVENTS)
def test_no_event_raises_anything_but_a_failure(event: dict[str, Any]) -> None:
    request = read(event, "id")
    for name in ("state", "", "a"):
        with suppress(Failure):
            assert request.only(name) != ""
        assert request.cookie(name) is None or isinstance(request.cookie(name), str)
    with suppress(Failure):
        request.refuse_unknown(("state",))
    assert isinstance(request.prefers_html, bool)
    assert request.id


def test_the_one_value_of_a_parameter_is_read() -> None:
    request = read(with_query(state=["x"], empty=[""]), "id")
    assert request.only("state") == "x"
    assert request.only("empty") is None
    assert request.only("absent") is None


@pytest.mark.parametrize("values", [["a", "b"], ["a", "a"], ["", ""], ["", "a"]])
def test_a_repeated_parameter_is_refused_even_if_it_repeats_itself(values: list[str]) -> None:
    assert refused(lambda: read(with_query(state=values), "id").only("state")).code == "repeated_parameter"


def test_an_oversized_parameter_is_refused_and_the_longest_is_not() -> None:
    assert read(with_query(state=["x" * LONGEST_PARAMETER]), "id").only("state")
    longer = with_query(state=["x" * (LONGEST_PARAMETER + 1)])
    assert refused(lambda: read(longer, "id").only("state")).code == "oversized_parameter"


def test_an_unknown_parameter_is_refused_and_not_quoted() -> None:
    asked = with_query(state=["x"], CANARY=["y"])
    refusal = refused(lambda: read(asked, "id").refuse_unknown(("state", "return_url")))
    assert refusal.code == "unknown_parameter"
    assert "CANARY" not in refusal.detail
    assert "state, return_url" in refusal.detail


def test_single_values_serve_where_there_are_no_many() -> None:
    assert read({"queryStringParameters": {"state": "x"}}, "id").only("state") == "x"


def test_headers_are_read_whatever_their_case() -> None:
    request = read({"headers": {"ACCEPT": "text/HTML", "cookie": "a=1; b=2;c=3"}}, "id")
    assert request.prefers_html
    assert (request.cookie("a"), request.cookie("b"), request.cookie("c")) == ("1", "2", "3")


@pytest.mark.parametrize("header", ["a=1; a=2", "b=1", "", "a", ";;;", "A=1", "xa=1", "a b=1"])
def test_a_cookie_that_is_absent_or_ambiguous_is_none(header: str) -> None:
    value = read({"headers": {"Cookie": header}}, "id").cookie("a")
    assert value in (None, "")
    assert not value


def test_a_cookie_keeps_its_equals_signs() -> None:
    assert read({"headers": {"Cookie": "a=x=y=="}}, "id").cookie("a") == "x=y=="


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
def test_a_program_is_not_a_person(accept: str) -> None:
    assert not read({"headers": {"Accept": accept}}, "id").prefers_html


def test_the_id_of_the_access_log_comes_first_and_one_that_a_client_can_set_does_not_count() -> None:
    both = {"extendedRequestId": "gateway", "requestId": "a client's"}
    assert read({"requestContext": both}, "lambda").id == "gateway"
    for context in ({"requestId": "a client's"}, {"extendedRequestId": ""}, {"extendedRequestId": 7}, None):
        assert read({"requestContext": context}, "lambda").id == "lambda"
    assert read({}, "lambda").id == "lambda"


def test_a_request_does_not_show_what_it_carries() -> None:
    request = read(with_query(code=["CANARY"]) | {"headers": {"Cookie": "CANARY"}, "body": "CANARY"}, "id")
    assert "CANARY" not in f"{request!r} {request}"


def test_a_redirect_is_kept_by_no_cache_and_leaks_no_referrer() -> None:
    answer = redirect(303, "https://app.example.com/done", ["a=1", "b=2"])
    assert answer["statusCode"] == 303
    assert answer["headers"] == {
        "Location": "https://app.example.com/done",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "Strict-Transport-Security": "max-age=63072000",
        "X-Content-Type-Options": "nosniff",
    }
    assert answer["multiValueHeaders"] == {"Set-Cookie": ["a=1", "b=2"]}
    assert "multiValueHeaders" not in redirect(302, "https://app.example.com/done")


def test_a_body_is_an_object_of_known_members() -> None:
    request = read({"body": '{"a": 1, "b": [2]}'}, "id")
    assert request.fields(["a"], ["b", "c"]) == {"a": 1, "b": [2]}


@pytest.mark.parametrize(
    "body",
    [
        *(None, "", "CANARY", "{", "[]", '"a"', "3", "null", "[" * 60_000, '{"a": ' + "9" * 5_000 + "}"),
        *('{"a": NaN}', '{"a": Infinity}', "{}", '{"a": null}', '{"b": 1}', '{"a": 1, "secret": 2}'),
        *('{"a": 1, "a": 2}', '{"a": 1, "b": 2, "b": 2}'),
    ],
    ids=range(18),
)
def test_any_other_body_is_refused_and_the_answer_lists_the_members(body: str | None) -> None:
    refusal = refused(lambda: read({"body": body}, "id").fields(["a"], ["b"]))
    assert refusal.code == "invalid_body"
    assert refusal.detail.endswith("a, b (optional).")


def test_a_body_out_of_all_proportion_is_not_parsed() -> None:
    fits = '{"a": "%s"}' % ("x" * (LONGEST_BODY - 9))
    assert len(fits) == LONGEST_BODY
    assert read({"body": fits}, "id").fields(["a"])
    assert refused(lambda: read({"body": fits + " "}, "id").fields(["a"])).code == "oversized_body"


def test_an_answer_in_json_is_kept_by_no_cache() -> None:
    answer = json_answer(200, {"ก": 1})
    assert answer["body"] == '{"\\u0e01": 1}'
    assert isinstance(answer["headers"], dict)
    assert answer["headers"]["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ('\ufeff{"a": 1}', {"a": 1}),
        ('{"a": 2.0}', {"a": 2}),
        ('{"a": 2e0, "b": null}', {"a": 2}),
        ('{"a": 2.5}', {"a": 2.5}),
    ],
)
def test_the_json_of_any_language_is_welcome(body: str, fields: dict[str, object]) -> None:
    found = read({"body": body}, "id").fields(["a"], ["b"])
    assert found == fields
    assert type(found["a"]) is type(fields["a"])


def test_our_cookies_are_listed_once_in_the_order_in_which_the_browser_made_them() -> None:
    header = "x=1; __Host-a-2=b; \u00a0__Host-a-3=c;__Host-a-1=d; __Host-a-2=e"
    assert read({"headers": {"Cookie": header}}, "id").cookies("__Host-a-") == ["__Host-a-2", "__Host-a-1"]
