"""The shared cases: what FlowAccount may answer and what it means; where a browser may be sent back to."""

import json
from pathlib import Path
from typing import Any

import pytest

from flowaccount_connect.domain.return_urls import is_allowed, is_secure
from flowaccount_connect.oauth.token_answer import classify

CASES = Path(__file__).parents[1] / "cases"
ANSWERS: list[dict[str, Any]] = json.loads((CASES / "token-responses.json").read_text("utf-8"))
RETURN_URLS: dict[str, list[str]] = json.loads((CASES / "return-urls.json").read_text("utf-8"))


@pytest.mark.parametrize("case", ANSWERS, ids=[f"{case['grant']}: {case['name']}" for case in ANSWERS])
def test_an_answer_means_what_the_shared_cases_say(case: dict[str, Any]) -> None:
    # The one body that is no UTF-8 stands in the file as the characters of its bytes.
    encoding = "latin-1" if case["name"] == "server-side encoding slip" else "utf-8"
    answer = classify(
        case["status"],
        case["headers"],
        case["body"].encode(encoding),
        connection_id="N1234567" if case["grant"] == "refresh_token" else None,
    )
    assert answer.outcome.value == case["expect"]
    assert (answer.tokens is not None) == (case["expect"] in ("tokens", "wrong_connection"))


@pytest.mark.parametrize("url", RETURN_URLS["accept"])
def test_an_allowed_return_url_is_let_through(url: str) -> None:
    assert is_allowed(url, frozenset(RETURN_URLS["allowed"]))


@pytest.mark.parametrize("url", RETURN_URLS["refuse"])
def test_any_other_return_url_is_refused(url: str) -> None:
    assert not is_allowed(url, frozenset(RETURN_URLS["allowed"]))


@pytest.mark.parametrize("url", RETURN_URLS["allowed"])
def test_the_allow_list_of_the_cases_could_be_configured(url: str) -> None:
    assert is_secure(url)
