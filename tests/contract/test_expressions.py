"""DynamoDB's semantics, where the package or the model leans on them: missing attributes, types, what is refused."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from flowaccount_connect.storage.connections import key_of
from tests.contract.conftest import Table
from tests.support import dynamodb_model
from tools import deployed

HOLDS = [
    ("attribute_exists(pk)", True),
    ("attribute_not_exists(absent)", True),
    ("attribute_exists(absent)", False),
    ("generation = :one", True),
    ("generation < :two AND generation <= :one AND generation > :zero AND generation >= :one", True),
    ("generation <> :one", False),
    ("absent = :one", False),
    ("absent < :one", False),
    ("absent > :one", False),
    ("absent <> :one", True),
    ("NOT absent = :one", True),
    ("generation = :text", False),
    ("generation < :text", False),
    ("generation > :text", False),
    ("generation <> :text", True),
    ("grant_id < :later", True),
    ("grant_id > :later", False),
    ("attribute_not_exists(grant_id) OR grant_id < :later", True),
    ("generation = :zero OR generation = :one AND absent = :one", False),
    ("(generation = :one OR generation = :zero) AND attribute_exists(pk)", True),
]
VALUES = {":zero": {"N": "0"}, ":one": {"N": "1"}, ":two": {"N": "2"}, ":text": {"S": "1"}, ":later": {"S": "g2"}}

REFUSED: list[dict[str, Any]] = [
    {"UpdateExpression": "SET retries = :x"},
    {"UpdateExpression": "SET retries = :x", "ExpressionAttributeValues": {":x": {"N": "1"}, ":unused": {"N": "1"}}},
    {"UpdateExpression": "REMOVE retries", "ExpressionAttributeNames": {"#unused": "retries"}},
    {"UpdateExpression": "REMOVE #undefined"},
    {"UpdateExpression": "REMOVE retries", "ExpressionAttributeValues": {}},
    {"UpdateExpression": "REMOVE status"},
    {"UpdateExpression": "REMOVE ttl"},
    {"UpdateExpression": "SET result = :x", "ExpressionAttributeValues": {":x": {"N": "1"}}},
    {"UpdateExpression": "SET pk = :x", "ExpressionAttributeValues": {":x": {"S": "1"}}},
    {"UpdateExpression": "SET retries = :x REMOVE retries", "ExpressionAttributeValues": {":x": {"N": "1"}}},
    {"UpdateExpression": "SET retries = absent"},
    {"UpdateExpression": "SET retries = absent + :x", "ExpressionAttributeValues": {":x": {"N": "1"}}},
    {"UpdateExpression": "SET retries = grant_id + :x", "ExpressionAttributeValues": {":x": {"N": "1"}}},
    {"UpdateExpression": "SET due_shard = :x, refresh_at = :x", "ExpressionAttributeValues": {":x": {"S": "soon"}}},
    {
        "UpdateExpression": "SET due_shard = :x, refresh_at = :y",
        "ExpressionAttributeValues": {":x": {"S": ""}, ":y": {"N": "1"}},
    },
]

LET_THROUGH = {
    "ministack": {"SET retries = :x REMOVE retries", "SET retries = grant_id + :x"},
    "dynamodb_local": {"SET due_shard = :x, refresh_at = :x"},
}
"""Where the model is stricter than one of the two others, and like the developer guide and the third."""


@pytest.fixture
def item(table: Table) -> Table:
    content = {"generation": {"N": "1"}, "grant_id": {"S": "g1"}}
    table.client.put_item(TableName=table.name, Item=key_of(table.connection_id) | content)
    return table


@pytest.mark.parametrize(("condition", "holds"), HOLDS)
def test_conditions(item: Table, condition: str, holds: bool) -> None:
    values = {name: value for name, value in VALUES.items() if name in condition}
    request: dict[str, Any] = {"ExpressionAttributeValues": values} if values else {}
    request |= {"TableName": item.name, "Key": key_of(item.connection_id), "UpdateExpression": "REMOVE absent"}
    if holds:
        item.client.update_item(ConditionExpression=condition, **request)
        return
    with pytest.raises(ClientError) as caught:
        item.client.update_item(ConditionExpression=condition, ReturnValuesOnConditionCheckFailure="ALL_OLD", **request)
    assert caught.value.response["Error"]["Code"] == "ConditionalCheckFailedException"
    response: Any = caught.value.response
    assert response["Item"]["grant_id"] == {"S": "g1"}


@pytest.mark.parametrize("request_", REFUSED, ids=lambda request: request["UpdateExpression"])
def test_what_is_refused(request: pytest.FixtureRequest, item: Table, request_: dict[str, Any]) -> None:
    if request_["UpdateExpression"] in LET_THROUGH.get(item.engine, ()):
        request.applymarker(pytest.mark.xfail(strict=True, reason="this engine lets it through; the model does not"))
    with pytest.raises(ClientError) as caught:
        item.client.update_item(TableName=item.name, Key=key_of(item.connection_id), **request_)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_a_refused_condition_on_nothing_shows_no_item(table: Table) -> None:
    with pytest.raises(ClientError) as caught:
        table.client.update_item(
            TableName=table.name,
            Key=key_of(table.connection_id),
            UpdateExpression="REMOVE absent",
            ConditionExpression="attribute_exists(pk)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert not caught.value.response.get("Item")
    assert "Item" not in table.client.get_item(TableName=table.name, Key=key_of(table.connection_id))


def test_a_put_may_be_conditional(item: Table) -> None:
    with pytest.raises(ClientError) as caught:
        item.client.put_item(
            TableName=item.name,
            Item=key_of(item.connection_id),
            ConditionExpression="attribute_not_exists(pk)",
        )
    assert caught.value.response["Error"]["Code"] == "ConditionalCheckFailedException"


def test_the_reserved_words_are_those_of_dynamodb(table: Table) -> None:
    if table.engine == "ministack":
        pytest.xfail("MiniStack knows some of them only")
    free = set()
    for word in dynamodb_model.RESERVED_WORDS:
        try:
            key = key_of(table.connection_id)
            table.client.update_item(TableName=table.name, Key=key, UpdateExpression=f"REMOVE {word.lower()}")
        except (ClientError, NotImplementedError):
            continue
        free.add(word)
    # Two that the developer guide lists are free in DynamoDB Local.
    assert free == ({"CONVERT", "SIZE"} if table.engine == "dynamodb_local" else set())


def test_the_model_has_the_deployed_table() -> None:
    made = deployed.table()
    types = {a["AttributeName"]: a["AttributeType"] for a in made["AttributeDefinitions"]}
    assert types == dynamodb_model.KEY_TYPES
    assert tuple(key["AttributeName"] for key in made["KeySchema"]) == dynamodb_model.PRIMARY_KEY
    indexes = {
        index["IndexName"]: (
            tuple(key["AttributeName"] for key in index["KeySchema"]),
            frozenset(index["Projection"].get("NonKeyAttributes", [])),
        )
        for index in made["GlobalSecondaryIndexes"]
    }
    assert indexes == dynamodb_model.INDEXES
