"""The experiments, in a safe order: what harms nothing first, what may cost a code next, what may cost a consent last.

Each experiment answers some of the questions (`findings.QUESTIONS`). One that gets no usable answer is tried once more,
with another consent where it needs one; then its questions stay open and say why.

A verdict against the server needs more than one sign, since users slip, gateways stumble and servers are down for a
while: a refusal is an error code that fits what was sent, what ends a consent is only tried on one that was seen alive
just before, and what a user or a short outage may have caused as well is only believed when it comes again.
"""

import re
import secrets
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NoReturn

from flowaccount_connect.domain.ids import is_connection_id
from flowaccount_connect.oauth.authorization_url import authorization_url
from flowaccount_connect.oauth.token_answer import Outcome, TokenSet
from flowaccount_connect.oauth.token_endpoint import NO_ANSWER
from tools.probe.consent import Consents, Stuck, leads_somewhere, parameters_of
from tools.probe.findings import Findings, Json
from tools.probe.target import Target
from tools.probe.wire import LONGEST_WAIT, WINDOW, Books, Kind, Seen, Unanswered, Wire

MOST_CONSENTS = 14
"""Consents that one run asks for at most, whatever happens."""

REPLAY_AFTER = 180
"""Seconds after which the stack sends a token in doubt again at the earliest if a worker was killed: its lease."""

MOST_KNOCKS = 150
"""Requests that one measurement of the rate limit sends at most; there are two."""

AT_ONCE = 10
"""Seconds between a rotation and the reuse of its token within which that is a reuse at once."""

HALF_AN_HOUR = 1_800

DAY = 86_400

