"""What must hold, one function each, by the design's invariants 1 to 7 and 9. Each says what is wrong, or `None`."""

import json
from typing import Any, NamedTuple

from flowaccount_connect.connect.callback import Ended
from flowaccount_connect.connect.endings import Ending
from flowaccount_connect.domain.connection import Status
from flowaccount_connect.rotation.outcomes import RefreshOutcome
from flowaccount_connect.rotation.pending_commits import PendingOutcome
from tests.model.process import SCHEDULE, UNAVAILABLE, Node
from tests.model.server import ACCESS_TOKEN_LIFETIME, ANOTHER_FAMILY, BUSINESS, Server, family, parent, serial

EXCHANGE = 15
"""The most one POST may take, in seconds."""

APART = 600
"""How far apart two refusals must be, in seconds."""

REFUSAL = "invalid_grant"

TO_COMMIT = 14
"""What must be left after it: for one write to the table and one message to the salvage queue, at their slowest."""

LAST_TRY = 86_400 // 60
"""How long before the deadline the last try comes."""


class Stored(NamedTuple):
    """The connection's item, as far as the invariants read it."""

    status: str = ""
    grant_id: str = ""
    generation: int = 0
    access: str = ""
    token: str = ""
    """The refresh token."""
    owner: str = ""
    requested_at: int = 0
    access_expires_at: int = 0
    deadline: int = 0
    refresh_at: int | None = None
    due_shard: str | None = None
    in_doubt: int | None = None
    refused_at: int | None = None
    refused_alone: int | None = None
    retries: int | None = None
    attempt: str | None = None
    lease_until: int = 0
    reason: str | None = None
    committed_by: str | None = None
    is_import: bool = False
    """Whether it is an import, and no connection yet."""
    beside: bool = False
    """Whether the import that made this connection is under way still."""

    @classmethod
    def of(
        cls, item: dict[str, tuple[str, Any]] | None, imported: dict[str, tuple[str, Any]] | None = None
    ) -> "Stored":
        """What an item of the model's table says."""
        if item is None:
            return cls()
        plain = {name: value for name, (_, value) in item.items()}
        access, token, owner, _ = json.loads(plain["tokens"]) if "tokens" in plain else ("", "", "", "")
        return cls(
            status=plain.get("status", ""),
            grant_id=plain.get("grant_id", ""),
            generation=plain.get("generation", 0),
            access=access,
            token=token,
            owner=owner,
            requested_at=plain.get("requested_at", 0),
            access_expires_at=plain.get("access_expires_at", 0),
            deadline=plain.get("deadline", 0),
            refresh_at=plain.get("refresh_at"),
            due_shard=plain.get("due_shard"),
            in_doubt=plain.get("in_doubt"),
            refused_at=plain.get("refused_at"),
            refused_alone=plain.get("refused_alone"),
            retries=plain.get("retries"),
            attempt=plain.get("attempt_id"),
            lease_until=plain.get("lease_until", 0),
            reason=plain.get("reason"),
            committed_by=plain.get("committed_by"),
            is_import=plain["sk"] == "IMPORT",
            beside=plain["sk"] == "CONNECTION"
            and imported is not None
            and (imported["status"][1], imported["grant_id"][1]) == ("active", plain.get("grant_id")),
        )

    @property
    def active(self) -> bool:
        """Whether it is refreshed."""
        return self.status == Status.ACTIVE


class Sent(NamedTuple):
    """A refresh token that was sent, with no proof so far that this left it unspent."""

    token: str
    attempt: int
    lease_until: int


# 1. At most one attempt has a given refresh token in the air


