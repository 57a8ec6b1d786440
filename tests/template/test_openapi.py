"""The description of the API: valid, and of the very routes that the template makes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate

from flowaccount_connect.connections.listing import Listed
from flowaccount_connect.domain.connection import Reason
from flowaccount_connect.domain.events import Kind

ROOT = Path(__file__).parents[2]

Described = dict[str, Any]


@pytest.fixture(scope="session")
def described() -> Described:
    """The description."""
    found: Described = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text("utf-8"))
    return found


def operations(described: Described) -> dict[tuple[str, str], Any]:
    """Every operation by method and path."""
    return {
        (method, path): operation
        for path, item in described["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


def test_the_description_is_valid(described: Described) -> None:
    assert described["openapi"].startswith("3.1.")
    validate(described)


def test_it_describes_the_routes_there_are_and_who_may_call_them(
    described: Described, translated: dict[str, Any]
) -> None:
    there = {
        (method, path): any("AWS_IAM" in security for security in operation.get("security", []))
        for path, methods in translated["Resources"]["Api"]["Properties"]["Body"]["paths"].items()
        for method, operation in methods.items()
    }
    signed = {
        route: bool(operation.get("security", described["security"]))
        for route, operation in operations(described).items()
    }
    assert signed == there


def test_every_error_is_a_problem_or_a_page(described: Described) -> None:
    for route, operation in operations(described).items():
        for status, answer in operation["responses"].items():
            shared = answer.get("$ref", "").rpartition("/")[2]
            content = (described["components"]["responses"][shared] if shared else answer).get("content", {})
            if int(status) >= 400:
                assert set(content) <= {"application/problem+json", "text/html"}, (route, status)


def test_every_code_of_the_package_is_described(described: Described) -> None:
    """Whatever `code` a function behind a signed route can answer is in the description, and the gateway's too."""
    text = (ROOT / "docs" / "openapi.yaml").read_text("utf-8")
    sources = [
        ROOT / "layers" / "connector" / "flowaccount_connect" / f"{name}.py"
        for name in ("managing", "serving", "http_request", "problems")
    ]
    codes = {
        code
        for source in sources
        for code in re.findall(r'(?:invalid|unavailable|Problem)\(\s*"([a-z_]+)"', source.read_text("utf-8"))
    }
    assert codes > {"connection_not_found", "import_refused", "invalid_body", "store_unavailable"}
    assert {code for code in codes if not re.search(rf"\b{code}\b", text)} == set()


def test_its_words_are_the_packages(described: Described) -> None:
    schemas = described["components"]["schemas"]
    assert schemas["Entry"]["properties"]["kind"]["enum"] == [*Kind]
    assert schemas["Reason"]["enum"] == [*Reason]
    (status,) = [p for p in described["paths"]["/connections"]["get"]["parameters"] if p.get("name") == "status"]
    assert status["schema"]["enum"] == [*Listed]
    assert set(schemas["Status"]["enum"]) == {*Listed, "in_doubt", "refresh_failing", "unreadable"}