_ERROR_CODE = re.compile(r"[a-z][a-z_]{2,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """What the browser brought back. Its repr shows none of it."""

    parameters: dict[str, list[str]] = field(repr=False)
    verifier: str | None = field(default=None, repr=False)

    def one(self, name: str) -> str | None:
        """A parameter's value, or `None` where it is absent, empty or repeated."""
        values = self.parameters.get(name, [])
        return values[0] or None if len(values) == 1 else None


@dataclass(slots=True, kw_only=True)
class Family:
    """The tokens of one consent."""

    code: str = field(repr=False)
    verifier: str | None = field(default=None, repr=False)
    tokens: TokenSet
    spent: list[str] = field(default_factory=list, repr=False)
    """Refresh tokens that were rotated, oldest first."""
    support_code: str = ""

    @property
    def current(self) -> str:
        """The newest refresh token. Raises `Unanswered` if there is none."""
        if self.tokens.refresh_token is None:
            raise Settled("No refresh token was issued.")
        return self.tokens.refresh_token


@dataclass(frozen=True, slots=True)
class Experiment:
    """One step: which questions it answers, how many new consents it needs by itself, and why."""

    title: str
    run: Callable[["Probe"], None]
    answers: tuple[str, ...]
    consents: int = 0
    why: str = ""


class Probe:
    """One run. `findings` grows while it lasts."""

    def __init__(
        self,
        target: Target,
        consents: Consents,
        wire: Wire,
        books: Books,
        *,
        measure_rate: bool = False,
        measure_lifetimes: bool = False,
        replay_after: int = REPLAY_AFTER,
    ) -> None:
        self.target = target
        self.consents = consents
        self.wire = wire
        self.books = books
        self.findings = Findings()
        self.asked = 0
        self.measure_rate = measure_rate
        self.measure_lifetimes = measure_lifetimes
        self._replay_after = replay_after
        self._families: list[Family] = []
        self._callbacks: list[Callback] = []
        self._doubtful: dict[str, tuple[Callable[[], Seen], Kind]] = {}
        """Refusals that may have been an outage: how to ask again, and what came."""
        self._alike: dict[str, Kind] = {}
        """What refusals look like where the product's rules see none; seen before and after the first success."""
        self._at_work: Family | None = None
        self._strays = 0
        self._unchallenged: list[str | None] = []
        self._challenged: list[str | None] = []
        """How logins ended that brought no tokens, without and with a challenge (`_Failed.how`)."""
        self._needs_pkce = False
        self._ended: str | None = None

    def plan(self) -> list[Experiment]:
        """The experiments of this run, in their order."""
        last = [RATE_LIMIT] if self.measure_rate else []
        return [*EXPERIMENTS, *last, *([LIFETIMES] if self.measure_lifetimes else [])]

    def perform(self, experiment: Experiment) -> None:
        """Run an experiment; whatever goes wrong in it is noted as why its questions stay open."""
        note = self.findings.note
        self._at_work = None
        for _ in (1, 2):
            if self._ended is not None:
                why = self._ended
                break
            try:
                experiment.run(self)
            except Settled as settled:
                why = str(settled)
                break
            except Unanswered as unanswered:
                why = str(unanswered)
            except Exception as error:
                # Nothing a server says ends the run; the error's own text might quote what it says.
                why = f"An answer nobody expected ended this experiment ({type(error).__name__})."
                self.books.surprise(f"{experiment.title}: {why}")
                break
            else:
                why = "The answers before it left nothing to ask."
                break
            # Whatever state its consent is in now: what comes next begins with another.
            self._give_up_what_is_at_work()
        for name in experiment.answers:
            if not (name in self.findings.found and self.findings.found[name].words):
                note(name, None, why)

    def _give_up(self, family: Family | None) -> None:
        """Use this consent no more."""
        if family in self._families:
            self._families.remove(family)

    def _give_up_what_is_at_work(self) -> None:
        self._give_up(self._at_work)
        self._at_work = None

    def conclude(self) -> None:
        """Answer what no single experiment can."""
        self._callback_parameters()
        self._throttling()
        note, surprises = self.findings.note, self.books.surprises
        if surprises:
            note("surprises", list[Json](surprises), f"{len(surprises)} did:", *surprises)
        else:
            note("surprises", "none", "No.")
        if "absolute_lifetime" not in self.findings.found:
            words = "Only time tells: a connection that has to be renewed on its 30th day would be it."
            note("absolute_lifetime", None, words)
        why = "Only with LIFETIMES=1, since it takes a day and a half."
        if not self.measure_lifetimes:
            note("refresh_token_lifetime", None, f"{why} FlowAccount's page says 1 day from the last token request.")
            note("access_token_lives", None, f"{why} What answers say of it is above.")
        note(
            "code_lifetime",
            None,
            "The stack exchanges a code the moment it comes, nothing depends on it. FlowAccount's page says 150 min.",
        )
        if not self.measure_rate:
            note(
                "rate_limit",
                None,
                "Only with RATE_LIMIT=1, since it hurts other users of the client for some minutes.",
            )

    # Experiments -----------------------------------------------------------------------------------------------------

    def refusals(self) -> None:
        """What errors look like. Needs no consent and harms nothing: the tokens sent were never issued."""
        unknown = secrets.token_urlsafe(32)
        wrong = secrets.token_urlsafe(24)

        def refresh() -> Seen:
            return self.wire.refresh("A refresh with an unknown token", unknown)

        def code() -> Seen:
            return self.wire.exchange("An exchange of an unknown code", unknown)

        def client() -> Seen:
            return self.wire.refresh("A wrong client secret", unknown, secret=wrong)

        for name, send in (("invalid_grant", refresh), ("invalid_grant_code", code), ("invalid_client", client)):
            seen = self._answered(send)
            if name == "invalid_grant" and seen.answer.error == "invalid_client":
                self._ended = f"The server refuses the client itself ({seen.look}): check CLIENT_ID and CLIENT_SECRET."
                raise Settled(self._ended)
            if name == "invalid_grant" and seen.outcome is Outcome.NOT_SENT:
                self._ended = "The token endpoint cannot be reached (name, connection or TLS): check TOKEN_ENDPOINT."
                raise Settled(self._ended)
            if not seen.unusable:
                self._refusal(name, seen)
                continue
            self._doubtful[name] = send, seen.kind
            words = f"{_sentence(_said(seen))}. Nothing succeeded that would tell a refusal from an outage."
            self.findings.note(name, None, words if seen.answer.status else f"No answer ({seen.look}).", seen.look)
        if self.target.business_api is None:
            self.findings.note("unauthorized", None, "No business API was given (BUSINESS_API).")
            return
        taken, looks = self.wire.company(unknown)
        if taken is None:
            self.findings.note("unauthorized", None, f"It gave no answer that could be read ({looks}).")
        else:
            words = "It takes any token!" if taken else f"It says no: {looks}."
            self.findings.note("unauthorized", "accepted" if taken else looks.partition(",")[0], words, looks)

    def tokens(self) -> None:
        """A consent as the documentation has it: the callback, the exchange, two refreshes, the access tokens."""
        self._documented(*self._exchanged("the documented flow"))

    def _documented(self, family: Family, first: Seen) -> None:
        """Look at the answer to a code, refresh twice, and try the access tokens."""
        self._families.append(family)
        self._token_answer(first)
        before = family.tokens.access_token
        works, looks = self.wire.company(before)
        refreshed = self._refresh(family, "The first refresh")
        self._refresh_answer(family, first, refreshed)
        self._refresh(family, "The second refresh")
        if not works:
            self.findings.note("older_access_token", None, f"The business API could not be asked ({looks}).")
            return
        still, looks = self.wire.company(before)
        value = None if still is None else "works" if still else "dead"
        words = "It works on, beside the new one." if still else f"It is refused afterwards: {looks}."
        self.findings.note("older_access_token", value, words if value else f"No usable answer ({looks}).", looks)

    def cancelling(self) -> None:
        """The user says no at the login."""
        why = "a cancel at the login, to see what comes back of it"
        try:
            callback = self._consent(why, cancel=True, pkce=self._needs_pkce)
        except Stuck:
            self.findings.note("cancel", "stranded", "Nothing: the browser stays on a page of the server.")
            return
        error = callback.one("error")
        if error is None:
            raise Unanswered("The browser came back with a code: nobody cancelled.")
        code = error if _ERROR_CODE.fullmatch(error) else "unreadable"
        taken = "a cancel" if code == "access_denied" else "a failure"
        self.findings.note("cancel", code, f"`error={code}`, which the stack tells as {taken}.")

    def pkce(self) -> None:
        """A challenge with the right verifier."""
        try:
            family, first = self._exchanged("a PKCE challenge, and the right verifier", pkce=True)
        except _Failed as failed:
            self._worth_a_consent()
            if failed.how is None or self._challenged[:-1] != [failed.how]:
                raise
            # The same twice; an outage would stop a login without a challenge, too.
            self._families.append(self._exchanged("once more without a challenge, to see whether that still works")[0])
            words = {
                "dropped": f"With a challenge nobody can connect: {failed}",
                "refused_at_login": f"The login refuses it: {failed}",
            }[failed.how]
            self.findings.note("pkce", failed.how, words)
            return
        self.findings.note(
            "pkce", "accepted", "The right verifier is taken; what wrong ones get could not be found out."
        )
        if self.findings.value("refresh_token") is None:
            self._only_with_a_challenge(family, first)
        else:
            self._families.append(family)

    def _only_with_a_challenge(self, family: Family, first: Seen) -> None:
        """Without a challenge nothing came of it so far: whether that was the challenge's lack, or bad luck."""
        for _ in (1, 2):
            try:
                plain = self._exchanged("once more without a challenge, to see whether one is demanded")
            except _Failed as failed:
                if failed.how is None:
                    continue
                if len([how for how in self._unchallenged if how]) > 1:
                    self.findings.note("pkce", "required", "It is demanded: nobody connects without a challenge.")
            except Unanswered:
                break
            else:
                self._families.append(family)
                self._documented(*plain)
                return
            break
        self._needs_pkce = True
        self._documented(family, first)

    def earlier_consent(self) -> None:
        """Whether the tokens of a consent outlive the next consent of the same business."""
        if len(self._families) < 2:
            raise Settled("There were no two consents at a time.")
        earlier, newer = self._families[-2:]
        # Once an answer was lost its token may be spent: a second try would blame the consent for that.
        self._at_work = earlier
        seen = self.wire.refresh("The token of the earlier consent", earlier.current, support_code=earlier.support_code)
        self._usable(seen)
        if seen.tokens is not None:
            self._advance(earlier, seen.tokens)
            self.findings.note("earlier_consent", "alive", "No: both live side by side.", seen.look)
            return
        self._families.remove(earlier)
        self._refresh(newer, "The token of the newer consent")
        self.findings.note(
            "earlier_consent", "ended", f"Yes: its token gets {_said(seen)}, the newer one's is good.", seen.look
        )

    def wrong_verifier(self) -> None:
        """Another verifier than the one the challenge was made from."""
        self._verifier("pkce_wrong_verifier", "a wrong PKCE verifier", secrets.token_urlsafe(32))

    def missing_verifier(self) -> None:
        """A challenge, and then no verifier."""
        self._verifier("pkce_missing_verifier", "a missing PKCE verifier", None)
        wrong, missing = (self.findings.value(f"pkce_{kind}_verifier") for kind in ("wrong", "missing"))
        known = self.findings.value("pkce")
        if known not in ("accepted", "required") or wrong is None or missing is None:
            return
        enforced = wrong == missing == "refused"
        if known == "required":
            rest = "and enforced" if enforced else f"but a wrong verifier is {wrong}, a missing one {missing}"
            self.findings.note("pkce", "required", f"It is demanded, {rest}: nobody connects without a challenge.")
        elif enforced:
            plain = "it is not known whether one connects without" if self._needs_pkce else "a challenge is optional"
            self.findings.note("pkce", "enforced", f"It is enforced: only the right verifier is taken, and {plain}.")
        elif wrong == missing == "accepted":
            self.findings.note(
                "pkce", "ignored", "It is ignored: any verifier is taken, and none too. It protects nothing."
            )
        else:
            self.findings.note(
                "pkce", "partly", f"It is enforced in part: a wrong verifier is {wrong}, a missing one is {missing}."
            )

    def redirect_uri(self) -> None:
        """The exchange under another redirect URI than the login's."""
        self._worth_a_consent()
        callback, code = self._code("an exchange under another redirect URI")
        other = f"{self.target.redirect_uri}{'&' if '?' in self.target.redirect_uri else '?'}probe=1"
        seen = self.wire.exchange("Another redirect URI", code, redirect_uri=other, verifier=callback.verifier)
        self._usable(seen)
        if seen.tokens is not None:
            self._families.append(self._family(callback, code, seen.tokens))
            self.findings.note("redirect_uri", "ignored", "No: another one is taken just as well.", seen.look)
            self.findings.note("burnt_code", None, "No exchange failed after which it could have been tried.")
            return
        self.findings.note("redirect_uri", "compared", f"Yes: another one gets {_said(seen)}.", seen.look)
        self._burnt(callback, code)

    def wrong_secret(self) -> None:
        """A living refresh token under a wrong client secret, and then under the right one."""
        family = self._living("a refresh under a wrong client secret")
        seen = self.wire.refresh(
            "A living token under a wrong secret", family.current, secret=secrets.token_urlsafe(24)
        )
        if seen.tokens is not None:
            self._advance(family, seen.tokens)
            self.findings.note(
                "wrong_secret_spends", "not_checked", "The server does not check the client secret!", seen.look
            )
            return
        self._usable(seen)
        after = self.wire.refresh("The same under the right secret", family.current, support_code=family.support_code)
        if after.tokens is not None:
            self._advance(family, after.tokens)
            self.findings.note(
                "wrong_secret_spends", "no", "No: the right secret refreshes it afterwards.", seen.look, after.look
            )
            return
        self._families.remove(family)
        self._usable(after)
        self.findings.note(
            "wrong_secret_spends",
            "yes",
            "Yes! A wrong secret in the stack costs connections: change it with care.",
            seen.look,
            after.look,
        )

    def replay(self) -> None:
        """A refresh token is used again right after it was rotated: as after an answer that got lost."""
        family = self._rotating("the reuse of a rotated token")
        spent = family.current
        self.wire.reserve(3)
        self._refresh(family, "A refresh before the reuse")
        rotated, ours, access = self.wire.clock(), family.current, family.tokens.access_token
        # An API that could not be asked before is not waited for now.
        asks = self.findings.value("older_access_token") is not None
        lived = self.wire.company(access)[0] if asks else None
        if self.wire.clock() - rotated > AT_ONCE:
            raise Unanswered("A pause came between the rotation and the reuse: it was not at once.")
        again = self.wire.refresh("The reuse", spent, support_code=family.support_code, at_once=True)
        self._usable(again)
        if lived:
            taken, looks = self.wire.company(access)
            words = "No: it lives on." if taken else f"Yes: {looks}." if taken is False else f"No telling: {looks}."
            value = None if taken is None else "alive" if taken else "killed"
            self.findings.note("replay_access_token", value, words, looks)
        else:
            self.findings.note("replay_access_token", None, "The business API did not take it before the reuse.")
        if again.tokens is None:
            self.findings.note("replay", "refused", f"No: it gets {_said(again)}.", again.look)
            self.findings.note("replay_lines", "none", "There is one line only: the reuse brings nothing.")
            self.findings.note("replay_late", "refused", "No: it is refused from the first moment.")
            self._outlived("replay_family", "The newest token", family, [family.current])
            return
        got = again.tokens.refresh_token
        kind = {None: "no_token", ours: "same_token", spent: "spent_token"}.get(got, "new_token")
        words = {
            "no_token": "Yes, and it brings an access token only.",
            "same_token": "Yes, and it brings the same new token again.",
            "spent_token": "Yes, and it gives itself back.",
            "new_token": "Yes, and it brings yet another new token.",
        }[kind]
        self.findings.note("replay", kind, words, again.look)
        if kind != "new_token" or got is None:
            self.findings.note("replay_lines", "one", "There is one line only: both answers lead to the same token.")
            self._outlived("replay_family", "The newest token", family, [ours])
            return
        theirs = self.wire.refresh("The token that the reuse brought", got)
        self._usable(theirs)
        if theirs.tokens is not None:
            # Settled before the other one is sent: what that ends is no work of the reuse.
            self.findings.note("replay_family", "alive", "No: the token that it brought works on.")
        first = self.wire.refresh("The token of the refresh before", ours)
        self._usable(first)
        lines = {(True, True): "both", (True, False): "newest", (False, True): "first", (False, False): "neither"}
        value = lines[theirs.tokens is not None, first.tokens is not None]
        said = {
            "both": "Both do.",
            "newest": "The one that the reuse brought; the one before it is dead.",
            "first": "The one of the first answer; what the reuse brought is dead.",
            "neither": "Neither does: the reuse ends the consent.",
        }
        self.findings.note("replay_lines", value, said[value], theirs.look, first.look)
        candidates = [
            seen.tokens.refresh_token for seen in (theirs, first) if seen.tokens and seen.tokens.refresh_token
        ]
        if theirs.tokens is None:
            self._outlived("replay_family", "The consent", family, candidates)
        else:
            self._continue(family, candidates)

    def later_replay(self) -> None:
        """The same after the time that the stack would let pass, where it was taken at once."""
        value = self.findings.value("replay")
        if value is None:
            raise Settled("It is not known what a reuse at once gets.")
        if value == "refused":
            return
        family = self._rotating("the reuse of a rotated token, later")
        spent = family.current
        self._refresh(family, "A refresh before the later reuse")
        self.wire.sleep(self._replay_after, "before the later reuse")
        again = self.wire.refresh("The later reuse", spent, support_code=family.support_code)
        self._usable(again)
        after = f"after {self._replay_after} s"
        if again.tokens is None:
            self.findings.note(
                "replay_late",
                "refused",
                f"No: {after} it gets {_said(again)}. There is a grace, but it ends before.",
                again.look,
            )
        else:
            self.findings.note("replay_late", "accepted", f"Yes, {after} too.", again.look)
        candidates = [again.tokens.refresh_token if again.tokens else None, family.current]
        if not self._continue(family, [token for token in candidates if token]) and again.tokens is None:
            self.findings.note(
                "replay_family", "killed", f"A reuse {after} kills the newest token with it.", again.look
            )

    def older_replay(self) -> None:
        """A token from several refreshes ago: what a table restored from a backup would send."""
        if self.findings.value("replay_family") == "killed":
            raise Settled("Not tried: every reuse ends the consent, and a restored table would end all of them.")
        family = self._rotating("the reuse of a token from several refreshes ago")
        while len(family.spent) < 3:
            self._refresh(family, "A refresh before the reuse of an older token")
        again = self.wire.refresh("The reuse of an older token", family.spent[0], support_code=family.support_code)
        self._usable(again)
        lives = self._continue(
            family, [t for t in (again.tokens.refresh_token if again.tokens else None, family.current) if t]
        )
        value = f"{'accepted' if again.tokens else 'refused'}{'' if lives else '_kills'}"
        words = "It is taken" if again.tokens else f"It gets {_said(again)}"
        rest = "and the consent lives on" if lives else "and the consent is dead then"
        self.findings.note("replay_older", value, f"{words}, {rest}.", again.look)

    def code_twice(self) -> None:
        """A code is exchanged a second time, while the tokens of its first exchange live."""
        family = self._living("the second use of a code")
        again = self.wire.exchange("The second use of a code", family.code, verifier=family.verifier)
        self._usable(again)
        worked = again.tokens is not None
        words = "Yes!" if worked else f"No: it gets {_said(again)}."
        self.findings.note("code_twice", "yes" if worked else "no", words, again.look)
        self._outlived("code_twice_kills", "The consent's refresh token", family, [family.current], yes="yes", no="no")

    def simultaneous(self) -> None:
        """Two refreshes with one token, side by side."""
        family = self._rotating("two refreshes at the same moment")
        token = family.current
        self.wire.reserve(2)
        both = _side_by_side(lambda n: self.wire.refresh(f"Refresh {n} of two at once", token, at_once=True))
        for seen in both:
            self._usable(seen)
        got = [seen.tokens.refresh_token for seen in both if seen.tokens is not None]
        # Where both were refused the token itself may be good still.
        lives = self._continue(family, [*(token for token in got if token), token])
        value = {0: "neither", 1: "one", 2: "both"}[len(got)]
        words = {"neither": "Neither succeeds", "one": "One succeeds", "both": "Both succeed"}[value]
        if value == "both":
            words += " with the same token" if got[0] == got[1] else ", each with a token of its own"
        rest = "and the consent lives on" if lives else "and the consent is dead then"
        self.findings.note(
            "simultaneous",
            f"{value}{'' if lives else '_kills'}",
            f"{words}, {rest} (in this one try).",
            *(s.look for s in both),
        )

    def rate_limit(self) -> None:
        """Requests with a token that was never issued, one after the other, until the first 429; twice.

        The second time tells a limit by the minute from a full reserve, and from a minute that ended meanwhile.
        """
        sent = self.wire.busiest()
        let_in: list[int] = []
        pause, look = WINDOW, ""
        for why in ("for an empty minute before the measurement", "for another empty minute"):
            self.wire.sleep(pause, why)
            number, last = self._let_in()
            if last is None and let_in:
                raise Settled(f"First {let_in[0]} were let in, then {number} and still no 429.")
            if last is None:
                words = f"No 429 within {number} requests: the token endpoint is not limited, or not that low."
                self.findings.note("rate_limit", "none_seen", words)
                return
            if last.outcome is not Outcome.THROTTLED:
                raise Settled(f"{number} were let in, and then came {_said(last)}, which is no 429.")
            let_in.append(number)
            look = last.look
            # No longer than a minute, or a reserve would fill up by more than a minute's worth.
            pause = min(max(last.answer.retry_after or 0, WINDOW), LONGEST_WAIT)
        # Whatever comes next begins with a good minute.
        self.wire.sleep(pause, "since the server throttles")
        limit = min(let_in)
        times = f"{let_in[0]} and, a minute later, {let_in[1]} were let in before the 429"
        if limit < max(sent, 1):
            raise Settled(f"{times}, though {sent} within a minute had been before: that is no limit by the minute.")
        self.findings.note("rate_limit", limit, f"{limit} a minute: {times}.", look)

    def _let_in(self) -> tuple[int, Seen | None]:
        """How many requests get a refusal within a minute at most, and what came instead then."""
        unknown, began = secrets.token_urlsafe(32), self.wire.clock()
        kinds: set[Kind] = set()
        for number in range(MOST_KNOCKS):
            seen = self.wire.knock(unknown)
            kinds.add(seen.kind)
            if not self._is_no(seen) or len(kinds) > 1:
                return number, seen
            if self.wire.clock() - began >= WINDOW:
                return number + 1, None
        return MOST_KNOCKS, None

    def lifetimes(self) -> None:
        """Waits a day and a half: a refresh token just before its day ends and another just after, an access token."""
        self._worth_a_consent()
        young, _ = self._exchanged("a refresh token to be used after 23 hours")
        old, answer = self._exchanged("a refresh token to be used after 25 hours")
        renewed = self._once("The younger token, beside another consent", young.current)
        if renewed.tokens is None:
            raise Settled("The second consent ended the first: two tokens cannot be left alone at a time.")
        self._advance(young, renewed.tokens)
        began, told = self.wire.clock(), answer.tokens.expires_in if answer.tokens else None
        works, _ = self.wire.company(old.tokens.access_token)
        last_seen, died = 0, None
        ends = sorted({23 * 3_600, 25 * 3_600, *range(HALF_AN_HOUR, 36 * 3_600, HALF_AN_HOUR)})
        used: list[tuple[int, bool]] = []
        renewed_at = 0
        for end in ends:
            self.wire.sleep(max(began + end - self.wire.clock(), 0), "until the next look")
            # What it is by now, since a machine may have slept.
            age = int(self.wire.clock() - began)
            for hours, family in ((23, young), (25, old)):
                if end == hours * 3_600:
                    seen = self._once(f"A token {hours} hours old", family.current)
                    used.append((age, seen.tokens is not None))
                    if family is young and seen.tokens is not None:
                        self._advance(young, seen.tokens)
                        renewed_at = age
            if works and died is None:
                alive, _ = self.wire.company(old.tokens.access_token)
                last_seen, died = (age, None) if alive else (last_seen, age if alive is False else None)
        self._access_token_lives(works, last_seen, died, told)
        self._refresh_token_lives(used)
        if renewed_at and self.wire.clock() - began - renewed_at < renewed_at:
            # Younger than one that was taken: only an end of the whole consent can have ended it.
            self._absolute(self._once("A token refreshed in time, at the end", young.current))

    def _access_token_lives(self, works: bool | None, last_seen: int, died: int | None, told: int | None) -> None:
        """What the looks at an access token say: when it was last taken, when it was refused, what had been told."""
        note, name = self.findings.note, "access_token_lives"
        if not works:
            note(name, None, "The business API could not be asked.")
        elif died is None:
            note(name, "longer", f"Longer than {_hours(last_seen)} hours; said: {told} s.")
        else:
            words = f"Between {_hours(last_seen)} and {_hours(died)} hours; said: {told} s."
            note(name, died if died - last_seen < HALF_AN_HOUR + 60 else None, words)

    def _refresh_token_lives(self, used: list[tuple[int, bool]]) -> None:
        """What the refresh tokens of these ages (seconds), taken or not, say."""
        note, name = self.findings.note, "refresh_token_lifetime"
        lived = max((age for age, taken in used if taken), default=0)
        died = min((age for age, taken in used if not taken), default=None)
        if died is None:
            words = f"Longer than {_hours(lived)} hours."
            note(name, "longer" if lived > DAY else None, words)
        elif lived > died:
            note(name, None, f"Refused at {_hours(died)} hours, taken at {_hours(lived)}.")
        elif not lived and died < DAY:
            note(name, "shorter", f"Less than {_hours(died)} hours!")
        elif 22 * 3_600 < lived < DAY < died < 26 * 3_600:
            words = f"1 day: used after {_hours(lived)} hours it works, after {_hours(died)} it is refused."
            note(name, DAY, words)
        else:
            known = f"More than {_hours(lived)} hours, less" if lived else "Less"
            note(name, None, f"{known} than {_hours(died)} hours. Was this machine asleep?")

    def _absolute(self, seen: Seen) -> None:
        """What the token says that was refreshed in time: refused, its consent has an end of its own."""
        if seen.tokens is None:
            words = "Yes, within a day and a half: a token that was refreshed after 23 hours is dead 12 hours later."
            self.findings.note("absolute_lifetime", "under_36_hours", words, seen.look)
        else:
            words = "Not within a day and a half. A connection to be renewed on its 30th day would be it."
            self.findings.note("absolute_lifetime", None, words, seen.look)

    # Consents --------------------------------------------------------------------------------------------------------

    def _consent(self, why: str, *, pkce: bool = False, cancel: bool = False) -> Callback:
        """Send the user to the login. Raises `Stuck`, and `Unanswered` where the browser brought nothing of use."""
        if self.asked >= MOST_CONSENTS:
            raise Settled(f"It would have taken more than {MOST_CONSENTS} consents.")
        self.asked += 1
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48) if pkce else None
        self.books.secrets |= {state, verifier or ""}
        url = authorization_url(
            self.target.authorize_endpoint,
            client_id=self.target.client_id,
            redirect_uri=self.target.redirect_uri,
            state=state,
            verifier=verifier,
        )
        landed = self.consents.ask(url, why=f"consent {self.asked}: {why}.", cancel=cancel)
        if landed is None:
            raise _Failed("Nobody came back from the login in time.")
        callback = Callback(parameters=parameters_of(landed), verifier=verifier)
        self.books.secrets |= {value for values in callback.parameters.values() for value in values if len(value) > 15}
        self.books.secrets -= {callback.one("iss") or "", callback.one("scope") or "", callback.one("error") or ""}
        if not leads_somewhere(landed):
            raise _Failed("The address that the browser ended on carried neither a code nor an error.")
        came = callback.one("state")
        if came != state:
            self._stray(came)
        self.findings.note("state", "same", "Yes.")
        self._callbacks.append(callback)
        return callback

    def _stray(self, came: str | None) -> NoReturn:
        """Note a callback of another `state` and raise: whose it is nobody knows, and its code is not ours to use."""
        self._strays += 1
        if self._strays > 1 and self.findings.value("state") != "same":
            value = "lost" if came is None else "other"
            self.findings.note("state", value, "No, never! The stack can connect nobody this way.")
        raise _Failed(f"The browser came back {'without a' if came is None else 'with another'} `state`.")

    def _code(self, why: str, *, pkce: bool = False) -> tuple[Callback, str]:
        """A consent that ends with a code. Raises `Unanswered`."""
        try:
            callback = self._consent(why, pkce=pkce or self._needs_pkce)
        except Stuck:
            raise _Failed("The login ended on a page of the server.", how="refused_at_login") from None
        code = callback.one("code")
        if code is None:
            error = callback.one("error") or ""
            shown = f"`error={error}`" if _ERROR_CODE.fullmatch(error) else "no code, and no readable error"
            how = None if error == "access_denied" else "refused_at_login"
            raise _Failed(f"The browser came back with {shown}.", how=how)
        return callback, code

    def _exchanged(self, why: str, *, pkce: bool = False) -> tuple[Family, Seen]:
        """A consent and its tokens. Raises `Unanswered`, and `_Failed` where it ended at the login or in a refusal."""
        ends = self._challenged if pkce else self._unchallenged
        try:
            callback, code = self._code(why, pkce=pkce)
        except _Failed as failed:
            ends.append(failed.how)
            raise
        seen = self.wire.exchange("An exchange of a code", code, verifier=callback.verifier)
        if self._is_no(seen):
            ends.append("dropped")
            raise _Failed(f"The exchange of a good code was refused ({seen.look}).", how="dropped")
        if seen.tokens is None:
            raise Unanswered(f"The exchange of a code got no usable answer ({seen.look}).")
        self._confirm()
        return self._family(callback, code, seen.tokens), seen

    def _family(self, callback: Callback, code: str, tokens: TokenSet) -> Family:
        name = tokens.support_code if is_connection_id(tokens.support_code) else None
        return Family(code=code, verifier=callback.verifier, tokens=tokens, support_code=name or "")

    def _living(self, why: str) -> Family:
        """A consent whose newest token is good just now; asked for where none is left."""
        self._worth_a_consent()
        while self._families:
            family = self._at_work = self._families[-1]
            seen = self.wire.refresh("Whether a consent is alive", family.current, support_code=family.support_code)
            self._usable(seen)
            if seen.tokens is not None:
                self._advance(family, seen.tokens)
                return family
            self._families.remove(family)
        family = self._at_work = self._exchanged(why)[0]
        self._families.append(family)
        _ = family.current
        return family

    def _worth_a_consent(self) -> None:
        """Raise `Settled` where no consent has brought tokens so far: others would be asked for in vain."""
        if self.findings.value("refresh_token") is None:
            raise Settled("Not asked: no consent brought tokens.")

    def _rotating(self, why: str) -> Family:
        """A living consent of a server that rotates. Raises `Unanswered`."""
        rotation = self.findings.value("rotation")
        if rotation in ("same_token", "no_token"):
            words = "Refresh tokens are not rotated: the same one is used again and again."
            self.findings.note("replay", "not_rotated", words)
            self.findings.note("replay_family", "alive", words)
            raise Settled(words)
        return self._living(why)

    def _refresh(self, family: Family, what: str) -> Seen:
        """Use the newest token. Raises `Unanswered` where that brings no tokens; the consent is given up then."""
        seen = self.wire.refresh(what, family.current, support_code=family.support_code)
        if seen.tokens is None:
            self._give_up(family)
            raise Unanswered(f"A refresh with the newest token got {_said(seen)}.")
        self._advance(family, seen.tokens)
        return seen

    def _advance(self, family: Family, tokens: TokenSet) -> None:
        """The answer's tokens are the newest; without a new refresh token the old one stays."""
        if tokens.refresh_token is not None and tokens.refresh_token != family.tokens.refresh_token:
            family.spent.append(family.current)
        family.tokens = TokenSet(
            tokens.access_token,
            tokens.refresh_token or family.tokens.refresh_token,
            tokens.expires_in,
            tokens.support_code,
        )

    def _continue(self, family: Family, candidates: Collection[str]) -> bool:
        """Whether any of these refresh tokens still works; the consent goes on from it, or is given up."""
        for token in candidates:
            seen = self.wire.refresh("Whether the consent lives on", token)
            if seen.tokens is not None:
                family.tokens = TokenSet(token, token, None, None)
                self._advance(family, seen.tokens)
                return True
            self._usable(seen)
        self._give_up(family)
        return False

    def _outlived(
        self,
        name: str,
        whose: str,
        family: Family,
        candidates: Collection[str],
        *,
        yes: str = "killed",
        no: str = "alive",
    ) -> None:
        """Note whether a consent lives on after something that may have ended it."""
        if self._continue(family, candidates):
            self.findings.note(name, no, f"No: {_lower(whose)} works on.")
        else:
            self.findings.note(name, yes, f"Yes! {whose} is refused from then on: the consent is over.")

    # Reading answers -------------------------------------------------------------------------------------------------

    def _answered(self, send: Callable[[], Seen]) -> Seen:
        """An answer to what may be sent twice; twice where the first time told nothing."""
        seen = send()
        return send() if seen.unusable else seen

    def _is_no(self, seen: Seen) -> bool:
        """Whether it is a refusal: by the product's rules, or because what was never issued gets just the same."""
        whole = seen.tokens is None and seen.answer.status is not None and seen.answer.error not in NO_ANSWER
        alike = [kind for name, kind in self._alike.items() if seen.wrong_secret or name != "invalid_client"]
        return seen.refused or (whole and seen.kind in alike)

    def _confirm(self) -> None:
        """Now that the server works: ask again how a refusal looks where the first look may have met an outage."""
        for name, (send, before) in list(self._doubtful.items()):
            try:
                seen = self._answered(send)
            except Unanswered:
                # Another success may come.
                continue
            del self._doubtful[name]
            if seen.unusable and seen.kind != before:
                words = f"It did not look the same twice: {seen.look} after something else."
                self.findings.note(name, None, words, seen.look)
                continue
            if seen.unusable:
                self._alike[name] = seen.kind
            self._refusal(name, seen)

    def _once(self, what: str, token: str) -> Seen:
        """A refresh that took too long to prepare to be prepared again. Raises `Settled` without a usable answer."""
        try:
            seen = self.wire.refresh(what, token)
            self._usable(seen)
        except Unanswered as unanswered:
            raise Settled(str(unanswered)) from None
        return seen

    def _usable(self, seen: Seen) -> None:
        if seen.unusable and not self._is_no(seen):
            raise Unanswered(f"The server gave no usable answer ({seen.look}).")

    def _refusal(self, name: str, seen: Seen) -> None:
        """How a refusal looks, and what the stack makes of it."""
        if seen.answer.status is None:
            self.findings.note(name, None, f"No answer ({seen.look}).")
            return
        expected = Outcome.CONFIGURATION_ERROR if name == "invalid_client" else Outcome.REJECTED
        right = {Outcome.CONFIGURATION_ERROR: "a wrong configuration", Outcome.REJECTED: "a refusal"}[expected]
        made = f"The stack takes it for {right}, rightly."
        if seen.tokens is not None:
            made = "That is a success, though nothing that was sent was right!"
        elif seen.outcome is not expected:
            made = f"The stack would take it for “{seen.outcome.replace('_', ' ')}”, not for {right}!"
        value: dict[str, Json] = {
            "status": seen.answer.status,
            "error": seen.answer.error,
            "outcome": seen.outcome.value,
            "as_expected": seen.outcome is expected,
        }
        self.findings.note(name, value, f"{_sentence(_said(seen))}. {made}", seen.look)

    def _token_answer(self, seen: Seen) -> None:
        """What the answer to a code carries."""
        tokens, fields, note = seen.tokens, seen.fields, self.findings.note
        if tokens is None:
            return
        if tokens.refresh_token is None:
            note(
                "refresh_token",
                "absent",
                "No! Without one nothing can be kept alive; ask for the scope offline_access.",
                seen.look,
            )
        else:
            note("refresh_token", "present", "Yes.", seen.look)
        code = tokens.support_code
        if is_connection_id(code):
            shape = "N and digits" if re.fullmatch(r"N\d+", code or "") else "another form than N and digits"
            note("support_code", "present", f"It is there ({shape}).", seen.look)
        else:
            value = _presence(fields, "supportCode").replace("present", "unusable")
            note(
                "support_code",
                value,
                f"It is {value}! Without a usable one the stack cannot tell the business.",
                seen.look,
            )
        kind, words = _expires_in(seen)
        note("expires_in", kind, words, seen.look)
        if tokens.expires_in is None:
            note("access_token_lifetime", None, "The answer does not say it in a form one could use.")
        else:
            note("access_token_lifetime", tokens.expires_in, f"{tokens.expires_in:,} s.")
        spelled = fields.get("token_type")
        if isinstance(spelled, str) and spelled.lower() == "bearer":
            note("token_type", spelled, f"{spelled}.")
        else:
            value = _presence(fields, "token_type")
            note("token_type", value.replace("present", "other"), f"It is {value}, and not Bearer.")
        lengths: dict[str, Json] = {
            "access_token": len(tokens.access_token),
            "refresh_token": len(tokens.refresh_token or ""),
        }
        note(
            "token_length",
            lengths,
            f"Access {lengths['access_token']:,}, refresh {lengths['refresh_token']:,} characters.",
        )
        known = {"access_token", "refresh_token", "expires_in", "token_type", "supportCode"}
        extra = _names(set(fields) - known)
        note("extra_fields", list[Json](extra), f"{', '.join(extra)}." if extra else "Nothing.")

    def _refresh_answer(self, family: Family, first: Seen, seen: Seen) -> None:
        """What the answer to the first refresh carries."""
        tokens, before, note = seen.tokens, first.tokens, self.findings.note
        if tokens is None or before is None:
            return
        new = tokens.refresh_token
        kind = "no_token" if new is None else "same_token" if new == before.refresh_token else "new_token"
        words = {
            "no_token": "No: none at all; the old one stays good.",
            "same_token": "No: the same one comes back.",
            "new_token": "Yes, each time.",
        }
        note("rotation", kind, words[kind], seen.look)
        if tokens.support_code is None or not (family.support_code or is_connection_id(tokens.support_code)):
            value = _presence(seen.fields, "supportCode").replace("present", "unusable")
            note(
                "support_code_on_refresh",
                value,
                f"It is {value}. The stack goes by the code's; existing grants cannot be imported.",
                seen.look,
            )
        elif tokens.support_code == family.support_code:
            note("support_code_on_refresh", "same", "The same as in the answer to the code.", seen.look)
        else:
            value = "other" if family.support_code else "present"
            words_ = (
                "Another one! The stack would quarantine it."
                if family.support_code
                else "It is there, on refresh only."
            )
            note("support_code_on_refresh", value, words_, seen.look)
        kind, words_ = _expires_in(seen)
        same = "" if tokens.expires_in == before.expires_in else " That is not what the answer to the code said."
        note("expires_in_on_refresh", kind, f"{words_}{same}", seen.look)

    def _verifier(self, name: str, what: str, verifier: str | None) -> None:
        """Exchange a code with a challenge under this verifier."""
        if self.findings.value("pkce") in ("dropped", "refused_at_login"):
            raise Settled("Not asked: even the right one is refused.")
        if self.findings.value("pkce") is None:
            raise Settled("It is not known what the right one gets.")
        callback, code = self._code(what, pkce=True)
        seen = self.wire.exchange(f"An exchange with {what}", code, verifier=verifier)
        self._usable(seen)
        if seen.tokens is not None:
            right = Callback(parameters=callback.parameters, verifier=verifier)
            self._families.insert(0, self._family(right, code, seen.tokens))
            self.findings.note(name, "accepted", "No: it is taken.", seen.look)
            return
        self.findings.note(name, "refused", f"Yes: it gets {_said(seen)}.", seen.look)
        if self.findings.value("burnt_code") is None:
            self._burnt(callback, code)

    def _burnt(self, callback: Callback, code: str) -> None:
        """Whether a code whose exchange failed can still be exchanged."""
        seen = self.wire.exchange("A code whose exchange failed before", code, verifier=callback.verifier)
        self._usable(seen)
        if seen.tokens is not None:
            self._families.insert(0, self._family(callback, code, seen.tokens))
            self.findings.note("burnt_code", "no", "No: exchanged rightly, it works afterwards.", seen.look)
        else:
            self.findings.note(
                "burnt_code", "yes", f"Yes: exchanged rightly, it gets {_said(seen)} afterwards.", seen.look
            )

    def _callback_parameters(self) -> None:
        """What all callbacks together tell of `iss` and of what else is there."""
        if not self._callbacks:
            return
        with_code = [callback for callback in self._callbacks if callback.one("code")]
        issuers = {callback.one("iss") for callback in with_code}
        others = {callback.one("iss") for callback in self._callbacks} - issuers
        note = self.findings.note
        issuer = next(iter(issuers), None)
        if not with_code:
            pass
        elif len(issuers) > 1:
            note("iss", "varies", "It is not the same in all callbacks, or missing in some.")
        elif issuer is None:
            note("iss", "absent", "No.")
        elif not re.fullmatch(r"[!-~]{1,256}", issuer):
            note("iss", "unreadable", "Yes, but it is nothing that could be an issuer.")
        elif others:
            note("iss", "not_on_cancel", f"{issuer}, but not when the user cancels.", issuer)
        else:
            note("iss", issuer, f"{issuer}, in every callback.")
        extra = _names(
            {name for callback in self._callbacks for name in callback.parameters} - {"code", "state", "iss", "error"}
        )
        note("callback_parameters", list[Json](extra), f"{', '.join(extra)}." if extra else "Nothing.")

    def _throttling(self) -> None:
        """What the 429s looked like, wherever they came up."""
        throttled = self.books.throttled
        if not throttled:
            self.findings.note("retry_after", None, "There was no 429 to look at; RATE_LIMIT=1 provokes one.")
            return
        last = throttled[-1]
        header = last.headers.get("retry-after", "").strip()
        kind = (
            "none"
            if not header
            else "seconds"
            if header.isdigit()
            else "date"
            if last.answer.retry_after is not None
            else "unreadable"
        )
        told = f" ({last.answer.retry_after} s)" if last.answer.retry_after is not None else ""
        words = {
            "none": "No.",
            "seconds": "Yes, in seconds",
            "date": "Yes, as a date",
            "unreadable": "Yes, but it cannot be read.",
        }
        self.findings.note("retry_after", kind, f"{words[kind]}{told}{'.' if told else ''}", last.look)


