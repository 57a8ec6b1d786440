"""What follows for the stack's parameters, each with its reason."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from tools.probe.findings import Findings
from tools.probe.target import PRODUCTION, SANDBOX, Target, is_loopback

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

    @property
    def shown(self) -> str:
        """The parameter with its value, for people."""
        return f"{self.name}: default" if self.value is None else f"{self.name}={self.value}"


def follow(findings: Findings, target: Target) -> list[Parameter]:
    """The parameters that the target and the findings decide."""
    return [
        *_endpoints(target),
        _access_token_lifetime(findings),
        *_refresh_token_lifetime(findings),
        _pkce(findings),
        _issuer(findings, target),
        _replay_policy(findings),
        _refreshes_per_minute(findings),
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


def _access_token_lifetime(findings: Findings) -> Parameter:
    name, question, value = "AccessTokenLifetime", "expires_in", findings.value("expires_in")
    given = [one for one in value.values() if isinstance(one, int)] if isinstance(value, dict) else []
    if len(given) == 2:
        short = " Tokens are refreshed when they are asked for." if min(given) < REFRESH_AFTER else ""
        return Parameter(name, None, f"Every answer says it.{short}", question)
    if given:
        return Parameter(name, str(min(max(given[0], 60), DAY)), "Only one of the two answers says it.", question)
    return Parameter(name, None, "An hour is a careful guess.", question)


def _refresh_token_lifetime(findings: Findings) -> list[Parameter]:
    name, question = "RefreshTokenLifetime", "refresh_token_lifetime"
    lives = findings.value(question)
    if not isinstance(lives, int):
        return [Parameter(name, None, "A day is what FlowAccount's page says.", question)]
    if lives == DAY:
        return [Parameter(name, None, "A day is announced, too.", question)]
    because = "This is what the answers announce."
    parameters = [Parameter(name, str(min(lives, YEAR)), because, question)]
    if lives // 4 < REFRESH_AFTER:
        parameters.append(Parameter("RefreshAfter", str(lives // 4), "A quarter of that lifetime.", question))
    return parameters


def _pkce(findings: Findings) -> Parameter:
    works, wrong = findings.value("pkce"), findings.value("wrong_verifier")
    if works == "fails":
        return Parameter("Pkce", "disabled", "With a challenge nobody could connect.", "pkce")
    if works is not None and wrong == "refused":
        return Parameter("Pkce", "enabled", "Codes are bound to their login.", "pkce")
    if works == "works" and wrong == "accepted":
        return Parameter("Pkce", "disabled", "Any verifier is taken: it protects nothing.", "pkce")
    if works == "only_with":
        return Parameter("Pkce", "enabled", "Nobody connected without a challenge.", "pkce")
    return Parameter("Pkce", None, "The default, disabled, is FlowAccount's documented flow.", "pkce")


def _issuer(findings: Findings, target: Target) -> Parameter:
    name, issuer = "Issuer", findings.value("iss")
    if not isinstance(issuer, str) or "://" not in issuer:
        because = (
            "With the default, empty, `iss` is ignored. With an issuer configured, connecting or cancelling fails."
        )
        return Parameter(name, None, because if issuer else "With the default, empty, `iss` is ignored.", "iss")
    login = target.authorize_endpoint
    if not is_loopback(login) and urlsplit(issuer).netloc != urlsplit(login).netloc:
        return Parameter(name, None, "It is not the host of the login: ask FlowAccount first.", "iss")
    return Parameter(name, issuer, "A callback that names another one is somebody else's.", "iss")


def _replay_policy(findings: Findings) -> Parameter:
    name, ends = "ReplayPolicy", findings.value("replay_ends_consent")
    if ends == "yes":
        return Parameter(name, "never", "To send a token in doubt again would end the consent.", "replay")
    if ends == "no":
        because = "To send a token in doubt again costs nothing, and may save a connection."
        return Parameter(name, "allowed", because, "replay")
    return Parameter(name, None, "The default, allowed, costs nothing where a reuse is only refused.", "replay")


def _refreshes_per_minute(findings: Findings) -> Parameter:
    name, limit = "RefreshesPerMinute", findings.value("rate_limit")
    if not isinstance(limit, int):
        because = "The default stays below what FlowAccount announced: 15 in sandbox, 75 in production."
        return Parameter(name, None, because, "rate_limit")
    rate = int(limit * MARGIN)
    if rate < 1:
        return Parameter(name, None, "Nothing of it can be left to others. Ask FlowAccount.", "rate_limit")
    return Parameter(name, str(rate), "Three quarters; the rest is for your own calls.", "rate_limit")
