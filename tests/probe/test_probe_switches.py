"""The probe finds out every position of the simulator's switches that a parameter follows from."""

from dataclasses import dataclass, field, fields
from typing import Any

import pytest

from tests.probe.runs import Runs
from tools.local import parameters
from tools.simulator.settings import Settings

STAND_IN_ISSUER = "https://sandbox-auth.flowaccount.com"
NOT_ASKED = {
    *("code_lifetime", "refresh_token_lifetime", "refresh_absolute_lifetime", "token_length", "token_type"),
    *("scope_in_answer", "racy", "race_window", "session_state", "retry_after", "unauthorized"),
}
"""Switches that no question of the probe asks about: nothing has to be set or done because of them."""


@dataclass(frozen=True)
class Position:
    """A switch's position, with what it needs beside it, and what the probe must then say.

    `found` are findings, or members of them (`invalid_client.status`); `follows` are parameters.
    """

    value: Any
    found: dict[str, Any] = field(default_factory=dict)
    follows: dict[str, str | None] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)


LIMITED = {"rate_limit": True}
SAID = {"code": 86_400, "refresh": 86_400}
ABSENT = {"support_code": "absent", "support_code_on_refresh": "present"}

POSITIONS: dict[str, list[Position]] = {
    "environment": [
        Position("test", follows={"Environment": "sandbox"}),
        Position("v1", follows={"Environment": "production"}),
    ],
    "access_token_lifetime": [
        Position(600, {"expires_in": {"code": 600, "refresh": 600}}),
    ],
    "expires_in": [
        Position("string", {"expires_in": SAID}),
        Position("absent", {"expires_in": {"code": None, "refresh": None}}),
    ],
    "support_code": [
        Position("absent", ABSENT),
        Position("null", ABSENT | {"replay": "refused"}),
    ],
    "support_code_on_refresh": [
        Position("present", {"support_code_on_refresh": "present"}),
        Position("absent", {"support_code": "present", "support_code_on_refresh": "absent"}),
        Position("null", {"support_code_on_refresh": "absent"}),
    ],
    "refresh_answer": [
        Position("new_token", {"replay": "refused"}),
        Position("no_token", {"replay": "not_rotated"}, {"ReplayPolicy": "allowed"}),
    ],
    "replay": [
        Position("strict", {"replay": "refused", "replay_ends_consent": "no"}, {"ReplayPolicy": "allowed"}),
        Position("forgiving", {"replay": "accepted", "replay_ends_consent": "no"}, {"ReplayPolicy": "allowed"}),
        Position("newest_only", {"replay": "accepted", "replay_ends_consent": "no"}, {"ReplayPolicy": "allowed"}),
        Position("family_revoking", {"replay": "refused", "replay_ends_consent": "yes"}, {"ReplayPolicy": "never"}),
    ],
    "error_status": [
        Position(status, {"invalid_client.status": status, "invalid_client.as_expected": True})
        for status in (200, 400, 401)
    ],
    "invalid_grant_status": [
        Position(None, {"invalid_grant.status": 401}, beside={"error_status": 401}),
        *(
            Position(status, {"invalid_grant.status": status, "invalid_grant.as_expected": True})
            for status in (200, 400)
        ),
        Position(401, {"invalid_grant.status": 401, "invalid_client.status": 200}),
    ],
    "pkce": [
        Position("enforced", {"pkce": "works", "wrong_verifier": "refused"}, {"Pkce": "enabled"}),
        Position("ignored", {"pkce": "works", "wrong_verifier": "accepted"}, {"Pkce": "disabled"}),
        Position("dropped", {"pkce": "fails", "wrong_verifier": None}, {"Pkce": "disabled"}),
    ],
    "cancel": [Position("access_denied", {"cancel": "access_denied"}), Position("stranded", {"cancel": "stranded"})],
    "iss": [
        Position(None, {"iss": "absent"}, {"Issuer": None}),
        Position(STAND_IN_ISSUER, {"iss": STAND_IN_ISSUER}, {"Issuer": None}),
    ],
    "rate_limit": [
        Position(True, {"rate_limit": 20}, {"RefreshesPerMinute": "15"}),
        Position(False, {"rate_limit": "none_seen"}, {"RefreshesPerMinute": None}),
    ],
    "requests_per_minute": [
        Position(7, {"rate_limit": 7}, {"RefreshesPerMinute": "5"}, LIMITED),
        Position(100, {"rate_limit": 100}, {"RefreshesPerMinute": "75"}, LIMITED),
    ],
    "rate_limit_counts_token": [
        Position(False, {"rate_limit": "none_seen"}, beside=LIMITED),
    ],
}


def test_every_switch_of_the_simulator_is_asked_about_or_named_as_not_asked() -> None:
    assert set(POSITIONS) | NOT_ASKED == {one.name for one in fields(Settings)}
    assert not set(POSITIONS) & NOT_ASKED


@pytest.mark.parametrize(
    ("switch", "position"),
    [
        pytest.param(switch, position, id=f"{switch}-{position.value}")
        for switch, positions in POSITIONS.items()
        for position in positions
    ],
)
def test_the_probe_finds_the_position_out(runs: Runs, switch: str, position: Position) -> None:
    run = runs(position.beside | {switch: position.value}, measure_rate="rate_limit" in position.found)
    for name, expected in position.found.items():
        finding, _, member = name.partition(".")
        value = run.value(finding)
        assert (value[member] if member else value) == expected, name
    for name, value in position.follows.items():
        assert run.parameter(name) == value, name
    known = {one.name: one.name for one in run.report.parameters}
    parameters.check({one.name: one.value for one in run.report.parameters if one.value is not None}, known)
    assert run.value("surprises") == "none"
