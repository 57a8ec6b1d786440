"""Rules taken out of the real code, one at a time, and what notices: `python -m tests.model.mutants [--only WORD]`.

Each mutant changes one action in a copy of the package by replacing an exact snippet, which must be there exactly once.
The explorer then runs on the copy, in the smallest configuration known to kill the mutant. None may survive; no mutant
here is equivalent to the original.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tests.model.explore import Found, explore
from tests.model.server import Kind
from tests.model.world import Config

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "layers" / "connector" / "flowaccount_connect"


def _may(*faults: str, **bounds: object) -> Config:
    """A small configuration: only these faults, one of each at most."""
    settings: dict[str, object] = {"name": "", "faults": len(faults), "starts": 2, "may": frozenset(faults)}
    return Config(**(settings | bounds))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed action."""

    rule: str
    """The rule that is broken."""
    file: str
    old: str
    new: str
    config: Config


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant."""

    mutant: Mutant
    killed_by: str | None
    trace: tuple[str, ...]
    states: int
    seconds: float


_HELD = "HELD,"
_OF_GENERATION = '"#status = :active AND generation = :generation AND (attempt_id = :attempt OR attribute_exists(pk))",'
_COMMIT = '            condition="grant_id = :grant AND (generation = :generation OR requested_at < :requested_at)",'
_COMMITS = (
    "        return self._update(\n            commit.connection_id,\n"
    '            update=f"SET {tokens}, #status = :active, listed_as = :listed "'
)
_KEPT = 'update=f"SET {tokens} REMOVE {ATTEMPT}, refused_at, refused_alone, retries{cleared}",\n            condition='
_FAILED = 'f"REMOVE {ATTEMPT}, {SCHEDULED}, retries, at_risk",\n            condition='
_RELEASED = 'retries = :retries{assignments} REMOVE {ATTEMPT}",\n            condition='
_CLAIMED = '            update="SET attempt_id = :attempt, attempt_started_at = :started, lease_until = :lease",\n'
_COMMITTED = '            f"REMOVE {ATTEMPT}, {_TROUBLE}, {_ENDED}{cleared}",'
_GRANTED = '        f"REMOVE {ATTEMPT}, {over}, {_ENDED}, #ttl{cleared}",'
_SPLIT = """        self._update(
            commit.connection_id,
            update="SET requested_at = :requested_at, deadline = :deadline, access_expires_at = :expires",
            condition="attribute_exists(#status) AND grant_id = :grant AND generation = :generation",
            requested_at=commit.tokens.requested_at,
            deadline=commit.tokens.deadline,
            expires=commit.tokens.access_expires_at,
            grant=commit.grant_id,
            generation=commit.generation,
        )
