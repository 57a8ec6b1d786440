"""What is known of a campaign after it: who saw what, and when. All times in seconds since the epoch, one clock.

Nothing here is a token: tokens are named by their fingerprints, as the simulator's ledger does.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A refresh token, by the simulator's ledger."""

    fingerprint: str
    business: str
    consent: str
    issued_at: float
    issued_by: str | None
    """Fingerprint of the code or refresh token that it was given for; `None` where the control API made it."""
    rotated: bool
    """Whether it was spent for a newer one."""
    works: bool
    """Whether the simulator would take it now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to the token endpoint, by the simulator's record of it."""

    number: int
    at: float
    grant: str
    business: str
    fingerprint: str
    """Of the code or refresh token that it presented."""
    outcome: str
    faults: tuple[str, ...]
    issued: tuple[str, ...]
    delivered: bool
    receiver_gone: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A `kill -9` of a refresh worker, by the campaign's own record."""

    at: float
    pid: int
    aim: str
    sockets: int
    """Connections to the token endpoint that it held. A worker has one for each refresh that sent its request and
    closes them all at the end of the invocation, so more tokens than these cannot have been in its hands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The line that `refresh` logs of an attempt, after the table has acknowledged its last write."""

    at: float
    business: str
    attempt: str
    outcome: str
    exchange: float | None
    """Seconds that its POST took, if it came to one."""
    alone: bool
    """Whether its invocation was for it alone. A batch logs all its lines at its very end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """An attempt that a connection's item still showed when no process that could end it was left."""

    business: str
    attempt: str
    started_at: float
    seen_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """A connection's item that showed no attempt, at the end of a wave."""

    business: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """A new consent for a connection that was there, between two moments; `before` is what was stored until then."""

    business: str
    start: float
    end: float
    before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """A connection that was found in `reauthorization_required`."""

    business: str
    at: float
    reason: str
    stored: str
    works: bool
    """Whether the simulator would have taken its stored refresh token at that moment."""


@dataclass(slots=True)
class Evidence:
    """All of it, of one seed."""

    tokens: list[Token] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    finishes: list[Finish] = field(default_factory=list)
    opens: list[Open] = field(default_factory=list)
    frees: list[Free] = field(default_factory=list)
    reconnects: list[Reconnect] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    stored: dict[str, str] = field(default_factory=dict)
    """Fingerprint of the stored refresh token, by business, in the end."""
    exceptions: list[tuple[str, str]] = field(default_factory=list)
    """What `refresh` did not expect and logged: connection and type."""
    unsettled: list[str] = field(default_factory=list)
    """Connections that were neither active without doubt nor `reauthorization_required` in the end."""
