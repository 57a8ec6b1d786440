"""What the simulator has no switch for: servers with a grace, without rotation, that echo secrets, and worse."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from tests.probe.odd_server import OddConsents, Oddities, odd_server
from tests.probe.runs import Clock, Run, run
from tools.probe import parameters
from tools.probe.findings import Finding
from tools.probe.report import REMOVED


def probed(**options: Any) -> Run:
    """A run against a server with these oddities."""
    with odd_server(Oddities(**options)) as server:
        return run(server.target, OddConsents(), Clock(server.advance))


def findings(found: Run, *names: str) -> list[Any]:
    """The values of these findings."""
    return [found.value(name) for name in names]


def test_a_strict_one_surprises_nobody() -> None:
    found = probed()
    assert findings(found, "replay", "replay_family", "code_twice", "code_twice_kills") == [
        "refused",
        "alive",
        "no",
        "no",
    ]
    assert findings(found, "redirect_uri", "burnt_code", "pkce") == ["compared", "yes", "enforced"]
    assert findings(found, "surprises", "wrong_secret_spends", "older_access_token") == ["none", "no", "works"]
    assert found.report.obstacles == []
    assert found.report.consents == 6


@pytest.mark.parametrize(("answer", "kind"), [("same", "same_token"), ("new", "new_token")])
@pytest.mark.parametrize(("seconds", "late"), [(30, "refused"), (600, "accepted")])
def test_a_grace_and_its_end(answer: str, kind: str, seconds: int, late: str) -> None:
    found = probed(grace=seconds, grace_answer=answer)
    assert findings(found, "replay", "replay_late", "replay_family") == [kind, late, "alive"]
    assert found.parameter("ReplayPolicy") == "allowed"


def test_a_grace_after_which_a_reuse_kills() -> None:
    found = probed(grace=30, kills=True)
    assert findings(found, "replay", "replay_late", "replay_family") == ["same_token", "refused", "killed"]
    assert found.parameter("ReplayPolicy") == "never"


@pytest.mark.parametrize(("access", "value"), [(False, "alive"), (True, "killed")])
def test_a_reuse_that_kills_may_take_the_access_tokens_along(access: bool, value: str) -> None:
    found = probed(kills=True, kills_access=access)
    assert findings(found, "replay", "replay_family", "replay_access_token") == ["refused", "killed", value]
    assert found.parameter("ReplayPolicy") == "never"
    assert found.report.consents <= 10


@pytest.mark.parametrize(("rotation", "value"), [("same", "same_token"), ("none", "no_token")])
def test_no_rotation(rotation: str, value: str) -> None:
    found = probed(rotation=rotation)
    assert findings(found, "rotation", "replay", "replay_late", "simultaneous") == [value, "not_rotated", None, None]
    assert found.parameter("ReplayPolicy") == "allowed"
    assert "not rotated" in found.words("simultaneous")


def test_no_refresh_token_at_all() -> None:
    found = probed(issues_refresh_token=False)
    assert found.value("refresh_token") == "absent"
    assert found.words("rotation") == "No refresh token was issued."
    assert any("No refresh token" in sentence for sentence in found.report.obstacles)
    assert found.value("pkce") == "enforced"


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"expires_in": "3600"}, "expires_in", "string"),
        ({"expires_in": ...}, "expires_in", "absent"),
        ({"expires_in": None}, "expires_in", "null"),
        ({"expires_in": "soon"}, "expires_in", "unusable"),
        ({"expires_in": -1}, "expires_in", "unusable"),
        ({"supportCode": ...}, "support_code", "absent"),
        ({"supportCode": 42}, "support_code", "unusable"),
        ({"supportCode": {"a": 1}}, "support_code", "unusable"),
        ({"supportCode": "../x"}, "support_code", "unusable"),
        ({"supportCode": "N" * 500}, "support_code", "unusable"),
        ({"supportCode": "../x"}, "support_code_on_refresh", "unusable"),
        ({"supportCode": ""}, "support_code", "empty"),
        ({"token_type": ...}, "token_type", "absent"),
        ({"token_type": "mac"}, "token_type", "other"),
    ],
)
def test_odd_members_of_an_answer(change: dict[str, Any], name: str, value: str) -> None:
    found = probed(changes=change)
    assert found.value(name) == value
    assert found.value("replay") == "refused"
    in_the_way = any("names no business" in sentence for sentence in found.report.obstacles)
    assert in_the_way == ("supportCode" in change)


def test_a_demanded_challenge_is_found_and_kept_to() -> None:
    found = probed(demands_challenge=True)
    assert findings(found, "pkce", "replay", "redirect_uri") == ["required", "refused", "compared"]
    assert found.parameter("Pkce") == "enabled"
    assert any("PKCE is demanded" in sentence for sentence in found.report.obstacles)


def test_a_demanded_challenge_that_is_not_checked_is_demanded_all_the_same() -> None:
    found = probed(demands_challenge=True, checks_challenge=False)
    assert findings(found, "pkce", "pkce_wrong_verifier") == ["required", "accepted"]
    assert found.parameter("Pkce") == "enabled"


def test_a_login_that_refuses_challenges() -> None:
    found = probed(refuses_challenges="invalid_request")
    assert findings(found, "pkce", "pkce_wrong_verifier", "replay") == ["refused_at_login", None, "refused"]
    assert found.parameter("Pkce") == "disabled"


def test_a_new_consent_that_ends_the_one_before() -> None:
    found = probed(ends_earlier_consents=True)
    assert findings(found, "earlier_consent", "wrong_secret_spends", "code_twice_kills") == ["ended", "no", "no"]
    assert findings(found, "replay", "replay_family") == ["refused", "alive"]
    assert probed().value("earlier_consent") == "alive"


def test_a_challenge_that_a_missing_verifier_gets_around() -> None:
    found = probed(missing_verifier_passes=True)
    assert findings(found, "pkce", "pkce_wrong_verifier", "pkce_missing_verifier") == ["partly", "refused", "accepted"]


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"checks_secret": "last"}, "wrong_secret_spends", "yes"),
        ({"checks_secret": "never"}, "wrong_secret_spends", "not_checked"),
        ({"compares_redirect_uri": False}, "redirect_uri", "ignored"),
        ({"failed_exchange_burns": False}, "burnt_code", "no"),
        ({"code_works_again": True}, "code_twice", "yes"),
        ({"second_code_kills": True}, "code_twice_kills", "yes"),
        ({"access_dies_on_refresh": True}, "older_access_token", "dead"),
        ({"issuers": ["https://a.example", "https://b.example"]}, "iss", "varies"),
        ({"issuers": ["https://a.example"] * 2 + [None] + ["https://a.example"]}, "iss", "not_on_cancel"),
        ({"issuers": ["not an issuer"]}, "iss", "unreadable"),
        ({"callback": lambda back: back | {"state": "another"}}, "state", "other"),
    ],
)
def test_other_oddities(options: dict[str, Any], name: str, value: str) -> None:
    found = probed(**options)
    assert found.value(name) == value
    assert found.parameter("Issuer") is None


def test_an_issuer_of_another_host_is_told_and_not_configured() -> None:
    with odd_server(Oddities(issuers=["https://issuer.example"])) as server:
        found = run(server.target, OddConsents())
    assert found.parameter("Issuer") == "https://issuer.example"
    elsewhere = replace(found.report.target, authorize_endpoint="https://login.example/authorize")
    (issuer,) = [one for one in parameters.follow(found.probe.findings, elsewhere) if one.name == "Issuer"]
    assert issuer.value is None
    assert "issuer.example" in issuer.because


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_errors_as_html_are_no_refusals_to_the_stack_and_are_known_again(status: int) -> None:
    found = probed(errors=lambda *_: (status, "text/html", "<h1>Something went wrong</h1>"))
    assert found.value("invalid_grant")["as_expected"] is False
    assert found.value("surprises") != "none"
    assert findings(found, "replay", "replay_family", "pkce") == ["refused", "alive", "enforced"]
    assert f"HTTP {status}, text/html" in found.words("replay")
    assert len(found.report.obstacles) == 2
    assert found.value("rotation") == "new_token"


def test_an_error_nobody_knows_is_not_quoted() -> None:
    found = probed(errors=lambda *_: (400, "application/json", json.dumps({"error": "blue_moon"})))
    assert found.value("invalid_grant")["error"] == "unknown"
    assert "blue_moon" not in found.report.machine_readable()


def test_what_a_server_echoes_gets_into_no_report() -> None:
    def echo(code: str, form: dict[str, str]) -> tuple[int, str, str]:
        told = {
            "error": code,
            "error_description": json.dumps(form),
            form["client_secret"]: 1,
            "hint": list(form.values()),
        }
        return 400, "application/json", json.dumps(told)

    found = probed(errors=echo, callback=lambda back: back | {back.get("code", "none"): back.get("code", "none")})
    assert found.value("replay") == "refused"


@pytest.mark.parametrize(
    "body", ["[1]", "null", '{"error": {"code": 1}}', "[" * 50_000, "\x00\x01", '{"access_token": 7}', ""]
)
def test_nonsense_instead_of_errors_is_told(body: str) -> None:
    found = probed(errors=lambda *_: (200, "application/json", body))
    assert found.value("invalid_grant")["as_expected"] is False
    assert found.value("replay") == "refused"
    assert found.value("surprises") != "none"


def test_a_report_is_a_net_for_what_slipped_through_before() -> None:
    """Whatever a finding says: no secret, nothing that commands a terminal, no markup, no row of a table broken."""
    secret = 'a "quoted" secret | of ours'
    found = probed(issuers=["https://evil.example/[bold]|x"])
    slipped = Finding("iss", secret, f"\x1b[31m{secret} [red]", (f"a|b\n{secret}",))
    report = replace(found.report, findings=[slipped], secrets={secret})
    out = io.StringIO()
    report.show(Console(file=out, width=100))
    for text in (report.markdown(), report.machine_readable(), out.getvalue()):
        assert secret not in text
        assert "quoted" not in text
        assert REMOVED in text
        assert "\x1b" not in text
    assert "[red]" in out.getvalue()
    assert json.loads(report.machine_readable())["findings"]["iss"]["value"] == REMOVED
    assert [line.count(" | ") for line in report.markdown().splitlines() if "Does the callback" in line] == [2]
