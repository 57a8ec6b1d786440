"""`refresh` as other functions ask it: nothing that goes wrong there raises, and all of it is logged."""

import io
import json
from typing import Any

import pytest

from flowaccount_connect.rotation.refresh_function import RefreshFunction
from flowaccount_connect.runtime.observability import logger
from tests.unit.tables import client_error


class Lambda:
    """Answers with `answer`, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.closed = 0

    def close(self) -> None:
        self.closed += 1

    def invoke(self, **_: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, object]]]:
    """The warnings that were logged."""
    lines: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(logger, "warning", lambda message, *, extra: lines.append((message, extra)), raising=False)
    return lines


def answered(payload: bytes, **more: object) -> dict[str, object]:
    return {"StatusCode": 200, "Payload": io.BytesIO(payload), **more}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (client_error("TooManyRequestsException"), "TooManyRequestsException"),
        (TimeoutError("CANARY"), "TimeoutError"),
        (answered(b'{"errorMessage": "CANARY"}', FunctionError="Unhandled"), "Unhandled"),
        (answered(b"<CANARY>"), "JSONDecodeError"),
        (answered(b"[]"), "AttributeError"),
    ],
)
def test_an_invocation_that_failed_is_logged_by_its_code_alone(
    logged: list[tuple[str, dict[str, object]]], answer: Any, code: str
) -> None:
    client = Lambda(answer)
    assert RefreshFunction(client, "refresh", logger).refresh("N1", 3) == 0
    assert client.closed == 1
    assert logged == [("refresh did not answer", {"connection_id": "N1", "error": code})]


@pytest.mark.parametrize(
    ("said", "wait"), [({"retry_after": 7}, 7), ({}, 0), ({"retry_after": "7"}, 0), ({"retry_after": -1}, 0)]
)
def test_what_refresh_says_of_waiting_is_passed_on_and_nothing_logged(
    logged: list[tuple[str, dict[str, object]]], said: dict[str, object], wait: int
) -> None:
    assert RefreshFunction(Lambda(answered(json.dumps(said).encode())), "refresh", logger).refresh("N1", 3) == wait
    assert logged == []
