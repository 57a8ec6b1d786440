"""FlowAccount's token endpoint, as far as it matters to rotation, in the kinds it might be of.

A refresh token's name tells its descent, `family.serial<parent`, so that the invariants need no ledger; an access token
adds when the request for it was sent. A family is what one consent of the user began.
"""

import json
from enum import StrEnum
from typing import NamedTuple

BUSINESS = "N1"
ANOTHER_BUSINESS = "N2"
ANOTHER_FAMILY = "other"
ACCESS_TOKEN_LIFETIME = 1_800


class Kind(StrEnum):
    """What the server does with a refresh token that was used before."""

    STRICT = "strict"
    """Refuses it."""
    FORGIVING = "forgiving"
    """Accepts it until a successor has been used, so that both of two refreshes succeed and both results work."""
    NEWEST_ONLY = "newest-only"
    """Accepts it likewise, but of all that it issued only the last works."""
    FAMILY_REVOKING = "family-revoking"
    """Takes it for an attack, and revokes all that came of the same consent."""


class Server(NamedTuple):
    """The state of the server: immutable, part of every state of the model."""

    issued: int = 0
    working: frozenset[str] = frozenset()
    graced: frozenset[str] = frozenset()
    """Used, but accepted once more."""
    secret: int = 1
    burned: frozenset[str] = frozenset()
    """Codes that were sent."""

    def works(self, token: str) -> bool:
        """Whether a refresh with this token would succeed."""
        return token in self.working or token in self.graced


def family(token: str) -> str:
    """The family a token belongs to."""
    return token.partition(".")[0]


def parent(token: str) -> str:
    """The serial of the token it was issued for."""
    return token.partition("<")[2]


def serial(token: str) -> str:
    """The serial of a token, which tells it from all others."""
    return token.partition(".")[2].partition("<")[0]


def consent(server: Server, code: str) -> tuple[Server, str | None]:
    """Exchange a code for a new family's first token; once."""
    if code in server.burned:
        return server, None
    number = server.issued + 1
    token = f"f{number}.{number}<0"
    return server._replace(issued=number, working=server.working | {token}, burned=server.burned | {code}), token


def refresh(server: Server, kind: Kind, token: str) -> tuple[Server, str | None]:
    """Rotate a token: the new one, or `None` for `invalid_grant`."""
    ours = family(token)
    if not server.works(token):
        if kind is Kind.FAMILY_REVOKING:
            server = revoke(server, ours)
        return server, None
    number = server.issued + 1
    new = f"{ours}.{number}<{serial(token)}"
    working, graced = server.working - {token}, server.graced
    if kind in (Kind.FORGIVING, Kind.NEWEST_ONLY):
        if token in server.working:
            # The first use of a token ends the grace of the one it was issued for.
            graced = frozenset(t for t in graced if family(t) != ours) | {token}
        if kind is Kind.NEWEST_ONLY:
            working = frozenset(t for t in working if family(t) != ours)
    return server._replace(issued=number, working=working | {new}, graced=graced), new


def revoke(server: Server, ours: str) -> Server:
    """End a family: by its user, or on suspicion."""
    return server._replace(
        working=frozenset(t for t in server.working if family(t) != ours),
        graced=frozenset(t for t in server.graced if family(t) != ours),
    )


class Answer(NamedTuple):
    """What the server answered, before the network had its say."""

    kind: str
    refresh_token: str = ""

    def http(self, access_token: str) -> tuple[int, bytes]:
        """Status and body."""
        tokens = {"access_token": access_token, "expires_in": ACCESS_TOKEN_LIFETIME, "token_type": "bearer"}
        match self.kind:
            case "tokens":
                return _json(200, tokens | {"refresh_token": self.refresh_token, "supportCode": BUSINESS})
            case "tokens of another business":
                return _json(200, tokens | {"refresh_token": self.refresh_token, "supportCode": ANOTHER_BUSINESS})
            case "tokens without a new refresh token":
                return _json(200, tokens | {"supportCode": BUSINESS})
            case "invalid_grant":
                return _json(400, {"error": "invalid_grant"})
            case "invalid_client":
                return _json(200, {"error": "invalid_client"})
            case "throttled":
                return _json(429, {"message": "Too Many Requests"})
            case "invalid_request":
                return _json(400, {"error": "invalid_request"})
            case "a broken refusal":
                return _json(503, {"error": "invalid_grant"})
            case _:
                return 502, b"<html>Bad Gateway</html>"


def _json(status: int, fields: dict[str, object]) -> tuple[int, bytes]:
    return status, json.dumps(fields).encode()


def misdirect(server: Server, kind: Kind, token: str) -> tuple[Server, str | None]:
    """Rotate a token, and answer with the tokens of another business."""
    server, new = refresh(server, kind, token)
    if new is None:
        return server, None
    return server._replace(
        working=server.working - {new}, graced=server.graced - {token}
    ), f"{ANOTHER_FAMILY}.{server.issued}<{serial(token)}"