def one_in_the_air(
    token: str, node: Node, now: int, policy: str, sent: frozenset[Sent], under_way: list[str], deadline: int
) -> str | None:
    """1. A token is sent again only after proof that it is unspent, or, by policy, after doubt, by a later claim:
    once the lease of the first has run out, unless the deadline comes before that."""
    if token in under_way:
        return f"{token} is in the air twice"
    for other in sent:
        if other.token != token:
            continue
        if policy == "never":
            return f"{token} was sent by attempt {other.attempt} and is sent again under policy never"
        if other.attempt == node.attempt:
            return f"{token} is sent twice within attempt {node.attempt}, with no proof that it is unspent"
        if now < other.lease_until < deadline:
            return f"{token} is sent again before the lease of attempt {other.attempt} has run out"
        if not node.in_doubt:
            return f"{token} is sent again with no doubt recorded"
    return None


def doubt_is_recorded(stored: Stored, sent: frozenset[Sent]) -> str | None:
    """1. Whoever claims next must know that the stored token was sent, and that nobody knows what became of it."""
    if stored.active and stored.attempt is None and stored.in_doubt is None:
        for other in sent:
            if other.token == stored.token:
                return f"{other.token} was sent by attempt {other.attempt}, and nothing says that it is in doubt"
    return None


def time_to_commit_is_left(budget: float, left: float) -> str | None:
    """1. Never POST without the time to store what comes."""
    if budget > EXCHANGE or budget + TO_COMMIT > left:
        return f"a POST may take {budget:.0f} s with {left:.0f} s left"
    return None


# 2. What is stored is never older than what any worker received and was able to write


def generation_counts_tokens(before: Stored, after: Stored) -> str | None:
    """2. `generation` counts every change of tokens, by one, and never goes back; nor does the grant."""
    if after.is_import:
        return None if after.generation == before.generation == 0 else "an import counts no generation"
    ended = after.status == Status.DISCONNECTED and before != after
    changed = (before.access, before.token, before.is_import) != (after.access, after.token, after.is_import) or ended
    if after.generation != before.generation + changed:
        return f"generation {before.generation} → {after.generation}, tokens {'changed' if changed else 'unchanged'}"
    if after.grant_id < before.grant_id:
        return f"{after.grant_id} replaced the later {before.grant_id}"
    if changed and after.attempt is not None:
        return f"{after.attempt} outlived the generation that it had claimed"
    if after.token != before.token and after.in_doubt is not None:
        return "the doubt outlived the token that it was about"
    if changed and after.refused_at is not None:
        return "the refusal outlived a success"
    return None


def newer_replaces_older(before: Stored, after: Stored, ended: int, *, is_restored: bool) -> str | None:
    """2. Within a consent a set is replaced only by one that was given for it, or for the same token upon a later
    request. 11. A disconnected connection comes back only by a consent that was given after the last disconnect, when
    the server had issued `ended` tokens. What came from a backup is replaced by any set of a later request."""
    if after.token and before.status == Status.DISCONNECTED and int(family(after.token)[1:]) <= ended:
        return f"{after.token} came to life, whose consent was given before the disconnect"
    if (before.access, before.token) == (after.access, after.token) or not after.token:
        return None
    if after.grant_id > before.grant_id:
        return None
    if before.status == Status.DISCONNECTED:
        return "a disconnected connection came back without a new consent"
    if before.is_import and not before.token and after.grant_id == before.grant_id:
        return None  # A refused import has dropped its token, and this late answer was given for it.
    if after.token == before.token:
        if after.requested_at < before.requested_at:
            return f"the access token {before.access} was replaced by the older {after.access}"
        return None
    if is_restored and family(after.token) == family(before.token):
        return None if after.requested_at > before.requested_at else f"the older {after.token} came back"
    sibling = parent(after.token) == parent(before.token) and after.requested_at > before.requested_at
    if family(after.token) != family(before.token) or not (sibling or parent(after.token) == serial(before.token)):
        return f"{after.token} replaced {before.token}, which it was not given for"
    return None


def nothing_working_is_dropped(held_before: set[str], held_after: set[str]) -> str | None:
    """2. No action of ours loses the last refresh token that works."""
    if held_before and not held_after:
        return f"{', '.join(sorted(held_before))} still worked, and is nowhere any more"
    return None


