"""The evidence of a campaign: what each witness saw, and when. All times are in epoch seconds, of one clock.

It has no tokens. Tokens are named by their fingerprints, as in the simulator's ledger.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A refresh token, from the simulator's ledger."""

    fingerprint: str
    business: str
    issued_at: float
    issued_by: str | None
    """Fingerprint of the code or refresh token that was exchanged for it; `None` if the control API made it."""
    rotated: bool
    """Whether it was spent for a newer one."""
    works: bool
    """Whether the simulator would accept it now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to the token endpoint, from the simulator's record."""

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

    @property
    def refused(self) -> bool:
        """Whether the token was refused."""
        return self.outcome.startswith("invalid_grant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A `kill -9` of a refresh worker, from the campaign's own record."""

    at: float
    pid: int
    aim: str
    held: int
    """The number of its connections to the token endpoint that were open at this time or shortly before. A worker opens
    one for each refresh, and closes it after the answer. So it cannot have lost more tokens than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The line that `refresh` logs of an attempt, after the table has acknowledged its last write."""

    at: float
    business: str
    attempt: str
    outcome: str
    exchange: float | None
    """Seconds that its POST took; `None` without a POST."""
    alone: bool
    """Whether its invocation had no other attempt. A batch logs all its lines at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """An attempt that a connection's item still showed after every process that could end it was gone."""

    business: str
    attempt: str
    started_at: float
    seen_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Free:
    """A connection's item without an attempt, at the end of a wave."""

    business: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """A new consent for an existing connection, between two times. `before` names the token that was stored before."""

    business: str
    start: float
    end: float
    before: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """A connection with the status `reauthorization_required`."""

    business: str
    at: float
    reason: str
    stored: str
    works: bool
    """Whether the simulator would have accepted its stored refresh token at that time."""


@dataclass(slots=True)
class Evidence:
    """All evidence of one seed."""

    tokens: list[Token] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    finishes: list[Finish] = field(default_factory=list)
    opens: list[Open] = field(default_factory=list)
    frees: list[Free] = field(default_factory=list)
    reconnects: list[Reconnect] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    stored: dict[str, str] = field(default_factory=dict)
    """By business: fingerprint of the refresh token that is stored at the end."""
    exceptions: list[tuple[str, str]] = field(default_factory=list)
    """Unexpected exceptions that `refresh` logged: connection and type."""
    unsettled: list[str] = field(default_factory=list)
    """Connections that at the end were neither active without doubt nor `reauthorization_required`."""