class Settled(Unanswered):
    """A question stays open, and asking again would not help; the message says why."""


class _Failed(Unanswered):
    """A consent that brought no tokens. `how`: `refused_at_login` or `dropped` (the exchange was refused) if that was
    the server's doing, `None` if it may have been the user's."""

    def __init__(self, words: str, *, how: str | None = None) -> None:
        super().__init__(words)
        self.how = how


def _side_by_side(send: Callable[[int], Seen]) -> list[Seen]:
    """The answers to two requests at the same moment. Whoever interrupts the wait need not wait for them."""
    came: dict[int, Seen | Exception] = {}

    def one(number: int) -> None:
        try:
            came[number] = send(number)
        except Exception as error:
            came[number] = error

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers: list[Seen] = []
    for _, answer in sorted(came.items()):
        if isinstance(answer, Exception):
            raise answer
        answers.append(answer)
    return answers


def _said(seen: Seen) -> str:
    """An answer in a few words."""
    if seen.answer.status is None:
        return seen.look
    if seen.answer.error is None or seen.answer.error in NO_ANSWER:
        return seen.look if seen.tokens is None else f"tokens with HTTP {seen.answer.status}"
    error = "an unknown error" if seen.answer.error == "unknown" else f"`{seen.answer.error}`"
    return f"{error} with HTTP {seen.answer.status}"