def report_is_true(node: Node, stored: Stored, pending: bool) -> str | None:
    """2. Whoever received a set and lived to the end says what became of it, and truly."""
    outcome = node.outcome
    if isinstance(outcome, BaseException):
        if node.kind == "confirm" and not any(event.result == UNAVAILABLE for event in node.events):
            return f"a confirmation ended with {outcome!r}, though the table never failed"
        return f"it ended with {outcome!r} while it held {node.holds}" if node.holds is not None else None
    if isinstance(outcome, str):
        connected = outcome == BUSINESS and node.grant_id is not None and stored.grant_id < node.grant_id
        return "confirmed, and not connected" if connected else None
    if isinstance(outcome, Ended):
        lost = node.grant_id is not None and stored.grant_id < node.grant_id and not pending
        connected = outcome.ending in (Ending.CONNECTED, Ending.TO_BE_CONFIRMED)
        return f"connected, while {node.holds} is stored nowhere" if connected and lost else None
    if outcome is None or node.holds is None:
        return None
    stays = stored.active and stored.token == node.posted
    match outcome.outcome:
        case RefreshOutcome.REFRESHED if stays:
            return f"reported as refreshed, while {stored.token} is stored still"
        case RefreshOutcome.PENDING if stays and not pending:
            return "reported as pending, and is not in the queue of pending commits"
        case RefreshOutcome.REFRESHED | RefreshOutcome.PENDING | RefreshOutcome.LOST:
            return None
        case other if stored.committed_by == f"a{node.attempt}":
            return f"reported as {other}, while it is stored"
    return None


def no_claim_is_abandoned(node: Node, stored: Stored) -> str | None:
    """1. Whoever lived to the end and was never failed by the table leaves no claim of its own behind."""
    failed = any(event.result == UNAVAILABLE for event in node.events)
    if stored.attempt == f"a{node.attempt}" and not failed:
        return f"a{node.attempt} ended and left its claim, which the next one must take for doubt"
    return None


# 3. A failure never overwrites a success; the loser of a race never touches the winner


def failures_touch_only_their_own(before: Stored, after: Stored, attempt: str, now: int) -> str | None:
    """3. What leaves the tokens alone changes only its own claim, or one whose lease ran out."""
    if (before.access, before.token) != (after.access, after.token) or before == after:
        return None
    if after.status == Status.DISCONNECTED or before.is_import != after.is_import:
        return None
    if before.attempt is None:
        if not before.active:
            return f"{attempt} changed a connection that was {before.status}"
        return None if after.attempt == attempt else f"{attempt} changed a connection that it had not claimed"
    if before.attempt != attempt and before.lease_until > now:
        return f"{attempt} took the connection from {before.attempt}, whose lease had not run out"
    if before.attempt != attempt and after.active and after.attempt != attempt:
        return f"{attempt} ended the claim of {before.attempt}"
    return None


# 4. reauthorization_required only for one of four reasons


def refusal_is_noted_truly(before: Stored, after: Stored, node: Node | None) -> str | None:
    """4. The time of the first refusal is noted by who was refused, and stays until new tokens come."""
    if before.refused_at == after.refused_at or after.token != before.token or after.access != before.access:
        return None
    refused = node is not None and node.posted == before.token and node.answer == REFUSAL
    if before.refused_at is None and refused and node is not None and after.refused_at == node.sent_at:
        return None
    return f"refused_at {before.refused_at} → {after.refused_at} after {node.answer if node else 'nothing'}"


def a_second_refusal_is_waited_for(before: Stored, after: Stored, node: Node | None) -> str | None:
    """4. After a refusal that is not final nobody sends the token for ten minutes, unless the deadline comes first."""
    released = before.attempt is not None and after.attempt is None and after.active
    if not released or node is None or node.answer != REFUSAL or node.posted != after.token or after.is_import:
        return None
    soonest = node.sent_at + APART
    if (after.refresh_at or 0) < soonest < after.deadline:
        return f"refused at {node.sent_at}, and due again at {after.refresh_at}"
    return None


