"""Parameters and code agree: whatever the template lets through, the functions start with."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowaccount_connect.domain.return_urls import is_secure
from flowaccount_connect.runtime import bootstrap
from flowaccount_connect.runtime import settings as functions_settings
from tests.template.conftest import ROOT, read
from tests.template.test_deploying import Deployed
from tests.template.test_template import FUNCTIONS, Template, names

TEMPLATE = read((ROOT / "template.yaml").read_text())
URLS = ("AuthorizeEndpoint", "TokenEndpoint", "RedirectUri", "AllowedReturnUrls", "RestartUrl")


def environment(template: Template, function: str, **parameters: str) -> dict[str, str]:
    """A function's environment as CloudFormation makes it of these parameters; of what AWS names, a stand-in."""
    deployed = Deployed(template, **({"ClientId": "client"} | parameters))
    common = template["Globals"]["Function"]["Environment"]["Variables"]
    own = template["Resources"][FUNCTIONS[function]]["Properties"]["Environment"]["Variables"]
    found = {name: deployed.of(value) for name, value in (common | own).items()}
    return {name: value if isinstance(value, str) else "of-aws" for name, value in found.items()}


@contextmanager
def started(template: Template, function: str, **parameters: str) -> Iterator[Any]:
    """What the function makes of its environment as it starts. Raises `InvalidSetting` where it does not start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "ap-southeast-1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "role")
        for name, value in environment(template, function, **parameters).items():
            patch.setenv(name, value)
        yield getattr(bootstrap, function)(*([lambda _: None] if function in CHANGES else []))
        if function == "connections":
            bootstrap.confirmation()
        if function in ("authorize", "callback"):
            functions_settings.app()


CHANGES: frozenset[str] = frozenset()
"""Functions whose builder takes a listener."""


def accepted(name: str) -> st.SearchStrategy[str]:
    """Values that the template lets through for a parameter."""
    parameter = TEMPLATE["Parameters"][name]
    if "AllowedValues" in parameter:
        return st.sampled_from([str(value) for value in parameter["AllowedValues"]])
    if parameter["Type"] == "Number":
        return st.integers(parameter["MinValue"], parameter["MaxValue"]).map(str)
    one = st.from_regex(parameter["AllowedPattern"], fullmatch=True)
    if "MaxLength" in parameter:
        one = one.filter(lambda value: len(value) <= parameter["MaxLength"])
    if parameter["Type"] == "CommaDelimitedList":
        return st.lists(one.filter(lambda value: "," not in value), max_size=3).map(",".join)
    return one


READ = sorted(
    {
        name
        for function in FUNCTIONS.values()
        for name in names(TEMPLATE["Resources"][function]["Properties"]["Environment"])
    }
    & set(TEMPLATE["Parameters"])
)
"""The parameters that reach a function's environment."""


@pytest.mark.parametrize("function", FUNCTIONS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_function_starts_with_whatever_the_template_lets_through(function: str, data: st.DataObject) -> None:
    chosen = {name: data.draw(accepted(name), label=name) for name in READ}
    with started(TEMPLATE, function, **chosen) as made:
        assert made is not None


HOSTILE = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["https://", "http://", "HTTPS://", "https:/", "//", ""]),
    st.sampled_from(["", "user@", "user:pw@", ":@"]),
    st.sampled_from(["app.example", "localhost", "127.0.0.1", "[::1]", "[::1", "-", "app.example.", "a@b", ""]),
    st.sampled_from(["", ":", ":0", ":80", ":65535", ":65536", ":99999", ":1x"]),
    st.sampled_from(["", "/", "/done", "?x=1", "#", "/#/done"]),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=4),
)
"""URLs with one thing or another wrong; some are right."""


@pytest.mark.parametrize("parameter", URLS)
@settings(max_examples=300, deadline=None)
@given(url=HOSTILE | st.from_regex(TEMPLATE["Parameters"]["RedirectUri"]["AllowedPattern"], fullmatch=True))
def test_a_url_that_the_template_lets_through_is_one_that_the_functions_take(parameter: str, url: str) -> None:
    if url and re.fullmatch(TEMPLATE["Parameters"][parameter]["AllowedPattern"], url):
        assert is_secure(url)


