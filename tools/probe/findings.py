"""What was found out: one finding for each question, and the questions in the order of the report."""

from collections.abc import Mapping
from dataclasses import dataclass, field

type Json = str | int | float | bool | list["Json"] | dict[str, "Json"] | None

QUESTIONS: Mapping[str, str] = {
    # Refusals
    "invalid_grant": "What does a refused refresh token get?",
    "invalid_grant_code": "What does a refused code get?",
    "invalid_client": "What does a wrong client secret get?",
    "wrong_secret_spends": "Does a wrong client secret spend the refresh token sent with it?",
    "unauthorized": "What does the business API say to a bad access token?",
    # The way back to us
    "iss": "Does the callback carry `iss`?",
    "callback_parameters": "What else does the callback carry?",
    "state": "Does `state` come back as it was sent?",
    "cancel": "What does cancelling at the login return?",
    # The tokens
    "refresh_token": "Does a code bring a refresh token?",
    "support_code": "`supportCode` in the answer to a code?",
    "expires_in": "How does `expires_in` come?",
    "access_token_lifetime": "How long is an access token said to live?",
    "token_type": "How is `token_type` spelled?",
    "token_length": "How long are the tokens?",
    "extra_fields": "What else does a token answer carry?",
    # Refreshing
    "rotation": "Does a refresh bring a new refresh token?",
    "support_code_on_refresh": "`supportCode` in the answer to a refresh?",
    "expires_in_on_refresh": "`expires_in` in the answer to a refresh?",
    "older_access_token": "Does an access token outlive the refresh after it?",
    "earlier_consent": "Does a new consent end the one before?",
    # PKCE
    "pkce": "What does a PKCE challenge lead to?",
    "pkce_wrong_verifier": "Is a wrong verifier refused?",
    "pkce_missing_verifier": "Is a missing verifier refused?",
    # Codes
    "redirect_uri": "Is the redirect URI compared when a code is exchanged?",
    "burnt_code": "Does a failed exchange burn the code?",
    "code_twice": "Does a code work twice?",
    "code_twice_kills": "Does the second use of a code kill its tokens?",
    # Reuse
    "replay": "May a refresh token that was just rotated be used again?",
    "replay_lines": "After such a reuse, which of the two new tokens works?",
    "replay_family": "Does such a reuse kill the newest token?",
    "replay_access_token": "Does such a reuse kill the access tokens?",
    "replay_late": "May it still be used again when the stack would do so, minutes later?",
    "replay_older": "What does a token get that was rotated several refreshes ago?",
    "simultaneous": "What do two refreshes with one token at the same moment get?",
    # Limits
    "rate_limit": "How many token requests a minute are let in?",
    "retry_after": "Does a 429 carry `Retry-After`?",
    # Time
    "refresh_token_lifetime": "How long does a refresh token live?",
    "access_token_lives": "How long does an access token really live?",
    "code_lifetime": "How long does a code live?",
    "absolute_lifetime": "Does a consent end by itself, however well it is refreshed?",
    # Anything else
    "surprises": "Did any answer make no sense?",
}
"""Every question by its name, which is the name in the machine-readable report too."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question.

    `value` is for programs, `None` where it could not be found out. `words` are for people, and then say why.
    `evidence` tells how the answers looked that it rests on.
    """

    name: str
    value: Json
    words: str
    evidence: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether it was found out."""
        return self.value is not None


@dataclass(slots=True)
class Findings:
    """The findings so far, by name."""

    found: dict[str, Finding] = field(default_factory=dict)

    def note(self, name: str, value: Json, words: str, *evidence: str) -> None:
        """Record an answer; one that is known already is not overwritten by one that is not."""
        if name not in QUESTIONS:
            raise KeyError(name)
        if value is not None or name not in self.found or not self.found[name].known:
            self.found[name] = Finding(name, value, words, tuple(dict.fromkeys(evidence)))

    def value(self, name: str) -> Json:
        """What was found out, or `None`."""
        return self.found[name].value if name in self.found else None

    def all(self) -> list[Finding]:
        """A finding for every question, in the order of the questions."""
        return [self.found.get(name) or Finding(name, None, "Not asked: the probe ended before.") for name in QUESTIONS]
