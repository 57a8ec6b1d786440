"""Links, and the transactions that let a set wait, connect it, or drop it."""

from typing import Any

import pytest

from flowaccount_connect.domain.connection import Status
from flowaccount_connect.domain.ids import new_secret
from flowaccount_connect.rotation.pending_commits import (
    PendingCommit,
    PendingCommits,
    PendingOutcome,
    Target,
)
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import ConnectionStore, key_of, tenant_check
from flowaccount_connect.storage.dynamodb import ConditionRefused, call, s
from flowaccount_connect.storage.links import (
    CONFIRM_WITHIN,
    Act,
    Link,
    LinkStore,
    Refusal,
    TooMany,
    confirming,
    dropping,
    failing,
    keeping,
    link_from_item,
    refused_put,
)
from tests.contract.conftest import NOW, Table

TENANT = "tenant-7"


@pytest.fixture
def links(table: Table) -> LinkStore:
    return LinkStore(table.client, table.name, "sandbox")


@pytest.fixture
def link(links: LinkStore) -> Link:
    """A link that a callback has used up, as attempt a1."""
    made = links.create(tenant=TENANT, return_url="u", expires_at=NOW + 10)
    found = links.opened(made)
    assert found is not None
    used = links.consume(found.id, "a1", now=NOW)
    assert used is not None
    return used


def waiting(table: Table, attempt_id: str = "a1") -> Commit:
    """What waits for its confirmation."""
    return table.commit("g1", 0, attempt_id, "g1 tokens", tenant=TENANT)


def transact(table: Table, *writes: dict[str, Any]) -> None:
    call(table.client.transact_write_items, TransactItems=list(writes))


def keep(table: Table, link: Link, *, attempt_id: str = "a1", now: int = NOW) -> None:
    transact(
        table,
        {"ConditionCheck": tenant_check(table.name, table.connection_id, TENANT)},
        {"Update": keeping(table.name, link.id, waiting(table, attempt_id=attempt_id), now=now)},
    )


def confirm(table: Table, link: Link, *, tenant: str = TENANT, now: int = NOW) -> None:
    transact(
        table,
        {"Update": table.granting(tenant=tenant)},
        {"Update": confirming(table.name, link.id, tenant, grant_id="g1", now=now)},
    )


def stored(table: Table, link: Link) -> Link:
    key = {"pk": s(f"LINK#{link.id}"), "sk": s("LINK")}
    return link_from_item(table.client.get_item(TableName=table.name, Key=key, ConsistentRead=True)["Item"])


def test_a_link_is_used_up_once_in_time_and_in_its_environment(table: Table, links: LinkStore) -> None:
    made = links.create(
        tenant=TENANT, return_url="u", expected_connection="N1", app_state="\u0e01", expires_at=NOW + 10
    )
    link = links.opened(made)
    assert link is not None
    confirmation = link.confirmation(made)
    assert link == links.of_confirmation(confirmation)
    assert (link.tenant, link.expected_connection, link.app_state) == (TENANT, "N1", "\u0e01")
    assert links.of_confirmation(f"{confirmation}x") is None
    assert links.consume(link.id, "a1", now=NOW + 10) is None
    assert LinkStore(table.client, table.name, "production").consume(link.id, "a1", now=NOW) is None
    used = links.consume(link.id, "a1", now=NOW)
    assert used is not None
    assert (used.consumed_by, used.confirm_until) == ("a1", NOW + CONFIRM_WITHIN)
    assert links.consume(link.id, "a1", now=NOW) == used
    assert links.consume(link.id, "a2", now=NOW) is None


def test_a_link_that_is_gone_is_not_made_by_using_it_up(links: LinkStore) -> None:
    assert links.consume("gone", "a1", now=NOW) is None
    assert links.of_confirmation("gone.x") is None


def test_a_set_is_kept_once_by_its_own_callback_and_in_time(table: Table, link: Link) -> None:
    for attempt_id, now in (("a2", NOW), ("a1", NOW + CONFIRM_WITHIN)):
        with pytest.raises(ConditionRefused) as caught:
            keep(table, link, attempt_id=attempt_id, now=now)
        nothing, there = caught.value.items
        assert nothing is None
        assert there is not None
        assert link_from_item(there) == link
    keep(table, link)
    assert stored(table, link).waiting == waiting(table)
    with pytest.raises(ConditionRefused) as caught:
        keep(table, link)
    there = caught.value.items[1]
    assert there is not None
    assert link_from_item(there).kept_for("a1")
    assert not link_from_item(there).kept_for("a2")
    with pytest.raises(ConditionRefused):
        call(table.client.update_item, **failing(table.name, link.id, "a1", "temporarily_unavailable", now=NOW))
    assert ConnectionStore(table.client, table.name).get(table.connection_id) is None


def test_a_business_of_another_tenant_keeps_nothing(table: Table, link: Link) -> None:
    transact(table, {"Update": table.granting("g0", tenant="tenant-8")})
    with pytest.raises(ConditionRefused) as caught:
        keep(table, link)
    connection, nothing = caught.value.items
    assert connection is not None
    assert connection["tenant"] == s("tenant-8")
    assert nothing is None
    assert stored(table, link) == link


