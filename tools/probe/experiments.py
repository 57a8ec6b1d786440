"""The experiments, in a safe order: what harms nothing first, what may cost a code next, what may cost a consent last.

Each experiment answers some of the questions (`findings.QUESTIONS`). One that gets no usable answer is tried once more,
with another consent where it needs one; then its questions stay open, and the report says why.

A verdict against the server needs more than one sign, since users slip, gateways stumble and servers are down for a
while: a refusal is an error code that fits what was sent, what may end a consent is only tried on one that was alive
just before, and what a user or a short outage may have caused as well counts only when it comes again.
"""

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from flowaccount_connect.domain.ids import is_connection_id
from flowaccount_connect.oauth.token_answer import Outcome
from tools.probe.answers import Seen, Settled, Unanswered
from tools.probe.consent import Consents, Stuck
from tools.probe.findings import Findings, Json
from tools.probe.logins import Failed, Logins
from tools.probe.parameters import DAY
from tools.probe.sender import WINDOW, Sender, wait_after
from tools.probe.target import Target

REPLAY_AFTER = 180
"""Seconds after which the stack may send a token in doubt again: the lease of a worker."""

IN_TIME = 15
"""Seconds that the stack waits for an answer of the token endpoint."""

MOST_KNOCKS = 150
"""Requests that one measurement of the rate limit sends at most."""

MOST_MEASUREMENTS = 4

REFRESH_TOKEN_LIFETIMES = ("refresh_token_expires_in", "refresh_expires_in", "refresh_token_timeout")
"""Members that announce how long a refresh token lives: QuickBooks and Microsoft, Keycloak, and the draft
`draft-ietf-oauth-refresh-token-expiration`."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One step: which questions it answers, and what it needs a new consent for, if it does."""

    title: str
    run: Callable[["Probe"], None]
    answers: tuple[str, ...]
    why: str = ""


