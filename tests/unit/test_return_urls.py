"""Where a browser may be sent back to, and what an endpoint of the configuration may look like."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowaccount_connect.domain.return_urls import is_allowed, is_secure, with_parameters


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example.com",
        "https://app.example.com/",
        "https://app.example.com:8443/a/b?c=d&e=%20",
        "https://xn--12c.example/done",
        "http://localhost/done",
        "http://localhost:3000",
        "http://127.0.0.1:8080/x",
        "http://[::1]:8080/x",
        "https://[2001:db8::1]/x",
    ],
)
def test_https_anywhere_and_http_on_loopback_are_secure(url: str) -> None:
    assert is_secure(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://app.example.com",
        "http://127.0.0.1.example.com/",
        "http://localhost.example.com/",
        "http://localhost./",
        "http://127.1/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::1%25eth0]/",
        "ftp://app.example.com/",
        "javascript:alert(1)",
        "data:text/html,x",
        "//app.example.com/",
        "app.example.com/",
        "/done",
        "https:",
        "https://",
        "https:///done",
        "https:/app.example.com/",
        "https:app.example.com",
        "https://:443/",
        "https://app.example.com:port/",
        "https://app.example.com:99999/",
        "https://user@app.example.com/",
        "https://user:pw@app.example.com/",
        "https://@app.example.com/",
        "https://:@app.example.com/",
        "http://localhost:3000@evil.example/",
        "http://localhost\\@evil.example/",
        "https://app.example.com\\.evil.example/",
        "https://app.example.com/#fragment",
        "https://app.example.com/#",
        *(f"https://app.example.com/{sign}x" for sign in " \t\n\r\x00\x7f\u0e01\"'<>`{|}^\\"),
        "https://app.example.com/\n",
        " https://app.example.com/",
        "https://app.example.com/ ",
        "https://\u0430pp.example.com/",
        "https://app\u3002example.com/",
        "https://[app.example.com/",
        "https://[::1/",
        "\ud800https://app.example.com/",
    ],
)
def test_nothing_else_is_secure(url: str) -> None:
    assert not is_secure(url)


@given(st.text() | st.text("https:/localhost.@#\\?[]%:0127 \t\n"))
def test_what_is_secure_has_one_host_that_everybody_reads_alike(rest: str) -> None:
    for url in (rest, f"https://{rest}", f"http://localhost{rest}", f"https://app.example.com{rest}"):
        if is_secure(url):
            parts = urlsplit(url)
            authority = url.split("://", 1)[1].partition("/")[0].partition("?")[0]
            assert "@" not in authority
            assert "\\" not in url
            assert parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1")
            assert url.isascii()
            assert url.isprintable()


ALLOWED = (
    "https://app.example.com/done",
    "https://shop.example.co.th/flowaccount?from=settings",
    "http://localhost:3000/done",
)
TRICKS = (
    ".evil.example",
    "@evil.example/",
    "//evil.example",
    "\\",
    "%2e%2e/",
    "/..",
    "?",
    "&",
    "#",
    "%00",
    " ",
    "\t",
    "\r\n",
    ":443",
)


@settings(max_examples=3_000)
@given(
    st.sampled_from(ALLOWED),
    st.sampled_from(TRICKS) | st.text(max_size=8),
    st.integers(0, 80),
    st.sampled_from(["append", "insert", "case", "drop", "double", "reverse"]),
)
def test_whatever_differs_from_an_allowed_url_is_refused(url: str, put: str, at: int, how: str) -> None:
    at %= len(url)
    changed = {
        "append": url + put,
        "insert": url[:at] + put + url[at:],
        "case": url[:at] + url[at].swapcase() + url[at + 1 :],
        "drop": url[:at] + url[at + 1 :],
        "double": url + put + url,
        "reverse": put + url[::-1],
    }[how]
    assert is_allowed(changed, frozenset(ALLOWED)) is (changed in ALLOWED)
    assert is_allowed(changed, frozenset(ALLOWED)) is any(
        changed.encode("utf-8", "replace") == one.encode() for one in ALLOWED
    )


def test_an_empty_list_allows_nothing() -> None:
    assert not is_allowed("", frozenset())


@given(st.dictionaries(st.text(min_size=1, max_size=10), st.text(max_size=30), min_size=1, max_size=4))
def test_parameters_arrive_as_they_were_and_change_nothing_else(parameters: dict[str, str]) -> None:
    for url in ("https://app.example.com/done", "https://app.example.com/done?from=settings"):
        parts, before = urlsplit(with_parameters(url, parameters)), urlsplit(url)
        assert (parts.scheme, parts.netloc, parts.path, parts.fragment) == (*before[:3], "")
        given_ = parse_qsl(parts.query, keep_blank_values=True)
        assert given_ == [*parse_qsl(before.query), *parameters.items()]


def test_parameters_cannot_break_out_of_the_query() -> None:
    url = with_parameters("https://app.example.com/done", {"state": "x&connection=N1#\r\nSet-Cookie: a=b"})
    assert url == "https://app.example.com/done?state=x%26connection%3DN1%23%0D%0ASet-Cookie%3A+a%3Db"


def test_no_parameters_leave_a_url_as_it_is() -> None:
    assert with_parameters("https://app.example.com/done", {}) == "https://app.example.com/done"
