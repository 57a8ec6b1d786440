"""Errors as problem details (RFC 9457): every code once, with its status, and nothing of anybody else's text."""

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest

from flowaccount_connect.connect import errors as connect_errors
from flowaccount_connect.connections import errors as connections_errors
from flowaccount_connect.domain import errors as domain_errors
from flowaccount_connect.domain.error_code import error_code
from flowaccount_connect.domain.errors import ConnectionNotFound, Failure, InvalidSetting, KeyUnavailable
from flowaccount_connect.http import request as request_errors
from flowaccount_connect.http.problems import STATUS, Problem, problem
from flowaccount_connect.storage import cursor as cursor_errors
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.tokens import errors as tokens_errors
from tests.unit.tables import client_error

MODULES = (domain_errors, connect_errors, tokens_errors, connections_errors, request_errors, cursor_errors)
OTHERS = {"invalid_limit", "invalid_min_ttl", "store_unavailable", "configuration_error", "internal_error"}
"""Codes of errors that name them themselves, or that are no `Failure`."""


def failures() -> Iterator[type[Failure]]:
    """Every error of a use case that a caller can meet."""
    for module in MODULES:
        for found in vars(module).values():
            if isinstance(found, type) and issubclass(found, Failure) and found.code:
                yield found


def body_of(found: Problem) -> dict[str, Any]:
    answer: dict[str, Any] = found.response("request-1")
    body: dict[str, Any] = json.loads(answer["body"])
    return body


def test_every_code_has_a_status_and_every_status_a_code() -> None:
    assert {failure.code for failure in failures()} | OTHERS == set(STATUS)


def test_no_code_is_in_the_table_twice() -> None:
    from flowaccount_connect.http.problems import _BY_STATUS

    assert sum(len(codes.split()) for codes in _BY_STATUS.values()) == len(STATUS)


def test_an_error_of_a_use_case_knows_no_status() -> None:
    assert not [failure for failure in failures() if hasattr(failure, "status")]


def test_a_problem_has_a_stable_code_a_sentence_and_the_request_id() -> None:
    assert body_of(problem(ConnectionNotFound())) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "code": "connection_not_found",
        "detail": ConnectionNotFound.detail,
        "request_id": "request-1",
    }
    answer: dict[str, Any] = problem(ConnectionNotFound()).response("request-1")
    assert answer["statusCode"] == HTTPStatus.NOT_FOUND
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    assert answer["headers"]["Cache-Control"] == "no-store"
    assert answer["headers"]["X-Content-Type-Options"] == "nosniff"


def test_where_only_time_helps_the_answer_says_how_much() -> None:
    answer: dict[str, Any] = problem(KeyUnavailable(retry_after=7)).response("request-1")
    assert answer["headers"]["Retry-After"] == "7"
    without: dict[str, Any] = problem(ConnectionNotFound()).response("request-1")
    assert "Retry-After" not in without["headers"]


def test_the_facts_of_an_error_stand_beside_the_other_members() -> None:
    body = body_of(problem(connect_errors.ConnectFailed("access_denied")))
    assert (body["code"], body["ending"], body["status"]) == ("connect_failed", "access_denied", 409)


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (StoreUnavailable("CANARY"), "store_unavailable", 503),
        (InvalidSetting("CANARY"), "configuration_error", 503),
        (RuntimeError("CANARY"), "internal_error", 500),
    ],
)
def test_of_an_error_that_is_no_failure_the_caller_reads_the_code_alone(
    error: Exception, code: str, status: int
) -> None:
    found = problem(error)
    assert (found.code, found.status) == (code, status)
    assert "CANARY" not in repr(found)


def test_of_an_aws_error_only_the_code_is_told() -> None:
    assert error_code(client_error("ThrottlingException")) == "ThrottlingException"
    assert error_code(ValueError("CANARY")) == "ValueError"
    assert error_code(client_error("")) == "ClientError"


@pytest.mark.parametrize("response", [{}, {"Error": {}}, {"Error": {"Code": 5}}, "CANARY", None])
def test_an_odd_aws_error_is_told_by_its_type(response: object) -> None:
    error = RuntimeError("CANARY")
    error.response = response  # type: ignore[attr-defined]
    assert error_code(error) == "RuntimeError"
