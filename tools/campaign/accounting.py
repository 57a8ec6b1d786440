"""The accounting: for every refresh token that was ever issued exactly one fate, and for every rule its breaches.

Pure: evidence in, account out. Whatever has no proof of its fate is `unexplained`; a kill is no excuse by itself, it
must be the end of the very attempt that asked for the token.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from tools.campaign.evidence import Evidence, Finish, Open, Reconnect, Request, Token

DROPS = frozenset({"lose_answer", "reset", "truncate"})
"""Faults that keep an answer with tokens in it from arriving."""

_PROVES_NOTHING = frozenset({"in_doubt", "not_sent", "throttled", "configuration_error", "not_prepared", "no_time"})
"""Ends of an attempt after which its token may be sent again."""

LONGEST_INVOCATION = 46.0
"""The function's timeout and a little more: no attempt lives longer. Seconds."""


class Fate(StrEnum):
    """What became of a refresh token."""

    STORED = "stored"
    SPENT = "spent"
    DROPPED = "lost in a dropped answer"
    KILLED = "lost with a killed receiver"
    SUPERSEDED = "superseded by a reconnect"
    UNEXPLAINED = "unexplained"


@dataclass(slots=True)
class Account:
    """What a campaign's evidence comes to."""

    fates: dict[str, Fate] = field(default_factory=dict)
    """By fingerprint."""
    breaches: list[str] = field(default_factory=list)
    """Rules that were broken, each in a sentence."""
    blamed: set[str] = field(default_factory=set)
    """Businesses whose histories are to be shown."""
    wrongly_dead: int = 0
    delivered_to_the_dead: int = 0
    """Of the tokens that were lost with their receivers: those whose answer had been handed over before the kill."""
    windows: list[float] = field(default_factory=list)
    """Seconds from the issue of a token to the log line after its commit, of undisturbed refreshes."""

    @property
    def clean(self) -> bool:
        """Whether every token is explained and no rule was broken."""
        return not self.breaches and Fate.UNEXPLAINED not in self.fates.values()

    def count(self, fate: Fate) -> int:
        """How many tokens had that fate."""
        return Counter(self.fates.values())[fate]


def account(evidence: Evidence) -> Account:
    """Account for every token of `evidence`, and check the rules."""
    result = Account()
    finishes = _match_finishes(evidence)
    issuing = {fingerprint: request for request in evidence.requests for fingerprint in request.issued}
    ends = _Killed(evidence)
    # In the order of time, so that each kill's room goes to those who were in it first.
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
    """The one fate of a token that the evidence proves."""
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
    """Which attempts ended with their process. Each kill has room for as many as it held connections."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._owners = _owners(evidence)
        self._room = {kill: kill.sockets for kill in evidence.kills}

    def left_open(self, request: Request) -> float | None:
        """When the attempt that sent a request was seen open, with no process left that could go on with it."""
        one = self._owners.get(request.number)
        return None if one is None else one.seen_at

    def end(self, request: Request) -> float | None:
        """When the attempt that sent a request, and that logged no end, was over for certain.

        It was left open; or it ended well, and its worker was killed before the line was out, with others in hand.
        """
        left_open = self.left_open(request)
        if left_open is not None:
            return left_open
        free = self.free(request)
        if free is None or not any(request.at <= kill.at <= free for kill in self._evidence.kills):
            return None
        return free

    def free(self, request: Request) -> float | None:
        """When, after a request, its connection was first seen without an attempt: the one that sent it was over."""
        seen = [one.at for one in self._evidence.frees if one.business == request.business and one.at > request.at]
        return min(seen, default=None)

    def excuse(self, request: Request) -> bool:
        """Whether the sender was killed, and its attempt was seen open afterwards, never committed.

        A reconnect meanwhile clears an attempt away, and is taken as well.
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

    A line says whose connection it is about, when its answer was dealt with and how long its POST took: its request
    is the one that arrived that long before.
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
        # A request that the simulator was told to lose was never looked at, so it names no business: the second choice.
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
    """By the number of a request: the attempt that sent it and was left open, as it was first seen so.

    An attempt sends one request at most, and nobody else sends one after it: so it is the last one. (The first one
    would not do: an attempt's start is known by the second, and in that second another one may have ended.)
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
    """What is stored is the newest that anybody received, and works, unless the connection is known to be lost."""
    known = {token.fingerprint: token for token in evidence.tokens}
    lost = {dead.business for dead in evidence.dead if evidence.stored.get(dead.business) == dead.stored}
    for business, fingerprint in evidence.stored.items():
        token = known.get(fingerprint)
        if token is None or token.business != business:
            _breach(result, business, "its stored refresh token was never issued for it")
        elif not token.works and business not in lost:
            _breach(result, business, "it is active with a refresh token that does not work")
    for business in {token.business for token in evidence.tokens} - evidence.stored.keys():
        _breach(result, business, "it is stored nowhere")
    for business, kind in evidence.exceptions:
        _breach(result, business, f"its refresh ended with an exception ({kind})")
    for business in evidence.unsettled:
        _breach(result, business, "it could not be brought to rest")


def _check_dead(evidence: Evidence, result: Account) -> None:
    """Declared dead only after a doubt, and only with a token that really is."""
    for dead in evidence.dead:
        if dead.works:
            result.wrongly_dead += 1
            _breach(result, dead.business, f"declared dead ({dead.reason}) while {dead.stored} still worked")
        elif dead.reason != "rotation_lost":
            _breach(result, dead.business, f"lost its token without noticing any doubt ({dead.reason})")


def _check_presentations(evidence: Evidence, finishes: dict[int, Finish], ends: _Killed, result: Account) -> None:
    """A token is in the air once at a time, and again only when the attempt before it ended without a verdict."""
    by_token: dict[str, list[Request]] = defaultdict(list)
    for request in evidence.requests:
        if request.fingerprint:  # A request that the simulator was told to lose was never looked at.
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
    """Everything that is known of a business, a line each, in the order of time; fingerprints only."""
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
            told = f"{request.grant} with {request.fingerprint}: {request.outcome}"
            faults = f", faults {', '.join(request.faults)}" if request.faults else ""
            gone = ", receiver gone" if request.receiver_gone else ""
            lines.append((request.at, f"request {request.number}, {told}, delivered {request.delivered}{faults}{gone}"))
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
    lines += [(k.at, f"kill -9 of {k.pid} ({k.aim}), which held {k.sockets} requests") for k in evidence.kills]
    stored = evidence.stored.get(business, "nothing")
    return [f"{at:.3f}  {line}" for at, line in sorted(lines)] + [f"in the end stored: {stored}"]
