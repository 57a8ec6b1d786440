"""Connecting through a link: nothing becomes a connection unless the app confirms it for who is logged in there."""

import itertools
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from flowaccount_connect.connect.callback import Ended, Returned
from flowaccount_connect.connect.endings import Ending
from flowaccount_connect.domain.connection import Connection, Status
from flowaccount_connect.domain.errors import Failure
from flowaccount_connect.domain.ids import LONGEST_TENANT, fingerprint
from flowaccount_connect.http.problems import STATUS
from flowaccount_connect.oauth.token_answer import Answer, Outcome
from flowaccount_connect.rotation.pending_commits import PendingCommits, PendingOutcome
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.links import CONFIRM_WITHIN, KEPT, LinkStore
from tests.unit.fakes import CONNECTION, NOW, tokens
from tests.unit.tables import Fault, client_error
from tests.unit.worlds import BROWSER, STATE, TENANT, World

RETURN_URL = "https://app.example.com/done"
REDIRECT_URI = "https://api.example/live/callback"
OTHER_TAB = ("state-of-another-tab", "secret-of-another-tab")


@pytest.fixture
def world() -> World:
    made = World()
    made.endpoint.answers = [tokens()]
    return made


def come_back(
    world: World, link: str, *, state: str = STATE, secret: str = BROWSER, error: str | None = None, seconds: float = 28
) -> Ended:
    """The browser that opened `link` comes back from FlowAccount."""
    code = None if error else "the-code"
    returned = Returned(state=state, code=code, error=error, issuer=None, secret=f"{secret}.{link}")
    return world.callback().finish(returned, remaining=world.clock.remaining(seconds))


def came_back(world: World) -> tuple[str, str]:
    """A link whose browser came back, so that a set waits, and its confirmation."""
    link, confirmation = world.link()
    come_back(world, link)
    return link, confirmation


def confirmed(world: World, confirmation: str) -> Connection:
    """The connection that the app's confirmation makes, for the tenant that is logged in there."""
    made = world.confirmation().confirm(confirmation, TENANT)
    assert made.id == CONNECTION
    return made


def refused(world: World, confirmation: str, tenant: object = TENANT) -> tuple[int, str, object]:
    """Status, code and ending of a confirmation that is refused."""
    with pytest.raises(Failure) as caught:
        world.confirmation().confirm(confirmation, tenant)
    return STATUS[caught.value.code], caught.value.code, caught.value.facts.get("ending")


def connections(world: World) -> list[str]:
    return [pk for pk, sk in world.table.items if sk == "CONNECTION"]


def events(world: World) -> list[Mapping[str, Any]]:
    return [item for (_, sk), item in world.table.items.items() if sk == "EVENT"]


def link_item(world: World, link: str) -> Mapping[str, Any]:
    return world.table.item("LINK", fingerprint(link))


# The app's link -----------------------------------------------------------------------------------------------------


def make(world: World, **fields: object) -> tuple[str, str]:
    """A new link and its confirmation."""
    asked = {"tenant": TENANT, "return_url": RETURN_URL} | fields
    made = world.confirmation().make(**asked, redirect_uri=REDIRECT_URI + "?x=1")
    address, _, query = made.connect_url.partition("?")
    assert address == "https://api.example/live/authorize"
    assert made.expires_at == NOW + 3_600
    link = parse_qs(query)["link"][0]
    stored = world.links.opened(link)
    assert stored is not None
    return link, stored.confirmation(link)


def not_made(world: World, **fields: object) -> tuple[int, str]:
    """Status and code of a link that is not made, and of which nothing is stored."""
    with pytest.raises(Failure) as caught:
        make(world, **fields)
    assert world.table.items == {}
    return STATUS[caught.value.code], caught.value.code


def test_a_link_leads_to_authorize_beside_the_redirect_uri_and_is_stored_as_a_hash(world: World) -> None:
    link, confirmation = make(world, expected_connection=CONNECTION)
    item = link_item(world, link)
    assert (item["tenant"], item["return_url"], item["expected_connection"]) == (TENANT, RETURN_URL, CONNECTION)
    assert (item["expires_at"], item["ttl"]) == (NOW + 3_600, NOW + 3_600 + KEPT)
    assert link not in repr(world.table.items)
    assert confirmation not in repr(world.table.items)
    assert confirmation.partition(".")[2] not in repr(world.table.items)


