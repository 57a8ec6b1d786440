"""The settings of the local stack, as `make up NAME=value` gives them."""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tools.local import parameters
from tools.local.errors import LocalError

# The names of settings, and the template's parameters that they set. An absent setting keeps the template's default.
PARAMETERS = {
    "ENVIRONMENT": "Environment",
    "ALLOWED_RETURN_URLS": "AllowedReturnUrls",
    "ISSUER": "Issuer",
    "REFRESH_AFTER": "RefreshAfter",
    "REFRESH_TOKEN_LIFETIME": "RefreshTokenLifetime",
    "REFRESHES_PER_MINUTE": "RefreshesPerMinute",
    "REPLAY_POLICY": "ReplayPolicy",
    "DIRECT_CONNECT": "DirectConnect",
    "PKCE": "Pkce",
    "PRESELECT_BUSINESS": "PreselectBusiness",
    "LONGER_LIFETIMES": "LongerLifetimes",
    "CONSENT_LIFETIME": "ConsentLifetime",
    "CONSENT_WARNING": "ConsentWarning",
    "APP_NAME": "AppName",
    "APP_LOGO": "AppLogo",
    "APP_CONTACT": "AppContact",
    "RESTART_URL": "RestartUrl",
    "PUBLISH_REFRESHED": "PublishRefreshed",
    "ALARM_EMAIL": "AlarmEmail",
    "WEBHOOK_URL": "WebhookUrl",
    "WEBHOOK_EVENTS": "WebhookEvents",
    "SLACK_SECRET_NAME": "SlackSecretName",
    "LINE_SECRET_NAME": "LineSecretName",
    "NOTIFICATION_LANGUAGE": "NotificationLanguage",
}

# What the template fixes, and an experiment on one machine may have otherwise; see `Experiment`.
_EXPERIMENT = ("SCHEDULE", "REFRESH_CONCURRENCY", "PUBLIC_RATE_LIMIT", "ACCESS_TOKEN_LIFETIME")

# Another authorization server than the stand-in needs all of these settings.
_SERVER = ("AUTHORIZE_ENDPOINT", "TOKEN_ENDPOINT", "CLIENT_ID", "CLIENT_SECRET")

_NAMES = (*PARAMETERS, *_EXPERIMENT, *_SERVER, "REDIRECT_URI", "PORT")
"""Every name that a setting can have."""

# Where the apps of the documents listen (RETURN_URL of `make env`), and where `flowaccount-connect connect` does.
_RETURN_URLS = "http://127.0.0.1:5000/flowaccount-connected,http://127.0.0.1:8767/flowaccount-connected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Another authorization server than the stand-in, and our client there."""

    authorize_endpoint: str
    token_endpoint: str
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What the template fixes, as an experiment has it. It is set after the deployment, by the emulator's API."""

    schedule: bool = True
    """Whether EventBridge Scheduler ticks. Without it, `sweep` is invoked by hand."""
    workers: int = 5
    """How many workers the refresh queue has at most."""
    public_rate_limit: int | None = None
    """Requests a second on each public route. ``None``: the template's."""
    access_token_lifetime: int | None = None
    """Seconds that an access token of the stand-in lives. ``None``: the stand-in's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a local stack. Without a ``server`` it uses the stand-in for FlowAccount."""

    server: Server | None = None
    redirect_uri: str | None = None
    """``None``: the local API's own ``/callback``."""
    port: int | None = None
    """The emulator's port. ``None``: 4566, or a free one if 4566 is taken."""
    parameters: Mapping[str, str] = field(default_factory=lambda: {"AllowedReturnUrls": _RETURN_URLS})
    """Template parameters by name."""
    experiment: Experiment = Experiment()

    @property
    def path(self) -> str:
        """The environment as FlowAccount's URLs name it."""
        return "v1" if self.parameters.get("Environment") == "production" else "test"


def names_given_to_make(variables: Mapping[str, str]) -> list[str]:
    """The names in `make … NAME=value`.

    make passes them on twice: as variables, among all others, and in MAKEFLAGS, where a space inside a value has a
    backslash before it.
    """
    return re.findall(r"(?<!\\)(?:^|\s)([A-Za-z_][A-Za-z0-9_]*)=", variables.get("MAKEFLAGS", ""))


def given_on_the_command_line(variables: Mapping[str, str] = os.environ) -> list[str]:
    """The names of the settings in `make up NAME=value`. Raises ``LocalError`` for a name that no setting has."""
    names = names_given_to_make(variables)
    for name in names:
        if name not in _NAMES:
            close = difflib.get_close_matches(name, _NAMES, 1)
            meant = f" Did you mean {close[0]}?" if close else f" The settings are: {', '.join(sorted(_NAMES))}."
            raise LocalError(f"{name} is not a setting.{meant}")
    return names


def read(variables: Mapping[str, str] = os.environ) -> Settings:
    """The settings from environment variables, in which make passes them. Raises ``LocalError``."""
    named = given_on_the_command_line(variables)
    try:
        return _read(variables)
    except LocalError as error:
        stray = [name for name in _NAMES if name not in named and variables.get(name) and name in str(error)]
        if not stray or "MAKEFLAGS" not in variables:
            raise
        raise LocalError(f"{error} Set in your environment: {', '.join(stray)}; unset what you do not mean.") from None


def _read(variables: Mapping[str, str]) -> Settings:
    given = {name: value for name in _NAMES if (value := variables.get(name, "").strip())}
    server = None
    missing = [name for name in _SERVER if name not in given]
    if len(missing) < len(_SERVER):
        if missing:
            there = " and ".join(name for name in _SERVER if name in given)
            raise LocalError(f"{there} given without {' and '.join(missing)}: another server needs all four.")
        server = Server(
            authorize_endpoint=given["AUTHORIZE_ENDPOINT"],
            token_endpoint=given["TOKEN_ENDPOINT"],
            client_id=given["CLIENT_ID"],
            client_secret=given["CLIENT_SECRET"],
        )
    port = given.get("PORT", "")
    if port and not (port.isdigit() and 0 < int(port) < 65_536):
        raise LocalError(f"PORT must be a port number, not {port}.")
    given_parameters = {parameter: given[name] for name, parameter in PARAMETERS.items() if name in given}
    parameters.check(given_parameters, PARAMETERS)
    return Settings(
        server=server,
        redirect_uri=given.get("REDIRECT_URI"),
        port=int(port) if port else None,
        parameters={"AllowedReturnUrls": _RETURN_URLS} | given_parameters,
        experiment=_experiment({name: given[name] for name in _EXPERIMENT if name in given}),
    )


def _experiment(given: dict[str, str]) -> Experiment:
    """What deviates from the template. Raises ``LocalError``."""
    schedule = given.pop("SCHEDULE", "enabled")
    if schedule not in ("enabled", "disabled"):
        raise LocalError(f"SCHEDULE={schedule} is not accepted: one of enabled, disabled.")
    for name, value in given.items():
        if not re.fullmatch(r"[1-9][0-9]{0,5}", value):
            raise LocalError(f"{name}={value} is not accepted: a whole number from 1 to 999999.")
    numbers = {name: int(value) for name, value in given.items()}
    return Experiment(
        schedule=schedule == "enabled",
        workers=numbers.get("REFRESH_CONCURRENCY", Experiment().workers),
        public_rate_limit=numbers.get("PUBLIC_RATE_LIMIT"),
        access_token_lifetime=numbers.get("ACCESS_TOKEN_LIFETIME"),
    )
