"""The probe finds out every position of every switch of the simulator."""

import itertools
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from tests.probe.runs import Runs
from tools.local import parameters
from tools.simulator.settings import Settings

STAND_IN_ISSUER = "https://sandbox-auth.flowaccount.com"


@dataclass(frozen=True)
class Position:
    """A switch's position, with what it needs beside it, and what the probe must then say.

    `found` are findings, or members of them (`invalid_client.status`); `open` is one that must stay open;
    `follows` are parameters.
    """

    value: Any
    found: dict[str, Any] = field(default_factory=dict)
    follows: dict[str, str | None] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    open: str | None = None


LIFETIMES = {"measure_lifetimes": True}
RATE = {"measure_rate": True}
LIMITED = {"rate_limit": True}

POSITIONS: dict[str, list[Position]] = {
    "environment": [
        Position("test", follows={"Environment": "sandbox"}),
        Position("v1", follows={"Environment": "production"}),
    ],
    "code_lifetime": [Position(60, open="code_lifetime")],
    "refresh_token_lifetime": [
        Position(86_400, {"refresh_token_lifetime": 86_400}, {"RefreshTokenLifetime": "86400"}, options=LIFETIMES),
        Position(3_600, {"refresh_token_lifetime": "shorter"}, {"RefreshTokenLifetime": None}, options=LIFETIMES),
        Position(200_000, {"refresh_token_lifetime": "longer"}, options=LIFETIMES),
    ],
    "refresh_absolute_lifetime": [
        Position(None, open="absolute_lifetime"),
        Position(86_400, {"absolute_lifetime": "under_36_hours"}, options=LIFETIMES),
        Position(3_600, {"refresh_token_lifetime": "shorter"}, options=LIFETIMES, open="absolute_lifetime"),
    ],
    "access_token_lifetime": [
        Position(600, {"access_token_lifetime": 600}, {"AccessTokenLifetime": None}),
        Position(86_400, {"access_token_lifetime": 86_400, "access_token_lives": 86_400}, options=LIFETIMES),
        Position(
            7_000,
            {"access_token_lives": 7_200},
            {"AccessTokenLifetime": "5400"},
            beside={"expires_in": "absent"},
            options=LIFETIMES,
        ),
        Position(200_000, {"access_token_lives": "longer"}, options=LIFETIMES),
    ],
    "token_length": [
        Position(43, {"token_length.access_token": 43, "token_length.refresh_token": 43}),
        Position(2_000, {"token_length.access_token": 2_000, "token_length.refresh_token": 2_000}),
    ],
    "token_type": [Position("Bearer", {"token_type": "Bearer"}), Position("bearer", {"token_type": "bearer"})],
    "expires_in": [
        Position("number", {"expires_in": "number", "expires_in_on_refresh": "number"}),
        Position("string", {"expires_in": "string", "access_token_lifetime": 86_400}),
        Position("absent", {"expires_in": "absent"}, {"AccessTokenLifetime": None}),
    ],
    "support_code": [
        Position("present", {"support_code": "present", "support_code_on_refresh": "same"}),
        Position("absent", {"support_code": "absent", "support_code_on_refresh": "present"}),
        Position("null", {"support_code": "null", "replay": "refused"}),
    ],
    "support_code_on_refresh": [
        Position("present", {"support_code_on_refresh": "same"}),
        Position("absent", {"support_code_on_refresh": "absent"}),
        Position("null", {"support_code_on_refresh": "null"}),
    ],
    "scope_in_answer": [Position(False, {"extra_fields": []}), Position(True, {"extra_fields": ["scope"]})],
    "refresh_answer": [
        Position("new_token", {"rotation": "new_token"}),
        Position("no_token", {"rotation": "no_token", "replay": "not_rotated"}, {"ReplayPolicy": "allowed"}),
    ],
    "replay": [
        Position(
            "strict",
            {"replay": "refused", "replay_family": "alive", "replay_older": "refused", "replay_access_token": "alive"},
            {"ReplayPolicy": "allowed"},
        ),
        Position(
            "forgiving",
            {"replay": "new_token", "replay_lines": "both", "replay_late": "accepted", "replay_older": "accepted"},
            {"ReplayPolicy": "allowed"},
        ),
        Position(
            "newest_only",
            {"replay": "new_token", "replay_lines": "newest", "replay_family": "alive", "replay_late": "accepted"},
            {"ReplayPolicy": "allowed"},
        ),
        Position(
            "family_revoking",
            {"replay": "refused", "replay_family": "killed", "code_twice_kills": "no", "simultaneous": "one_kills"},
            {"ReplayPolicy": "never"},
            open="replay_older",
        ),
    ],
    "racy": [
        Position(False, {"simultaneous": "one"}),
        Position(True, {"simultaneous": "both", "replay": "refused"}),
    ],
    # The width of the door that `racy` opens, for tests to get through: a server has no such setting.
    "race_window": [Position(0.2, {"simultaneous": "both"}, beside={"racy": True})],
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
        Position(
            "enforced",
            {"pkce": "enforced", "pkce_wrong_verifier": "refused", "pkce_missing_verifier": "refused"},
            {"Pkce": "enabled"},
        ),
        Position(
            "ignored",
            {"pkce": "ignored", "pkce_wrong_verifier": "accepted", "pkce_missing_verifier": "accepted"},
            {"Pkce": "disabled"},
        ),
        Position("dropped", {"pkce": "dropped"}, {"Pkce": "disabled"}, open="pkce_wrong_verifier"),
    ],
    "cancel": [Position("access_denied", {"cancel": "access_denied"}), Position("stranded", {"cancel": "stranded"})],
    "session_state": [
        Position(False, {"callback_parameters": ["scope"]}),
        Position(True, {"callback_parameters": ["scope", "session_state"]}),
    ],
    "iss": [
        Position(None, {"iss": "absent"}, {"Issuer": None}),
        Position(STAND_IN_ISSUER, {"iss": STAND_IN_ISSUER}, {"Issuer": STAND_IN_ISSUER}),
    ],
    "rate_limit": [
        Position(True, {"rate_limit": 20}, {"RefreshesPerMinute": "15"}, options=RATE),
        Position(False, {"rate_limit": "none_seen"}, {"RefreshesPerMinute": None}, options=RATE),
    ],
    "requests_per_minute": [
        Position(None, {"rate_limit": 20}, {"RefreshesPerMinute": "15"}, beside=LIMITED, options=RATE),
        Position(7, {"rate_limit": 7}, {"RefreshesPerMinute": "5"}, beside=LIMITED, options=RATE),
        Position(100, {"rate_limit": 100}, {"RefreshesPerMinute": "75"}, beside=LIMITED, options=RATE),
    ],
    "rate_limit_counts_token": [
        Position(True, {"rate_limit": 20}, beside=LIMITED, options=RATE),
        Position(False, {"rate_limit": "none_seen"}, beside=LIMITED, options=RATE | {"pace": 15}),
    ],
    "retry_after": [
        Position(position, {"retry_after": position}, beside=LIMITED | {"requests_per_minute": 5}, options=RATE)
        for position in ("none", "seconds", "date")
    ],
    "unauthorized": [
        Position("gateway", {"unauthorized": "HTTP 401"}),
        Position("status_false", {"unauthorized": "HTTP 200"}),
    ],
}


