"""What was found out: one finding for each question, and the questions in the order of the report."""

from collections.abc import Mapping
from dataclasses import dataclass, field

type Json = str | int | float | bool | list["Json"] | dict[str, "Json"] | None

QUESTIONS: Mapping[str, str] = {
    "invalid_grant": "What does a refresh token that was never issued get?",
    "invalid_client": "What does a wrong client secret get?",
    "secret_in_body": "Does the client secret work in the body?",
    "refresh_token": "Does a code bring a refresh token?",
    "support_code": "Does the answer to a code carry `supportCode`?",
    "support_code_on_refresh": "Does the answer to a refresh carry `supportCode`?",
    "expires_in": "How long does an access token live, by `expires_in`?",
    "refresh_token_lifetime": "How long does a refresh token live, as announced?",
    "pkce": "Can a business connect with a PKCE challenge?",
    "wrong_verifier": "Is a wrong PKCE verifier refused?",
    "iss": "Does the callback carry `iss`?",
    "cancel": "What comes back when the user cancels at the login?",
    "replay": "Is a rotated refresh token accepted again?",
    "replay_ends_consent": "Does such a reuse end the consent?",
    "rate_limit": "How many token requests a minute are let in?",
    "surprises": "Did any answer make no sense?",
}
"""Every question by its name, which is the name in the machine-readable report too."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question.

    `value` is for programs, `None` where it was not found out. `words` are for people, and then say why.
    `in_the_way`: the stack cannot work with this server, or not safely, before somebody acts on it.
    """

    name: str
    value: Json
    words: str
    in_the_way: bool = False


@dataclass(slots=True)
class Findings:
    """The findings so far, by name."""

    found: dict[str, Finding] = field(default_factory=dict)

    def note(self, name: str, value: Json, words: str, *, in_the_way: bool = False) -> None:
        """Record an answer; a known one is not overwritten by an unknown one."""
        if name not in QUESTIONS:
            raise KeyError(name)
        if value is not None or self.value(name) is None:
            self.found[name] = Finding(name, value, words, in_the_way)

    def value(self, name: str) -> Json:
        """What was found out, or `None`."""
        return self.found[name].value if name in self.found else None

    def all(self) -> list[Finding]:
        """A finding for every question, in the order of the questions."""
        return [self.found.get(name) or Finding(name, None, "Not asked: the probe ended before.") for name in QUESTIONS]
