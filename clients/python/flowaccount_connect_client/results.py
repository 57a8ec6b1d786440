"""What the API answers, as frozen dataclasses. Members have the names of the API; all times are epoch seconds."""

import dataclasses
import re
import time
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flowaccount_connect_client.errors import InvalidAnswer

_AGAIN = 30
"""A token that has less life left than asked for is as good as it gets for now; the stack is asked again after this.
So is one whose connection is in danger: the danger may be over. Seconds."""

_SPENT = 5
"""Seconds before its end from which on a token is not sent any more: a request takes time."""

_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class AccessToken:
    """An access token and what goes with it. Its repr does not show the token. Times by the clock of this machine."""

    value: str = field(repr=False)
    support_code: str
    generation: int
    status: str
    """`active`; `refresh_failing`, `in_doubt` or `reauthorization_required` where the next token is in danger."""
    environment: str
    expires_at: float
    fetched_at: float
    asked_ttl: float = field(default=3_600, repr=False, compare=False)
    """The `min_ttl` that was asked for."""

    @property
    def in_danger(self) -> bool:
        """Whether there may be no token after this one."""
        return self.status != "active"

    def lives(self, now: float) -> bool:
        """Whether it can still be sent."""
        return now < self.expires_at - _SPENT

    def lasts(self, now: float, min_ttl: float) -> bool:
        """Whether it need not be asked for again."""
        if not self.lives(now):
            return False
        enough = not self.in_danger and now < self.expires_at - min_ttl
        return enough or (self.asked_ttl >= min_ttl and self.fetched_at <= now < self.fetched_at + _AGAIN)


@dataclass(frozen=True)
class Connection:
    """One connected business, as the stack sees it. The API's description tells each member."""

    support_code: str
    """FlowAccount's code of the business: the connection's id."""
    status: str
    """`active`, `refresh_failing`, `in_doubt`, `importing`, `reauthorization_required`, `disconnected` or
    `unreadable`."""
    generation: int
    """Counts every change of its tokens."""
    environment: str | None = None
    tenant: str | None = None
    connected_at: int | None = None
    requested_at: int | None = None
    access_expires_at: int | None = None
    deadline: int | None = None
    """When its refresh token dies unless it is refreshed."""
    refresh_at: int | None = None
    consent_ends_at: int | None = None
    """When the consent ends, however often its token is refreshed; `None` where nothing says that it does."""
    in_doubt_since: int | None = None
    at_risk_since: int | None = None
    reason: str | None = None
    """Why a new consent is needed."""
    since: int | None = None


@dataclass(frozen=True)
class HistoryEntry:
    """One thing that happened to a connection."""

    id: str
    """The same wherever the same thing is reported; events carry it, too."""
    kind: str
    at: int
    status: str | None = None
    """The status it left behind."""
    generation: int | None = None
    attempt_id: str | None = None
    tenant: str | None = None
    reason: str | None = None
    since: int | None = None
    deadline: int | None = None
    consent_ends_at: int | None = None
    retries: int | None = None
    recovered_from: str | None = None


@dataclass(frozen=True)
class ConnectLink:
    """Where to send the browser of one of your users. Until it is used, it is a secret of that user."""

    connect_url: str = field(repr=False)
    expires_at: int


_Result = TypeVar("_Result", Connection, HistoryEntry, ConnectLink)


def read(kind: type[_Result], answer: object) -> _Result:
    """A result from the JSON of an answer. Members that this version does not know are ignored.

    Raises `InvalidAnswer` for one that is missing or of another type.
    """
    members = answer if isinstance(answer, dict) else {}
    found: dict[str, Any] = {}
    for one in dataclasses.fields(kind):
        value = _whole(members.get(one.name))
        if isinstance(value, bool) or not isinstance(value, one.type):  # type: ignore[arg-type]  # a type, not its name
            raise InvalidAnswer(f"The answer has no {one.name} as the API's: check the URL.")
        found[one.name] = value
    return kind(**found)


def read_token(answer: object, connection_id: str, *, asked_at: float, min_ttl: float) -> AccessToken:
    """The access token in an answer, asked for at `asked_at` with `min_ttl` seconds of life. Raises `InvalidAnswer`."""
    members = answer if isinstance(answer, dict) else {}
    token, life, generation = (_whole(members.get(name)) for name in ("access_token", "expires_in", "generation"))
    usable = isinstance(token, str) and _TOKEN.fullmatch(token)
    if not (usable and isinstance(life, int) and isinstance(generation, int)) or isinstance(life, bool):
        raise InvalidAnswer(f"The answer holds no access token of {connection_id}: check the URL.")
    if members.get("support_code") != connection_id:
        raise InvalidAnswer(f"The answer is for another connection than {connection_id}: check the URL.")
    return AccessToken(
        value=str(token),
        support_code=connection_id,
        generation=generation,
        status=str(members.get("status")),
        environment=str(members.get("environment")),
        expires_at=asked_at + life,
        fetched_at=time.time(),
        asked_ttl=min_ttl,
    )


def read_page(answer: object, name: str, token: str | None) -> tuple[list[object], str | None]:
    """The items of a page that was asked for with `token`, and what asks for the next; `None` on the last.

    Raises `InvalidAnswer`.
    """
    members = answer if isinstance(answer, dict) else {}
    items, more = members.get(name), members.get("next")
    if not isinstance(items, list) or not isinstance(more, str | None) or (more is not None and more == token):
        raise InvalidAnswer(f"The answer is no page of {name}: check the URL.")
    return items, more or None


_LARGEST = 2**53
"""Beyond this not every language reads the same number from JSON (RFC 8259 section 6)."""


def _whole(value: object) -> object:
    """A whole number as an integer, however JSON writes it. Raises `InvalidAnswer` for one that nobody means."""
    if isinstance(value, int | float) and abs(value) >= _LARGEST:
        raise InvalidAnswer("The answer has a number that is none of the API's: check the URL.")
    return int(value) if isinstance(value, float) and value.is_integer() else value
