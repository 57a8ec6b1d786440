"""What the simulator has no switch for: servers with a grace, without rotation, that echo secrets, and worse."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.probe.runs import Run, probed
from tools.probe import parameters
from tools.probe.findings import Finding
from tools.probe.report import REMOVED


def findings(found: Run, *names: str) -> list[Any]:
    """The values of these findings."""
    return [found.value(name) for name in names]


@pytest.mark.parametrize("answer", ["same", "new"])
@pytest.mark.parametrize(("seconds", "replay"), [(30, "refused"), (600, "accepted")])
@pytest.mark.parametrize("kills", [False, True])
def test_a_reuse_is_tried_when_the_stack_would_send_it(answer: str, seconds: int, replay: str, kills: bool) -> None:
    """A grace that is over by then does not hide that the reuse ends the consent."""
    found = probed(grace=seconds, grace_answer=answer, kills=kills)
    ends = kills and replay == "refused"
    assert findings(found, "replay", "replay_ends_consent") == [replay, "yes" if ends else "no"]
    assert found.parameter("ReplayPolicy") == ("never" if ends else "allowed")
    assert found.slept >= 180


def test_no_refresh_token_at_all() -> None:
    found = probed(changes={"refresh_token": ...})
    assert found.in_the_way == {"refresh_token"}
    assert found.words("replay") == "No refresh token was issued."
    assert (found.value("refresh_token"), found.value("pkce")) == ("absent", "works")


@pytest.mark.parametrize("code", [..., None, "", 42, {"a": 1}, "../x", "N" * 500])
def test_an_answer_that_names_no_business_is_in_the_way(code: Any) -> None:
    found = probed(changes={"supportCode": code})
    assert found.value("support_code") == ("unusable" if code not in (..., None, "") else "absent")
    assert (found.in_the_way, found.value("replay")) == ({"support_code"}, "refused")


@pytest.mark.parametrize(
    ("code", "refresh", "seconds"),
    [
        (3_600, ..., {"code": 3_600, "refresh": None}),
        (None, "7200", {"code": None, "refresh": 7_200}),
        (200_000, "soon", {"code": 200_000, "refresh": None}),
        (30, -1, {"code": 30, "refresh": None}),
        (3_600, 7_200, {"code": 3_600, "refresh": 7_200}),
    ],
)
def test_expires_in_may_be_in_one_of_the_answers_only(code: Any, refresh: Any, seconds: dict[str, Any]) -> None:
    found = probed(changes={"expires_in": code}, refresh_changes={"expires_in": refresh})
    assert found.value("expires_in") == seconds


@pytest.mark.parametrize(
    ("announced", "seconds", "lifetime", "after"),
    [
        ({"refresh_token_expires_in": 7_200}, 7_200, "7200", "1800"),
        ({"refresh_expires_in": "2592000"}, 2_592_000, "2592000", None),
        ({"refresh_token_timeout": 86_400}, 86_400, None, None),
        ({"refresh_token_expires_in": 10**9}, 10**9, "31536000", None),
        ({"refresh_expires_in": 0, "refresh_token_expires_in": True}, "not_announced", None, None),
        ({"refresh_token_expires_in": "9" * 5_000}, "not_announced", None, None),
    ],
)
def test_an_announced_lifetime_is_what_the_stack_should_plan_with(
    announced: dict[str, Any], seconds: Any, lifetime: str | None, after: str | None
) -> None:
    found = probed(changes=announced)
    assert found.value("refresh_token_lifetime") == seconds
    assert (found.parameter("RefreshTokenLifetime"), found.parameter("RefreshAfter")) == (lifetime, after)
    assert found.in_the_way == ({"refresh_token_lifetime"} if seconds == 7_200 else set())


@pytest.mark.parametrize("checks", [True, False])
def test_a_demanded_challenge_is_found_and_kept_to(checks: bool) -> None:
    found = probed(demands_challenge=True, checks_challenge=checks)
    assert findings(found, "pkce", "replay", "refresh_token") == ["only_with", "refused", "present"]
    assert (found.value("wrong_verifier"), found.parameter("Pkce")) == ("refused" if checks else "accepted", "enabled")


def test_a_secret_that_is_not_checked_is_in_the_way() -> None:
    found = probed(checks_secret=False)
    assert found.in_the_way == {"invalid_client"}
    assert found.value("invalid_client")["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("issuers", "value"),
    [
        (["https://a.example", "https://b.example"], "unusable"),
        (["https://a.example"] * 3 + [None], "not_on_cancel"),
        (["not an issuer"], "unusable"),
    ],
)
def test_an_issuer_that_is_not_the_same_everywhere_is_not_configured(issuers: list[str | None], value: str) -> None:
    found = probed(issuers=issuers)
    assert (found.value("iss"), found.parameter("Issuer")) == (value, None)


def test_an_issuer_is_configured_only_if_it_is_the_host_of_the_login() -> None:
    found = probed(issuers=["https://issuer.example"])
    assert (found.value("iss"), found.parameter("Issuer")) == ("https://issuer.example", None)
    at_home = replace(found.probe.logins._target, authorize_endpoint="https://issuer.example/authorize")
    (issuer,) = [one for one in parameters.follow(found.probe.findings, at_home) if one.name == "Issuer"]
    assert issuer.value == "https://issuer.example"


@pytest.mark.parametrize("status", [200, 400, 403, 500])
@pytest.mark.parametrize("body", ["<h1>Something went wrong</h1>", "[1]", '{"error": {"code": 1}}', "[" * 50_000, ""])
def test_refusals_that_nobody_can_read_are_in_the_way_and_are_no_verdict_on_anything_else(
    status: int, body: str
) -> None:
    found = probed(errors=lambda *_: (status, body))
    assert found.value("invalid_grant")["as_expected"] is False
    assert "invalid_grant" in found.in_the_way
    assert findings(found, "replay", "wrong_verifier") == [None, None]
    assert (found.value("pkce"), found.parameter("ReplayPolicy")) == ("works", None)
    assert found.value("surprises") != "none"


@pytest.mark.parametrize(("error", "replay"), [("invalid_grant", "refused"), ("blue_moon", None)])
def test_what_a_server_echoes_gets_into_no_report(error: str, replay: str | None) -> None:
    def echo(_code: str, form: dict[str, str]) -> tuple[int, str]:
        said = {
            "error": error,
            "error_description": json.dumps(form),
            form["client_secret"]: 1,
            "hint": [*form.values()],
        }
        return 400, json.dumps(said)

    found = probed(errors=echo)
    assert (found.value("replay"), found.value("surprises") == "none") == (replay, replay is not None)
    assert "blue_moon" not in found.report.machine_readable() + found.text()


def test_a_report_is_a_net_for_what_slipped_through_before() -> None:
    """Whatever a finding says: no secret, nothing that commands a terminal, no markup."""
    secret = 'a "quoted" secret of ours'
    found = probed()
    slipped = Finding("iss", secret, f"\x1b[31m{secret} [red]")
    report = replace(found.report, findings=[slipped], secrets={secret})
    text = replace(found, report=report).text()
    for shown in (text, report.machine_readable()):
        assert "quoted" not in shown
        assert REMOVED in shown
        assert "\x1b" not in shown
    assert "[red]" in text
