"""What the tests of the Python client share: what the stack answers, and what a server was given."""

import json

from tests.unit.servers import Answer, Server, reply

CONNECTION = "N1234567"


def found(**body: object) -> Answer:
    """An answer that holds this."""
    return reply(200, json.dumps(body).encode())


def given(generation: int | None = 1, **changed: object) -> Answer:
    """The stack's answer with a token."""
    body: dict[str, object] = {
        "access_token": f"access-{generation}",
        "token_type": "Bearer",
        "expires_in": 86_400,
        "expires_at": 1,
        "support_code": CONNECTION,
        "environment": "sandbox",
        "generation": generation,
        "status": "active",
    }
    return found(**body | changed)


def refused(status: int, code: str, headers: str = "", **members: object) -> Answer:
    """A problem of the stack's."""
    body = {"status": status, "code": code, "detail": f"Detail of {code}.", "request_id": "r-1", **members}
    return reply(status, json.dumps(body).encode(), headers)


def origin(server: Server) -> str:
    """The URL of a server without a path."""
    return f"http://127.0.0.1:{server.port}"


def carried(server: Server) -> list[str | None]:
    """The tokens that a server was given."""
    return [asked.headers.get("authorization") for asked in server.asked]
