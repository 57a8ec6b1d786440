"""Errors as problem details (RFC 9457)."""

import json
from http import HTTPStatus
from typing import Any

import pytest

from flowaccount_connect.domain.error_code import error_code
from flowaccount_connect.http.problems import INTERNAL, Problem, invalid, unavailable
from tests.unit.tables import client_error


def body_of(problem: Problem) -> dict[str, Any]:
    answer: dict[str, Any] = problem.response("request-1")
    body: dict[str, Any] = json.loads(answer["body"])
    return body


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (invalid("a_code", "A sentence."), 400),
        (unavailable("a_code", "A sentence.", 7), 503),
        (Problem("a_code", HTTPStatus.NOT_FOUND, "A sentence."), 404),
    ],
)
def test_a_problem_has_a_stable_code_a_sentence_and_the_request_id(problem: Problem, status: int) -> None:
    assert body_of(problem) == {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": "a_code",
        "detail": "A sentence.",
        "request_id": "request-1",
    }
    answer: dict[str, Any] = problem.response("request-1")
    assert answer["statusCode"] == status
    assert answer["headers"]["Content-Type"] == "application/problem+json"
    assert answer["headers"]["Cache-Control"] == "no-store"
    assert answer["headers"]["X-Content-Type-Options"] == "nosniff"


def test_where_only_time_helps_the_answer_says_how_much() -> None:
    answer: dict[str, Any] = unavailable("a_code", "A sentence.", 7).response("request-1")
    assert answer["headers"]["Retry-After"] == "7"
    without: dict[str, Any] = invalid("a_code", "A sentence.").response("request-1")
    assert "Retry-After" not in without["headers"]


def test_further_members_stand_beside_the_others() -> None:
    problem = Problem("gone", HTTPStatus.CONFLICT, "A sentence.", extra={"reason": "rejected", "since": 5})
    assert body_of(problem)["reason"] == "rejected"
    assert body_of(problem)["since"] == 5


def test_a_fault_of_the_stack_says_nothing_else() -> None:
    assert body_of(INTERNAL)["code"] == "internal_error"


def test_of_an_aws_error_only_the_code_is_told() -> None:
    assert error_code(client_error("ThrottlingException")) == "ThrottlingException"
    assert error_code(ValueError("CANARY")) == "ValueError"
    assert error_code(client_error("")) == "ClientError"


@pytest.mark.parametrize("response", [{}, {"Error": {}}, {"Error": {"Code": 5}}, "CANARY", None])
def test_an_odd_aws_error_is_told_by_its_type(response: object) -> None:
    error = RuntimeError("CANARY")
    error.response = response  # type: ignore[attr-defined]
    assert error_code(error) == "RuntimeError"