class Probe:
    """One run. `findings` grows while it lasts."""

    def __init__(
        self,
        target: Target,
        consents: Consents,
        sender: Sender,
        *,
        measure_rate: bool = False,
        replay_after: int = REPLAY_AFTER,
    ) -> None:
        self.sender = sender
        self.logins = Logins(target, consents, sender)
        self.findings = Findings()
        self.measure_rate = measure_rate
        self._replay_after = replay_after
        self._kept: list[str] = []
        """The newest refresh token of each consent that is alive as far as we know."""
        self._never_issued = secrets.token_urlsafe(32)
        self._unclear: dict[str, tuple[int | None, str | None]] = {}
        """Refusals that may have been an outage, by their question."""
        self._failures = {False: 0, True: 0}
        """How many logins failed by the server's doing, without and with a challenge."""
        self._connected = False
        self._ended: str | None = None
        """Why nothing more is asked."""

    def perform(self, experiment: Experiment) -> None:
        """Run an experiment; whatever goes wrong in it becomes the reason why its questions stay open."""
        why = self._ended or "The answers before it left nothing to ask."
        for _ in range(0 if self._ended else 2):
            try:
                experiment.run(self)
                break
            except Unanswered as unanswered:
                why = str(unanswered)
                if isinstance(unanswered, Settled):
                    break
            except Exception as error:
                # Nothing that a server answers ends the run; the error's own text might quote the answer.
                why = f"An answer nobody expected ended this experiment ({type(error).__name__})."
                self.sender.surprises.append(f"{experiment.title}: {why}")
                break
        for name in experiment.answers:
            if name not in self.findings.found:
                self.findings.note(name, None, why)

    def conclude(self) -> None:
        """Answer what no single experiment can."""
        self._issuer()
        surprises = self.sender.surprises
        words = f"Yes, {len(surprises)}. {' '.join(surprises)}" if surprises else "No."
        self.findings.note("surprises", list[Json](surprises) or "none", words)

    # Experiments -----------------------------------------------------------------------------------------------------

    def refusals(self) -> None:
        """What errors look like, the stack's canary first. Needs no consent and harms nothing.

        Asked at the end again where the first look may have met an outage. What is no clear refusal becomes a verdict
        only if it comes again after a success.
        """
        for name, wrong in (("invalid_grant", None), ("invalid_client", secrets.token_urlsafe(24))):
            if self.findings.value(name) is not None:
                continue
            what = "A wrong client secret" if wrong else "A refresh token that was never issued"
            seen = self.sender.refresh(what, self._never_issued, wrong_secret=wrong)
            if seen.unusable or seen.seconds > IN_TIME:
                seen = self.sender.refresh(what, self._never_issued, wrong_secret=wrong)
            if name == "invalid_grant" and not self._connected:
                self._end_if_in_vain(seen)
            again = self._connected and seen.answer.status is not None and self._unclear.get(name) == seen.kind
            if again or not seen.unusable:
                self._refusal(name, seen)
            else:
                self._unclear[name] = seen.kind
                self.findings.note(name, None, f"It gets {seen.in_words}, which may be an outage.")

    def documented_flow(self) -> None:
        """A consent as FlowAccount's page describes it: the login, the exchange, a refresh."""
        self._documented(self._connect("the documented flow"))

    def pkce(self) -> None:
        """A challenge with the right verifier, and a login without one if only one of the two seems to work.

        An outage would stop both, and what fails has to fail twice.
        """
        try:
            first = self._connect("a PKCE challenge, and the right verifier", challenge=True)
        except Failed as failed:
            self._worth_a_consent()
            if self._failures[True] < 2:
                raise
            self._keep(self._connect("once more without a challenge, to see whether that still works"))
            self.findings.note("pkce", "fails", f"No, and without one it works. {failed}")
            return
        if not self._connected:
            try:
                self.documented_flow()
            except Failed as failed:
                if self._failures[False] < 2:
                    raise
                self.findings.note("pkce", "only_with", f"Yes, and without one it fails. {failed}")
                self.logins.needs_pkce = True
                self._documented(first)
                return
        self.findings.note("pkce", "works", "Yes.")
        self._keep(first)

    def wrong_verifier(self) -> None:
        """Another verifier than the one that the challenge was made from."""
        if self.findings.value("pkce") in (None, "fails"):
            raise Settled("Not asked: no login with the right one brought tokens.")
        code, _ = self.logins.code("a wrong PKCE verifier, which most likely costs the code", pkce=True)
        seen = self.sender.exchange("A wrong verifier", code, verifier=secrets.token_urlsafe(48))
        self._usable(seen)
        if seen.tokens is None:
            self.findings.note("wrong_verifier", "refused", f"Yes: it gets {seen.in_words}.")
        else:
            self._keep(seen)
            self.findings.note("wrong_verifier", "accepted", "No: it is taken.")

    def cancelling(self) -> None:
        """The user says no at the login."""
        self._worth_a_consent()
        try:
            callback = self.logins.callback("a cancel at the login, to see what comes back of it", cancel=True)
        except Stuck:
            self.findings.note("cancel", "stranded", "Nothing: users stay on a page of the server.")
            return
        if callback.error is None:
            raise Unanswered("The browser came back without an error: nobody cancelled.")
        self.findings.note("cancel", callback.error, f"`error={callback.error}`.")

    def replay(self) -> None:
        """A rotated refresh token again, after as long as the stack would wait when an answer got lost."""
        spent = self._living()
        newest = self._newest(self._refreshed("A refresh before the reuse", spent), spent)
        if newest == spent:
            words = "Refresh tokens are not rotated: the same one is used again and again."
            self.findings.note("replay", "not_rotated", words)
            self.findings.note("replay_ends_consent", "no", words)
            return
        self.sender.sleep(self._replay_after, "before the reuse, as long as the stack would wait")
        again = self.sender.refresh("The reuse of a rotated token", spent)
        self._usable(again)
        if again.tokens is None:
            self.findings.note("replay", "refused", f"No: it gets {again.in_words}.")
        else:
            self.findings.note("replay", "accepted", f"Yes, even after {self._replay_after} s.")
        brought = [again.tokens.refresh_token] if again.tokens and again.tokens.refresh_token else []
        # Where either of the two works the consent is alive.
        for token in (*brought, newest):
            seen = self.sender.refresh("Whether the consent lives on", token)
            self._usable(seen)
            if seen.tokens is not None:
                self.findings.note("replay_ends_consent", "no", "No: the consent lives on.")
                return
        self.findings.note("replay_ends_consent", "yes", "Yes! The newest token is refused from then on.")

    def rate_limit(self) -> None:
        """Requests with a token that was never issued until the first 429, until two measurements in a row agree.

        One alone may have met a full reserve, or the end of a minute.
        """
        if not self.measure_rate:
            raise Settled("Only with RATE_LIMIT=1, since it hurts other users of the client for some minutes.")
        numbers: list[int] = []
        pause = WINDOW
        for _ in range(MOST_MEASUREMENTS):
            self.sender.sleep(pause, "for an empty minute before a measurement")
            number, last = self._let_in()
            if last is None and not numbers:
                words = f"No 429 within {number} requests: the token endpoint is not limited, or not that low."
                self.findings.note("rate_limit", "none_seen", words)
                return
            if last is None or last.answer.outcome is not Outcome.THROTTLED:
                raise Settled(f"{number} were let in, and then came {last.in_words if last else 'no 429'}.")
            numbers.append(number)
            pause = max(wait_after(last), WINDOW)
            limit = min(numbers[-2:])
            if len(numbers) > 1 and limit and max(numbers[-2:]) <= limit * 1.1:
                self.findings.note("rate_limit", limit, f"{limit} a minute, twice in a row.")
                return
        measured = ", ".join(map(str, numbers))
        raise Settled(f"A minute apart, {measured} were let in before a 429: that is no limit by the minute.")

    # What they need --------------------------------------------------------------------------------------------------

    def _end_if_in_vain(self, canary: Seen) -> None:
        """Ask nothing more, and raise `Settled`, where no consent could bring anything."""
        if canary.answer.status is None:
            self._ended = "The token endpoint gave no answer, twice: check TOKEN_ENDPOINT, or try again later."
        elif canary.answer.error == "invalid_client":
            self._ended = (
                f"The server refuses the client itself ({canary.look}): check CLIENT_ID and CLIENT_SECRET. If they are"
                " right, ask FlowAccount whether the secret may be sent in the body."
            )
        if self._ended:
            raise Settled(self._ended)

    def _refusal(self, name: str, seen: Seen) -> None:
        """How a refusal looks, and what the stack makes of it."""
        expected = Outcome.CONFIGURATION_ERROR if name == "invalid_client" else Outcome.REJECTED
        as_expected = seen.answer.outcome is expected and seen.seconds <= IN_TIME
        words = f"It gets {seen.in_words} after {seen.seconds:.1f} s. The stack takes it for “{seen.answer.outcome}”"
        wanted = "" if as_expected else f", not for “{expected}” within {IN_TIME} s: ask FlowAccount before you go on"
        value: dict[str, Json] = {
            "status": seen.answer.status,
            "error": seen.answer.error,
            "outcome": seen.answer.outcome.value,
            "as_expected": as_expected,
        }
        self.findings.note(name, value, f"{words}{wanted}.", in_the_way=not as_expected)

    def _documented(self, first: Seen) -> None:
        """What the answer to a code carries, and the answer to a refresh."""
        note = self.findings.note
        self._connected = True
        note("secret_in_body", "yes", "Yes.")
        self._support_code("support_code", first, "without it the stack refuses every connect", in_the_way=True)
        token = self._newest(first)
        if not token:
            note("refresh_token", "absent", "No: no connection can be kept alive.", in_the_way=True)
            raise Settled("No refresh token was issued.")
        note("refresh_token", "present", "Yes.")
        second = self._refreshed("The first refresh", token)
        self._keep(second, token)
        self._support_code("support_code_on_refresh", second, "without it the stack refuses to import grants")
        given = [seen.tokens.expires_in for seen in (first, second) if seen.tokens]
        shown = [f"{seconds:,} s" if seconds else "nothing usable" for seconds in given]
        words = f"The answer to a code says {shown[0]}, the answer to a refresh {shown[-1]}."
        note("expires_in", {"code": given[0], "refresh": given[-1]}, words)
        lives = _announced(first, second)
        if lives is None:
            note("refresh_token_lifetime", "not_announced", "No answer announces it.")
        else:
            note("refresh_token_lifetime", lives, f"{lives:,} s.", in_the_way=lives < DAY)

    def _support_code(self, name: str, seen: Seen, otherwise: str, *, in_the_way: bool = False) -> None:
        """Whether an answer names the business, and what happens otherwise."""
        if is_connection_id(seen.fields.get("supportCode")):
            self.findings.note(name, "present", "Yes.")
        else:
            value = "unusable" if seen.fields.get("supportCode") else "absent"
            self.findings.note(name, value, f"It is {value}: {otherwise}.", in_the_way=in_the_way)

    def _issuer(self) -> None:
        """What all callbacks together tell of `iss` (RFC 9207)."""
        callbacks = self.logins.callbacks
        issuers = {callback.one("iss") for callback in callbacks if callback.one("code")}
        issuer = next(iter(issuers), None)
        if not issuers:
            self.findings.note("iss", None, "No callback with a code was seen.")
        elif issuers == {None}:
            self.findings.note("iss", "absent", "No.")
        elif len(issuers) > 1 or not re.fullmatch(r"https?://[!-~]{1,240}", issuer or ""):
            self.findings.note("iss", "unusable", "Yes, but not the same URL in each.")
        elif any(callback.one("iss") != issuer for callback in callbacks):
            self.findings.note("iss", "not_on_cancel", f"{issuer}, but not when the user cancels.")
        else:
            self.findings.note("iss", issuer, f"{issuer}, in every callback.")

    def _let_in(self) -> tuple[int, Seen | None]:
        """How many requests get a refusal within a minute at most, and what came instead then."""
        began = self.sender.clock()
        for number in range(MOST_KNOCKS):
            seen = self.sender.knock(self._never_issued)
            if seen.answer.error != "invalid_grant" or not seen.refused:
                return number, seen
            if self.sender.clock() - began >= WINDOW:
                return number + 1, None
        return MOST_KNOCKS, None

    def _worth_a_consent(self) -> None:
        """Raise `Settled` where no consent has brought tokens so far: others would be asked for in vain."""
        if not self._connected:
            raise Settled("Not asked: no consent brought tokens.")

    def _connect(self, why: str, *, challenge: bool = False) -> Seen:
        """A login and the answer to its code, with tokens. Raises `Unanswered`."""
        try:
            return self.logins.tokens(why, pkce=challenge)
        except Failed as failed:
            self._failures[challenge] += failed.by_server
            raise

    def _living(self) -> str:
        """The newest refresh token of a consent, of a new one where none is left. It is kept no more."""
        self._worth_a_consent()
        token = self._kept.pop() if self._kept else self._newest(self._connect("the reuse of a rotated token"))
        if not token:
            raise Settled("No refresh token was issued.")
        return token

    def _refreshed(self, what: str, token: str) -> Seen:
        """Use the newest token of a consent. Raises `Unanswered` where that brings no tokens."""
        seen = self.sender.refresh(what, token)
        if seen.tokens is None:
            raise Unanswered(f"A refresh with the newest token got {seen.in_words}.")
        return seen

    def _newest(self, seen: Seen, sent: str = "") -> str:
        """The newest refresh token after an answer; without one in it, the token that was sent stays good."""
        return (seen.tokens.refresh_token if seen.tokens else None) or sent

    def _keep(self, seen: Seen, sent: str = "") -> None:
        """Go on with this consent in later experiments."""
        self._kept += filter(None, [self._newest(seen, sent)])

    def _usable(self, seen: Seen) -> None:
        if seen.unusable:
            raise Unanswered(f"The server gave no usable answer ({seen.look}).")


