"""Wrong configuration fails at the start, with a message that names the setting."""

from collections.abc import Callable

import pytest

from flowaccount_connect.domain.app import App
from flowaccount_connect.domain.errors import InvalidSetting
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.runtime import bootstrap, settings
from flowaccount_connect.runtime.settings import Reader

STACK = {"ENVIRONMENT": "production", "STACK": "connect", "TABLE_NAME": "table"}
AUTHORIZE = {
    "AUTHORIZE_ENDPOINT": "https://auth.example/connect/authorize",
    "CLIENT_ID": "client",
    "ALLOWED_RETURN_URLS": "https://app.example.com/done http://localhost:3000/done",
}
TOKENS = {
    "TOKEN_ENDPOINT": "https://openapi.example/test/token",
    "CLIENT_ID": "client",
    "CLIENT_SECRET_NAME": "name",
    "KEY_ID": "key",
    "SALVAGE_QUEUE_URL": "https://sqs.example/1/salvage",
}


def test_a_whole_configuration_is_read() -> None:
    assert settings.stack(STACK) == settings.Stack(environment="production", name="connect", table="table")
    authorize = bootstrap.begin_settings(AUTHORIZE)
    assert authorize.return_urls == {"https://app.example.com/done", "http://localhost:3000/done"}
    assert (authorize.redirect_uri, authorize.link_lifetime) == (None, 3_600)
    schedule = settings.tokens(TOKENS).schedule
    assert (schedule.refresh_after, schedule.refresh_token_lifetime) == (21_600, 86_400)


def test_the_environment_is_the_sandbox_unless_it_is_said() -> None:
    assert settings.stack(STACK | {"ENVIRONMENT": ""}).environment == "sandbox"


NEEDED: list[tuple[Callable[[dict[str, str]], object], dict[str, str], str]] = [
    *((settings.stack, STACK, name) for name in ("STACK", "TABLE_NAME")),
    *((bootstrap.begin_settings, AUTHORIZE, name) for name in ("AUTHORIZE_ENDPOINT", "CLIENT_ID")),
    *((settings.tokens, TOKENS, name) for name in TOKENS),
]


@pytest.mark.parametrize(("read", "whole", "name"), NEEDED, ids=[name for *_, name in NEEDED])
@pytest.mark.parametrize("value", ["", "  ", None])
def test_a_missing_setting_is_named(
    read: Callable[[dict[str, str]], object], whole: dict[str, str], name: str, value: str | None
) -> None:
    variables = {k: v for k, v in (whole | {name: value}).items() if v is not None}
    with pytest.raises(InvalidSetting, match=f"{name} is not set"):
        read(variables)


@pytest.mark.parametrize("value", ["test", "Sandbox", "v1", " production"])
def test_only_two_environments_exist(value: str) -> None:
    with pytest.raises(InvalidSetting, match="ENVIRONMENT must be one of sandbox, production"):
        settings.stack(STACK | {"ENVIRONMENT": value})


@pytest.mark.parametrize("value", ["http://127.0.0.1:9/token", "http://localhost:9/token", "http://[::1]:9/token"])
def test_an_endpoint_may_be_plain_http_on_loopback(value: str) -> None:
    assert settings.tokens(TOKENS | {"TOKEN_ENDPOINT": value}).endpoint == value
    assert bootstrap.begin_settings(AUTHORIZE | {"AUTHORIZE_ENDPOINT": value}).endpoint == value


@pytest.mark.parametrize(
    "value", ["http://openapi.example/token", "openapi.example", "https://", "https://u:p@x.example/"]
)
def test_an_endpoint_that_would_send_secrets_in_the_clear_is_refused(value: str) -> None:
    with pytest.raises(InvalidSetting, match="TOKEN_ENDPOINT must be an absolute https URL"):
        settings.tokens(TOKENS | {"TOKEN_ENDPOINT": value})
    with pytest.raises(InvalidSetting, match="AUTHORIZE_ENDPOINT"):
        bootstrap.begin_settings(AUTHORIZE | {"AUTHORIZE_ENDPOINT": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIRECT_URI", "http://app.example.com/callback"),
        ("REDIRECT_URI", "/callback"),
        ("REDIRECT_URI", "https://app.example.com/callback#x"),
        # One bad one is enough to refuse the list.
        ("ALLOWED_RETURN_URLS", "http://app.example.com/done"),
        ("ALLOWED_RETURN_URLS", "https://a.example/ok //evil.example"),
        ("ALLOWED_RETURN_URLS", "*"),
        ("ALLOWED_RETURN_URLS", "https://*#"),
    ],
)
def test_an_address_that_is_not_secure_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=name):
        bootstrap.begin_settings(AUTHORIZE | {name: value})


def test_no_return_urls_are_fine() -> None:
    assert bootstrap.begin_settings(AUTHORIZE | {"ALLOWED_RETURN_URLS": ""}).return_urls == frozenset()


