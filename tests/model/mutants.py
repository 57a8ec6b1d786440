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


_HELD = "#status = :active AND generation = :generation AND attempt_id = :attempt"
_OF_GENERATION = "#status = :active AND generation = :generation AND (attempt_id = :attempt OR attribute_exists(pk))"
_COMMIT = (
    '            condition="grant_id = :grant AND (generation = :generation "\n'
    '            f"OR ((generation = :next OR {RESTORED} <= :generation) AND requested_at < :requested_at))",'
)
_COMMITS = (
    "        return self._update(\n            connection_id,\n"
    '            update=f"{_SET_TOKENS}, #status = :active, listed_as = :listed, generation = generation '
)
_KEPT = 'f"{_SET_TOKENS}, generation = :next REMOVE {ATTEMPT}, at_risk, retries",\n            condition="'
_FAILED = 'REMOVE {ATTEMPT}, {SCHEDULED}, retries, at_risk",\n            condition="'
_RELEASED = 'retries = :retries{doubt} REMOVE {ATTEMPT}",\n            condition="'
_CLAIMED = '            update="SET attempt_id = :attempt, attempt_started_at = :started, lease_until = :lease",\n'
_NEWLY_SET = 'f"REMOVE {ATTEMPT}, {RESTORED}, in_doubt, at_risk, retries, reason, ended_at, quarantine, quarantine_key'
_GRANTED = f'        {_NEWLY_SET}, #ttl",'
_COMMITTED = f'            {_NEWLY_SET}",'
_SPLIT = """        self._update(
            connection_id,
            update="SET requested_at = :requested_at, deadline = :deadline, access_expires_at = :expires",
            condition="attribute_exists(#status) AND grant_id = :grant AND generation = :generation",
            values={
                ":requested_at": n(rotated.requested_at),
                ":deadline": n(rotated.deadline),
                ":expires": n(rotated.access_expires_at),
                ":grant": s(grant_id),
                ":generation": n(generation),
            },
        )
"""
_NEVER = '        if self.replay_policy == "never":\n'
_LATE_SALVAGE = _may("failed", "hurried", starts=2)

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
           "if there is not None and there.attempt is not None and there.attempt.id == attempt.id:",
           "if there is None:", _may("crash", "retried")),
    Mutant("nobody claims what another attempt holds", "storage/connections.py",
           "attribute_not_exists(attempt_id) AND {wanted}", "{wanted}", _may()),
    Mutant("only what is active is claimed", "storage/connections.py",
           'f"#status = :active AND attribute_not_exists(attempt_id)',
           'f"(#status = :active OR attribute_exists(pk)) AND attribute_not_exists(attempt_id)',
           _may("revoked", on_demand=True, age=600)),
    Mutant("while a failed attempt waits, nobody refreshes on demand", "storage/connections.py",
           "(attribute_not_exists(retries) OR refresh_at <= :now)",
           "(attribute_not_exists(retries) OR refresh_at <= :now OR refresh_at > :now)",
           _may("lost", on_demand=True, age=600)),
    Mutant("the lease is longer than an exchange", "rotation/protocol.py",
           "lease_seconds: int = 180", "lease_seconds: int = 10", _may()),
    # Before the POST
    Mutant("the data key is in hand before the POST", "rotation/protocol.py",
           "self.sealer.seal(opened, prepared.data_key,", "self.sealer.seal(opened, self.sealer.data_key(),",
           _may("key", starts=1)),
    Mutant("never POST with too little time to commit", "rotation/protocol.py",
           "return None if budget < SHORTEST_EXCHANGE else budget", "return max(budget, SHORTEST_EXCHANGE)",
           _may("hurried", starts=1)),
    Mutant("the time to commit is kept apart from the exchange's", "rotation/protocol.py",
           "remaining() - COMMIT_RESERVE)", "remaining())", _may("hurried", starts=1)),
    # POST
    Mutant("no second POST within an attempt after doubt", "rotation/protocol.py",
           "            case _:\n                return self._doubt(",
           "            case _:\n                self._post(claimed, prepared, prepared.client_secret, remaining)\n"
           "                return self._doubt(", _may("lost", starts=1)),
    Mutant("a replay waits until the lease has run out", "rotation/protocol.py",
           "in_doubt=sent_at, not_before=lease_until", "in_doubt=sent_at", _may("lost")),
    Mutant("an invalid_grant with a 5xx is no refusal", "oauth/token_answer.py",
           "    if status >= 500:\n", '    if status >= 500 and error != "invalid_grant":\n',
           _may("broken refusal", starts=1)),
    Mutant("invalid_client blames no connection", "rotation/protocol.py",
           "return self._release(claimed, RefreshOutcome.CONFIGURATION_ERROR, remaining, told)",
           "return self._end(claimed, Reason.REJECTED, remaining, told)", _may("new secret", starts=1)),
    Mutant("a throttled token is not blamed", "rotation/protocol.py",
           "self._release(claimed, RefreshOutcome.THROTTLED, remaining, told, pause=pause)",
           "self._end(claimed, Reason.REJECTED, remaining, told)", _may("throttled", starts=1)),
    # Commit
    Mutant("the commit is fenced by generation", "storage/connections.py",
           _COMMIT, _COMMIT.replace("(generation = :generation", "(attribute_exists(pk) OR generation = :generation"),
           _may("late", "hurried", starts=2)),
    Mutant("the commit is fenced by grant", "storage/connections.py",
           _COMMIT, _COMMIT.replace("grant_id = :grant", "(grant_id = :grant OR attribute_exists(pk))"),
           _may("late", workers=1, consents=1, disconnects=1, forgets=True)),
    Mutant("the commit does not ask for an active connection", "storage/connections.py",
           _COMMIT, _COMMIT.replace('"grant_id', '"#status = :active AND grant_id'), _LATE_SALVAGE),
    Mutant("the commit does not ask for its own attempt", "storage/connections.py",
           _COMMIT, _COMMIT.replace('"grant_id', '"attempt_id = :attempt AND grant_id'), _LATE_SALVAGE),
    Mutant("of two answers to the same token the later one wins", "storage/connections.py",
           _COMMIT, _COMMIT.replace("requested_at < :requested_at", "attribute_not_exists(pk)"),
           _may("failed", "hurried", server=Kind.NEWEST_ONLY, starts=2)),
    Mutant("the commit is tried again while the table does not answer", "rotation/protocol.py",
           "                return None\n            sleep(pause)",
           "                return None\n            raise",
           _may("failed", starts=1)),
    Mutant("committed_by tells one's own commit", "rotation/protocol.py",
           'from None\n                if there.committed_by != attempt_id:',
           "from None\n                if there is not refused:",
           _may("retried", starts=1)),
    Mutant("tokens and expiries change in one write", "storage/connections.py",
           _COMMITS, _SPLIT + _COMMITS, _may(starts=1)),
    Mutant("the access token is sealed with its own refresh token", "rotation/protocol.py",
           "Tokens(tokens.access_token, tokens.refresh_token or prepared.tokens.refresh_token)",
           "Tokens(tokens.access_token, prepared.tokens.refresh_token)", _may(starts=1)),
    Mutant("expiries count from the moment the request was sent", "rotation/protocol.py",
           "self._settle(claimed, prepared, answer, int(sent_at), remaining, told)",
           "self._settle(claimed, prepared, answer, int(self.clock()), remaining, told)", _may(starts=1)),
    Mutant("a commit counts the generation", "storage/connections.py",
           "generation = generation + :one ", "generation = :generation, nothing = :one ", _may(starts=1)),
    Mutant("a commit ends the doubt", "storage/connections.py", _COMMITTED, _COMMITTED.replace(" in_doubt,", ""), _may("lost",
           server=Kind.FORGIVING)),
    Mutant("a commit ends its attempt", "storage/connections.py", _COMMITTED, _COMMITTED.replace("{ATTEMPT}, ", ""),
           _may(starts=1)),
    # A kept refresh token
    Mutant("a kept refresh token commits on its attempt too", "storage/connections.py",
           _KEPT + _HELD, _KEPT + _OF_GENERATION, _may("kept", "late", "crash", starts=3, on_demand=True, age=600)),
    Mutant("a kept refresh token leaves the doubt", "storage/connections.py",
           _KEPT, _KEPT.replace("{ATTEMPT}", "{ATTEMPT}, in_doubt"), _may("lost", "kept")),
    Mutant("a kept refresh token is no rotation, and never salvaged", "rotation/protocol.py",
           "if answer.tokens.refresh_token is None:", "if answer.tokens.access_token is None:",
           _may("kept", "failed", "hurried", limit=200_000)),
    # Release and failure writes
    Mutant("a release clears the attempt", "storage/connections.py",
           _RELEASED, _RELEASED.replace("{ATTEMPT}", "at_risk"), _may("key", starts=1)),
    Mutant("a release never clears the doubt", "storage/connections.py",
           _RELEASED, _RELEASED.replace("{ATTEMPT}", '{ATTEMPT}{"" if doubt else ", in_doubt"}'),
           _may("lost", "key")),
    Mutant("a release is fenced by its attempt", "storage/connections.py",
           _RELEASED + _HELD, _RELEASED + _OF_GENERATION, _may("key", "late")),
    Mutant("an answer in doubt is recorded", "rotation/protocol.py",
           "in_doubt=sent_at, not_before=lease_until", "not_before=lease_until", _may("lost", starts=1)),
    Mutant("a failure is fenced by its attempt", "storage/connections.py",
           _FAILED + _HELD, _FAILED + _OF_GENERATION, _may("revoked", "late", "crash")),
    Mutant("a failure asks for an active connection", "storage/connections.py",
           _FAILED + _HELD, _FAILED + "(#status = :active OR attribute_exists(pk)) AND (generation = :generation OR "
           "attribute_exists(pk)) AND (attempt_id = :attempt OR attribute_exists(pk))",
           _may("revoked", "late", disconnects=1, starts=1)),
    Mutant("a failure never touches tokens", "storage/connections.py",
           _FAILED, _FAILED.replace("retries, at_risk", "retries, at_risk, access_expires_at, tokens"),
           _may("revoked", starts=1, on_demand=True, age=600)),
    Mutant("a refusal after doubt is told apart", "rotation/protocol.py",
           "lost = claimed.in_doubt is not None", "lost = claimed.at_risk is not None", _may("lost")),
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
           'if claimed.in_doubt is not None and self.replay_policy == "never":', "if claimed.sealed is None:",
           _may(policy="never", doubt=True, starts=1)),
    Mutant("policy never: an answer in doubt ends it at once", "rotation/protocol.py",
           _NEVER + "            return self._end(claimed, Reason.IN_DOUBT, remaining, told)\n",
           _NEVER + "            return self._release(claimed, RefreshOutcome.IN_DOUBT, remaining)\n",
           _may("lost", policy="never")),
    Mutant("policy allowed: doubt ends no connection", "rotation/protocol.py",
           _NEVER + "            return self._end(claimed, Reason.IN_DOUBT, remaining, told)\n",
           _NEVER.replace("==", "!=") + "            return self._end(claimed, Reason.IN_DOUBT, remaining, told)\n",
           _may("lost", starts=1)),
    # Wrong connection
    Mutant("an answer for another business is recognised", "oauth/token_answer.py",
           "if _blank(named) or named == connection_id:", "if _blank(named) or is_connection_id(named):",
           _may("misdirected", starts=1)),
    Mutant("an answer for another business is not stored", "rotation/protocol.py",
           "if answer.outcome is Outcome.WRONG_CONNECTION:", "if answer.status == 0:",
           _may("misdirected", starts=1)),
    # Reconnect
    Mutant("grants are ordered: an older consent finds the door shut", "storage/connections.py",
           "(grant_id) OR grant_id < :grant", "(grant_id) OR attribute_exists(grant_id)",
           _may(workers=0, consents=2)),
    Mutant("a consent's own retry finds the door shut", "storage/connections.py",
           "(grant_id) OR grant_id < :grant", "(grant_id) OR grant_id <= :grant",
           _may("unacknowledged", "hurried", workers=0, consents=1, starts=1)),
    Mutant("a reconnect ends the attempt in flight", "storage/connections.py",
           _GRANTED, _GRANTED.replace("{ATTEMPT}, ", ""), _may(consents=1)),
    Mutant("a reconnect ends the doubt", "storage/connections.py",
           _GRANTED, _GRANTED.replace(" in_doubt,", ""), _may(consents=1, workers=0, doubt=True)),
    Mutant("a reconnect counts the generation", "storage/connections.py",
           "if_not_exists(generation, :zero) + :one ", "if_not_exists(generation, :one) + :zero ",
           _may(consents=1, workers=0, starts=1)),
    # Salvage
    Mutant("what the table does not take is salvaged", "rotation/protocol.py",
           "self.salvage.send_rotation(claimed.id, claimed.grant_id, claimed.generation, attempt_id, rotated)",
           "self.clock()", _may("failed", "hurried", starts=1)),
    Mutant("so is what it does not take of a consent", "connect/callback.py",
           "            self.salvage.send_grant(connection_id, grant_id, attempt_id, self.environment, rotated)",
           "            self.clock()", _may("failed", "hurried", workers=0, consents=1, starts=1)),
    Mutant("a salvaged refresh is applied under the commit's condition", "rotation/pending_commits.py",
           "                self._store.commit(connection_id, grant_id, generation, attempt_id, rotated)",
           "                there = self._store.get(connection_id)\n"
           "                now_there = there.generation if there else generation\n"
           "                self._store.commit(connection_id, grant_id, now_there, attempt_id, rotated)",
           _may("failed", "hurried", "repeated")),
    Mutant("a salvaged consent is applied under the reconnect's condition", "rotation/pending_commits.py",
           "call(self._client.update_item, **update)",
           'call(self._client.update_item, **(update | {"ConditionExpression": "attribute_exists(pk)"}))',
           _may("failed", "hurried", "repeated", workers=0, consents=1, starts=1)),
    # Sessions
    Mutant("a session is consumed once", "storage/attempts.py",
           "attribute_not_exists(consumed_by) AND expires_at > :now", "expires_at > :now",
           _may(workers=0, consents=2, same_session=True)),
    # Disconnect
    Mutant("a disconnect leaves a tombstone", "storage/connections.py",
           '"generation = if_not_exists(generation, :zero) + :one, #ttl = :ttl "\n    f"REMOVE tokens,',
           '"#ttl = :ttl, connected_at = :one, ended_by = :zero "\n    f"REMOVE grant_id, generation, tokens,',
           _may(disconnects=1, starts=1)),
    Mutant("a tombstone keeps no time of request, or a late answer would be the later one", "storage/connections.py",
           "at_risk, retries, reason, requested_at, ", "at_risk, retries, reason, ",
           _may("late", disconnects=1, starts=2)),
    Mutant("a disconnect counts the generation", "storage/connections.py",
           '"generation = if_not_exists(generation, :zero) + :one, #ttl = :ttl "',
           '"connected_at = if_not_exists(connected_at, :zero) + :one, #ttl = :ttl "', _may(disconnects=1, starts=1)),
    Mutant("a disconnect ends only the consent it was asked to end", "storage/connections.py",
           '"grant_id = :grant AND #status <> :disconnected"',
           '"(grant_id = :grant OR attribute_exists(pk)) AND #status <> :disconnected"',
           _may(disconnects=1, consents=1, workers=0, starts=1)),
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