def _announced(*answers: Seen) -> int | None:
    """The shortest lifetime of a refresh token that these answers announce, in seconds.

    Less than ten seconds is nothing that a stack could live with; Keycloak's 0 means that it never ends.
    """
    values = [str(seen.fields.get(name)) for seen in answers for name in REFRESH_TOKEN_LIFETIMES]
    return min((int(value) for value in values if re.fullmatch(r"[1-9][0-9]{1,9}", value)), default=None)


EXPERIMENTS = [
    Experiment("Refusals", Probe.refusals, ("invalid_grant", "invalid_client")),
    Experiment(
        "The documented flow",
        Probe.documented_flow,
        (
            "secret_in_body",
            "refresh_token",
            "support_code",
            "support_code_on_refresh",
            "expires_in",
            "refresh_token_lifetime",
        ),
        "the documented flow, with a refresh",
    ),
    Experiment("PKCE", Probe.pkce, ("pkce",), "a PKCE challenge, and the right verifier"),
    Experiment("PKCE, a wrong verifier", Probe.wrong_verifier, ("wrong_verifier",), "a wrong verifier"),
    Experiment("Cancelling", Probe.cancelling, ("cancel",), "you cancel at the login"),
    Experiment("A reuse", Probe.replay, ("replay", "replay_ends_consent")),
    Experiment("Refusals again", Probe.refusals, ("invalid_grant", "invalid_client")),
    Experiment("The rate limit", Probe.rate_limit, ("rate_limit",)),
]
"""What every run does, in this order."""