def test_who_has_the_link_alone_does_not_have_the_confirmation(world: World) -> None:
    link, confirmation = make(world)
    assert link not in confirmation
    assert refused(world, link) == (404, "unknown_confirmation", None)
    for guess in (
        fingerprint(link),
        f"{fingerprint(link)}.{link}",
        f"{fingerprint(link)}.",
        f"{confirmation}x",
        "",
        ".",
    ):
        assert refused(world, guess) == (404, "unknown_confirmation", None)


@pytest.mark.parametrize("tenant", ["", "x" * (LONGEST_TENANT + 1), "a\nb", "\u202e", "\ud800", 7, None, ["a"]])
def test_a_tenant_that_is_none_is_refused(world: World, tenant: object) -> None:
    assert not_made(world, tenant=tenant) == (400, "invalid_tenant")
    assert refused(world, "any", tenant) == (400, "invalid_tenant", None)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"return_url": "https://evil.example/"}, "return_url_not_allowed"),
        ({"return_url": RETURN_URL + "/"}, "return_url_not_allowed"),
        ({"return_url": [RETURN_URL]}, "return_url_not_allowed"),
        ({"expected_connection": "../N1"}, "invalid_connection_id"),
        ({"app_state": "a\nb"}, "invalid_state"),
        ({"app_state": 7}, "invalid_state"),
    ],
)
def test_a_link_for_bad_input_is_not_made(world: World, fields: dict[str, object], code: str) -> None:
    assert not_made(world, **fields) == (400, code)


# From the callback to the confirmation -------------------------------------------------------------------------------


def test_what_comes_through_a_link_waits_and_is_a_connection_only_once_it_is_confirmed(world: World) -> None:
    link, confirmation = world.link()
    ended = come_back(world, link)
    assert (ended.ending, ended.connection_id, ended.confirmation) == (Ending.TO_BE_CONFIRMED, CONNECTION, confirmation)
    assert connections(world) == []
    assert "due_shard" not in link_item(world, link)
    assert "listed_as" not in link_item(world, link)
    world.clock.now += CONFIRM_WITHIN - 1
    confirmed(world, confirmation)
    there = world.connection()
    assert (there.status, there.generation, there.tenant) == (Status.ACTIVE, 1, TENANT)
    assert (there.requested_at, there.deadline) == (NOW, NOW + 86_400)
    assert world.opened() == ("access-2", "refresh-2")
    item = link_item(world, link)
    assert item["result"] == "connected"
    assert not {"tokens", "data_key"} & item.keys()


def test_a_confirmation_that_is_repeated_changes_nothing(world: World) -> None:
    _, confirmation = came_back(world)
    confirmed(world, confirmation)
    before = repr(world.table.items)
    confirmed(world, confirmation)
    assert repr(world.table.items) == before
    assert refused(world, confirmation, "tenant-8") == (409, "tenant_mismatch", "tenant_mismatch")
    assert repr(world.table.items) == before


def test_confirmations_at_the_same_moment_connect_once(world: World) -> None:
    _, confirmation = came_back(world)
    together = threading.Barrier(6)

    def run(_: int) -> str:
        together.wait()
        return confirmed(world, confirmation).id

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(run, range(6))) == [CONNECTION] * 6
    assert world.connection().generation == 1


def test_a_confirmation_whose_acknowledgement_was_lost_counts_once(world: World) -> None:
    _, confirmation = came_back(world)
    world.table.faults["transact_write_items"] = [Fault(TimeoutError(), written=True)]
    with pytest.raises(StoreUnavailable):
        confirmed(world, confirmation)
    confirmed(world, confirmation)
    assert world.connection().generation == 1


