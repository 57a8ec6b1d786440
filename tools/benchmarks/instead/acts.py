"""The acts over a store and an OAuth client: what the programs beside it are made of."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from . import vault

logger = logging.getLogger()
logger.setLevel(logging.INFO)


def connect(event: Mapping[str, Any], _context: object) -> None:
    """A business has consented: store its first tokens."""
    vault.store(vault.Connection(event["id"], 0, int(time.time()) + 86_400, event["tokens"]))


def token(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """GET /connections/{id}/token behind API Gateway."""
    connection = vault.load(event["pathParameters"]["id"])
    if connection is None:
        return _answer(404, {"error": "not_found"})
    left = connection.expires_at - int(time.time())
    if left <= 0:
        return _answer(409, {"error": "expired"})
    logger.info(json.dumps({"message": "served", "connection": connection.id}))
    return _answer(200, {"access_token": connection.tokens["access_token"], "token_type": "Bearer", "expires_in": left})


def refreshing(ask: Callable[[str], Mapping[str, Any]]) -> Callable[[Mapping[str, Any], object], dict[str, Any]]:
    """The handler of a queue: a batch, one after the other, with its partial failures.

    `ask` trades a refresh token for new ones.
    """

    def refresh(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
        failed = []
        for record in event["Records"]:
            try:
                connection: Any = vault.load(json.loads(record["body"])["connection_id"])
                answer = ask(connection.tokens["refresh_token"])
                connection.expires_at = int(time.time()) + int(answer["expires_in"])
                connection.tokens = {name: answer[name] for name in ("access_token", "refresh_token")}
                stored = vault.store(connection)
                logger.info(json.dumps({"message": "refreshed" if stored else "lost", "connection": connection.id}))
            except Exception:
                logger.exception("not refreshed")
                failed.append({"itemIdentifier": record["messageId"]})
        return {"batchItemFailures": failed}

    return refresh


def _answer(status: int, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(body)}
