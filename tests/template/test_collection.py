"""The Postman collection: all of the description, and nothing else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.template.test_openapi import operations
from tools import collection

DESCRIBED: dict[str, Any] = yaml.safe_load(collection.DESCRIPTION.read_text("utf-8"))
OPERATIONS = {(method.upper(), path): operation for (method, path), operation in operations(DESCRIBED).items()}


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Any]:
    """The collection, as `make docs` writes it."""
    collection.main(tmp_path / "folder" / "collection.json")
    found: dict[str, Any] = json.loads((tmp_path / "folder" / "collection.json").read_text("utf-8"))
    return found


def requests_of(made: dict[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """Each request by method and path, as the description has them."""
    for folder in made["item"]:
        for item in folder["item"]:
            request = item["request"]
            path = request["url"]["raw"].removeprefix("{{url}}")
            yield (request["method"], path.replace("{{", "{").replace("}}", "}")), request


def test_it_has_each_operation_once_and_no_other(made: dict[str, Any]) -> None:
    assert sorted(route for route, _ in requests_of(made)) == sorted(OPERATIONS)


def test_it_signs_what_the_description_signs(made: dict[str, Any]) -> None:
    assert made["auth"]["type"] == "awsv4"
    unsigned = {route for route, request in requests_of(made) if request.get("auth") == {"type": "noauth"}}
    assert unsigned == {route for route, operation in OPERATIONS.items() if operation.get("security") == []}


def test_each_body_is_the_descriptions_example(made: dict[str, Any]) -> None:
    bodies = {route: json.loads(request["body"]["raw"]) for route, request in requests_of(made) if "body" in request}
    examples = {
        route: operation["requestBody"]["content"]["application/json"]["example"]
        for route, operation in OPERATIONS.items()
        if "requestBody" in operation
    }
    assert bodies == examples


def test_each_query_parameter_is_offered_and_switched_off(made: dict[str, Any]) -> None:
    offered = {route: request["url"]["query"] for route, request in requests_of(made)}
    assert all(one["disabled"] for query in offered.values() for one in query)
    names = {route: [one["key"] for one in query] for route, query in offered.items()}
    assert names["GET", "/connections"] == ["status", "tenant", "limit", "next"]
    assert names["GET", "/connections/{id}/token"] == ["min_ttl"]


def test_each_variable_that_is_used_is_explained(made: dict[str, Any]) -> None:
    used = set(re.findall(r"\{\{(\w+)\}\}", json.dumps(made)))
    assert used == {one["key"] for one in made["variable"] if one["description"]}