def test_the_victims_consent_under_the_attackers_tenant_is_dropped_and_announced(world: World) -> None:
    link, confirmation = world.link(tenant="the-attacker")
    come_back(world, link)
    assert refused(world, confirmation, "the-victim") == (409, "tenant_mismatch", "tenant_mismatch")
    assert connections(world) == []
    assert not {"tokens", "data_key"} & link_item(world, link).keys()
    (event,) = events(world)
    assert (event["type"], event["reason"]) == ("connection.refused", "tenant_mismatch")
    assert (event["connection_id"], event["tenant"]) == (CONNECTION, "the-attacker")
    # The attacker comes too late, whatever he knows.
    assert refused(world, confirmation, "the-attacker") == (409, "tenant_mismatch", "tenant_mismatch")
    assert len(events(world)) == 1


def test_the_attacker_never_learns_the_confirmation_of_the_browser_that_used_his_link_up(world: World) -> None:
    link, confirmation = world.link()
    state, secret = OTHER_TAB
    world.open(link, state=state, secret=secret)
    assert come_back(world, link).confirmation == confirmation
    for error in ("access_denied", None):
        ended = come_back(world, link, state=state, secret=secret, error=error)
        assert (ended.ending, ended.confirmation) == (Ending.ATTEMPT_USED, None)
    assert len(world.endpoint.posts) == 1


def test_two_tabs_of_one_link_lead_to_one_exchange(world: World) -> None:
    link, _ = world.link()
    tabs = [(f"state-{i}", f"secret-{i}") for i in range(6)]
    for state, secret in tabs:
        world.open(link, state=state, secret=secret)
    together = threading.Barrier(6)

    def run(tab: tuple[str, str]) -> Ending:
        together.wait()
        return come_back(world, link, state=tab[0], secret=tab[1]).ending

    with ThreadPoolExecutor(6) as pool:
        endings = sorted(pool.map(run, tabs))
    assert endings == sorted([Ending.TO_BE_CONFIRMED] + [Ending.ATTEMPT_USED] * 5)
    assert len(world.endpoint.posts) == 1


def test_a_reload_hands_the_confirmation_to_the_same_browser_and_exchanges_nothing(world: World) -> None:
    link, confirmation = came_back(world)
    before = repr(world.table.items)
    again = come_back(world, link)
    assert (again.ending, again.confirmation, again.note) == (Ending.TO_BE_CONFIRMED, confirmation, "reload")
    assert repr(world.table.items) == before
    assert len(world.endpoint.posts) == 1


def test_the_link_is_used_up_before_anything_is_sent(world: World) -> None:
    link, _ = world.link()
    steps: list[str] = []
    world.table.on_call = steps.append
    world.endpoint.on_post = lambda: steps.append("POST")
    come_back(world, link)
    assert steps == ["get_item", "get_item", "update_item", "update_item", "POST", "transact_write_items"]


def at_the_second_write(world: World, fault: Fault, times: int = 1) -> None:
    """Let the write that uses the link up fail; the first one consumes the attempt."""
    writes = itertools.count()

    def befall(operation: str) -> None:
        if operation == "update_item" and next(writes) == 1:
            world.table.faults[operation] = [fault] * times

    world.table.on_call = befall


def test_a_link_that_could_not_be_used_up_sends_nothing(world: World) -> None:
    link, _ = world.link()
    at_the_second_write(world, Fault(client_error("InternalServerError")), times=99)
    with pytest.raises(StoreUnavailable):
        come_back(world, link)
    assert world.endpoint.posts == []


@pytest.mark.parametrize("written", [False, True])
def test_using_a_link_up_is_repeated_until_it_is_acknowledged(world: World, written: bool) -> None:
    link, _ = world.link()
    at_the_second_write(world, Fault(client_error("InternalServerError"), written=written))
    assert come_back(world, link).ending is Ending.TO_BE_CONFIRMED
    assert len(world.endpoint.posts) == 1


@pytest.mark.parametrize(
    ("answer", "error", "ending"),
    [
        (None, "access_denied", "access_denied"),
        (None, "consent_required", "authorization_failed"),
        (Answer(Outcome.REJECTED, error="invalid_grant"), None, "code_rejected"),
        (Answer(Outcome.INCOMPLETE), None, "incomplete_grant"),
        (Answer(Outcome.IN_DOUBT), None, "temporarily_unavailable"),
    ],
)
def test_the_app_learns_how_it_ended_and_the_link_is_used_up(
    world: World, answer: Answer | None, error: str | None, ending: str
) -> None:
    link, confirmation = world.link()
    assert refused(world, confirmation) == (409, "not_finished", None)
    if answer is not None:
        world.endpoint.answers = [answer]
    ended = come_back(world, link, error=error)
    assert (ended.ending, ended.confirmation) == (ending, confirmation)
    assert refused(world, confirmation) == (409, "connect_failed", ending)
    assert connections(world) == []


