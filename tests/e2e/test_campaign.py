"""The campaign's short run on a stack of its own, and its accounting, which must not believe everything."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from tools.campaign.accounting import Account, Fate, account, history
from tools.campaign.evidence import Dead, Evidence, Finish, Kill, Open, Reconnect, Request, Token
from tools.local.places import ROOT

STATE = ".local/test-campaign"


def test_a_short_campaign_explains_every_token_and_notices_one_that_is_taken_away() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.campaign", "--short"],
        cwd=ROOT,
        env=os.environ | {"FLOWACCOUNT_CONNECT_STATE": STATE},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((ROOT / STATE / "report.json").read_text())
    assert report["clean"]
    assert report["sabotage_noticed"]
    assert report["kills"] > report["dropped_answers"]
    assert report["kills"] + report["dropped_answers"] >= 6
    assert report["tokens"]["unexplained"] == 0
    assert report["seeds"][0]["wrongly_declared_dead"] == 0


def token(name: str, at: float, *, by: str | None = None, rotated: bool = False, works: bool = True) -> Token:
    return Token(fingerprint=name, business="N1", issued_at=at, issued_by=by, rotated=rotated, works=works)


def request(number: int, at: float, presented: str, issued: str | None, *faults: str, gone: bool = False) -> Request:
    return Request(
        number=number,
        at=at,
        grant="refresh_token",
        business="N1",
        fingerprint=presented,
        outcome="issued" if issued else "invalid_grant: spent",
        faults=faults,
        issued=(issued,) if issued else (),
        delivered=not faults,
        receiver_gone=gone,
    )


def finish(at: float, outcome: str, attempt: str = "x") -> Finish:
    return Finish(at=at, business="N1", attempt=attempt, outcome=outcome, exchange=0.01, alone=True)


REFUSED = [finish(110.02, "refused", "y"), finish(720.02, "reauthorization_required", "z")]


def lost_on_the_way(*faults: str) -> Evidence:
    """A was spent for B; B never arrived; A was sent twice again and refused, ten minutes apart."""
    return Evidence(
        tokens=[token("A", 50, rotated=True, works=False), token("B", 100, by="A")],
        requests=[request(1, 100, "A", "B", *faults), request(2, 110, "A", None), request(3, 720, "A", None)],
        finishes=[*REFUSED],
        dead=[Dead(business="N1", at=721, reason="rotation_lost", stored="A", works=False)],
        stored={"N1": "A"},
    )


def killed() -> Evidence:
    """The same, since the worker was killed: its attempt was found open."""
    evidence = lost_on_the_way()
    evidence.kills = [Kill(at=100.1, pid=7, aim="test", held=1)]
    evidence.opens = [Open(business="N1", attempt="x", started_at=99, seen_at=101)]
    return evidence


def fates(found: Account) -> dict[str, str]:
    return {name: fate.name for name, fate in found.fates.items()}


def test_an_answer_that_was_dropped_explains_its_token() -> None:
    evidence = lost_on_the_way("lose_answer")
    evidence.finishes.insert(0, finish(100.02, "in_doubt"))
    found = account(evidence)
    assert fates(found) == {"A": "SPENT", "B": "DROPPED"}
    assert found.clean


def test_a_killed_receiver_explains_its_token() -> None:
    found = account(killed())
    assert fates(found) == {"A": "SPENT", "B": "KILLED"}
    assert found.clean
    assert found.delivered_to_the_dead == 1


def test_what_was_stored_and_what_replaced_it_are_explained() -> None:
    evidence = Evidence(
        tokens=[token("A", 50), token("B", 60)],
        reconnects=[Reconnect(business="N1", start=59, end=61, before="A")],
        stored={"N1": "B"},
    )
    assert fates(account(evidence)) == {"A": "SUPERSEDED", "B": "STORED"}


@pytest.mark.parametrize(
    "change",
    [
        {"kills": []},
        {"kills": [Kill(at=99.0, pid=7, aim="before the request came", held=1)]},
        {"kills": [Kill(at=130.0, pid=7, aim="long after its attempt was over", held=1)]},
        {"kills": [Kill(at=100.1, pid=7, aim="a worker with nothing in its hands", held=0)]},
        {"opens": []},
        {"finishes": [finish(100.02, "in_doubt"), *REFUSED], "opens": []},
        {"finishes": [finish(100.02, "refreshed"), *REFUSED], "opens": []},
    ],
)
def test_a_kill_is_no_excuse_unless_it_ended_that_very_attempt(change: dict[str, list[object]]) -> None:
    evidence = killed()
    for name, value in change.items():
        setattr(evidence, name, value)
    found = account(evidence)
    assert fates(found)["B"] == "UNEXPLAINED"
    assert not found.clean
    assert any("issued B for A: unexplained" in line for line in history(evidence, "N1", found.fates))


def test_an_attempt_that_ended_in_the_second_in_which_another_one_began_is_not_taken_for_it() -> None:
    evidence = killed()
    evidence.requests.insert(0, request(0, 99.2, "A", None, "lose_answer"))
    evidence.finishes.insert(0, finish(99.25, "in_doubt", "w"))
    assert account(evidence).clean


def test_a_kill_excuses_no_more_than_the_worker_had_in_its_hands() -> None:
    one, evidence = killed(), killed()
    evidence.tokens += [replace(t, fingerprint=t.fingerprint + "2", business="N2") for t in one.tokens]
    evidence.requests += [
        replace(r, number=r.number + 10, business="N2", fingerprint="A2", issued=tuple(i + "2" for i in r.issued))
        for r in one.requests
    ]
    evidence.opens += [replace(o, business="N2") for o in one.opens]
    evidence.finishes += [replace(f, business="N2") for f in one.finishes]
    evidence.dead += [replace(d, business="N2", stored="A2") for d in one.dead]
    evidence.stored["N2"] = "A2"
    assert account(evidence).count(Fate.UNEXPLAINED) == 1
    evidence.kills = [replace(evidence.kills[0], held=2)]
    assert account(evidence).clean


def test_a_connection_declared_dead_while_its_token_works_is_a_breach() -> None:
    evidence = killed()
    evidence.dead = [replace(evidence.dead[0], works=True)]
    found = account(evidence)
    assert found.wrongly_dead == 1
    assert not found.clean


def test_a_connection_that_lost_its_token_without_a_doubt_is_a_breach() -> None:
    evidence = killed()
    evidence.dead = [replace(evidence.dead[0], reason="rejected")]
    assert not account(evidence).clean


def test_a_connection_declared_dead_after_one_refusal_is_a_breach() -> None:
    evidence = killed()
    del evidence.requests[1], evidence.finishes[0]
    assert account(evidence).breaches == ["N1: declared dead (rotation_lost) after 1 refusals of A"]


def test_a_made_up_token_is_nobody_s_and_may_be_sent_twice_at_once() -> None:
    evidence = killed()
    evidence.requests += [replace(evidence.requests[1], number=n, business="", fingerprint="M") for n in (8, 9)]
    assert account(evidence).clean


def test_an_exception_that_nobody_expected_is_a_breach() -> None:
    evidence = killed()
    evidence.exceptions = [("N1", "KeyError")]
    assert not account(evidence).clean


def test_one_token_in_the_air_twice_is_a_breach() -> None:
    evidence = killed()
    evidence.requests[1] = replace(evidence.requests[1], at=100.5)
    evidence.finishes[0] = finish(100.52, "refused", "y")
    found = account(evidence)
    assert any("in the air twice" in breach for breach in found.breaches)


def test_a_token_that_is_sent_again_after_a_verdict_is_a_breach() -> None:
    evidence = lost_on_the_way("lose_answer")
    evidence.finishes.insert(0, finish(100.02, "refreshed"))
    found = account(evidence)
    assert any("sent again after refreshed" in breach for breach in found.breaches)


def test_an_active_connection_with_a_spent_token_is_a_breach() -> None:
    evidence = Evidence(
        tokens=[token("A", 50, rotated=True, works=False), token("B", 100, by="A")],
        requests=[request(1, 100, "A", "B")],
        finishes=[finish(100.02, "refreshed")],
        stored={"N1": "A"},
    )
    found = account(evidence)
    assert fates(found) == {"A": "SPENT", "B": "UNEXPLAINED"}
    assert any("does not work" in breach for breach in found.breaches)