"""
_CLOSING = "max([new_grant_id(lambda: now + 0.001), *(one for one in ended if one <= latest)])"
_NEVER = '        if self.rotation.replay_policy == "never":\n'
_LATE_COMMIT = _may("failed", "hurried", starts=2)

MUTANTS = [
    # Claim
    Mutant("the write that claims over an expired lease sets in_doubt", "storage/connections.py",
           "in_doubt = if_not_exists(in_doubt, :dead_since)", "connected_at = if_not_exists(connected_at, :dead_since)",
           _may("crash")),
    Mutant("a claim leaves the item in the due index", "storage/connections.py",
           _CLAIMED, _CLAIMED.replace('",\n', ' REMOVE due_shard",\n'), _may()),
    Mutant("a claim that is refused while the item shows its own attempt is a claim", "rotation/protocol.py",
           "if found.attempt is not None and found.attempt.id == attempt.id:", 'if found.status == "":',
           _may("retried")),
    Mutant("so is one over an expired lease", "rotation/protocol.py",
           "if current is not None and current.attempt is not None and current.attempt.id == attempt.id:",
           "if current is None:", _may("crash", "retried")),
    Mutant("nobody claims what another attempt holds", "storage/connections.py",
           "attribute_not_exists(attempt_id) AND {wanted}", "{wanted}", _may()),
    Mutant("only what is active is claimed", "storage/connections.py",
           'f"#status = :active AND attribute_not_exists(attempt_id)',
           'f"(#status = :active OR attribute_exists(pk)) AND attribute_not_exists(attempt_id)',
           _may("lost", policy="never", on_demand=True, age=600)),
    Mutant("while a failed attempt waits, nobody refreshes on demand", "storage/connections.py",
           "(attribute_not_exists(retries) OR refresh_at <= :now)",
           "(attribute_not_exists(retries) OR refresh_at <= :now OR refresh_at > :now)",
           _may("lost", on_demand=True, age=600)),
    Mutant("the lease is longer than an exchange", "rotation/protocol.py",
           "lease_seconds: int = 180", "lease_seconds: int = 10", _may()),
    # Before the POST
    Mutant("the data key is in hand before the POST", "rotation/protocol.py",
           "rotation.sealer.seal(pair, prepared.data_key,", "rotation.sealer.seal(pair, rotation.sealer.data_key(),",
           _may("key", starts=1)),
    Mutant("never POST with too little time to commit", "rotation/time_left.py",
           "return None if budget < SHORTEST_EXCHANGE else budget", "return max(budget, SHORTEST_EXCHANGE)",
           _may("hurried", starts=1)),
    Mutant("the time to commit is kept apart from the exchange's", "rotation/time_left.py",
           "min(LONGEST_EXCHANGE, self.seconds() - COMMIT_RESERVE)", "min(LONGEST_EXCHANGE, self.seconds())",
           _may("hurried", starts=1)),
    # POST
    Mutant("no second POST within an attempt after doubt", "rotation/protocol.py",
           "            case _:\n                return self._doubt(",
           "            case _:\n                self._post(prepared, prepared.client_secret)\n"
           "                return self._doubt(", _may("lost", starts=1)),
    Mutant("a replay waits until the lease has run out", "rotation/protocol.py",
           "in_doubt=sent_at, not_before=lease_until", "in_doubt=sent_at", _may("lost")),
    Mutant("an invalid_grant with a 5xx is no refusal", "oauth/token_answer.py",
           "    if status >= 500:\n", '    if status >= 500 and error != "invalid_grant":\n',
           _may("broken refusal", starts=1)),
    Mutant("invalid_client blames no connection", "rotation/protocol.py",
           "            case Outcome.CONFIGURATION_ERROR:\n                return self._misconfigured()",
           "            case Outcome.CONFIGURATION_ERROR:\n                return self.end(Reason.REJECTED)",
           _may("new secret", starts=1)),
    Mutant("a throttled token is not blamed", "rotation/protocol.py",
           "self._release(RefreshOutcome.THROTTLED, pause=pause)", "self.end(Reason.REJECTED)",
           _may("throttled", starts=1)),
    Mutant("what the rate has no room for is given back", "rotation/protocol.py",
           "replace(self._release(RefreshOutcome.PACED, pause=no.retry_after), retry_after=no.retry_after)",
           "self.end(Reason.REJECTED)", _may(paced=True, starts=1)),
    Mutant("so is what a rate that fails does not let through", "rotation/protocol.py",
           "            self.heard = _LoggedAnswer(str(error))\n"
           "            return self._release(RefreshOutcome.NOT_PREPARED)",
           "            return self.end(Reason.REJECTED)", _may("rate", paced=True, starts=1)),
    # Commit
    Mutant("the commit is fenced by generation", "storage/connections.py",
           _COMMIT, _COMMIT.replace("(generation = :generation", "(attribute_exists(pk) OR generation = :generation"),
           _may("late", "hurried", starts=2)),
    Mutant("the commit is fenced by grant", "storage/connections.py",
           _COMMIT, _COMMIT.replace("grant_id = :grant", "(grant_id = :grant OR attribute_exists(pk))"),
           _may("late", workers=1, consents=1, disconnects=1, forgets=True)),
    Mutant("the commit does not ask for an active connection", "storage/connections.py",
           _COMMIT, _COMMIT.replace('"grant_id', '"#status = :active AND grant_id'),
           _may("failed", "hurried", policy="never")),
    Mutant("the commit does not ask for its own attempt", "storage/connections.py",
           _COMMIT, _COMMIT.replace('"grant_id', '"attempt_id = :attempt AND grant_id'), _LATE_COMMIT),
    Mutant("of two answers to the same token the later one wins", "storage/connections.py",
           _COMMIT, _COMMIT.replace("requested_at < :requested_at", "attribute_not_exists(pk)"),
           _may("failed", "hurried", server=Kind.NEWEST_ONLY, starts=2)),
    Mutant("the commit is tried again while the table does not answer", "rotation/writes.py",
           "            table = str(error)\n", "            raise\n",
           _may("failed", starts=1)),
    Mutant("committed_by tells one's own commit", "rotation/protocol.py",
           'from None\n                if current.committed_by != commit.attempt_id:',
           "from None\n                if current is not refused:",
           _may("retried", starts=1)),
    Mutant("tokens and expiries change in one write", "storage/connections.py",
           _COMMITS, _SPLIT + _COMMITS, _may(starts=1)),
    Mutant("the access token is sealed with its own refresh token", "rotation/protocol.py",
           "TokenPair(tokens.access_token, tokens.refresh_token or prepared.tokens.refresh_token)",
           "TokenPair(tokens.access_token, prepared.tokens.refresh_token)", _may(starts=1)),
    Mutant("expiries count from the moment the request was sent", "rotation/protocol.py",
           "self._settle(prepared, answer, int(sent_at))", "self._settle(prepared, answer, self.now())",
           _may(starts=1)),
    Mutant("a commit counts the generation", "storage/connections.py",
           "committed_by = :attempt, {_COUNTED}", "committed_by = :attempt, x_one = :one, x_zero = :zero",
           _may(starts=1)),
    Mutant("a commit ends the doubt", "storage/connections.py", _COMMITTED, _COMMITTED.replace("{_TROUBLE}", "retries"),
           _may("lost", server=Kind.FORGIVING)),
    Mutant("a commit ends its attempt", "storage/connections.py", _COMMITTED, _COMMITTED.replace("{ATTEMPT}, ", ""),
           _may(starts=1)),
    # A kept refresh token
    Mutant("a kept refresh token commits on its attempt too", "storage/connections.py",
           _KEPT + _HELD, _KEPT + _OF_GENERATION, _may("kept", "late", "crash", starts=3, on_demand=True, age=600)),
    Mutant("a kept refresh token leaves the doubt", "storage/connections.py",
           _KEPT, _KEPT.replace("{ATTEMPT}", "{ATTEMPT}, in_doubt"), _may("lost", "kept")),
    Mutant("a kept refresh token is no rotation, and never queued", "rotation/protocol.py",
           "self._commit_kept(commit) if tokens.refresh_token is None else", "",
           _may("kept", "failed", "hurried", limit=200_000)),
    # Release and failure writes
    Mutant("a release clears the attempt", "storage/connections.py",
           _RELEASED, _RELEASED.replace("{ATTEMPT}", "at_risk"), _may("key", starts=1)),
    Mutant("a release never clears the doubt", "storage/connections.py",
           _RELEASED, _RELEASED.replace("{ATTEMPT}", '{ATTEMPT}{"" if in_doubt else ", in_doubt"}'),
           _may("lost", "key")),
    Mutant("a release is fenced by its attempt", "storage/connections.py",
           _RELEASED + _HELD, _RELEASED + _OF_GENERATION, _may("key", "late")),
    Mutant("an answer in doubt is recorded", "rotation/protocol.py",
           "in_doubt=sent_at, not_before=lease_until", "not_before=lease_until", _may("lost", starts=1)),
    Mutant("a failure is fenced by its attempt", "storage/connections.py",
           _FAILED + _HELD, _FAILED + _OF_GENERATION, _may("revoked", "late", "crash", age=86_400 + 100)),
    Mutant("a failure asks for an active connection", "storage/connections.py",
           _FAILED + _HELD, _FAILED + '"(#status = :active OR attribute_exists(pk)) AND (generation = :generation OR '
           'attribute_exists(pk)) AND (attempt_id = :attempt OR attribute_exists(pk))",',
           _may("revoked", "late", disconnects=1, starts=1, age=86_400 + 100)),
    Mutant("a failure never touches tokens", "storage/connections.py",
           _FAILED, _FAILED.replace("retries, at_risk", "retries, at_risk, access_expires_at, tokens"),
           _may("lost", policy="never", starts=1, on_demand=True, age=600)),
    Mutant("a refusal after doubt is told apart", "rotation/protocol.py",
           "lost = claimed.in_doubt is not None", "lost = claimed.at_risk is not None", _may("lost", starts=3)),
    Mutant("given up only a lifetime after the deadline", "domain/schedule.py",
           "return now >= deadline + self.refresh_token_lifetime", "return now >= deadline",
           _may(down=True, starts=2)),
    Mutant("backoff never sleeps past the last try", "domain/schedule.py",
           "            at = min(at, latest if not_before >= deadline else max(latest, not_before))",
           "            at = max(at, now)", _may("not sent", age=86_400 - 1_450, starts=1)),
    Mutant("a replay waits for the lease even past the last try", "domain/schedule.py",
           "max(latest, not_before))", "latest)", _may("lost", age=86_400 - 1_500)),
    Mutant("backoff never sleeps past the deadline", "domain/schedule.py",
           "else now + (deadline - now) // 2 - TICK", "else deadline", _may("lost", age=86_400 - 100, starts=1)),
    # Policy never
    Mutant("policy never: a token in doubt is not sent again", "rotation/protocol.py",
           'if self.claimed.in_doubt is not None and self.rotation.replay_policy == "never":',
           "if self.claimed.sealed is None:",
           _may(policy="never", doubt=True, starts=1)),
    Mutant("policy never: an answer in doubt ends it at once", "rotation/protocol.py",
           _NEVER + "            return self.end(Reason.IN_DOUBT)\n        lease",
           _NEVER + "            return self._release(RefreshOutcome.IN_DOUBT)\n        lease",
           _may("lost", policy="never")),
    Mutant("policy allowed: doubt ends no connection", "rotation/protocol.py",
           _NEVER + "            return self.end(Reason.IN_DOUBT)\n        lease",
           _NEVER.replace("==", "!=") + "            return self.end(Reason.IN_DOUBT)\n        lease",
           _may("lost", starts=1)),
    # Wrong connection
    Mutant("an answer for another business is recognised", "oauth/token_answer.py",
           "if _blank(support_code) or support_code == connection_id:",
           "if _blank(support_code) or is_connection_id(support_code):",
           _may("misdirected", starts=1)),
    Mutant("an answer for another business is not stored", "rotation/protocol.py",
           "if outcome is Outcome.WRONG_CONNECTION or (self.is_import", "if (self.is_import",
           _may("misdirected", starts=1)),
    # Reconnect
    Mutant("grants are ordered: an older consent is refused", "storage/connections.py",
           "(grant_id) OR grant_id < :grant", "(grant_id) OR attribute_exists(grant_id)",
           _may(workers=0, consents=2)),
    Mutant("a consent's own retry is refused", "storage/connections.py",
           "(grant_id) OR grant_id < :grant", "(grant_id) OR grant_id <= :grant",
           _may("unacknowledged", "hurried", workers=0, consents=1, starts=1)),
    Mutant("a reconnect ends the attempt in flight", "storage/connections.py",
           _GRANTED, _GRANTED.replace("{ATTEMPT}, ", ""), _may(consents=1)),
    Mutant("a reconnect ends the doubt", "storage/connections.py",
           _GRANTED, _GRANTED.replace("{over}", "retries"),
           _may(consents=1, workers=0, doubt=True)),
    Mutant("a reconnect counts the generation", "storage/connections.py",
           '_COUNTED = "generation = if_not_exists(generation, :zero) + :one"',
           '_COUNTED = "generation = if_not_exists(generation, :one) + :zero"',
           _may(consents=1, workers=0, starts=1)),
    # Pending commits
    Mutant("what the table does not take goes to the queue", "rotation/protocol.py",
           "self.rotation.queue.send(PendingCommit(target=self.rotation.target, commit=commit))", "self.now()",
           _may("failed", "hurried", starts=1)),
    Mutant("so is what it does not take of a consent", "connect/callback.py",
           "self.queue.send(PendingCommit(target=Target.CONSENT, commit=commit))", "self.clock()",
           _may("failed", "hurried", workers=0, consents=1, starts=1)),
    Mutant("a pending refresh is applied under the commit's condition", "rotation/pending_commits.py",
           "            self._store.commit(commit)",
           "            there = self._store.get(commit.connection_id)\n"
           "            generation = there.generation if there else 0\n"
           "            import dataclasses\n"
           "            self._store.commit(dataclasses.replace(commit, generation=generation))",
           _may("failed", "hurried", "repeated")),
    Mutant("a pending consent is applied under the reconnect's condition", "rotation/pending_commits.py",
           "changed(self._client, grant_update(self._table, pending.commit, now=now))",
           "changed(self._client, grant_update(self._table, pending.commit, now=now)"
           ' | {"ConditionExpression": "attribute_exists(pk)"})',
           _may("failed", "hurried", "repeated", workers=0, consents=1, starts=1)),
    # Attempts
    Mutant("an attempt is consumed once", "storage/attempts.py",
           "attribute_not_exists(consumed_by) AND expires_at > :now", "expires_at > :now",
           _may(workers=0, consents=2, same_attempt=True)),
    # Disconnect
    Mutant("a disconnect leaves a tombstone", "storage/connections.py",
           'grant_id = :closing, ended_at = :now, "\n        f"{_COUNTED}, #ttl = :ttl{placed} "\n        f"REMOVE ',
           'ended_by = :closing, ended_at = :now, "\n        f"x_one = :one, x_zero = :zero, #ttl = :ttl{placed} "\n'
           '        f"REMOVE grant_id, generation, ', _may(disconnects=1, starts=1)),
    Mutant("a disconnect counts the generation", "storage/connections.py",
           '        f"{_COUNTED}, #ttl = :ttl{placed} "',
           '        f"x_one = :one, x_zero = :zero, #ttl = :ttl{placed} "',
           _may(disconnects=1, starts=1)),
    Mutant("a disconnect ends only the consent it was asked to end", "storage/connections.py",
           'if seen is None else "grant_id = :seen"',
           'if seen is None else "(grant_id = :seen OR attribute_exists(pk))"',
           _may(disconnects=1, consents=1, workers=0, starts=1)),
    Mutant("a tombstone's grant id is of its own moment: no consent in flight comes to life", "storage/connections.py",
           _CLOSING, "max(ended)",
           _may(disconnects=1, consents=1, workers=0, starts=1)),
    Mutant("nor what waits for a confirmation", "storage/connections.py",
           _CLOSING, "ended[0]",
           _may(disconnects=1, consents=1, links=True, workers=0, starts=2)),
    Mutant("nor what waits in the queue", "storage/connections.py",
           _CLOSING, "ended[0] or str(now)",
           _may("failed", "hurried", disconnects=1, consents=1, workers=0, starts=1)),
    Mutant("nor an import", "storage/imports.py",
           "            self._promote(ended, self._of_grant(imported.id, imported.grant_id))",
           "            ended['ExpressionAttributeValues'] |= {':closing': {'S': '0'}}\n"
           "            self._promote(ended, self._of_grant(imported.id, imported.grant_id))",
           _may(imported=True, disconnects=1, starts=1)),
    # Two refusals
    Mutant("one refusal is not final", "domain/schedule.py",
           "        return again or sent_at >= deadline", "        return True", _may("false refusal", starts=1)),
    Mutant("two refusals within ten minutes are not final either", "domain/schedule.py",
           "again = refused_at is not None and sent_at >= refused_at + self.refusals_apart",
           "again = refused_at is not None", _may("false refusal", "revoked", age=86_400 - 500)),
    Mutant("ten minutes are ten minutes", "domain/schedule.py", "return min(600, ", "return min(300, ",
           _may("false refusal", starts=1)),
    Mutant("the second refusal is final", "domain/schedule.py",
           "        return again or sent_at >= deadline", "        return sent_at >= deadline",
           _may("revoked", starts=4, workers=1, ends=True)),
    Mutant("past its deadline one refusal is final", "domain/schedule.py",
           "        return again or sent_at >= deadline", "        return again",
           _may("revoked", age=86_400 + 100, starts=1, ends=True)),
    Mutant("the first refusal is noted", "rotation/protocol.py",
           "self._release(RefreshOutcome.REFUSED, refused_at=sent_at,", "self._release(RefreshOutcome.REFUSED,",
           _may("revoked", starts=3, workers=1, ends=True)),
    Mutant("the first refusal keeps its time", "storage/connections.py",
           "{name} = if_not_exists({name}, :{name})", "{name} = :{name}",
           _may("revoked", starts=2, age=86_400 - 500)),
    Mutant("a success forgets the refusal", "storage/connections.py",
           '_REFUSALS = "refused_at, refused_alone, retries"', '_REFUSALS = "refused_alone, retries"',
           _may("false refusal", starts=2)),
    Mutant("so does one that keeps the refresh token", "storage/connections.py",
           _KEPT, _KEPT.replace("refused_at, ", ""), _may("false refusal", "kept", starts=2)),
    Mutant("a verdict waits while the endpoint is unwell", "rotation/protocol.py",
           "if final and rotation.health.may_end(self.now()):", "if final:",
           _may("revoked", starts=2, unwell=True)),
    # Refused alone, and silent
    Mutant("what is refused alone ends when its time is over", "rotation/protocol.py",
           "        if alone and rotation.schedule.given_up(now, claimed.deadline):", "        if alone and now < 0:",
           _may(misfit=True, starts=6, workers=1, age=2 * 86_400)),
    Mutant("a refused configuration ends nobody while the endpoint is unwell", "rotation/protocol.py",
           'alone = often and self.heard.error != "invalid_client" and rotation.health.may_end(now)',
           'alone = often and self.heard.error != "invalid_client"',
           _may(misfit=True, unwell=True, starts=5, workers=1)),
    Mutant("nor before it has failed three times", "rotation/protocol.py",
           "often = (claimed.retries or 0) >= ALONE_AFTER", "often = True",
           _may(misfit=True, starts=1, workers=1)),
    Mutant("silence ends when its time is over", "rotation/protocol.py",
           "if not blameless and schedule.given_up(now, claimed.deadline):", "if not blameless and now < 0:",
           _may(down=True, starts=1, age=2 * 86_400 + 100)),
    # Import
    Mutant("an import is proved at its first refusal, and is no lost rotation", "rotation/protocol.py",
           "lost = claimed.in_doubt is not None and not self.is_import", "lost = claimed.in_doubt is not None",
           _may("lost", imported=True, starts=2)),
    Mutant("one refusal ends an import", "rotation/protocol.py",
           "final = self.is_import or rotation", "final = rotation",
           _may("revoked", imported=True, starts=1, ends=True)),
    Mutant("a refused import leaves the due index", "storage/imports.py",
           "REMOVE {ATTEMPT}, {SCHEDULED}, listed_as,", "REMOVE {ATTEMPT}, listed_as,",
           _may("revoked", imported=True, starts=1)),
    Mutant("an import ends with its connection", "storage/imports.py",
           'TransactItems=[{"Update": update}, {"Delete": delete}]', 'TransactItems=[{"Update": update}]',
           _may(imported=True, starts=1, ends=True)),
    Mutant("what the table does not take of an import is queued as an import's", "rotation/protocol.py",
           "PendingCommit(target=self.rotation.target, commit=commit)",
           "PendingCommit(target=Target.CONNECTION, commit=commit)",
           _may("failed", "hurried", imported=True, starts=1)),
    Mutant("a later consent wins over an import", "storage/imports.py",
           'f"{update[\'ConditionExpression\']} OR ({later}{free})"',
           '"attribute_not_exists(pk) OR attribute_exists(pk) OR grant_id = :grant OR #tenant = :tenant"',
           _may(imported=True, consents=1, starts=2)),
    # Confirmation
    Mutant("what waits for a confirmation is kept once, by its own callback", "storage/links.py",
           "consumed_by = :attempt AND attribute_not_exists(#result) AND confirm_until",
           "(consumed_by = :attempt OR attribute_exists(pk)) AND confirm_until",
           _may("failed", "hurried", "repeated", workers=0, consents=1, links=True, starts=2)),
    Mutant("a confirmation ends its link", "storage/links.py",
           'f"SET #result = :connected, grant_id = :grant, #ttl = :ttl REMOVE {_SET}"',
           'f"SET confirmed = :connected, grant_id = :grant, #ttl = :ttl"',
           _may(workers=0, consents=1, links=True, starts=3)),
    Mutant("what the table does not take of a link is queued", "connect/callback.py",
           "self.queue.send(PendingCommit(target=Target.LINK, commit=commit, link_id=link.id))", "self.clock()",
           _may("failed", "hurried", workers=0, consents=1, links=True, starts=1)),
    # Restore
    Mutant("what comes from a backup is in doubt", "storage/connections.py",
           "return kept | attributes(in_doubt=since,", "return kept | attributes(was_in_doubt=since,",
           _may(restores=1, starts=0)),
    Mutant("a restore moves the generation on", "storage/connections.py",
           "generation = old.generation + max(now - restored_to, 0) + LEAP",
           "generation = old.generation", _may(restores=1, starts=1)),
    Mutant("a pending commit is newer than any backup", "storage/connections.py",
           _COMMIT, _COMMIT.replace("requested_at < :requested_at", "attribute_not_exists(sk)"),
           _may("failed", "hurried", restores=1, starts=1)),
    Mutant("what was disconnected stays so through a restore", "storage/connections.py",
           "if disconnected and old.status is not Status.DISCONNECTED:", "if old.status is Status.UNREADABLE:",
           _may(restores=1, disconnects=1, starts=0)),
]  # fmt: skip


def run(mutant: Mutant) -> Verdict:
    """Apply a mutant to a copy and explore that, in a process of its own. Raises if it cannot be applied or run."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PACKAGE, copy / "flowaccount_connect", ignore=ignored)
        for part in ("model", "support"):
            shutil.copytree(ROOT / "tests" / part, copy / "tests" / part, ignore=ignored)
        path = copy / "flowaccount_connect" / mutant.file
        source = path.read_text()
        if source.count(mutant.old) != 1:
            raise LookupError(f"{mutant.rule}: {mutant.file} has {source.count(mutant.old)} times {mutant.old!r}")
        path.write_text(source.replace(mutant.old, mutant.new))
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "tests.model.mutants", "--explore", str(MUTANTS.index(mutant))],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{mutant.rule}: the exploration broke: {done.stderr[-2_000:]}")
        found = json.loads(done.stdout)
        return Verdict(mutant, found["invariant"], tuple(found["trace"]), found["states"], time.monotonic() - began)


