"""An AWS account that answers each operation as scripted."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError


def refusal(code: str, operation: str = "Look") -> ClientError:
    """AWS's refusal, with words that nobody may repeat."""
    return ClientError({"Error": {"Code": code, "Message": "CANARY is not authorized"}}, operation)


def stack(
    status: str = "UPDATE_COMPLETE",
    *,
    outputs: Mapping[str, str | None] | None = None,
    parameters: Mapping[str, str | None] | None = None,
    **more: object,
) -> dict[str, Any]:
    """What CloudFormation describes; an output or a parameter that is `None` is not there."""
    described = {
        "StackStatus": status,
        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in (outputs or {}).items() if value],
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": value} for key, value in (parameters or {}).items() if value
        ],
    }
    return {"Stacks": [described | more]}


class Aws:
    """The account: called with a service it is that service's client. An answer may be an error, or made at each call.

    What has no answer finds nothing.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, _service: str) -> "_Client":
        return _Client(self)

    def answer(self, operation: str, given: dict[str, Any]) -> Any:
        """The answer to one call."""
        self.calls.append((operation, given))
        answer = self.answers.get(operation, refusal("ResourceNotFoundException"))
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer


class _Client:
    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return lambda **given: self._aws.answer(operation, given)

    def get_paginator(self, operation: str) -> Any:
        return SimpleNamespace(paginate=lambda **given: iter([self._aws.answer(operation, given)]))