def _expires_in(seen: Seen) -> tuple[str, str]:
    """How `expires_in` came, for programs and in words."""
    value, seconds = seen.fields.get("expires_in"), seen.tokens.expires_in if seen.tokens else None
    if seconds is None:
        kind = _presence(seen.fields, "expires_in")
        return ("unusable", "It is there, but nothing to go by.") if kind == "present" else (kind, f"It is {kind}.")
    return ("string", "As a string of digits.") if isinstance(value, str) else ("number", "As a number.")


def _presence(fields: object, name: str) -> str:
    if not isinstance(fields, dict) or name not in fields:
        return "absent"
    return "null" if fields[name] is None else "empty" if fields[name] == "" else "present"


def _names(names: Collection[str]) -> list[str]:
    """Names of a server's own, those that are plain words."""
    return sorted(name if re.fullmatch(r"[A-Za-z][A-Za-z_]{0,31}", name) else "(an odd name)" for name in names)


def _hours(seconds: int) -> str:
    return f"{seconds / 3_600:.1f}".removesuffix(".0")


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}"


def _lower(words: str) -> str:
    return f"{words[0].lower()}{words[1:]}"


EXPERIMENTS = [
    Experiment("Refusals", Probe.refusals, ("invalid_grant", "invalid_grant_code", "invalid_client", "unauthorized")),
    Experiment(
        "The documented flow",
        Probe.tokens,
        (
            "refresh_token",
            "support_code",
            "expires_in",
            "access_token_lifetime",
            "token_type",
            "token_length",
            "extra_fields",
            "rotation",
            "support_code_on_refresh",
            "expires_in_on_refresh",
            "older_access_token",
            "state",
        ),
        1,
        "the documented flow, refreshed twice; later experiments go on with its tokens",
    ),
    Experiment("PKCE, the right verifier", Probe.pkce, ("pkce",), 1, "a PKCE challenge, and the right verifier"),
    Experiment("An earlier consent", Probe.earlier_consent, ("earlier_consent",)),
    Experiment("Cancelling", Probe.cancelling, ("cancel",), 1, "you cancel at the login"),
    Experiment(
        "PKCE, a wrong verifier",
        Probe.wrong_verifier,
        ("pkce_wrong_verifier",),
        1,
        "a wrong verifier, which most likely costs the code",
    ),
    Experiment(
        "PKCE, no verifier",
        Probe.missing_verifier,
        ("pkce_missing_verifier",),
        1,
        "a missing verifier, which most likely costs the code",
    ),
    Experiment(
        "Another redirect URI",
        Probe.redirect_uri,
        ("redirect_uri", "burnt_code"),
        1,
        "another redirect URI, which most likely costs the code",
    ),
    Experiment("A wrong client secret", Probe.wrong_secret, ("wrong_secret_spends",)),
    Experiment("A reuse at once", Probe.replay, ("replay", "replay_lines", "replay_family", "replay_access_token")),
    Experiment("A reuse later", Probe.later_replay, ("replay_late",)),
    Experiment("A reuse of an older token", Probe.older_replay, ("replay_older",)),
    Experiment("A code, twice", Probe.code_twice, ("code_twice", "code_twice_kills")),
    Experiment("Two at once", Probe.simultaneous, ("simultaneous",)),
]
"""What every run does, in this order."""

MAY_KILL = 4
"""How many of these may end a consent on a server that punishes, and then take another one."""

RATE_LIMIT = Experiment("The rate limit", Probe.rate_limit, ("rate_limit",))
"""On demand: it throttles the client for everybody who uses it."""

LIFETIMES = Experiment(
    "Lifetimes",
    Probe.lifetimes,
    ("refresh_token_lifetime", "access_token_lives"),
    2,
    "two tokens that are left alone for a day",
)
"""On demand: it takes a day and a half."""