def a_final_refusal_ends_it(before: Stored, after: Stored, node: Node | None) -> str | None:
    """4. What was refused for good is not put back to be tried once more: the second refusal, one past the deadline, or
    that of an import, while the endpoint is well."""
    released = before.attempt is not None and after.attempt is None and after.active and after.token == before.token
    if not released or node is None or node.answer != REFUSAL or node.posted != before.token or not node.healthy:
        return None
    twice = before.refused_at is not None and node.sent_at >= before.refused_at + APART
    final = twice or node.sent_at >= before.deadline or before.is_import
    return f"put back after the refusal of {node.sent_at}, which was final" if final else None


def ends_when_its_time_is_over(before: Stored, after: Stored, node: Node | None, now: int) -> str | None:
    """4. A full lifetime after its deadline a connection is not put back to be tried once more: not while the endpoint
    is silent, and not where it alone is refused."""
    released = before.attempt is not None and after.attempt is None and after.active and after.token == before.token
    if not released or node is None or now < before.deadline + SCHEDULE.refresh_token_lifetime:
        return None
    alone = node.answer == "invalid_request" and node.healthy and (before.retries or 0) >= 3
    return f"put back after {node.answer}" if alone or node.answer in ("not sent", "no answer", "garbage") else None


def refused_alone_is_noted(before: Stored, after: Stored, node: Node | None) -> str | None:
    """What is refused again and again while the endpoint is well is noted, and nothing else is."""
    if (before.refused_alone, before.token) == (after.refused_alone, after.token) or after.refused_alone is None:
        return None
    alone = node is not None and node.answer == "invalid_request" and node.healthy and (before.retries or 0) >= 3
    return None if alone else f"noted as refused alone after {node.answer if node else 'nothing'}"


def reauthorization_is_earned(
    before: Stored, after: Stored, node: Node | None, now: int, policy: str, sent: frozenset[Sent]
) -> str | None:
    """4. After a refusal of the newest stored token, long after the deadline, by policy `never`, or misdirected."""
    if not before.active or after.status != Status.REAUTHORIZATION_REQUIRED:
        return None
    answer = node.answer if node is not None and node.posted == before.token else None
    match after.reason:
        case "rejected" | "rotation_lost":
            if answer != REFUSAL or node is None:
                return f"{after.reason} after {answer or 'nothing'}"
            if not node.healthy:
                return f"{after.reason} while the endpoint is unwell"
            twice = before.refused_at is not None and node.sent_at >= before.refused_at + APART
            if not (twice or node.sent_at >= before.deadline or before.is_import):
                return f"{after.reason} after one refusal"
            if before.is_import:
                return None if after.reason == "rejected" else "no rotation of an import is lost"
            if (after.reason == "rotation_lost") != (before.in_doubt is not None):
                return f"{after.reason} of a connection that was {'' if before.in_doubt else 'not '}in doubt"
        case "expired":
            if now < before.deadline + SCHEDULE.refresh_token_lifetime:
                return "given up before a lifetime had passed after the deadline"
        case "in_doubt":
            ran_out = before.attempt is not None and before.lease_until <= now
            if policy != "never":
                return f"given up for doubt under policy {policy}"
            if before.in_doubt is None and not ran_out and not any(s.token == before.token for s in sent):
                return "given up for a doubt that nobody had"
        case "wrong_connection":
            if answer != "tokens of another business":
                return f"wrong_connection after {answer}"
        case _:
            return f"given up for {after.reason}"
    return None


# 5. Access token, refresh token and expiries are never of different generations