def choices_of(kind: Any) -> set[Any]:
    """The positions of a switch that has only so many, and null where it may be that."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    found: set[Any] = set()
    for option in options:
        if get_origin(option) is Literal:
            found |= set(get_args(option))
        elif option is bool:
            found |= {False, True}
        elif option is type(None):
            found.add(None)
    return found


def test_every_switch_of_the_simulator_has_its_finding() -> None:
    assert set(POSITIONS) == {one.name for one in fields(Settings)}


@pytest.mark.parametrize("switch", sorted(POSITIONS))
def test_every_position_of_a_switch_has_a_finding_of_its_own(switch: str) -> None:
    covered = POSITIONS[switch]
    assert choices_of(get_type_hints(Settings)[switch]) <= {position.value for position in covered}
    for one, other in itertools.combinations(covered, 2):
        assert (one.found, one.follows, one.open) != (other.found, other.follows, other.open)


@pytest.mark.parametrize(
    ("switch", "position"),
    [
        pytest.param(switch, position, id=f"{switch}-{position.value}")
        for switch, positions in POSITIONS.items()
        for position in positions
    ],
)
def test_the_probe_finds_the_position_out(runs: Runs, switch: str, position: Position) -> None:
    run = runs(position.beside | {switch: position.value}, **position.options)
    for name, expected in position.found.items():
        finding, _, member = name.partition(".")
        value = run.value(finding)
        assert (value[member] if member else value) == expected, name
    for name, value in position.follows.items():
        assert run.parameter(name) == value, name
    if position.open is not None:
        assert run.value(position.open) is None
        assert len(run.words(position.open)) > 20
    known = {one.name: one.name for one in run.report.parameters}
    parameters.check({one.name: one.value for one in run.report.parameters if one.value is not None}, known)
    assert run.value("surprises") == "none"
