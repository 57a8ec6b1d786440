"""The accounting: gives every issued refresh token exactly one fate, and lists the breaches of every rule.

It is a pure function of the evidence. A token without a proven fate is `unexplained`. A kill explains a loss only if it
ended the attempt that requested the token.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from tools.campaign.evidence import Evidence, Finish, Open, Reconnect, Request, Token

DROPS = frozenset({"lose_answer", "reset", "truncate"})
"""Faults that keep an answer with tokens from arriving."""

REFUSALS = 2
"""A connection may be declared dead after so many refusals of its token."""

_PROVES_NOTHING = frozenset(
    {"in_doubt", "refused", "not_sent", "throttled", "configuration_error", "not_prepared", "paced", "no_time"}
)
"""Outcomes of an attempt after which its token may be sent again."""

LONGEST_INVOCATION = 46.0
"""The longest life of an attempt: a little more than the function's timeout. Seconds."""


class Fate(StrEnum):
    """The fate of a refresh token."""

    STORED = "stored"
    SPENT = "spent"
    DROPPED = "lost in a dropped answer"
    KILLED = "lost with a killed receiver"
    SUPERSEDED = "superseded by a reconnect"
    UNEXPLAINED = "unexplained"


@dataclass(slots=True)
class Account:
    """The result of the accounting."""

    fates: dict[str, Fate] = field(default_factory=dict)
    """By fingerprint."""
    breaches: list[str] = field(default_factory=list)
    """Broken rules, each as a sentence."""
    blamed: set[str] = field(default_factory=set)
    """Businesses with a broken rule or an unexplained token. The report shows their histories."""
    wrongly_dead: int = 0
    delivered_to_the_dead: int = 0
    """Tokens that were lost with their receiver after it had received the answer."""
    windows: list[float] = field(default_factory=list)
    """For each undisturbed refresh: seconds from the issue of the token to the log line after its commit."""

    @property
    def clean(self) -> bool:
        """Whether every token is explained and no rule was broken."""
        return not self.breaches and Fate.UNEXPLAINED not in self.fates.values()

    def count(self, fate: Fate) -> int:
        """The number of tokens with this fate."""
        return Counter(self.fates.values())[fate]


def account(evidence: Evidence) -> Account:
    """Account for every token of `evidence`, and check the rules."""
    result = Account()
    finishes = _match_finishes(evidence)
    issuing = {fingerprint: request for request in evidence.requests for fingerprint in request.issued}
    ends = _Killed(evidence)
    # In the order of time: a kill explains the oldest tokens first.
    for token in sorted(evidence.tokens, key=lambda t: t.issued_at):
        request = issuing.get(token.fingerprint)
        fate = _fate(token, request, evidence, finishes, ends)
        result.fates[token.fingerprint] = fate
        if fate is Fate.UNEXPLAINED:
            result.blamed.add(token.business)
        if fate is Fate.KILLED and request is not None and request.delivered and not request.receiver_gone:
            result.delivered_to_the_dead += 1
        if request is not None and not request.faults and request.number in finishes:
            finish = finishes[request.number]
            if finish.outcome == "refreshed" and finish.alone:
                result.windows.append(max(finish.at - token.issued_at, 0.0))
    _check_stored(evidence, result)
    _check_dead(evidence, result)
    _check_presentations(evidence, finishes, ends, result)
    return result


def _fate(
    token: Token, request: Request | None, evidence: Evidence, finishes: dict[int, Finish], ends: "_Killed"
) -> Fate:
    """The fate of a token that the evidence proves, else `UNEXPLAINED`."""
    if token.rotated:
        return Fate.SPENT
    if evidence.stored.get(token.business) == token.fingerprint:
        return Fate.STORED
    if any(reconnect.before == token.fingerprint for reconnect in evidence.reconnects):
        return Fate.SUPERSEDED
    if request is None or request.grant != "refresh_token":
        return Fate.UNEXPLAINED
    if DROPS.intersection(request.faults):
        return Fate.DROPPED
    finish = finishes.get(request.number)
    if finish is None:
        return Fate.KILLED if ends.excuse(request) else Fate.UNEXPLAINED
    raced = finish.outcome in ("refreshed", "superseded") and any(
        _overlap(reconnect, token.business, request.at, finish.at) for reconnect in evidence.reconnects
    )
    return Fate.SUPERSEDED if raced else Fate.UNEXPLAINED


