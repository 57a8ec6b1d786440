"""Derives what happened to a connection from its item before and after a change: history entries, and bus events.

The result depends only on the two versions of the item and on the id of the change. A change that is delivered again
gives the same entries under the same ids.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from flowaccount_connect.domain.connection import Connection, Status, public_status, reconnect

VERSION = 1
"""The version of the events' details; `events/schemas` describes it."""


class Kind(StrEnum):
    """What can happen to a connection."""

    CONNECTED = "connected"
    RECONNECTED = "reconnected"
    """A new consent for a connection that existed before."""
    REFRESHED = "refreshed"
    ATTEMPT_FAILED = "attempt_failed"
    ATTEMPT_RELEASED = "attempt_released"
    """The attempt ended without a failure, for example because FlowAccount limits the rate."""
    IN_DOUBT = "in_doubt"
    """A refresh got no usable answer. FlowAccount may have spent the refresh token or not."""
    AT_RISK = "at_risk"
    """Its deadline, or the end of its user's consent, is near."""
    REFUSED_ALONE = "refused_alone"
    """FlowAccount refuses its requests while it accepts those of others."""
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    RECOVERED = "recovered"
    """A refresh succeeded after the connection was in doubt, at risk, or in need of a new consent."""
    DISCONNECTED = "disconnected"
    REFUSED = "refused"
    """A user chose this business in a connect that must not connect it. Nothing of it was stored."""
    IMPORT_REFUSED = "import_refused"
    IMPORT_STARTED = "import_started"
    IMPORT_ENDED = "import_ended"
    """The import succeeded or failed. Another entry has its result."""
    REMOVED = "removed"
    """Its item disappeared without a disconnect: somebody deleted it from the table."""
    STATUS_CHANGED = "status_changed"
    """The new status has no kind of its own."""
    RESTORED = "restored"
    """It came back from a backup of the table. A second entry has the state in which it came back."""
    UNREADABLE = "unreadable"
    """An entry that cannot be understood. Never written: what a hand or another program wrote."""


class Risk(StrEnum):
    """Why a connection is at risk: the `reason` of `connection.at_risk`."""

    DEADLINE = "deadline"
    """Its refresh token dies soon, and no refresh has succeeded."""
    CONSENT_ENDS = "consent_ends"
    """The consent of its user ends soon. No refresh helps, only a new consent."""


_CONSENT_HELPS = frozenset({Kind.AT_RISK, Kind.REFUSED_ALONE, Kind.REAUTHORIZATION_REQUIRED})
"""Kinds of trouble that a new consent of the user ends. Their events have the way to a fresh link."""

_SILENT = frozenset(
    {
        *(Kind.ATTEMPT_FAILED, Kind.ATTEMPT_RELEASED, Kind.IMPORT_STARTED, Kind.IMPORT_ENDED),
        *(Kind.REMOVED, Kind.STATUS_CHANGED, Kind.RESTORED, Kind.UNREADABLE),
    }
)
"""Kinds that go to the history only, not to the bus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened to a connection. Times in epoch seconds; `None` where a field does not apply."""

    id: str
    """The same each time the same change is read."""
    kind: Kind
    at: int
    connection_id: str
    environment: str | None = None
    tenant: str | None = None
    status: str | None = None
    """The connection's status after the change, as callers see it."""
    generation: int | None = None
    attempt_id: str | None = None
    reason: str | None = None
    """Why it needs a new consent, or is at risk, or was refused."""
    since: int | None = None
    deadline: int | None = None
    consent_ends_at: int | None = None
    """When the user's consent ends, however often it is refreshed."""
    retries: int | None = None
    """How many attempts in a row have failed."""
    recovered_from: str | None = None
    """The gravest trouble of a `recovered` connection: `reauthorization_required`, `in_doubt` or `at_risk`."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event for the bus: its detail type, and its detail in types that JSON knows."""

    type: str
    detail: dict[str, object]