def test_an_unconfirmed_set_is_dropped_in_time_and_never_becomes_a_connection(world: World) -> None:
    link, confirmation = came_back(world)
    assert link_item(world, link)["ttl"] == NOW + CONFIRM_WITHIN
    world.clock.now += CONFIRM_WITHIN
    assert refused(world, confirmation) == (409, "confirmation_expired", "confirmation_expired")
    assert "tokens" not in link_item(world, link)
    assert connections(world) == []
    world.clock.now = NOW
    assert refused(world, confirmation) == (409, "confirmation_expired", "confirmation_expired")


def test_the_time_to_confirm_is_in_the_condition_too(world: World) -> None:
    link, confirmation = came_back(world)

    def late(operation: str) -> None:
        if operation == "transact_write_items":
            world.table.quiet().model.update_item(
                TableName="table",
                Key={"pk": {"S": f"LINK#{fingerprint(link)}"}, "sk": {"S": "LINK"}},
                UpdateExpression="SET confirm_until = :past",
                ExpressionAttributeValues={":past": {"N": str(NOW)}},
            )

    world.table.on_call = late
    assert refused(world, confirmation) == (409, "confirmation_expired", "confirmation_expired")
    assert connections(world) == []


def test_a_user_who_never_comes_back_leaves_an_expired_confirmation(world: World) -> None:
    _, confirmation = world.link()
    world.clock.now += 3_600
    assert refused(world, confirmation) == (409, "confirmation_expired", "confirmation_expired")


def test_a_link_of_the_other_environment_is_unknown(world: World) -> None:
    link, confirmation = world.link()
    production = LinkStore(world.table, "table", "production")
    assert production.opened(link) is None
    assert production.of_confirmation(confirmation) is None
    assert production.consume(fingerprint(link), "attempt", now=NOW) is None
    assert "consumed_by" not in link_item(world, link)


# Businesses that must not be connected -------------------------------------------------------------------------------


def test_another_business_than_the_expected_one_is_refused_with_nothing_stored_but_the_event(world: World) -> None:
    link, confirmation = world.link(expected="N7")
    ended = come_back(world, link)
    assert (ended.ending, ended.connection_id) == (Ending.WRONG_BUSINESS, None)
    (event,) = events(world)
    assert (event["reason"], event["connection_id"], event["tenant"]) == ("other_business", CONNECTION, TENANT)
    assert not {"tokens", "data_key", "connection_id"} & link_item(world, link).keys()
    assert connections(world) == []
    assert refused(world, confirmation) == (409, "connect_failed", "wrong_business")
    assert come_back(world, link).ending is Ending.WRONG_BUSINESS
    assert len(events(world)) == 1


def test_the_expected_business_is_welcome(world: World) -> None:
    link, confirmation = world.link(expected=CONNECTION)
    assert come_back(world, link).ending is Ending.TO_BE_CONFIRMED
    confirmed(world, confirmation)


def test_tokens_that_meet_a_connection_that_nobody_understands_wait_for_its_repair(world: World) -> None:
    world.connect()
    world.change(tenant=7)
    link, _ = world.link()
    ended = come_back(world, link)
    assert (ended.ending, ended.note) == (Ending.TO_BE_CONFIRMED, "pending")
    assert len(world.sqs.sent) == 1


def test_a_business_of_another_tenant_is_refused_and_stays_as_it_is(world: World) -> None:
    world.connect()
    world.change(tenant="tenant-8")
    before = world.connection()
    link, confirmation = world.link()
    ended = come_back(world, link)
    assert (ended.ending, ended.note) == (Ending.WRONG_BUSINESS, "other_tenant")
    assert world.connection() == before
    (event,) = events(world)
    assert (event["reason"], event["tenant"]) == ("other_tenant", TENANT)
    assert "tokens" not in link_item(world, link)
    assert refused(world, confirmation) == (409, "connect_failed", "wrong_business")


