"""The floor: boto3 with one client of DynamoDB, and one read of it."""

import os
from collections.abc import Mapping
from typing import Any

import boto3

_table = boto3.client("dynamodb")


def token(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """The read alone: no answer is made of it."""
    key = {"pk": {"S": f"CONNECTION#{event['pathParameters']['id']}"}, "sk": {"S": "CONNECTION"}}
    found = _table.get_item(TableName=os.environ["TABLE_NAME"], Key=key, ConsistentRead=True)
    return {"statusCode": 200 if "Item" in found else 404, "body": ""}