def entries(change_id: str, at: int, old: Connection | None, new: Connection | None) -> tuple[Entry, ...]:
    """What happened when `old` became `new`. `None` means: the item does not exist. `at` in epoch seconds."""
    if new is None:
        # The table deletes a tombstone some time after the disconnect. This is no event of its own.
        if old is None or old.status is Status.DISCONNECTED:
            return ()
        return (_entry(change_id, at, Kind.REMOVED, old, old),)
    return tuple(_entry(change_id, at, kind, old, new) for kind in _kinds(old, new))


def import_entries(change_id: str, at: int, old: Connection | None, new: Connection | None) -> tuple[Entry, ...]:
    """What happened to an import when `old` became `new`. An import is under way while its own item is active."""
    was, is_ = is_under_way(old), is_under_way(new)
    imported = new or old
    if imported is None or was == is_:
        return ()
    kind = Kind.IMPORT_STARTED if is_ else Kind.IMPORT_ENDED
    attempt_id = old.attempt.id if old is not None and old.attempt is not None else None
    return (
        Entry(
            id=f"{change_id}-{kind}",
            kind=kind,
            at=at,
            connection_id=imported.id,
            environment=imported.environment or None,
            attempt_id=attempt_id,
        ),
    )


def is_under_way(imported: Connection | None) -> bool:
    """Whether an import still waits for its first refresh, which proves its token."""
    return imported is not None and imported.status is Status.ACTIVE


def event(entry: Entry) -> Event | None:
    """The event of an entry, as `events/schemas` describes it; `None` for kinds that go to the history only."""
    if entry.kind in _SILENT:
        return None
    optional: dict[str, object] = {
        "environment": entry.environment,
        "status": entry.status,
        "generation": entry.generation,
        "attempt_id": entry.attempt_id,
        "reason": entry.reason,
        "since": _utc(entry.since),
        "deadline": _utc(entry.deadline),
        "consent_ends_at": _utc(entry.consent_ends_at) if entry.kind is Kind.AT_RISK else None,
        "recovered_from": entry.recovered_from,
    }
    detail: dict[str, object] = {
        "version": VERSION,
        "id": entry.id,
        "at": _utc(entry.at),
        "connection_id": entry.connection_id,
        "tenant": entry.tenant,
    }
    if entry.kind in _CONSENT_HELPS:
        optional["reconnect"] = reconnect(entry.connection_id, entry.tenant)
    return Event(f"connection.{entry.kind}", detail | {k: v for k, v in optional.items() if v is not None})


def _kinds(old: Connection | None, new: Connection) -> Iterator[Kind]:
    """What happened, as kinds. Yields at least one where the status changed, since entries carry the count along."""
    was = old.status if old is not None else None
    if old is None and _is_from_a_backup(new):
        yield Kind.RESTORED
        yield _BY_STATUS.get(new.status, Kind.IN_DOUBT)
    elif new.status is Status.ACTIVE and (old is None or old.grant_id != new.grant_id):
        yield Kind.CONNECTED if was in (None, Status.DISCONNECTED) else Kind.RECONNECTED
    elif old is not None and new.status is Status.ACTIVE and new.generation > old.generation:
        yield Kind.REFRESHED
        if _recovered_from(old, new) is not None:
            yield Kind.RECOVERED
    elif new.status is not was:
        yield _BY_STATUS.get(new.status, Kind.STATUS_CHANGED)
    elif old is not None:
        yield from _lesser(old, new)
    if new.at_risk is not None and (old is None or old.at_risk is None or new.at_risk > old.at_risk):
        yield Kind.AT_RISK


def _is_from_a_backup(new: Connection) -> bool:
    """Whether a new item comes from a backup. A new consent makes an active connection that is not in doubt."""
    return new.status is Status.REAUTHORIZATION_REQUIRED or (new.status is Status.ACTIVE and new.in_doubt is not None)


_BY_STATUS = {
    Status.REAUTHORIZATION_REQUIRED: Kind.REAUTHORIZATION_REQUIRED,
    Status.DISCONNECTED: Kind.DISCONNECTED,
}


