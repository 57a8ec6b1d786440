"""What waits to be told to people: counted once, told by one, and never forgotten."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from flowaccount_connect.notifying.notices import GATHER, QUIET, SAMPLE, Notices
from tests.contract.conftest import Table

NOW = 1_800_000_000

# The model of rotation knows no sets.
pytestmark = pytest.mark.parametrize("engine", ["ministack", "dynamodb_local"], indirect=True)


@dataclass
class Clock:
    """A clock that a test sets."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def made(table: Table) -> tuple[Notices, Clock, str]:
    """Notices with a kind that no other test uses."""
    clock = Clock()
    return Notices(table.client, table.name, clock=clock), clock, f"kind-{table.connection_id}"


def test_what_comes_twice_counts_once_and_only_the_first_is_first(made: tuple[Notices, Clock, str]) -> None:
    store, clock, kind = made
    assert store.note(kind, ["N2"]) == (True, NOW + GATHER)
    clock.now += 5
    assert store.note(kind, ["N1", "N2"]) == (False, NOW + 5 + GATHER)
    waiting = store.get(kind)
    assert (waiting.subjects, waiting.more, waiting.quiet_until) == (["N1", "N2"], 0, 0)


def test_who_finds_only_what_it_wrote_itself_is_the_first(made: tuple[Notices, Clock, str]) -> None:
    """The SDK repeats a write whose answer was lost, and nobody sees it."""
    store, _, kind = made
    assert store.note(kind, ["N1"])[0]
    assert store.note(kind, ["N1"])[0]
    assert not store.note(kind, ["N2"])[0]


def test_one_of_many_tells(made: tuple[Notices, Clock, str]) -> None:
    store, clock, kind = made
    store.note(kind, ["N1"])
    seen = store.get(kind)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _: store.claim(kind, seen), range(8)))
    assert sorted(claims) == [False] * 7 + [True]
    assert store.get(kind).subjects == ["N1"], "who dies now loses nothing"
    store.note(kind, ["N2"])
    left = store.mark_sent(kind, seen)
    assert (left.subjects, left.quiet_until) == (["N2"], NOW + QUIET)
    clock.now += 10
    assert store.note(kind, ["N3"]) == (False, NOW + QUIET)
    again = store.get(kind)
    clock.now = NOW + QUIET
    assert not store.claim(kind, seen)
    assert store.claim(kind, again)
    assert store.mark_sent(kind, again).subjects == []
    assert store.note(kind, ["N1"])[0], "nothing waits, so it is the first again"


def test_beyond_a_sample_it_counts(made: tuple[Notices, Clock, str]) -> None:
    store, _, kind = made
    for number in range(SAMPLE + 7):
        store.note(kind, [f"N{number:03}"])
    waiting = store.get(kind)
    assert (len(waiting.subjects), waiting.more) == (SAMPLE, 7)
    store.claim(kind, waiting)
    store.note(kind, ["N999"])
    left = store.mark_sent(kind, waiting)
    # What came while it was told is counted, and told the next time.
    assert (len(left.subjects), left.more) == (0, 1)
    assert not store.note(kind, ["N1"])[0]
    rest = store.get(kind)
    store.claim(kind, rest)
    assert store.mark_sent(kind, rest).count == 0


def test_what_was_only_counted_is_told_too(made: tuple[Notices, Clock, str]) -> None:
    store, clock, kind = made
    for number in range(SAMPLE):
        store.note(kind, [f"N{number:03}"])
    seen = store.get(kind)
    store.claim(kind, seen)
    store.note(kind, ["N999"])
    left = store.mark_sent(kind, seen)
    assert (left.subjects, left.more) == ([], 1)
    clock.now += QUIET
    assert store.claim(kind, left)
    assert store.mark_sent(kind, left).count == 0
