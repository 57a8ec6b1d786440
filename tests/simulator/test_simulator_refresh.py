"""Refresh tokens: one use each, a day from the last token request, and every replay policy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.simulator.driver import CALLBACK, DAY, Driver
from tools.simulator.clients import Client
from tools.simulator.clock import Clock
from tools.simulator.ledger import Ledger
from tools.simulator.settings import Settings

REFUSED = {"error": "invalid_grant"}


def at_once(sim: Driver, token: str, times: int = 8) -> list[dict[str, Any]]:
    """The answers to as many refreshes with one token at the same moment, those with tokens first."""
    with ThreadPoolExecutor(times) as pool:
        answers = list(pool.map(lambda _: sim.refresh(token), range(times)))
    return sorted(answers, key=lambda answer: "error" in answer)


def test_every_refresh_issues_a_new_token_and_spends_the_old_one_alone(sim: Driver) -> None:
    first = sim.consent()
    answer = sim.refresh(first)
    assert answer["supportCode"] == "N1000001"
    assert answer["refresh_token"] != first
    assert sim.refresh(first) == REFUSED
    assert sim.works(answer["refresh_token"])


def test_a_strict_server_lets_one_of_simultaneous_refreshes_through(sim: Driver) -> None:
    for _ in range(5):
        answers = at_once(sim, sim.consent())
        assert sum("access_token" in answer for answer in answers) == 1


@pytest.mark.parametrize(("racy", "second"), [(False, "spent"), (True, None)])
def test_a_token_looked_up_twice_is_spent_once_unless_racy(racy: bool, second: str | None) -> None:
    ledger, settings = Ledger(Clock()), Settings(racy=racy)
    client = Client("c", "s", ())
    consent = ledger.open_consent("c", "N1", "flowaccount-api offline_access")
    ledger.record_tokens(consent, None, "access", "refresh", settings)
    entries = [ledger.look_up_refresh_token("refresh", client, settings) for _ in range(2)]
    assert [refusal for _, refusal in entries] == [None, None]
    entry = entries[0][0]
    assert entry is not None
    assert [ledger.spend(entry, settings) for _ in range(2)] == [None, second]


def test_a_refresh_token_lives_a_day_from_the_last_token_request(sim: Driver) -> None:
    token = sim.consent()
    for _ in range(3):
        sim.advance(DAY - 60)
        token = sim.refresh(token)["refresh_token"]
    sim.advance(DAY)
    assert sim.refresh(token) == REFUSED
    assert sim.ledger()[-1]["last_refusal"] == "expired"


def test_an_absolute_cap_ends_the_family(sim: Driver) -> None:
    sim.set(refresh_absolute_lifetime=2 * DAY)
    token = sim.consent()
    for _ in range(2):
        sim.advance(DAY - 60)
        token = sim.refresh(token)["refresh_token"]
    sim.advance(120)
    assert sim.refresh(token) == REFUSED


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"client_id": "other", "client_secret": "x"}, "invalid_grant"),
        ({"scope": "flowaccount-api profile"}, "invalid_scope"),
    ],
)
def test_what_is_wrong_beside_the_token_never_spends_it(sim: Driver, wrong: dict[str, str], error: str) -> None:
    sim.client("x", CALLBACK, client_id="other")
    token = sim.consent()
    assert sim.refresh(token, **wrong) == {"error": error}
    assert sim.works(token)


def test_a_code_and_an_access_token_are_no_refresh_tokens(sim: Driver) -> None:
    code = sim.code()
    assert sim.refresh(code) == REFUSED
    answer = sim.exchange(code)
    assert sim.refresh(answer["access_token"]) == REFUSED


def test_a_changed_secret_is_the_only_one_that_works(sim: Driver) -> None:
    sim.client("new")
    token = sim.consent()
    assert sim.refresh(token) == {"error": "invalid_client"}
    assert "access_token" in sim.refresh(token, client_secret="new")


def test_forgiving_each_reuse_succeeds_and_all_lines_go_on(sim: Driver) -> None:
    sim.set(replay="forgiving")
    first = sim.consent()
    one, two = (sim.refresh(first)["refresh_token"] for _ in range(2))
    assert one != two
    for line in (one, two):
        assert sim.works(sim.refresh(line)["refresh_token"])
    assert sim.works(first)


def test_forgiving_forgives_no_expiry(sim: Driver) -> None:
    sim.set(replay="forgiving")
    first = sim.consent()
    sim.refresh(first)
    sim.advance(DAY)
    assert sim.refresh(first) == REFUSED


def test_newest_only_keeps_the_last_one_issued(sim: Driver) -> None:
    sim.set(replay="newest_only")
    first = sim.consent()
    one, two = (sim.refresh(first)["refresh_token"] for _ in range(2))
    assert sim.refresh(one) == REFUSED
    assert sim.works(two)


def test_newest_only_lets_all_simultaneous_refreshes_through_and_one_answer_work(sim: Driver) -> None:
    sim.set(replay="newest_only")
    answers = at_once(sim, sim.consent(), 4)
    assert all("access_token" in answer for answer in answers)
    works = [entry["works"] for entry in sim.ledger() if entry["spent_at"] is None]
    assert sorted(works) == [False, False, False, True]


def test_family_revoking_a_replay_kills_every_refresh_token(sim: Driver) -> None:
    sim.set(replay="family_revoking")
    first, stranger = sim.consent(), sim.consent()
    answer = sim.refresh(first)
    assert sim.refresh(first) == REFUSED
    assert sim.refresh(answer["refresh_token"]) == REFUSED
    assert sim.company(answer["access_token"]).status_code == 200
    assert sim.works(stranger)


def test_family_revoking_simultaneous_refreshes_kill_the_family(sim: Driver) -> None:
    sim.set(replay="family_revoking")
    answers = at_once(sim, sim.consent(), 4)
    assert sum("access_token" in answer for answer in answers) == 1
    assert sim.refresh(answers[0]["refresh_token"]) == REFUSED


@pytest.mark.parametrize("replay", ["strict", "family_revoking"])
def test_racy_simultaneous_refreshes_all_succeed(sim: Driver, replay: str) -> None:
    sim.set(replay=replay, racy=True, race_window=0.5)
    token = sim.consent()
    answers = at_once(sim, token, 3)
    assert all("access_token" in answer for answer in answers)
    sim.set(race_window=0)
    assert sim.works(answers[1]["refresh_token"])
    # Later, the token is as spent as anywhere.
    assert sim.refresh(token) == REFUSED


def test_a_server_that_does_not_rotate_starts_the_day_anew(sim: Driver) -> None:
    sim.set(refresh_answer="no_token")
    token = sim.consent()
    for _ in range(3):
        sim.advance(DAY - 60)
        answer = sim.refresh(token)
        assert "access_token" in answer
        assert "refresh_token" not in answer
    sim.advance(DAY)
    assert sim.refresh(token) == REFUSED


def test_a_withdrawn_consent_ends_everything(sim: Driver) -> None:
    answer = sim.refresh(sim.consent("N7"))
    stranger = sim.consent("N8")
    assert sim.control("DELETE", "consents", {"business": "N7"}) == {"withdrawn": 1}
    assert sim.refresh(answer["refresh_token"]) == REFUSED
    assert sim.company(answer["access_token"]).status_code == 401
    assert sim.works(stranger)


def test_a_new_consent_leaves_the_older_one_alive(sim: Driver) -> None:
    older, newer = sim.consent(), sim.consent()
    assert sim.works(older)
    assert sim.works(newer)
