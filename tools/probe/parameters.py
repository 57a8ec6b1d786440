"""What follows for the stack's parameters, each with its reason."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from tools.probe.findings import Findings
from tools.probe.target import PRODUCTION, SANDBOX, Target

MARGIN = 0.75
"""The share of a rate limit that the stack may take: the rest is the integrator's own."""

DAY = 86_400
"""Seconds; the longest access token lifetime that the template takes, and its default for a refresh token."""

YEAR = 365 * DAY
"""Seconds; the longest refresh token lifetime that the template takes."""

REFRESH_AFTER = 21_600
"""Seconds; the template's default."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the template: its value, `None` to leave the default; why; and the question that decided it."""

    name: str
    value: str | None
    because: str
    question: str = ""


def follow(findings: Findings, target: Target) -> list[Parameter]:
    """The parameters that the target and the findings decide."""
    return [
        *_endpoints(target),
        *_refresh_token_lifetime(findings),
        Parameter("Pkce", *_pkce(findings), "pkce"),
        Parameter("Issuer", *_issuer(findings, target), "iss"),
        Parameter("ReplayPolicy", *_replay_policy(findings), "replay"),
        Parameter("RefreshesPerMinute", *_refreshes_per_minute(findings), "rate_limit"),
    ]


def overrides(parameters: Sequence[Parameter]) -> str | None:
    """The line to copy, or `None` where every default fits."""
    given = [shlex.quote(f"{one.name}={one.value}") for one in parameters if one.value is not None]
    return f"--parameter-overrides {' '.join(given)}" if given else None


def _endpoints(target: Target) -> list[Parameter]:
    """Which of FlowAccount's environments it is, or which other endpoints."""
    given = (target.authorize_endpoint, target.token_endpoint)
    production = given == PRODUCTION or urlsplit(target.token_endpoint).path.endswith("/v1/token")
    environment = Parameter("Environment", "production" if production else "sandbox", "This is what was probed.")
    if given in (SANDBOX, PRODUCTION):
        return [environment]
    names = ("AuthorizeEndpoint", "TokenEndpoint")
    return [environment, *(Parameter(name, url, environment.because) for name, url in zip(names, given, strict=True))]


def _refresh_token_lifetime(findings: Findings) -> list[Parameter]:
    name, lives = "RefreshTokenLifetime", findings.value("refresh_token_lifetime")
    if not isinstance(lives, int) or lives == DAY:
        return [Parameter(name, None, "A day is what FlowAccount's page says.", "refresh_token_lifetime")]
    given = {name: min(lives, YEAR)} | ({"RefreshAfter": lives // 4} if lives // 4 < REFRESH_AFTER else {})
    because = {name: "The answers announce it.", "RefreshAfter": "A quarter of that lifetime."}
    return [Parameter(one, str(value), because[one], "refresh_token_lifetime") for one, value in given.items()]


def _pkce(findings: Findings) -> tuple[str | None, str]:
    match findings.value("pkce"), findings.value("wrong_verifier"):
        case "fails", _:
            return "disabled", "With a challenge nobody could connect."
        case "only_with", _:
            return "enabled", "Without a challenge nobody could connect."
        case "works", "refused":
            return "enabled", "Codes are bound to their login."
        case "works", "accepted":
            return "disabled", "Any verifier is taken: it protects nothing."
    return None, "The default, disabled, is FlowAccount's documented flow."


def _issuer(findings: Findings, target: Target) -> tuple[str | None, str]:
    issuer = findings.value("iss")
    if not isinstance(issuer, str) or "://" not in issuer:
        return None, "The default, empty, ignores `iss`. With an issuer configured, a callback without it fails."
    if urlsplit(issuer).netloc != urlsplit(target.authorize_endpoint).netloc:
        return None, "It is not the host of the login: ask FlowAccount first."
    return issuer, "A callback that names another one is somebody else's."


def _replay_policy(findings: Findings) -> tuple[str | None, str]:
    match findings.value("replay_ends_consent"):
        case "yes":
            return "never", "To send a token in doubt again would end the consent."
        case "no":
            return "allowed", "To send a token in doubt again costs nothing, and may save a connection."
    return None, "The default, allowed, costs nothing where a reuse is only refused."


def _refreshes_per_minute(findings: Findings) -> tuple[str | None, str]:
    limit = findings.value("rate_limit")
    if not isinstance(limit, int):
        return None, "The default stays below what FlowAccount announced: 15 in sandbox, 75 in production."
    rate = int(limit * MARGIN)
    return (str(rate), "Three quarters; the rest is for your own calls.") if rate else (None, "Ask FlowAccount.")