def one_generation(stored: Stored) -> str | None:
    """5. Both tokens came with one answer (or the refresh token was kept), and the times are those of its request."""
    if not stored.token or stored.is_import:
        return None
    refresh_token, _, sent_at = stored.access.split("@")
    if refresh_token != stored.token:
        return f"the access token came with {refresh_token}, and {stored.token} is stored beside it"
    requested_at = int(sent_at)
    expected = (requested_at, requested_at + ACCESS_TOKEN_LIFETIME, SCHEDULE.deadline(requested_at))
    found = (stored.requested_at, stored.access_expires_at, stored.deadline)
    return None if found == expected else f"the times {found} are not those of the request of {requested_at}"


# 6. Tokens of one business never land on another's connection


def own_business(stored: Stored) -> str | None:
    """6. What is stored for a business is its own."""
    if stored.token and (stored.owner != BUSINESS or family(stored.token) == ANOTHER_FAMILY):
        return f"the connection {BUSINESS} has tokens of another"
    return None


# 7. An attempt is consumed once; a code is sent once


def code_is_sent_once(code: str, sent: frozenset[str]) -> str | None:
    """7. No code goes out a second time, whatever became of the first."""
    return f"{code} is sent twice" if code in sent else None


# 9. A living access token is served whatever happens to its refresh


def living_token_stays(before: Stored, after: Stored, now: int) -> str | None:
    """9. No write takes a living access token away, except a disconnect and a later consent."""
    if after.status == Status.DISCONNECTED or after.grant_id > before.grant_id or before.access_expires_at <= now:
        return None
    if after.access_expires_at < before.access_expires_at or not after.access:
        return "a living access token was taken away"
    return None


# And what keeps it alive


def active_is_due_one_day(stored: Stored) -> str | None:
    """An active connection, and no other, is in the due index."""
    indexed = stored.due_shard is not None and stored.refresh_at is not None
    if stored.status and indexed != stored.active:
        return f"{stored.status}, and {'' if indexed else 'not '}in the due index"
    return None


def backoff_ends_before_the_deadline(before: Stored, after: Stored, now: int) -> str | None:
    """No backoff sleeps past the deadline; nor past the last try before it, unless in doubt, for the lease."""
    if before.attempt is None or after.attempt is not None or not after.active or after.token != before.token:
        return None
    if now >= after.deadline:
        return None
    refresh_at, last_try = after.refresh_at or 0, after.deadline - LAST_TRY
    if after.in_doubt is not None:
        last_try = max(last_try, before.lease_until)
    if after.refused_at is not None:
        last_try = max(last_try, min(now + APART, after.deadline - 1))
    for end in (last_try, after.deadline - 1):
        if now < end < refresh_at:
            return f"released at {now} until {refresh_at}, with the deadline at {after.deadline}"
    return None


def import_ends_with_its_connection(stored: Stored) -> str | None:
    """1. Where an import made the connection nobody sends the imported token again."""
    return "the import that made the connection is under way still" if stored.beside else None


def disconnect_ends_what_was_asked(grant_id: str | None, before: Stored, after: Stored) -> str | None:
    """3. A disconnect ends the consent that it was asked to end, and no later one."""
    if before != after and before.grant_id != grant_id:
        return f"asked to end {grant_id}, it ended {before.grant_id}"
    return None


def salvage_tells_the_truth(outcome: PendingOutcome, *, changed: bool) -> str | None:
    """2. A pending commit changes the table, a connection or a link, or something at least as new is there."""
    if outcome is PendingOutcome.APPLIED and not changed:
        return "reported as applied, and nothing changed"
    return None


def restored_is_in_doubt(lost: Stored, restored: Stored) -> str | None:
    """What comes back from a backup is in doubt, of a new generation, and disconnected if it was."""
    if lost.status == Status.DISCONNECTED and restored.status != Status.DISCONNECTED:
        return "a disconnected connection came back from a backup"
    if restored.active and restored.in_doubt is None:
        return "what came from a backup is not in doubt"
    return None if restored.generation > lost.generation else "the generation went back"


def server_agrees(server: Server, stored: Stored) -> bool:
    """Whether the connection is well: active, and its refresh token works."""
    return stored.active and server.works(stored.token)