def test_a_business_that_another_tenant_connected_meanwhile_is_refused_at_the_confirmation(world: World) -> None:
    link, confirmation = came_back(world)
    world.connect(age=0, grant_id="00000000-older")
    world.change(tenant="tenant-8")
    before = world.connection()
    assert refused(world, confirmation) == (409, "connect_failed", "wrong_business")
    assert world.connection() == before
    assert [event["reason"] for event in events(world)] == ["other_tenant"]
    assert "tokens" not in link_item(world, link)


def test_a_refusal_that_could_not_be_announced_stores_nothing_either(world: World) -> None:
    link, _ = world.link(expected="N7")
    world.table.faults["transact_write_items"] = [Fault(client_error("InternalServerError"))] * 99
    ended = come_back(world, link)
    assert (ended.ending, ended.note) == (Ending.WRONG_BUSINESS, "other_business, not announced")
    assert world.sqs.sent == []
    assert connections(world) == []


def test_a_refusal_written_unacknowledged_is_announced_once(world: World) -> None:
    link, _ = world.link(expected="N7")
    world.table.faults["transact_write_items"] = [Fault(TimeoutError(), written=True)]
    assert come_back(world, link).ending is Ending.WRONG_BUSINESS
    assert len(events(world)) == 1


def test_a_business_that_was_disconnected_is_free_again(world: World) -> None:
    world.connect(grant_id="00000000-older")
    world.change(tenant="tenant-8")
    world.disconnect()
    _, confirmation = came_back(world)
    confirmed(world, confirmation)
    assert (world.connection().tenant, world.connection().generation) == (TENANT, 3)


# Reconnecting --------------------------------------------------------------------------------------------------------


def test_confirming_beats_a_refresh_in_flight_and_revives_the_dead(world: World) -> None:
    world.connect(grant_id="00000000-older")
    world.change(tenant=TENANT)
    world.hold()
    link, confirmation = world.link(expected=CONNECTION)
    come_back(world, link)
    assert world.connection().generation == 1
    world.end("rejected")
    confirmed(world, confirmation)
    there = world.connection()
    assert (there.status, there.generation, there.attempt, there.reason) == (Status.ACTIVE, 2, None, None)
    assert world.opened() == ("access-2", "refresh-2")


def test_a_later_consent_of_the_same_tenant_wins_and_the_app_sees_it_connected(world: World) -> None:
    link, confirmation = came_back(world)
    world.connect(age=0, grant_id="ffffffff-later")
    world.change(tenant=TENANT)
    before = world.connection()
    confirmed(world, confirmation)
    assert world.connection() == before
    assert "tokens" not in link_item(world, link)


def test_a_later_consent_without_a_tenant_is_not_taken_over(world: World) -> None:
    _, confirmation = came_back(world)
    world.connect(age=0, grant_id="ffffffff-later")
    before = world.connection()
    assert refused(world, confirmation) == (409, "connect_failed", "superseded")
    assert world.connection() == before
    assert events(world) == []


def test_connecting_without_a_link_leaves_a_business_with_its_tenant(world: World) -> None:
    world.connect(grant_id="00000000-older")
    world.change(tenant=TENANT)
    world.begin()
    returned = Returned(state=STATE, code="the-code", error=None, issuer=None, secret=BROWSER)
    ended = world.callback().finish(returned, remaining=world.clock.remaining(28))
    assert (ended.ending, ended.confirmation) == (Ending.CONNECTED, None)
    assert (world.connection().tenant, world.connection().generation) == (TENANT, 2)


# While the table stays away ------------------------------------------------------------------------------------------


def test_a_set_that_waits_for_the_app_waits_as_ciphertext_and_confirmed(world: World) -> None:
    link, confirmation = world.link()
    world.table.faults["transact_write_items"] = [Fault(client_error("InternalServerError"))] * 99
    ended = come_back(world, link)
    assert (ended.ending, ended.note) == (Ending.TO_BE_CONFIRMED, "pending")
    world.table.faults.clear()
    assert refused(world, confirmation) == (409, "not_finished", None)
    (message,) = [sent["MessageBody"] for sent in world.sqs.sent]
    for secret in ("access-2", "refresh-2", link, confirmation):
        assert secret not in message
    salvage = PendingCommits(world.table, "table")
    assert salvage.apply(message, now=NOW + 60) == (PendingOutcome.APPLIED, CONNECTION)
    assert salvage.apply(message, now=NOW + 61) == (PendingOutcome.APPLIED_BEFORE, CONNECTION)
    confirmed(world, confirmation)
    assert salvage.apply(message, now=NOW + 62) == (PendingOutcome.APPLIED_BEFORE, CONNECTION)
    assert world.opened() == ("access-2", "refresh-2")


