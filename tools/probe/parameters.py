"""What follows for the stack's parameters, each with the observation behind it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from tools.probe.findings import Findings
from tools.probe.target import SANDBOX, Target

MARGIN = 0.75
"""The share of a rate limit that the stack's refreshes may take: the rest is the integrator's own."""

DAY = 86_400
"""Seconds; the longest access token lifetime that the template takes, too."""

PRODUCTION = ("https://auth.flowaccount.com/connect/authorize", "https://openapi.flowaccount.com/v1/token")
"""FlowAccount's production, as the template has it: where to authorize, and the token endpoint."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the template: its value, `None` to leave the default, and because of what."""

    name: str
    value: str | None
    because: str


def follow(findings: Findings, target: Target) -> list[Parameter]:
    """The parameters that the findings decide, in the order of the report."""
    return [
        *_endpoints(target),
        _pkce(findings),
        _issuer(findings, target),
        _replay_policy(findings),
        _access_token_lifetime(findings),
        *_refresh_token_lifetime(findings),
        _refreshes_per_minute(findings),
    ]


def overrides(parameters: Sequence[Parameter]) -> str | None:
    """The line to copy, or `None` where every default fits."""
    given = [
        shlex.quote(f"{parameter.name}={parameter.value}") for parameter in parameters if parameter.value is not None
    ]
    return f"--parameter-overrides {' '.join(given)}" if given else None


def obstacles(findings: Findings) -> list[str]:
    """What keeps the stack from working with this server at all, or makes it unsafe; in sentences."""
    value, said = findings.value, []
    if value("refresh_token") == "absent":
        said.append("No refresh token is issued: no connection can be kept alive.")
    if value("support_code") not in (None, "present"):
        said.append("The answer to a code names no business that the stack could use: it is refused as incomplete.")
    if value("support_code_on_refresh") == "other":
        said.append("A refresh names another business than the code did: the stack would quarantine it.")
    if value("state") not in (None, "same"):
        said.append("`state` does not come back as it was sent: the stack can connect nobody.")
    if value("refresh_token_lifetime") == "shorter":
        said.append(
            "A refresh token lives less than 23 hours, and the stack plans with a day: set RefreshTokenLifetime and"
            " RefreshAfter before anybody connects."
        )
    if value("absolute_lifetime") == "under_36_hours":
        said.append("A refresh does not extend a consent: it ends within a day and a half, however well it is kept.")
    if value("pkce") == "required":
        said.append("PKCE is demanded: nobody can connect before Pkce is enabled.")
    for name, sentence in (
        (
            "invalid_grant",
            "A refused refresh token is not told as one: a connection that ended would be in doubt instead.",
        ),
        (
            "invalid_client",
            "A wrong client secret is not told as one: connections would be blamed for it, or left in doubt.",
        ),
    ):
        seen = value(name)
        if isinstance(seen, dict) and not seen["as_expected"]:
            said.append(sentence)
    if value("wrong_secret_spends") == "yes":
        said.append("A wrong client secret spends refresh tokens: test a new secret before it goes to the stack.")
    if value("wrong_secret_spends") == "not_checked":
        said.append("The client secret is not checked: whoever gets hold of a refresh token can use it.")
    if value("code_twice") == "yes":
        said.append("A code works twice: whoever sees one may use it too.")
    return said


def _endpoints(target: Target) -> list[Parameter]:
    """Which of FlowAccount's environments it is, or which other endpoints."""
    given = (target.authorize_endpoint, target.token_endpoint)
    if given in (SANDBOX, PRODUCTION):
        name = "sandbox" if given == SANDBOX else "production"
        return [Parameter("Environment", name, f"FlowAccount's {name} was probed.")]
    production = urlsplit(target.token_endpoint).path.endswith("/v1/token")
    why = "Its token endpoint lies under /v1." if production else "It is not FlowAccount's production."
    return [
        Parameter("Environment", "production" if production else "sandbox", why),
        Parameter("AuthorizeEndpoint", target.authorize_endpoint, "This is what was probed."),
        Parameter("TokenEndpoint", target.token_endpoint, "This is what was probed."),
    ]


def _pkce(findings: Findings) -> Parameter:
    position = findings.value("pkce")
    because = {
        "enforced": ("enabled", "The right verifier is taken, a wrong and a missing one are refused: codes are bound."),
        "required": ("enabled", "Nobody connects without a challenge."),
        "partly": (
            "enabled",
            "The right verifier is taken, and not every other: it protects somewhat, and costs nothing.",
        ),
        "ignored": ("disabled", "Every verifier is taken: it protects nothing."),
        "dropped": ("disabled", "With a challenge even the right verifier is refused: nobody could connect."),
        "refused_at_login": ("disabled", "The login refuses challenges: nobody could connect."),
    }
    if not isinstance(position, str) or position not in because:
        return Parameter("Pkce", None, "What a challenge leads to was not found out; the default, disabled, is safe.")
    return Parameter("Pkce", *because[position])


