"""Connections in DynamoDB as `vault` keeps them, with boto3's resource, which turns its types into Python's."""

import json
import os

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from .vault import Connection, opened, sealed_anew

_config = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "max_attempts": 2})
_table = boto3.resource("dynamodb", config=_config).Table(os.environ["TABLE_NAME"])


def load(connection_id: str) -> Connection | None:
    """As `vault.load`."""
    found = _table.get_item(Key={"pk": connection_id, "sk": "T"}, ConsistentRead=True)
    item = found.get("Item")
    if item is None:
        return None
    tokens = json.loads(opened(connection_id, bytes(item["tokens"]), bytes(item["data_key"])))  # type: ignore[arg-type]
    return Connection(connection_id, int(item["version"]), int(item["expires_at"]), tokens)  # type: ignore[arg-type]


def store(connection: Connection) -> bool:
    """As `vault.store`."""
    sealed, data_key = sealed_anew(connection.id, json.dumps(connection.tokens).encode())
    try:
        _table.update_item(
            Key={"pk": connection.id, "sk": "T"},
            UpdateExpression="SET tokens = :t, data_key = :k, expires_at = :e, version = :n",
            ConditionExpression="attribute_not_exists(pk) OR version = :v",
            ExpressionAttributeValues={
                ":t": sealed,
                ":k": data_key,
                ":e": connection.expires_at,
                ":n": connection.version + 1,
                ":v": connection.version,
            },
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            return False
        raise
    return True
