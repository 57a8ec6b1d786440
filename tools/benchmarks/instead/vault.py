"""Connections in DynamoDB, their tokens sealed: what the programs beside it share. With boto3's clients."""

import json
import os
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_config = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "max_attempts": 2})
_dynamodb = boto3.client("dynamodb", config=_config)
_kms = boto3.client("kms", config=_config)
_TABLE, _KEY_ID, _CONTEXT = os.environ["TABLE_NAME"], os.environ["KEY_ID"], {"stack": os.environ["STACK"]}
_keys: dict[bytes, bytes] = {}


@dataclass
class Connection:
    """What is stored of a business."""

    id: str
    version: int
    expires_at: int
    tokens: dict[str, Any]


def load(connection_id: str) -> Connection | None:
    """A connection with its tokens opened, or `None`: one read, and a call of KMS if its data key is not remembered."""
    key = {"pk": {"S": connection_id}, "sk": {"S": "T"}}
    found = _dynamodb.get_item(TableName=_TABLE, Key=key, ConsistentRead=True)
    item = found.get("Item")
    if item is None:
        return None
    tokens = json.loads(opened(connection_id, item["tokens"]["B"], item["data_key"]["B"]))
    return Connection(connection_id, int(item["version"]["N"]), int(item["expires_at"]["N"]), tokens)


def store(connection: Connection) -> bool:
    """Store new tokens; `False` if somebody else stored theirs first. A call of KMS and a conditional write."""
    sealed, data_key = sealed_anew(connection.id, json.dumps(connection.tokens).encode())
    try:
        _dynamodb.update_item(
            TableName=_TABLE,
            Key={"pk": {"S": connection.id}, "sk": {"S": "T"}},
            UpdateExpression="SET tokens = :t, data_key = :k, expires_at = :e, version = :n",
            ConditionExpression="attribute_not_exists(pk) OR version = :v",
            ExpressionAttributeValues={
                ":t": {"B": sealed},
                ":k": {"B": data_key},
                ":e": {"N": str(connection.expires_at)},
                ":n": {"N": str(connection.version + 1)},
                ":v": {"N": str(connection.version)},
            },
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            return False
        raise
    return True


def opened(connection_id: str, sealed: bytes, data_key: bytes) -> bytes:
    """What was sealed for a connection."""
    key = _keys.get(data_key)
    if key is None:
        key = _kms.decrypt(CiphertextBlob=data_key, KeyId=_KEY_ID, EncryptionContext=_CONTEXT)["Plaintext"]
        if len(_keys) >= 1_000:
            _keys.clear()
        _keys[data_key] = key
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], connection_id.encode())


def sealed_anew(connection_id: str, plaintext: bytes) -> tuple[bytes, bytes]:
    """Sealed under a new data key, and that key as KMS wrapped it."""
    made = _kms.generate_data_key(KeyId=_KEY_ID, KeySpec="AES_256", EncryptionContext=_CONTEXT)
    nonce = os.urandom(12)
    return nonce + AESGCM(made["Plaintext"]).encrypt(nonce, plaintext, connection_id.encode()), made["CiphertextBlob"]


def client_secret() -> str:
    """Looked up once."""
    global _secret  # noqa: PLW0603 - kept for as long as the process lives
    if _secret is None:
        manager = boto3.client("secretsmanager", config=_config)
        answer = manager.get_secret_value(SecretId=os.environ["CLIENT_SECRET_NAME"])
        _secret = str(json.loads(answer["SecretString"])["client_secret"])
    return _secret


_secret: str | None = None
