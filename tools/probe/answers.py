"""One answer of the token endpoint: what the stack makes of it, and how it looked. Bodies are described, never quoted.

Of the product only its rules for answers are used here, because the report says how the stack would understand each.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from flowaccount_connect.oauth.token_answer import Answer, Outcome, TokenSet, classify, json_object

REFUSALS = frozenset({"invalid_grant", "invalid_request"})
"""Error codes that refuse the code or the token that was sent."""

CLIENT_REFUSALS = REFUSALS | {"invalid_client", "unauthorized_client"}
"""Error codes that refuse a request with a wrong client secret."""

_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z_]{0,31}")

type Received = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body of an answer."""


class Unanswered(Exception):
    """A question stays open; the message says why."""


class Settled(Unanswered):
    """A question stays open, and it would not help to ask again; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One answer. Its repr shows no token."""

    answer: Answer
    """The stack's own verdict."""
    fields: Mapping[str, object] = field(default_factory=dict, repr=False)
    """The members of its JSON object."""
    look: str = "no whole answer"
    seconds: float = 0.0
    """How long it took."""
    wrong_secret: bool = False
    """Whether the request carried a wrong client secret."""

    @property
    def tokens(self) -> TokenSet | None:
        """The tokens in it, even if the stack could not make a connection of them."""
        return self.answer.tokens

    @property
    def refused(self) -> bool:
        """Whether it is a clear refusal: an error code that fits what was sent.

        A 403 without a code may come from a gateway. `invalid_client` under the right secret says nothing of a token.
        """
        fits = self.answer.error in (CLIENT_REFUSALS if self.wrong_secret else REFUSALS)
        return self.tokens is None and fits and self.answer.outcome in (Outcome.REJECTED, Outcome.CONFIGURATION_ERROR)

    @property
    def unusable(self) -> bool:
        """Whether nothing follows from it."""
        return self.tokens is None and not self.refused

    @property
    def kind(self) -> tuple[int | None, str | None]:
        """What two answers of the same sort have in common: the status and the error code."""
        return self.answer.status, self.answer.error

    @property
    def in_words(self) -> str:
        """The answer in a few words, for a sentence."""
        status, error = self.kind
        if self.tokens is not None:
            return f"tokens with HTTP {status}"
        if error is None:
            return self.look
        return f"an unknown error with HTTP {status}" if error == "unknown" else f"`{error}` with HTTP {status}"


def judged(received: Received | None, *, now: float, seconds: float, wrong_secret: bool = False) -> Seen:
    """What was received, with the stack's verdict on it; `None`: nothing came, or not all of it."""
    if received is None:
        return Seen(answer=Answer(Outcome.IN_DOUBT), seconds=seconds, wrong_secret=wrong_secret)
    status, headers, body = received
    fields = json_object(body)
    # As on a refresh that names no business: whether the answer names one, the probe looks at itself.
    nameless = json.dumps({**fields, "supportCode": None}).encode() if "supportCode" in fields else body
    answer = classify(status, headers, nameless, connection_id="", now=now)
    look = f"HTTP {status}, {_look(body, fields, answer.error)}"
    return Seen(answer=answer, fields=fields, look=look, seconds=seconds, wrong_secret=wrong_secret)


def _look(body: bytes, fields: Mapping[str, object], error: str | None) -> str:
    """How a body looked, without a word of the server's; `error` is a known OAuth error code, or `unknown`."""
    if not fields:
        return f"{len(body):,} bytes that are no JSON object"
    names = [name if _PLAIN_NAME.fullmatch(name) else "(an odd name)" for name in list(fields)[:12]]
    known = "error" if error in (None, "unknown") else f'error: "{error}"'
    return f"JSON {{{', '.join(known if name == 'error' else name for name in names)}}}"
