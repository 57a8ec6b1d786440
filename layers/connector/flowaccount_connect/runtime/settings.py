"""The stack's settings, read from the environment once. Each function checks only the variables that it needs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from flowaccount_connect.domain.errors import InvalidSetting
from flowaccount_connect.domain.return_urls import is_secure

if TYPE_CHECKING:
    # Imported below by whoever needs them: not all functions have pages, or a schedule.
    from flowaccount_connect.domain.app import App
    from flowaccount_connect.domain.schedule import Schedule

Environment = Literal["sandbox", "production"]

LINK_LIFETIME = 3_600
"""How long a link or an attempt can be used, in seconds. FlowAccount's code lives for 150 minutes."""

CONNECTIONS = 25
"""Idle connections that a client of AWS keeps: one for each thread of a batch of refreshes. (Not in `aws`, which loads
boto3.)"""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one setting at a time. Raises `InvalidSetting` with the name of a missing or wrong one."""

    variables: Mapping[str, str]

    def text(self, name: str) -> str:
        """A setting that must not be empty."""
        value = self.variables.get(name, "")
        if not value.strip():
            raise InvalidSetting(f"{name} is not set")
        return value

    def optional(self, name: str) -> str | None:
        """A setting that may be absent or empty."""
        return self.variables.get(name) or None

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        text = self.variables.get(name) or str(default)
        if not (text.isascii() and text.isdigit() and len(text) <= 12 and low <= int(text) <= high):
            raise InvalidSetting(f"{name} must be a whole number from {low} to {high}")
        return int(text)

    def choice(self, name: str, *choices: str) -> str:
        """One of `choices`, the first by default."""
        value = self.variables.get(name) or choices[0]
        if value not in choices:
            raise InvalidSetting(f"{name} must be one of {', '.join(choices)}")
        return value

    def url(self, name: str) -> str:
        """An endpoint: https, or http on a loopback host."""
        value = self.text(name)
        if not is_secure(value):
            raise InvalidSetting(f"{name} must be an absolute https URL (http only on a loopback host)")
        return value

    def optional_url(self, name: str) -> str | None:
        """An endpoint that may be absent or empty."""
        return self.url(name) if self.optional(name) else None

    def urls(self, name: str) -> frozenset[str]:
        """URLs separated by spaces. The setting may be empty."""
        values = frozenset((self.variables.get(name) or "").split())
        if not all(is_secure(value) for value in values):
            raise InvalidSetting(
                f"every URL of {name} must be absolute https (http only on a loopback host), without a fragment"
            )
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The settings that all functions share."""

    environment: Environment
    name: str
    table: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """The settings of the functions that call the token endpoint and store its answers."""

    endpoint: str
    client_id: str
    client_secret_name: str
    key_id: str
    salvage_queue_url: str
    schedule: "Schedule"


def stack(variables: Mapping[str, str] = os.environ) -> Stack:
    """The settings common to all functions. Raises `InvalidSetting`."""
    read = Reader(variables)
    return Stack(
        environment=cast("Environment", read.choice("ENVIRONMENT", "sandbox", "production")),
        name=read.text("STACK"),
        table=read.text("TABLE_NAME"),
    )


def app(variables: Mapping[str, str] = os.environ) -> "App":
    """What the pages show of the app. Raises `InvalidSetting`."""
    from flowaccount_connect.domain.app import App, is_app_name, is_contact, is_logo

    read = Reader(variables)
    name, logo, contact = read.optional("APP_NAME"), read.optional("APP_LOGO"), read.optional("APP_CONTACT")
    if name is not None and not is_app_name(name):
        raise InvalidSetting("APP_NAME must be 1 to 60 Latin or Thai letters, digits, signs and inner spaces")
    if logo is not None and not is_logo(logo):
        raise InvalidSetting(
            "APP_LOGO must be an https URL of a file, or an image as a data: URL, with at most 2000 characters"
        )
    if contact is not None and not is_contact(contact):
        raise InvalidSetting("APP_CONTACT must be an https:, mailto: or tel: URL")
    return App(name=name, logo=logo, contact=contact, restart=read.optional_url("RESTART_URL"))


def refresh_token_lifetime(read: Reader) -> int:
    """How long a refresh token lives after the last token request, in seconds. Raises `InvalidSetting`."""
    return read.number("REFRESH_TOKEN_LIFETIME", 86_400, 10, 365 * 86_400)


def refresh_times(read: Reader) -> tuple[int, int]:
    """The seconds after which a connection is refreshed, and the seconds that its refresh token lives.

    The first is at most three quarters of the second, whatever is set: otherwise no time would remain for a second try
    (`Schedule`), and a template cannot compare two parameters. Raises `InvalidSetting`.
    """
    lifetime = refresh_token_lifetime(read)
    return min(read.number("REFRESH_AFTER", 6 * 3_600, 1, 365 * 86_400), lifetime * 3 // 4), lifetime


def at_risk_before(read: Reader) -> int:
    """How many seconds before its deadline a connection is at risk: half of its token's life. Raises `InvalidSetting`.

    The result is at most three quarters of the time between due and deadline, so a healthy connection is never at risk.
    """
    after, lifetime = refresh_times(read)
    return min(lifetime // 2, max((lifetime - after) * 3 // 4, 1))


def tokens(variables: Mapping[str, str] = os.environ) -> TokenSettings:
    """The settings of `callback` and `refresh`. Raises `InvalidSetting`."""
    from flowaccount_connect.domain.schedule import Schedule

    read = Reader(variables)
    return TokenSettings(
        endpoint=read.url("TOKEN_ENDPOINT"),
        client_id=read.text("CLIENT_ID"),
        client_secret_name=read.text("CLIENT_SECRET_NAME"),
        key_id=read.text("KEY_ID"),
        salvage_queue_url=read.text("SALVAGE_QUEUE_URL"),
        schedule=Schedule(
            *refresh_times(read),
            believe_longer=read.choice("REFRESH_TOKEN_LIFETIME_LONGER", "ignored", "believed") == "believed",
            consent_lifetime=read.number("CONSENT_LIFETIME", 0, 0, 10 * 365 * 86_400) or None,
            consent_warning=read.number("CONSENT_WARNING", 3 * 86_400, 0, 365 * 86_400),
        ),
    )