@pytest.mark.parametrize("tenant", [TENANT, None])
def test_a_business_of_the_same_tenant_or_of_nobody_is_welcome(table: Table, link: Link, tenant: str | None) -> None:
    transact(table, {"Update": table.granting("g0", tenant=tenant)})
    keep(table, link)
    confirm(table, link)
    connection = table.connection()
    assert (connection.tenant, connection.generation, connection.grant_id) == (TENANT, 2, "g1")


def test_a_confirmation_connects_and_empties_the_link_in_one(table: Table, link: Link) -> None:
    keep(table, link)
    for tenant, now in (("tenant-8", NOW), (TENANT, NOW + CONFIRM_WITHIN)):
        with pytest.raises(ConditionRefused):
            confirm(table, link, tenant=tenant, now=now)
        assert ConnectionStore(table.client, table.name).get(table.connection_id) is None
    confirm(table, link)
    connection = table.connection()
    assert (connection.status, connection.tenant, connection.generation) == (Status.ACTIVE, TENANT, 1)
    assert connection.sealed == waiting(table).tokens.sealed
    ended = stored(table, link)
    assert (ended.result, ended.waiting, ended.connection_id) == ("connected", None, table.connection_id)
    with pytest.raises(ConditionRefused) as caught:
        confirm(table, link)
    assert None not in caught.value.items


def test_a_business_that_is_anothers_by_now_is_not_taken_over(table: Table, link: Link) -> None:
    keep(table, link)
    transact(table, {"Update": table.granting("g0", tenant="tenant-8")})
    with pytest.raises(ConditionRefused) as caught:
        confirm(table, link)
    connection, nothing = caught.value.items
    assert connection is not None
    assert nothing is None
    assert stored(table, link).waiting is not None


def test_a_consent_without_a_tenant_leaves_it(table: Table) -> None:
    transact(table, {"Update": table.granting(tenant=TENANT)})
    transact(table, {"Update": table.granting("g2", tenant=None)})
    connection = table.connection()
    assert (connection.tenant, connection.generation) == (TENANT, 2)


def test_what_waits_is_dropped_with_its_event_once(table: Table, link: Link) -> None:
    keep(table, link)
    writes: list[dict[str, Any]] = [
        {"Update": dropping(table.name, link.id, "tenant_mismatch", now=NOW)},
        {"Put": refused_put(table.name, table.connection_id, Refusal.TENANT_MISMATCH, link, lambda: NOW)},
    ]
    transact(table, *writes)
    ended = stored(table, link)
    assert (ended.result, ended.waiting) == ("tenant_mismatch", None)
    key = {name: writes[1]["Put"]["Item"][name] for name in ("pk", "sk")}
    event = table.client.get_item(TableName=table.name, Key=key, ConsistentRead=True)["Item"]
    assert (event["reason"], event["tenant"]) == (s("tenant_mismatch"), s(TENANT))
    with pytest.raises(ConditionRefused):
        transact(table, *writes)
    with pytest.raises(ConditionRefused):
        confirm(table, link)
    assert "Item" not in table.client.get_item(TableName=table.name, Key=key_of(table.connection_id))


def pending(table: Table, link_id: str) -> str:
    return PendingCommit(target=Target.LINK, commit=waiting(table), link_id=link_id).to_json()


def test_a_pending_commit_waits_like_any_other_or_is_too_late(table: Table, link: Link) -> None:
    sent, salvage = pending(table, link.id), PendingCommits(table.client, table.name)
    assert salvage.apply(sent, now=NOW + CONFIRM_WITHIN) == (PendingOutcome.TOO_LATE, table.connection_id)
    assert salvage.apply(sent, now=NOW + 1) == (PendingOutcome.APPLIED, table.connection_id)
    assert stored(table, link).waiting == waiting(table)
    assert salvage.apply(sent, now=NOW + 1) == (PendingOutcome.APPLIED_BEFORE, table.connection_id)
    assert salvage.apply(pending(table, "gone"), now=NOW) == (PendingOutcome.UNKNOWN, table.connection_id)


def test_what_a_tenant_does_is_counted_by_the_minute_and_by_the_act(links: LinkStore) -> None:
    tenant, minute = f"tenant-{new_secret()}", NOW - NOW % 60
    for at in (minute, minute + 59):
        links.count(tenant, Act.LINKS, limit=2, now=at)
    for at, left in ((minute, 60), (minute + 59, 1)):
        with pytest.raises(TooMany) as caught:
            links.count(tenant, Act.LINKS, limit=2, now=at)
        assert caught.value.retry_after == left
    links.count(tenant, Act.EXCHANGES, limit=2, now=minute)
    links.count(f"{tenant}'s neighbour", Act.LINKS, limit=2, now=minute)
    links.count(tenant, Act.LINKS, limit=2, now=minute + 60)


def test_a_link_keeps_the_grant_that_it_connected(table: Table, link: Link) -> None:
    keep(table, link)
    assert stored(table, link).grant_id == "g1"
    call(table.client.update_item, **confirming(table.name, link.id, TENANT, grant_id="g2", now=NOW))
    there = stored(table, link)
    assert (there.result, there.grant_id, there.waiting) == ("connected", "g2", None)
