"""The settings of `make up`: a misspelt one is refused by name, and a value never counts as a name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.local import parameters, settings
from tools.local.errors import LocalError


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (" -- ALLOWED_RETURN_URL=x", "Did you mean ALLOWED_RETURN_URLS?"),
        ("s -- REFRESH_AFTR=30 PORT=4566", "Did you mean REFRESH_AFTER?"),
        (" -- XYZZY=1", "The settings are: ACCESS_TOKEN_LIFETIME, "),
    ],
)
def test_a_misspelt_setting_is_refused_by_its_name(flags: str, says: str) -> None:
    with pytest.raises(LocalError, match=r"is not a setting\.") as refused:
        settings.read({"MAKEFLAGS": flags})
    assert says in str(refused.value)


@given(st.text(st.characters(exclude_characters="\\ \t\n", min_codepoint=33, max_codepoint=126), min_size=1))
def test_what_stands_in_a_value_is_no_name(value: str) -> None:
    escaped = f" -- ISSUER=a\\ NAME={value} PORT=1"
    assert settings.given_on_the_command_line({"MAKEFLAGS": escaped}) == ["ISSUER", "PORT"]


@pytest.mark.parametrize(
    "value", [",https://app.example/hook", "https://app.example/hook,", "https://a.example,,https://b.example"]
)
def test_a_list_with_an_empty_entry_is_refused(value: str) -> None:
    """Whether there are any is seen by the first entry: by an empty one, webhooks would silently be off."""
    with pytest.raises(LocalError, match="WebhookUrl"):
        parameters.check({"WebhookUrl": value}, {"WebhookUrl": "WebhookUrl"})


def test_a_setting_that_merely_stands_in_the_environment_is_said_to() -> None:
    with pytest.raises(LocalError, match="Set in your environment: ENVIRONMENT"):
        settings.read({"MAKEFLAGS": "", "ENVIRONMENT": "development"})
    with pytest.raises(LocalError) as named:
        settings.read({"MAKEFLAGS": "ENVIRONMENT=development", "ENVIRONMENT": "development"})
    assert "environment:" not in str(named.value)


def test_without_make_nothing_was_given() -> None:
    assert settings.given_on_the_command_line({}) == []


def test_an_experiment_has_otherwise_what_the_template_fixes() -> None:
    given = {
        "SCHEDULE": "disabled",
        "REFRESH_CONCURRENCY": "3",
        "PUBLIC_RATE_LIMIT": "9",
        "ACCESS_TOKEN_LIFETIME": "60",
    }
    assert settings.read(given).experiment == settings.Experiment(
        schedule=False, workers=3, public_rate_limit=9, access_token_lifetime=60
    )
    assert settings.read({"SCHEDULE": ""}).experiment == settings.Experiment()


@pytest.mark.parametrize(
    ("name", "value"),
    [("SCHEDULE", "off"), ("REFRESH_CONCURRENCY", "0"), ("PUBLIC_RATE_LIMIT", "1.5"), ("ACCESS_TOKEN_LIFETIME", "-1")],
)
def test_an_experiment_that_means_nothing_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(LocalError, match=f"{name}={value} is not accepted"):
        settings.read({name: value})