def test_what_neither_table_nor_queue_took_is_a_failure_for_the_app_too(world: World) -> None:
    link, confirmation = world.link()
    world.table.faults["transact_write_items"] = [Fault(client_error("InternalServerError"))] * 99
    world.sqs.error = client_error("OverLimit")
    ended = come_back(world, link)
    assert (ended.ending, ended.note) == (Ending.TEMPORARILY_UNAVAILABLE, "lost")
    assert refused(world, confirmation) == (409, "connect_failed", "temporarily_unavailable")


def test_a_write_whose_acknowledgement_was_lost_is_recognised(world: World) -> None:
    link, confirmation = world.link()
    world.table.faults["transact_write_items"] = [Fault(TimeoutError(), written=True)]
    ended = come_back(world, link)
    assert (ended.ending, ended.note) == (Ending.TO_BE_CONFIRMED, None)
    confirmed(world, confirmation)


def test_a_confirmation_item_that_is_gone_costs_no_tokens(world: World) -> None:
    link, confirmation = world.link()

    def gone() -> None:
        items, tokens_ = world.table.model.snapshot()
        world.table.model.restore((frozenset(item for item in items if item[0][1] != "ATTEMPT"), tokens_))

    world.endpoint.on_post = gone
    assert come_back(world, link).ending is Ending.TO_BE_CONFIRMED
    confirmed(world, confirmation)


def test_a_link_item_that_is_gone_ends_it(world: World) -> None:
    link, confirmation = world.link()
    world.endpoint.on_post = world.table.clear
    assert come_back(world, link).ending is Ending.ATTEMPT_EXPIRED
    assert world.table.items == {}
    assert refused(world, confirmation) == (404, "unknown_confirmation", None)


def test_nothing_secret_is_stored_in_the_clear_or_shown(world: World) -> None:
    link, confirmation = make(world)
    world.open(link)
    ended = come_back(world, link)
    stored = repr(world.table.items)
    for secret in (link, confirmation, confirmation.partition(".")[2], BROWSER, STATE, "access-2", "refresh-2"):
        assert secret not in stored
        assert secret not in repr(ended)
    made = world.confirmation().make(tenant=TENANT, return_url=RETURN_URL, redirect_uri=REDIRECT_URI)
    assert urlsplit(made.connect_url).query not in f"{made} {made!r}"


# An old confirmation -------------------------------------------------------------------------------------------------


def test_an_old_confirmation_never_answers_with_another_tenants_connection(world: World) -> None:
    _, confirmation = came_back(world)
    confirmed(world, confirmation)
    world.disconnect()
    assert refused(world, confirmation) == (409, "connect_failed", "disconnected")
    world.connect(age=0, grant_id="ffffffff-later")
    world.change(tenant="tenant-8")
    before = world.connection()
    assert refused(world, confirmation) == (409, "connect_failed", "superseded")
    assert world.connection() == before


def test_an_old_confirmation_is_not_the_confirmation_of_a_later_consent_of_the_same_tenant(world: World) -> None:
    _, confirmation = came_back(world)
    confirmed(world, confirmation)
    world.connect(age=0, grant_id="ffffffff-later")
    world.change(tenant=TENANT)
    assert refused(world, confirmation) == (409, "connect_failed", "superseded")


def test_a_repeated_confirmation_answers_with_the_connection_as_it_is_now(world: World) -> None:
    _, confirmation = came_back(world)
    confirmed(world, confirmation)
    world.rotated_by_another()
    world.end("rejected")
    again = confirmed(world, confirmation)
    assert (again.generation, again.status) == (2, Status.REAUTHORIZATION_REQUIRED)