def _overlap(reconnect: Reconnect, business: str, start: float, end: float) -> bool:
    return reconnect.business == business and reconnect.start <= end and start <= reconnect.end


class _Killed:
    """The attempts that ended with their process. A kill explains as many attempts as its worker had in its hands."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._owners = _owners(evidence)
        self._room = {kill: kill.held for kill in evidence.kills}

    def left_open(self, request: Request) -> float | None:
        """When the attempt that sent a request was seen open, after every process that could go on was gone."""
        one = self._owners.get(request.number)
        return None if one is None else one.seen_at

    def end(self, request: Request) -> float | None:
        """The time at which an attempt that logged no end was over for certain; `None` if that is unknown.

        Either it was left open, or it succeeded and its worker was killed before it wrote the log line.
        """
        left_open = self.left_open(request)
        if left_open is not None:
            return left_open
        free = self.free(request)
        if free is None or not any(request.at <= kill.at <= free for kill in self._evidence.kills):
            return None
        return free

    def free(self, request: Request) -> float | None:
        """The first time after a request at which its connection had no attempt, so that the sender was over."""
        seen = [one.at for one in self._evidence.frees if one.business == request.business and one.at > request.at]
        return min(seen, default=None)

    def excuse(self, request: Request) -> bool:
        """Whether the sender was killed, and its attempt was seen open afterwards without a commit.

        A reconnect removes an attempt, so a reconnect in this time also counts.
        """
        until = self.left_open(request)
        if until is None:
            raced = [
                reconnect.end
                for reconnect in self._evidence.reconnects
                if _overlap(reconnect, request.business, request.at, request.at + LONGEST_INVOCATION)
            ]
            until = max(raced, default=None)
        if until is None:
            return False
        kills = [kill for kill, room in self._room.items() if room and request.at <= kill.at <= until + 2.0]
        if not kills:
            return False
        self._room[min(kills, key=lambda kill: kill.at)] -= 1
        return True


def _match_finishes(evidence: Evidence) -> dict[int, Finish]:
    """By the number of a request: the log line at the end of the attempt that sent it.

    A line has the connection, the time after the answer, and the duration of the POST. Its request is the one that
    arrived this duration earlier.
    """
    waiting: dict[str, list[Request]] = defaultdict(list)
    for request in evidence.requests:
        if request.grant == "refresh_token":
            waiting[request.business].append(request)
    matched: dict[int, Finish] = {}
    owners = _owners(evidence)
    for finish in sorted(evidence.finishes, key=lambda f: f.at):
        if finish.exchange is None:
            continue
        answered = finish.at - finish.exchange
        # The simulator does not read a request that it has to lose, so its record has no business. Try these last.
        for requests in (waiting[finish.business], waiting[""]):
            near = [
                request
                for request in requests
                if answered - 2.0 <= request.at <= finish.at
                and (request.number not in owners or owners[request.number].attempt == finish.attempt)
            ]
            if near:
                request = min(near, key=lambda r: abs(r.at - answered))
                requests.remove(request)
                matched[request.number] = finish
                break
    return matched


def _owners(evidence: Evidence) -> dict[int, Open]:
    """By the number of a request: the attempt that sent it and was left open, as first seen.

    An attempt sends at most one request, and no other attempt sends one while it is open. So its request is the last
    one since its start. (The first one could belong to another attempt: the start is known to the second only, and in
    this second the attempt before may have ended.)
    """
    owners: dict[int, Open] = {}
    for one in sorted(evidence.opens, key=lambda o: o.seen_at):
        sent = [
            request
            for request in evidence.requests
            if request.business == one.business
            and request.grant == "refresh_token"
            and int(one.started_at) <= request.at <= one.seen_at
        ]
        if sent:
            owners.setdefault(max(sent, key=lambda r: r.at).number, one)
    return owners


def _check_stored(evidence: Evidence, result: Account) -> None:
    """Checks that each stored token was issued for its business, and that it works unless its connection is lost."""
    known = {token.fingerprint: token for token in evidence.tokens}
    lost = {dead.business for dead in evidence.dead if evidence.stored.get(dead.business) == dead.stored}
    for business, fingerprint in evidence.stored.items():
        token = known.get(fingerprint)
        if token is None or token.business != business:
            _breach(result, business, "its stored refresh token was never issued for it")
        elif not token.works and business not in lost:
            _breach(result, business, "it is active with a refresh token that does not work")
    for business in {token.business for token in evidence.tokens} - evidence.stored.keys():
        _breach(result, business, "the table has no token of it")
    for business, kind in evidence.exceptions:
        _breach(result, business, f"its refresh ended with an exception ({kind})")
    for business in evidence.unsettled:
        _breach(result, business, "it did not become active or lost at the end")


def _check_dead(evidence: Evidence, result: Account) -> None:
    """Checks that a connection was declared dead after a doubt and two refusals, and that its token does not work."""
    for dead in evidence.dead:
        refusals = sum(
            1 for one in evidence.requests if one.fingerprint == dead.stored and one.refused and one.at <= dead.at
        )
        if refusals < REFUSALS:
            _breach(result, dead.business, f"declared dead ({dead.reason}) after {refusals} refusals of {dead.stored}")
        if dead.works:
            result.wrongly_dead += 1
            _breach(result, dead.business, f"declared dead ({dead.reason}) while {dead.stored} still worked")
        elif dead.reason != "rotation_lost":
            _breach(result, dead.business, f"lost its token without noticing any doubt ({dead.reason})")


def _check_presentations(evidence: Evidence, finishes: dict[int, Finish], ends: _Killed, result: Account) -> None:
    """Checks that no token is in the air twice at once, or is sent again after an attempt with a verdict."""
    by_token: dict[str, list[Request]] = defaultdict(list)
    for request in evidence.requests:
        # The simulator does not read a request that it has to lose. A canary's token is made up, and nobody's.
        if request.fingerprint and request.business:
            by_token[request.fingerprint].append(request)
    for fingerprint, requests in by_token.items():
        requests.sort(key=lambda r: r.at)
        for first, second in pairwise(requests):
            finish = finishes.get(first.number)
            over = ends.end(first) if finish is None else min(finish.at, ends.free(first) or finish.at)
            if first.grant != "refresh_token":
                _breach(result, first.business, f"the code {fingerprint} was sent twice")
            elif over is None or over > second.at:
                _breach(result, first.business, f"{fingerprint} was in the air twice at once")
            elif finish is not None and finish.outcome not in _PROVES_NOTHING:
                _breach(result, first.business, f"{fingerprint} was sent again after {finish.outcome}")


def _breach(result: Account, business: str, sentence: str) -> None:
    result.breaches.append(f"{business}: {sentence}")
    result.blamed.add(business)


def history(evidence: Evidence, business: str, fates: dict[str, Fate]) -> list[str]:
    """All evidence about a business, one line for each fact, in the order of time. It has fingerprints only."""
    lines: list[tuple[float, str]] = []
    for token in evidence.tokens:
        if token.business == business:
            state = "works" if token.works else "does not work"
            lines.append(
                (
                    token.issued_at,
                    f"issued {token.fingerprint} for {token.issued_by}: {fates[token.fingerprint]}, {state}",
                )
            )
    for request in evidence.requests:
        if request.business == business:
            sent = f"{request.grant} with {request.fingerprint}: {request.outcome}"
            faults = f", faults {', '.join(request.faults)}" if request.faults else ""
            gone = ", receiver gone" if request.receiver_gone else ""
            lines.append((request.at, f"request {request.number}, {sent}, delivered {request.delivered}{faults}{gone}"))
    lines += [
        (f.at, f"attempt {f.attempt[:8]} ended: {f.outcome}") for f in evidence.finishes if f.business == business
    ]
    lines += [
        (o.seen_at, f"attempt {o.attempt[:8]} of {o.started_at:.0f} found open, its process gone")
        for o in evidence.opens
        if o.business == business
    ]
    lines += [(r.start, f"reconnect, over {r.before}") for r in evidence.reconnects if r.business == business]
    lines += [(d.at, f"declared dead: {d.reason}, with {d.stored}") for d in evidence.dead if d.business == business]
    lines += [(k.at, f"kill -9 of {k.pid} ({k.aim}), which held {k.held} refreshes at most") for k in evidence.kills]
    stored = evidence.stored.get(business, "nothing")
    return [f"{at:.3f}  {line}" for at, line in sorted(lines)] + [f"in the end stored: {stored}"]