def _issuer(findings: Findings, target: Target) -> Parameter:
    found = findings.value("iss")
    if not isinstance(found, str):
        return Parameter("Issuer", None, "No callback with a code was seen; the default, empty, ignores `iss`.")
    reasons = {
        "absent": "Callbacks carry no `iss`; with an issuer configured nobody could connect.",
        "varies": "`iss` is not always the same; with an issuer configured connecting would fail at times.",
        "unreadable": "`iss` is nothing that could be configured.",
        "not_on_cancel": "`iss` is missing when the user cancels: a cancel would be told as a configuration error.",
    }
    if found in reasons:
        return Parameter("Issuer", None, reasons[found])
    if not target.is_loopback and urlsplit(found).netloc != urlsplit(target.authorize_endpoint).netloc:
        words = f"Callbacks name {found}, not the host of the login: configure it only once FlowAccount confirms it."
        return Parameter("Issuer", None, words)
    return Parameter("Issuer", found, "Every callback names it: one that names another is somebody else's.")


def _replay_policy(findings: Findings) -> Parameter:
    replay, family = findings.value("replay"), findings.value("replay_family")
    if family == "killed" or findings.value("replay_lines") == "neither":
        return Parameter("ReplayPolicy", "never", "The reuse of a rotated token ends the whole consent.")
    if replay is None or family is None:
        words = "What a reuse leads to was not found out; the default, allowed, costs nothing where it is only refused."
        return Parameter("ReplayPolicy", None, words)
    if replay == "not_rotated":
        return Parameter(
            "ReplayPolicy", "allowed", "Tokens are not rotated: sending one again is what this server expects."
        )
    if replay == "refused":
        words = "A rotated token is refused and nothing else dies: sending one in doubt again can only help."
        return Parameter("ReplayPolicy", "allowed", words)
    late = findings.value("replay_late")
    rest = {
        "accepted": "even when the stack would do so: a lost answer costs nothing here.",
        "refused": "but no more when the stack would do so; nothing else dies by it.",
    }.get(str(late), "and nothing else dies by it.")
    return Parameter("ReplayPolicy", "allowed", f"A rotated token is taken again, {rest}")


def _access_token_lifetime(findings: Findings) -> Parameter:
    name, told = "AccessTokenLifetime", findings.value("access_token_lifetime")
    on_refresh, lives = findings.value("expires_in_on_refresh"), findings.value("access_token_lives")
    usable = ("number", "string")
    if isinstance(lives, int) and findings.value("expires_in") not in usable:
        # It was seen dead at this age, so the half hour before it is the last that was seen alive.
        return Parameter(name, str(min(max(lives - 1_800, 60), DAY)), "Answers do not tell it; measured.")
    if not isinstance(told, int):
        known = "expires_in" in findings.found and findings.value("expires_in") is not None
        why = "Answers do not tell how long a token lives" if known else "What answers tell was not found out"
        return Parameter(name, None, f"{why}; the default, an hour, is a careful guess. LIFETIMES=1 measures it.")
    if on_refresh not in (None, *usable):
        words = f"Refreshes do not tell it, and the answer to a code says {told:,} s."
        return Parameter(name, str(min(max(told, 60), DAY)), words)
    short = (
        " Shorter than the refresh interval: tokens are then refreshed when they are asked for."
        if told < 21_600
        else ""
    )
    return Parameter(name, None, f"Every answer tells it ({told:,} s), so this is not needed.{short}")


def _refresh_token_lifetime(findings: Findings) -> list[Parameter]:
    name, lives = "RefreshTokenLifetime", findings.value("refresh_token_lifetime")
    if lives == DAY:
        return [Parameter(name, str(DAY), "Measured: it works after 23 hours and not after 25.")]
    if lives == "longer":
        return [Parameter(name, None, "Measured: longer than 25 hours. The default, a day, is on the safe side.")]
    if lives == "shorter":
        return [
            Parameter(
                name,
                None,
                "Measured: less than 23 hours! Ask FlowAccount, then set this and RefreshAfter to a quarter of it.",
            )
        ]
    return [
        Parameter(
            name, None, "Not measured; the default, a day, is what FlowAccount's page says. LIFETIMES=1 measures it."
        )
    ]


def _refreshes_per_minute(findings: Findings) -> Parameter:
    name, limit = "RefreshesPerMinute", findings.value("rate_limit")
    if isinstance(limit, int):
        rate = int(limit * MARGIN)
        if rate < 1:
            words = f"Measured: {limit} a minute, and of that nothing can be left to others. Ask FlowAccount."
            return Parameter(name, None, words)
        return Parameter(name, str(rate), f"{limit} token requests a minute are let in; the rest is left to others.")
    if limit == "none_seen":
        words = (
            "No limit was met; the default stays below what FlowAccount announced (15 in sandbox, 75 in production)."
        )
        return Parameter(name, None, words)
    words = "Not known; the default stays below what FlowAccount announced. RATE_LIMIT=1 measures it."
    return Parameter(name, None, words)
