"""Commits that the table did not take: carried as ciphertext, applied late, twice and in any order without harm."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowaccount_connect.domain.connection import Sealed
from flowaccount_connect.rotation.pending_commits import (
    MalformedMessage,
    PendingCommit,
    PendingCommits,
    PendingOutcome,
    PendingQueue,
    Target,
)
from flowaccount_connect.rotation.writes import QueueUnavailable
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.stored_tokens import StoredTokens
from tests.support.commits import commit_of
from tests.unit.fakes import CONNECTION, GRANT, NOW, FakeSqs
from tests.unit.tables import Fault, Table, client_error

OLDER, LATER = "0198b5a0-0000", "0198b5a0-9999"


def rotated(name: str = "2") -> StoredTokens:
    return StoredTokens(
        sealed=Sealed(f"\x01ciphertext-{name}\xff".encode("latin-1"), b"key\x00"),
        requested_at=NOW,
        access_expires_at=NOW + 86_400,
        deadline=NOW + 86_401,
        refresh_at=NOW + 21_600,
    )


def rotation(generation: int = 1, grant_id: str = GRANT) -> str:
    commit = commit_of(CONNECTION, grant_id, generation, "attempt-1", rotated())
    return PendingCommit(target=Target.CONNECTION, commit=commit).to_json()


def consent(grant_id: str = GRANT, name: str = "2") -> str:
    commit = commit_of(CONNECTION, grant_id, 0, f"attempt-{name}", rotated(name))
    return PendingCommit(target=Target.CONSENT, commit=commit).to_json()


@pytest.fixture
def table() -> Table:
    table = Table()
    table.put("CONNECTION", CONNECTION, status="active", grant_id=GRANT, generation=1, tokens=b"old", data_key=b"k")
    return table


def apply(table: Table, text: str) -> PendingOutcome:
    outcome, connection_id = PendingCommits(table, "table").apply(text, now=NOW + 500)
    assert connection_id == CONNECTION
    return outcome


def test_a_rotation_arrives_as_it_was_sent(table: Table) -> None:
    assert apply(table, rotation()) is PendingOutcome.APPLIED
    item = table.item("CONNECTION", CONNECTION)
    assert (item["tokens"], item["data_key"]) == (rotated().sealed.ciphertext, rotated().sealed.data_key)
    assert (item["requested_at"], item["access_expires_at"]) == (NOW, NOW + 86_400)
    assert (item["deadline"], item["refresh_at"]) == (NOW + 86_401, NOW + 21_600)
    assert (item["generation"], item["committed_by"]) == (2, "attempt-1")


def test_a_consent_arrives_as_it_was_sent_where_nothing_was_before() -> None:
    table = Table()
    assert apply(table, consent()) is PendingOutcome.APPLIED
    item = table.item("CONNECTION", CONNECTION)
    assert (item["grant_id"], item["generation"], item["environment"]) == (GRANT, 1, "sandbox")
    assert item["tokens"] == rotated().sealed.ciphertext


@pytest.mark.parametrize(
    "text",
    [rotation(0), rotation(2), rotation(grant_id=OLDER), rotation(grant_id=LATER), consent(OLDER), consent(GRANT)],
)
def test_a_set_that_comes_too_late_is_dropped(table: Table, text: str) -> None:
    before = table.item("CONNECTION", CONNECTION)
    assert apply(table, text) is PendingOutcome.TOO_LATE
    assert table.item("CONNECTION", CONNECTION) == before


def test_what_was_disconnected_stays_so(table: Table) -> None:
    table.put("CONNECTION", CONNECTION, status="disconnected", grant_id=GRANT, generation=2)
    for text in (rotation(1), consent(GRANT), consent(OLDER)):
        assert apply(table, text) is PendingOutcome.TOO_LATE
    assert table.item("CONNECTION", CONNECTION)["status"] == "disconnected"


@given(st.permutations([consent(OLDER, "a"), consent(GRANT, "b"), consent(LATER, "c")] * 2))
def test_in_any_order_the_latest_consent_stands(texts: list[str]) -> None:
    table = Table()
    for text in texts:
        apply(table, text)
    item = table.item("CONNECTION", CONNECTION)
    assert (item["grant_id"], item["tokens"]) == (LATER, rotated("c").sealed.ciphertext)


def test_a_table_that_stays_away_is_tried_again_later(table: Table) -> None:
    table.faults["update_item"] = [Fault(client_error("InternalServerError"))] * 2
    for text in (rotation(), consent(LATER)):
        with pytest.raises(StoreUnavailable):
            apply(table, text)


def malformed() -> list[Any]:
    good: dict[str, Any] = json.loads(rotation())
    set_ = good["tokens"]
    without = [{k: v for k, v in good.items() if k != name} for name in good]
    times = ("requested_at", "access_expires_at", "deadline", "refresh_at")
    return [
        "",
        "CANARY",
        "null",
        "[]",
        "7",
        '"CANARY"',
        "[" * 100_000,
        *map(json.dumps, without),
        json.dumps(good | {"target": "CANARY"}),
        json.dumps(good | {"generation": "CANARY"}),
        json.dumps(good | {"generation": None}),
        json.dumps(good | {"generation": float("inf")}),
        json.dumps(good | {"tokens": "CANARY"}),
        json.dumps(good | {"tokens": set_ | {"tokens": "CANARY!"}}),
        json.dumps(good | {"tokens": set_ | {"tokens": 7}}),
        json.dumps(good | {"tokens": set_ | {"data_key": "\u0e01"}}),
        *(json.dumps(good | {"tokens": set_ | {time: "CANARY"}}) for time in times),
    ]


@pytest.mark.parametrize("text", malformed(), ids=range(len(malformed())))
def test_a_message_that_is_none_of_ours_is_told_and_not_quoted(table: Table, text: str) -> None:
    before = repr(table.items)
    with pytest.raises(MalformedMessage) as caught:
        apply(table, text)
    assert "CANARY" not in str(caught.value)
    assert repr(table.items) == before


def test_a_queue_that_takes_nothing_is_told_by_its_code() -> None:
    queue = PendingQueue(FakeSqs(error=client_error("OverLimit")), "url")
    with pytest.raises(QueueUnavailable, match=r"^OverLimit$"):
        queue.send(PendingCommit.from_json(rotation()))