def run_all(mutants: list[Mutant]) -> Iterator[Verdict]:
    """Run mutants, as many at a time as there are processors; the verdicts in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(run, mutants)


def _explore_here(index: int) -> Found:
    """The mutant's exploration; to be run inside the copy."""
    return explore(replace(MUTANTS[index].config, name=MUTANTS[index].rule))


def main(arguments: list[str]) -> int:
    """The command: the table, and exit code 1 if a mutant survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="only mutants whose rule matches this expression")
    parser.add_argument("--traces", action="store_true", help="print each counterexample")
    parser.add_argument("--explore", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.explore is not None:
        found = _explore_here(chosen.explore)
        print(json.dumps({"invariant": found.invariant, "trace": found.trace, "states": found.states}))
        return 0
    mutants = [mutant for mutant in MUTANTS if re.search(chosen.only, mutant.rule)]
    began, survivors = time.monotonic(), 0
    print(f"{'rule taken out':72} {'in':20} {'killed by':34} {'states':>7} {'s':>5}")
    for verdict in run_all(mutants):
        survivors += verdict.killed_by is None
        killed_by = verdict.killed_by or "SURVIVES"
        mutant = verdict.mutant
        print(
            f"{mutant.rule:72} {mutant.file:20} {killed_by:34} {verdict.states:>7,} {verdict.seconds:5.1f}", flush=True
        )
        if chosen.traces:
            for number, step in enumerate(verdict.trace, 1):
                print(f"  {number:3}. {step}")
    print(f"\n{len(mutants)} mutants, {survivors} survive; {time.monotonic() - began:.0f} s.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
