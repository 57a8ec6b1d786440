"""The description of the API: valid, and of the very routes that the template makes."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from flowaccount_connect.connect.endings import Ending, LateEnding
from flowaccount_connect.connections.listing import Listed
from flowaccount_connect.domain.connection import Reason
from flowaccount_connect.domain.events import Kind
from flowaccount_connect.domain.ids import is_connection_id, is_tenant, new_secret
from flowaccount_connect.http.problems import STATUS
from tests.template.conftest import ROOT
from tests.template.test_template import gateway_responses
from tests.template.test_template import operations as routes

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
        for method, path, operation in routes(translated)
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


def codes_of(described: Described, answer: Any) -> set[str]:
    """The codes that the description gives one answer."""
    if "$ref" in answer:
        answer = described["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    schema = answer.get("content", {}).get("application/problem+json", {}).get("schema", {})
    return {
        code for part in schema.get("allOf", []) for code in part.get("properties", {}).get("code", {}).get("enum", [])
    }


def gateways(translated: dict[str, Any]) -> set[str]:
    """The codes of API Gateway's own problems, as the template words them."""
    return {
        found
        for response in gateway_responses(translated).values()
        for text in response["responseTemplates"].values()
        for found in re.findall(r'"code": ?"([a-z_]+)"', text)
    }


NEVER_IN_A_BODY = {"incomplete_callback"}
"""What only a page answers: no program comes back from FlowAccount."""


def test_every_code_is_described_and_every_described_code_exists(
    described: Described, translated: dict[str, Any]
) -> None:
    found = {
        code
        for operation in operations(described).values()
        for answer in operation["responses"].values()
        for code in codes_of(described, answer)
    }
    anywhere = described["components"]["schemas"]["Problem"]["properties"]["code"]["description"]
    found |= set(re.findall(r"`([a-z_]+)`", anywhere))
    assert found | NEVER_IN_A_BODY == set(STATUS) | gateways(translated)


def test_every_code_is_described_where_its_status_is(described: Described) -> None:
    wrong = {
        (route, status, code)
        for route, operation in operations(described).items()
        for status, answer in operation["responses"].items()
        for code in codes_of(described, answer) & set(STATUS)
        if STATUS[code] != int(status)
    }
    assert wrong == set()


def test_every_ending_is_described_and_every_described_ending_exists(described: Described) -> None:
    schemas = described["components"]["schemas"]
    assert schemas["Ending"]["enum"] == [*Ending]
    assert schemas["LateEnding"]["enum"] == [*LateEnding]


def test_its_words_are_the_packages(described: Described) -> None:
    schemas = described["components"]["schemas"]
    assert schemas["Entry"]["properties"]["kind"]["enum"] == [*Kind]
    assert schemas["Reason"]["enum"] == [*Reason]
    (status,) = [p for p in described["paths"]["/connections"]["get"]["parameters"] if p.get("name") == "status"]
    assert status["schema"]["enum"] == [*Listed]
    assert set(schemas["Status"]["enum"]) == {*Listed, "in_doubt", "refresh_failing", "unreadable"}


def examples(node: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each schema that has an example, with the example."""
    if isinstance(node, dict):
        if isinstance(node.get("schema"), dict) and "example" in node:
            yield node["schema"], node["example"]
        for example in node.get("examples", []) if isinstance(node.get("examples"), list) else []:
            yield {name: part for name, part in node.items() if name != "examples"}, example
        for part in node.values():
            yield from examples(part)
    elif isinstance(node, list):
        for part in node:
            yield from examples(part)


def test_every_example_is_of_its_own_schema(described: Described) -> None:
    found = list(examples(described))
    assert len(found) > 8
    for schema, example in found:
        # The references are to the description's own components.
        Draft202012Validator({**schema, "components": described["components"]}).validate(example)


def test_each_request_with_a_body_has_an_example(described: Described) -> None:
    for route, operation in operations(described).items():
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        assert body is None or "example" in body, route


@pytest.mark.parametrize("value", ["N1234567", "a", "a" * 64, "...", ".a", "", ".", "..", "a" * 65, "a/b", "ก", "a\n"])
def test_an_id_is_described_as_it_is_checked(described: Described, value: str) -> None:
    pattern = described["components"]["schemas"]["SupportCode"]["pattern"]
    assert bool(re.search(pattern.replace("$", r"\Z"), value)) == is_connection_id(value)


@pytest.mark.parametrize("length", [0, 1, 128, 129])
def test_a_tenants_length_is_described_as_it_is_checked(described: Described, length: int) -> None:
    tenant = described["components"]["schemas"]["Tenant"]
    assert (tenant["minLength"] <= length <= tenant["maxLength"]) == is_tenant("t" * length)


def test_a_link_is_described_as_it_is_made(described: Described) -> None:
    made = described["paths"]["/connect-links"]["post"]["responses"]["201"]["content"]["application/json"]["schema"]
    for _ in range(20):
        url = f"https://a1.execute-api.ap-southeast-1.amazonaws.com/live/authorize?link={new_secret()}"
        for whole in (url, f"{url}&openExternalBrowser=1"):
            assert re.search(made["properties"]["connect_url"]["pattern"], whole)