@pytest.mark.parametrize(
    "value",
    [
        *("59", "86401", "-60", "3600.0", "1e3", "soon", " 3600", "\u0663\u0666\u0660\u0660", "9" * 5_000),
        "0000000000609999999",  # No padding carries a number past its bounds.
    ],
)
def test_a_number_out_of_bounds_is_refused(value: str) -> None:
    with pytest.raises(InvalidSetting, match="X must be a whole number from 60 to 86400"):
        Reader({"X": value}).number("X", 60, 60, 86_400)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REFRESH_TOKEN_LIFETIME", "9"),
        ("REFRESH_TOKEN_LIFETIME", "day"),
        ("REFRESH_AFTER", "0"),
        ("REFRESH_AFTER", "-1"),
        ("CONSENT_WARNING", "soon"),
    ],
)
def test_a_wrong_duration_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"{name} must be a whole number"):
        settings.tokens(TOKENS | {name: value})


@pytest.mark.parametrize(
    ("after", "lifetime", "expected"),
    [
        ("86400", "86400", 64_800),
        ("90000", "86400", 64_800),
        ("", "3600", 2_700),
        ("9", "10", 7),
        ("7", "10", 7),
        ("21600", "86400", 21_600),
    ],
)
def test_a_refresh_leaves_a_quarter_of_the_tokens_life_whatever_is_set(
    after: str, lifetime: str, expected: int
) -> None:
    times = {"REFRESH_AFTER": after, "REFRESH_TOKEN_LIFETIME": lifetime}
    read = Reader(times)
    assert settings.refresh_times(read) == (expected, int(lifetime))
    assert settings.tokens(TOKENS | times).schedule.refresh_after == expected
    Schedule(*settings.refresh_times(read))


@pytest.mark.parametrize(
    ("after", "lifetime", "expected"),
    [
        ("", "", 43_200),
        ("50400", "86400", 27_000),
        ("30", "600", 300),
        ("1", "10", 5),
    ],
)
def test_what_has_just_fallen_due_is_not_at_risk(after: str, lifetime: str, expected: int) -> None:
    read = Reader({"REFRESH_AFTER": after, "REFRESH_TOKEN_LIFETIME": lifetime})
    assert settings.at_risk_before(read) == expected


PIXEL = "data:image/png;base64,iVBORw0KGgo="


def test_the_app_is_shown_as_the_settings_say_and_without_them_as_nobody() -> None:
    assert settings.app({}) == settings.app(dict.fromkeys(APP, "")) == App()
    assert settings.app(APP) == App(
        name="บัญชี Plus", logo=PIXEL, contact="tel:+66-2-123-4567", restart="https://app.example.com/connect"
    )


APP = {
    "APP_NAME": "บัญชี Plus",
    "APP_LOGO": PIXEL,
    "APP_CONTACT": "tel:+66-2-123-4567",
    "RESTART_URL": "https://app.example.com/connect",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("APP_NAME", value)
            for value in (" Plus", "Plus ", "a\nb", "a\u200bb", "a\u202eb", "x" * 61, "\ud83d\ude00", "\u00a0x")
        ),
        *(
            ("APP_LOGO", value)
            for value in ("http://cdn.example/l.png", "https://cdn.example/", "https://cdn.example", "logo.png")
        ),
        *(
            ("APP_LOGO", value)
            for value in ("https://cdn.example/l.png?v=2", "https://cdn.example/a;b", "https://cdn.example/a,b")
        ),
        *(
            ("APP_LOGO", value)
            for value in ("https://u@cdn.example/l.png", "https://cdn.example/l.png#x", "https://cdn.example/%zz")
        ),
        *(
            ("APP_LOGO", value)
            for value in ("data:text/html;base64,PGI+", "data:image/png,x", "data:image/gif;base64,R0lG")
        ),
        *(
            ("APP_LOGO", value)
            for value in (
                "data:image/svg+xml;base64,PHN2Zz4=' *",
                "data:image/png;base64," + "A" * 2_000,
                "https://a.example:99999/l",
            )
        ),
        *(
            ("APP_CONTACT", value)
            for value in ("help@example.com", "javascript:alert(1)", "http://127.0.0.1/", "line://ti/p/x")
        ),
        *(
            ("APP_CONTACT", value)
            for value in ("mailto:a@b?bcc=c@d", "mailto:a@b\r\nX: y", "tel:", "tel:1;2", "data:text/html,x")
        ),
        *(
            ("RESTART_URL", value)
            for value in ("http://app.example.com/", "https://app.example.com/#/connect", "/connect")
        ),
    ],
)
def test_what_a_page_could_not_show_safely_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=name):
        settings.app(APP | {name: value})


def test_a_message_never_quotes_the_value() -> None:
    with pytest.raises(InvalidSetting) as caught:
        settings.tokens(TOKENS | {"TOKEN_ENDPOINT": "http://user:CANARY@openapi.example"})
    assert "CANARY" not in str(caught.value)