def _lesser(old: Connection, new: Connection) -> Iterator[Kind]:
    """What happened while status and generation stayed the same."""
    if new.refused_alone is not None and old.refused_alone is None:
        yield Kind.REFUSED_ALONE
    if new.in_doubt is not None and old.in_doubt is None:
        yield Kind.IN_DOUBT
    elif (new.retries or 0) > (old.retries or 0):
        yield Kind.ATTEMPT_FAILED
    elif old.attempt is not None and new.attempt is None:
        yield Kind.ATTEMPT_RELEASED


def _recovered_from(old: Connection, new: Connection) -> str | None:
    """The gravest trouble of `old`; `None` if it had none, or if `new` still has one."""
    if new.in_doubt is not None or new.at_risk is not None:
        return None
    if old.status is Status.REAUTHORIZATION_REQUIRED:
        return Kind.REAUTHORIZATION_REQUIRED.value
    if old.in_doubt is not None:
        return Kind.IN_DOUBT.value
    return Kind.AT_RISK.value if old.at_risk is not None else None


_SINCE: Mapping[Kind, Callable[[Connection], int | None]] = {
    Kind.REAUTHORIZATION_REQUIRED: lambda new: new.ended_at,
    Kind.DISCONNECTED: lambda new: new.ended_at,
    Kind.IN_DOUBT: lambda new: new.in_doubt,
    Kind.AT_RISK: lambda new: new.at_risk,
    Kind.REFUSED_ALONE: lambda new: new.refused_alone,
}
_COMMITS = frozenset({Kind.CONNECTED, Kind.RECONNECTED, Kind.REFRESHED, Kind.RECOVERED})
_ALIVE = _COMMITS | {
    Kind.RESTORED,
    Kind.AT_RISK,
    Kind.REFUSED_ALONE,
    Kind.IN_DOUBT,
    Kind.ATTEMPT_FAILED,
    Kind.ATTEMPT_RELEASED,
}


def _entry(change_id: str, at: int, kind: Kind, old: Connection | None, new: Connection) -> Entry:
    attempt_id = old.attempt.id if old is not None and old.attempt is not None else None
    if kind in _COMMITS:
        attempt_id = new.committed_by
    elif kind is Kind.AT_RISK:
        attempt_id = None
    return Entry(
        id=f"{change_id}-{kind}",
        kind=kind,
        at=at,
        connection_id=new.id,
        environment=new.environment or (old.environment if old is not None else None) or None,
        tenant=new.tenant or (old.tenant if old is not None else None),
        status=kind.value if kind is Kind.REMOVED else public_status(new),
        generation=new.generation,
        attempt_id=attempt_id,
        reason=_reason(kind, old, new),
        since=_SINCE[kind](new) if kind in _SINCE else None,
        deadline=(new.deadline or None) if kind in _ALIVE else None,
        consent_ends_at=new.consent_ends_at if kind in _ALIVE else None,
        retries=new.retries if kind in (Kind.ATTEMPT_FAILED, Kind.IN_DOUBT) else None,
        recovered_from=_recovered_from(old, new) if kind is Kind.RECOVERED and old is not None else None,
    )


def _reason(kind: Kind, old: Connection | None, new: Connection) -> str | None:
    """Why a new consent is needed, or what comes near if it is at risk."""
    if kind is Kind.REAUTHORIZATION_REQUIRED:
        return new.reason
    if kind is not Kind.AT_RISK:
        return None
    if new.consent_ends_at is None:
        return Risk.DEADLINE.value
    # The tick marks what is not refreshed in time. With new tokens it is the consent alone that can end soon.
    refreshed = old is None or (old.grant_id, old.generation) != (new.grant_id, new.generation)
    return (Risk.CONSENT_ENDS if refreshed or new.deadline >= new.consent_ends_at else Risk.DEADLINE).value


def _utc(seconds: int | None) -> str | None:
    """A time in UTC, in the format of RFC 3339."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