@pytest.mark.parametrize("parameter", URLS)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", True),
        ("https://example.com/path?x=1", True),
        ("https://example.com", True),
        ("https://example.com:65535/", True),
        ("http://127.0.0.1:4566/callback", True),
        ("http://localhost/callback", True),
        ("http://[::1]:80/", True),
        ("https://app.example/#/done", False),
        ("https://app.example/{tenant}", False),
        ("https://app.example/it's", False),
        ("https://user:pw@app.example/", False),
        ("https://app.example:99999/", False),
        ("http://example.com/", False),
        ("http://127.0.0.1.example.com/", False),
        ("http://localhost:80@example.com/", False),
        ("https://example.com/a b", False),
        ("https://example.com/\u00a0", False),
        ("javascript:alert(1)", False),
        ("ftp://example.com/", False),
    ],
)
def test_a_url_is_https_or_on_loopback_and_free_of_tricks(
    template: Template, parameter: str, value: str, expected: bool
) -> None:
    pattern = template["Parameters"][parameter]["AllowedPattern"]
    assert (re.fullmatch(pattern, value) is not None) is expected


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        ("AppName", "", True),
        ("AppName", "บัญชีร้านค้า Plus", True),
        ("AppName", "Café & Söhne (Thailand)", True),
        ("AppName", " Plus", False),
        ("AppName", "a\u202eb", False),
        ("AppName", "x" * 61, False),
        ("AppLogo", "https://cdn.example.com/a/logo-2.png", True),
        ("AppLogo", "data:image/svg+xml;base64,PHN2Zz4=", True),
        ("AppLogo", "https://cdn.example.com/logo.png?v=2", False),
        ("AppLogo", "https://cdn.example.com/", False),
        ("AppLogo", "data:text/html;base64,PGI+", False),
        ("AppContact", "https://line.me/R/ti/p/@easy", True),
        ("AppContact", "mailto:help@example.com", True),
        ("AppContact", "tel:+66-2-123-4567", True),
        ("AppContact", "javascript:alert(1)", False),
        ("AppContact", "mailto:a@b?bcc=c@d", False),
        ("AppContact", "http://localhost/", False),
    ],
)
def test_what_the_pages_show_of_the_app_is_safe_to_show(
    template: Template, parameter: str, value: str, expected: bool
) -> None:
    pattern = template["Parameters"][parameter]["AllowedPattern"]
    assert (re.fullmatch(pattern, value) is not None) is expected


@pytest.mark.parametrize("value", ["3600.5", "1e3", "00", "-1", " 3600", "soon"])
@pytest.mark.parametrize(
    "parameter", ["RefreshAfter", "RefreshTokenLifetime", "RefreshesPerMinute", "ConsentLifetime", "ConsentWarning"]
)
def test_a_number_that_a_function_reads_is_whole(template: Template, parameter: str, value: str) -> None:
    """CloudFormation's own `Number` is any number."""
    assert template["Parameters"][parameter]["Type"] == "String"
    assert not re.fullmatch(template["Parameters"][parameter]["AllowedPattern"], value)


@pytest.mark.parametrize(("lifetime", "after"), [("86400", "21600"), ("604800", "86400"), ("600", "30")])
def test_the_schedule_runs_by_the_clock_it_was_given(template: Template, lifetime: str, after: str) -> None:
    with started(template, "sweep", RefreshTokenLifetime=lifetime, RefreshAfter=after) as made:
        assert (made.schedule.refresh_token_lifetime, made.schedule.refresh_after) == (int(lifetime), int(after))
        assert made.at_risk_before < int(lifetime) - int(after)


def test_a_short_life_alone_is_enough(template: Template) -> None:
    with started(template, "sweep", RefreshTokenLifetime="3600") as made:
        assert made.schedule.refresh_after < 3600


def test_every_number_that_a_function_reads_is_guarded_so(template: Template) -> None:
    assert [name for name in READ if template["Parameters"][name]["Type"] == "Number"] == []
