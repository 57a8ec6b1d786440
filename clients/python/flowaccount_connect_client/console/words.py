"""Times, statuses and history entries in words for people."""

from flowaccount_connect_client.cli import tables
from flowaccount_connect_client.results import HistoryEntry

STATUSES = {
    "active": "Active",
    "in_doubt": "In doubt",
    "refresh_failing": "Refreshes fail",
    "importing": "Importing",
    "reauthorization_required": "Needs a new consent",
    "disconnected": "Disconnected",
    "unreadable": "Unreadable",
}

KINDS = {
    "connected": "Connected",
    "reconnected": "Connected again, by a new consent",
    "refreshed": "Tokens refreshed",
    "attempt_failed": "A refresh failed",
    "attempt_released": "A refresh gave up before it sent anything",
    "in_doubt": "A refresh got no usable answer",
    "at_risk": "At risk: the refresh token dies soon",
    "refused_alone": "FlowAccount refuses this connection alone",
    "reauthorization_required": "Needs a new consent",
    "recovered": "Recovered",
    "disconnected": "Disconnected",
    "refused": "FlowAccount refused the refresh token once",
    "import_refused": "An import was refused",
    "import_started": "An import began",
    "import_ended": "An import ended",
    "removed": "Removed",
    "status_changed": "Its status changed",
    "restored": "Restored from a backup",
}

TROUBLE = {"attempt_failed", "in_doubt", "at_risk", "refused_alone", "reauthorization_required", "refused"}
"""Kinds of entries that are marked."""

REASONS = {
    "rejected": "FlowAccount refused the refresh token twice",
    "rotation_lost": "an answer with a newer refresh token never arrived",
    "expired": "FlowAccount did not answer for a whole lifetime of the refresh token",
    "in_doubt": "an answer never arrived, and the policy is to send no token again",
    "wrong_connection": "FlowAccount answered for another business",
}


def moment(value: float | None) -> str:
    """A time in epoch seconds, in the time zone of this machine."""
    return tables.moment(None if value is None else int(value)).text


def left(value: int | None, now: float) -> str:
    """How long until a time in epoch seconds."""
    return tables.left(value, now).text


def status(value: str) -> str:
    """A status; one that this version does not know, as the API writes it."""
    return STATUSES.get(value, value)


def kind(entry: HistoryEntry) -> str:
    """What happened; a kind that this version does not know, as the API writes it."""
    return KINDS.get(entry.kind, entry.kind)


def facts(entry: HistoryEntry) -> str:
    """The rest of an entry, in one line."""
    known = (
        REASONS.get(entry.reason or "", entry.reason),
        f"tenant {entry.tenant}" if entry.tenant else None,
        f"generation {entry.generation}" if entry.generation is not None else None,
        f"{entry.retries} tries" if entry.retries else None,
        f"after {entry.recovered_from}" if entry.recovered_from else None,
        f"attempt {entry.attempt_id}" if entry.attempt_id else None,
    )
    return " · ".join(one for one in known if one)
