"""The switches: everything that FlowAccount's page leaves open, each position documented in this one place.

Every field says what is known and how well. *Page*: FlowAccount's own page on the authorization-code flow
says so.
*Official*: its SDK or API specification. *Seen*: a third party observed it on the live host. *Likely*:
inference, mostly from the authorization server looking like an IdentityServer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

Environment = Literal["test", "v1"]
Replay = Literal["strict", "forgiving", "newest_only", "family_revoking"]

REQUESTS_PER_MINUTE: Mapping[str, int] = {"test": 20, "v1": 100}
"""The announced limits per environment, requests a minute for one client (seen)."""


class SettingError(ValueError):
    """A setting that does not exist or has a value it cannot have; the message says what it may be."""


def _between(minimum: float, maximum: float, default: Any) -> Any:
    """A numeric field with its bounds, checked by `Settings.merged`."""
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How this FlowAccount behaves. The defaults are the strictest reading of what is known."""

    environment: Environment = "test"
    """The `{environment}` of the paths this simulator serves: `test` (sandbox) or `v1` (production). Official
    and seen. The other one, like any wrong path, answers the gateway's 403."""

    code_lifetime: int = _between(1, 31_536_000, 9_000)
    """Seconds that a code lives, from the choice of the business. Page: 150 minutes."""

    refresh_token_lifetime: int = _between(1, 31_536_000, 86_400)
    """Seconds that a refresh token lives, from the token request that issued it. Page: generally 1 day."""

    refresh_absolute_lifetime: int | None = _between(1, 315_360_000, None)
    """Seconds from a consent's first token request after which no refresh token of it works, or null for no
    cap. Likely: 30 days (2592000), said to be on another official page."""

    access_token_lifetime: int = _between(1, 31_536_000, 86_400)
    """Seconds that an access token lives. Seen: 86400 for client credentials; unknown for this grant."""

    token_length: int = _between(20, 100_000, 43)
    """Characters of a token or code. Official: opaque reference tokens; seen: about 43."""

    token_type: Literal["Bearer", "bearer"] = "Bearer"  # noqa: S105 - a word, not a secret
    """How `token_type` is spelled. Page: "usually bearer"; IdentityServer writes `Bearer` (likely)."""

    expires_in: Literal["number", "string", "absent"] = "number"
    """How `expires_in` comes. Page: seconds; whether ever as a string, or not at all, is unknown."""

    support_code: Literal["present", "absent", "null"] = "present"
    """`supportCode` in the answer to a code. Page: there; the official `Company` schema has it nullable."""

    support_code_on_refresh: Literal["present", "absent", "null"] = "present"
    """`supportCode` in the answer to a refresh. Page: "the same answer"; never seen."""

    scope_in_answer: bool = False
    """Whether a token answer carries `scope`, as IdentityServer's own does. Page: not listed."""

    refresh_answer: Literal["new_token", "no_token"] = "new_token"
    """Whether a refresh issues a new refresh token. Page: always. `no_token` is for clients that must survive
    the other OAuth servers: the old token stays valid and its day starts anew."""

    replay: Replay = "strict"
    """What a refresh token that was rotated already gets.
    `strict`: `invalid_grant` (likely: IdentityServer's default, and the page's "only the newest").
    `forgiving`: a new token at each reuse; all lines go on working.
    `newest_only`: spent tokens may be reused, but of the unspent ones only the last one issued works.
    `family_revoking`: `invalid_grant`, and every refresh token of the consent is dead from then on."""

    racy: bool = False
    """Whether check and consume are apart, so that refreshes with one token at the same moment all succeed.
    Likely: IdentityServer is so. Matters under `strict` and `family_revoking`."""

    race_window: float = _between(0, 10, 0.1)
    """Real seconds between check and consume while `racy`: wide enough for a test to get into."""

    error_status: Literal[200, 400, 401] = 200
    """The HTTP status of the token endpoint's errors. Seen: `invalid_client` with 200; official: the 200
    schema has an `error` field."""

    invalid_grant_status: Literal[200, 400, 401] | None = None
    """The HTTP status of `invalid_grant`, or null for that of `error_status`. Unknown."""

    pkce: Literal["enforced", "ignored", "dropped"] = "enforced"
    """What a PKCE challenge leads to. `enforced`: checked if one was sent (likely). `ignored`: neither
    challenge nor verifier is looked at. `dropped`: the token facade does not pass the verifier on, so that
    every exchange of a code with a challenge fails (possible, unknown)."""

    cancel: Literal["access_denied", "stranded"] = "access_denied"
    """What the cancel button does: back with `error=access_denied` (likely), or a page that ends here."""

    session_state: bool = False
    """Whether the callback carries an extra `session_state`, as IdentityServer's may."""

    iss: str | None = None
    """The `iss` parameter (RFC 9207) of the callback, or null for none. Unknown."""

    rate_limit: bool = True
    """Whether requests are limited at all. Announced for July 2026, by third parties."""

    requests_per_minute: int | None = _between(1, 1_000_000, None)
    """Requests allowed to one client in any 60 seconds, or null for the environment's: 20 for `test`, 100 for
    `v1` (seen)."""

    rate_limit_counts_token: bool = True
    """Whether requests to the token endpoint count and are refused too. Unknown; assume that they are."""

    retry_after: Literal["none", "seconds", "date"] = "none"
    """The `Retry-After` of a 429: none, seconds, or an HTTP date. Unknown."""

    unauthorized: Literal["gateway", "status_false"] = "gateway"
    """What the business API says to a bad access token: the gateway's 401, or `status: false` with HTTP 200.
    Both shapes are likely; neither was seen."""

    @property
    def allowed_per_minute(self) -> int:
        """Requests allowed to one client in any 60 seconds while `rate_limit` is on."""
        return self.requests_per_minute or REQUESTS_PER_MINUTE[self.environment]

    def as_dict(self) -> dict[str, Any]:
        """All settings by name, ready for JSON."""
        return asdict(self)

    def merged(self, changes: Mapping[str, Any]) -> Settings:
        """These settings with *changes* applied.

        Raises `SettingError` for an unknown name or a value the setting cannot have; nothing is changed then.
        """
        known = {f.name: f for f in fields(self)}
        types = get_type_hints(type(self))
        for name, value in changes.items():
            if name not in known:
                raise SettingError(f"There is no setting {name!r}. There are: {', '.join(sorted(known))}.")
            bounds = known[name].metadata
            _check(name, value, types[name], bounds.get("minimum"), bounds.get("maximum"))
        if isinstance(issuer := changes.get("iss"), str) and urlsplit(issuer).scheme not in ("http", "https"):
            raise SettingError("Setting 'iss' must be an http(s) URL or null.")
        return replace(self, **changes)


def _check(name: str, value: object, kind: Any, minimum: float | None, maximum: float | None) -> None:
    """Raise `SettingError` unless *value* fits the annotation *kind* and the bounds."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    choices = [choice for option in options if get_origin(option) is Literal for choice in get_args(option)]
    if bool in options:
        choices += [False, True]
    if value is None and NoneType in options:
        return
    or_null = " or null" if NoneType in options else ""
    if choices:
        # True == 1 and 200 == 200.0, so types are compared too.
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise SettingError(f"Setting {name!r} must be one of {json.dumps(choices)[1:-1]}{or_null}.")
    elif str in options:
        if not isinstance(value, str):
            raise SettingError(f"Setting {name!r} must be a string{or_null}.")
    else:
        allowed = (int, float) if float in options else int
        number = value if isinstance(value, allowed) and not isinstance(value, bool) else None
        if number is None or minimum is None or maximum is None or not minimum <= number <= maximum:
            sort = "number" if float in options else "whole number"
            raise SettingError(f"Setting {name!r} must be a {sort} from {minimum:,} to {maximum:,}{or_null}.")
