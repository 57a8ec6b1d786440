"""Each outcome of a refresh leads to its one write. That this holds in every interleaving, tests/model explores."""

import pytest

from flowaccount_connect.domain.connection import Attempt, Reason, Status
from flowaccount_connect.oauth.token_answer import Answer, Outcome, TokenSet
from flowaccount_connect.rotation.outcomes import RefreshOutcome
from flowaccount_connect.rotation.pending_commits import PendingCommits, PendingOutcome
from flowaccount_connect.rotation.permits import Kind
from flowaccount_connect.rotation.time_left import COMMIT_RESERVE, LONGEST_EXCHANGE, LONGEST_WRITE, SHORTEST_EXCHANGE
from flowaccount_connect.scheduling.rate import Permit, Rate, Rule
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.shared_item import SharedItem
from tests.unit.fakes import CONNECTION, FREE, NOW, tokens
from tests.unit.tables import Fault, Table, client_error
from tests.unit.worlds import World

UNREACHABLE = client_error("InternalServerError")


@pytest.fixture
def world() -> World:
    made = World()
    made.connect()
    made.endpoint.answers = [tokens()]
    made.table.calls.clear()
    return made


def _ignored(_: object) -> None:
    """For what is called for its effect."""


def unchanged_tokens(world: World) -> bool:
    return world.opened() == ("access-1", "refresh-1") and world.connection().generation == 1


def test_a_refresh_is_one_claim_one_post_and_one_commit(world: World) -> None:
    said = world.refresh()
    assert (said.outcome, said.generation, said.attempt_id) == (RefreshOutcome.REFRESHED, 2, "mine")
    assert world.table.calls == ["update_item"] * 2
    assert world.endpoint.posts == [("refresh-1", "the-secret")]
    there = world.connection()
    assert world.opened() == ("access-2", "refresh-2")
    assert (there.generation, there.requested_at, there.access_expires_at) == (2, NOW, NOW + 86_400)
    assert (there.deadline, there.refresh_at, there.attempt) == (NOW + 86_400, NOW + 21_600, None)


def test_while_the_token_is_in_the_air_the_connection_is_leased_to_this_attempt(world: World) -> None:
    seen: list[Attempt | None] = []
    world.endpoint.on_post = lambda: seen.append(world.connection().attempt)
    world.refresh()
    assert seen == [Attempt(id="mine", started_at=NOW, lease_until=NOW + 180)]


def test_expiry_times_count_from_the_moment_the_request_was_sent(world: World) -> None:
    world.endpoint.on_post = lambda: world.clock.sleep(9)
    assert world.refresh().exchange_ms == 9_000
    assert world.connection().deadline == NOW + 86_400


def test_everything_that_storing_needs_is_in_hand_before_the_post(world: World) -> None:
    seen: list[tuple[int, int, int]] = []
    world.endpoint.on_post = lambda: seen.append((world.kms.decrypts, world.kms.generated, world.secrets.asked))
    world.refresh()
    after = (world.kms.decrypts, world.kms.generated, world.secrets.asked)
    assert seen == [after]


def test_a_success_without_a_new_refresh_token_keeps_the_old_one_and_the_doubt(world: World) -> None:
    world.change(in_doubt=NOW - 500)
    assert world.refresh(tokens(refresh=None)).outcome is RefreshOutcome.KEPT
    assert world.opened() == ("access-2", "refresh-1")
    assert (world.connection().generation, world.connection().in_doubt) == (2, NOW - 500)


def test_a_success_without_a_new_refresh_token_is_never_a_pending_commit(world: World) -> None:
    world.endpoint.on_post = lambda: world.table.faults["update_item"].extend([Fault(UNREACHABLE)] * 1_000)
    assert world.refresh(tokens(refresh=None)).outcome is RefreshOutcome.KEPT
    assert world.sqs.sent == []


def test_a_new_refresh_token_ends_the_doubt(world: World) -> None:
    world.change(in_doubt=NOW - 500)
    world.refresh()
    assert world.connection().in_doubt is None


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(Outcome.NOT_SENT, error="not_sent"), RefreshOutcome.NOT_SENT),
        (Answer(Outcome.CONFIGURATION_ERROR, error="invalid_request"), RefreshOutcome.CONFIGURATION_ERROR),
        (Answer(Outcome.CONFIGURATION_ERROR, error="invalid_client"), RefreshOutcome.CONFIGURATION_ERROR),
    ],
)
def test_what_proves_the_token_unspent_releases_it_without_doubt(
    world: World, answer: Answer, outcome: RefreshOutcome
) -> None:
    assert world.refresh(answer).outcome is outcome
    there = world.connection()
    assert (there.status, there.attempt, there.in_doubt, there.retries) == (Status.ACTIVE, None, None, 1)
    assert there.refresh_at is not None
    assert NOW < there.refresh_at < NOW + 60
    assert unchanged_tokens(world)
    assert len(world.endpoint.posts) == 1


# The rate -------------------------------------------------------------------------------------------------------------


def paced(world: World, limit: int = 15, table: Table | None = None) -> Rate:
    item = SharedItem(table or world.table, "table", "RATE")
    return Rate(item, Rule(limit), clock=world.clock, sleep=world.clock.sleep)


@pytest.fixture
def rate(world: World) -> Rate:
    """A slot comes every 62/15 seconds."""
    return paced(world)


def scheduled(rate: Rate) -> Permit:
    """A permit of the schedule, with its slot."""
    (permit,) = rate.permits([Kind.SCHEDULED])
    assert permit is not None
    return permit


def test_nothing_is_sent_before_its_slot(world: World, rate: Rate) -> None:
    rate.take(Kind.SCHEDULED, 10.0)
    assert world.refresh(permit=rate.permit(Kind.CALLER)).outcome is RefreshOutcome.REFRESHED
    assert world.clock.now == pytest.approx(NOW + 62 / 15, abs=1e-3)
    # Its times count from when it was sent, not from when it was claimed.
    assert world.connection().requested_at == int(NOW + 62 / 15)


def test_a_second_post_within_an_attempt_needs_a_permit_too(world: World, rate: Rate) -> None:
    world.endpoint.answers = [Answer(Outcome.CONFIGURATION_ERROR, error="invalid_client"), tokens()]
    world.endpoint.on_post = lambda: setattr(world.secrets, "text", '{"client_secret": "another"}')
    assert world.refresh(permit=scheduled(rate)).outcome is RefreshOutcome.REFRESHED
    assert [secret for _, secret in world.endpoint.posts] == ["the-secret", "another"]
    assert world.clock.now == pytest.approx(NOW + 62 / 15, abs=1e-3)


def test_without_a_permit_nothing_is_sent_and_nothing_is_held_against_the_connection(world: World) -> None:
    rate = paced(world, 1)
    rate.take(Kind.SCHEDULED, 10.0)
    world.change(refresh_at=NOW + 10_000)
    said = world.refresh(permit=rate.permit(Kind.CALLER), generation=1)
    assert said.outcome is RefreshOutcome.PACED
    there = world.connection()
    assert (there.attempt, there.in_doubt, there.retries, there.refresh_at) == (None, None, 0, NOW + 62)
    assert unchanged_tokens(world)
    assert world.endpoint.posts == []


@pytest.mark.parametrize("refresh_at", [NOW - 400, NOW + 20])
def test_what_the_rate_left_unsent_falls_due_no_later_than_before(world: World, rate: Rate, refresh_at: int) -> None:
    """A caller who comes too early takes nobody's turn away, and no last try."""
    rate.throttled(NOW, 3_600)
    world.change(refresh_at=refresh_at)
    said = world.refresh(permit=rate.permit(Kind.CALLER), generation=1)
    assert (said.outcome, said.retry_after) == (RefreshOutcome.PACED, 3_600)
    assert world.connection().refresh_at == refresh_at


def test_a_caller_refreshes_a_dying_connection_through_a_pause(world: World, rate: Rate) -> None:
    rate.throttled(NOW, 3_600)
    world.change(deadline=NOW + 3_600)
    assert world.refresh(permit=rate.permit(Kind.CALLER), generation=1).outcome is RefreshOutcome.PACED
    world.change(deadline=NOW + 3_599)
    assert world.refresh(permit=rate.permit(Kind.CALLER), generation=1).outcome is RefreshOutcome.REFRESHED
    assert world.clock.now == NOW


def test_a_connection_that_is_dying_by_its_slot_goes_through_a_pause_too(world: World, rate: Rate) -> None:
    permit = scheduled(rate)
    rate.throttled(NOW, 3_600)
    world.change(deadline=NOW + 60)
    assert world.refresh(permit=permit).outcome is RefreshOutcome.REFRESHED


def test_a_rate_that_cannot_be_kept_sends_nothing_and_releases(world: World) -> None:
    table = Table()
    table.faults["update_item"] = [Fault(UNREACHABLE)]
    said = world.refresh(permit=paced(world, table=table).permit(Kind.CALLER))
    assert (said.outcome, said.error) == (RefreshOutcome.NOT_PREPARED, "InternalServerError")
    assert world.connection().attempt is None
    assert world.endpoint.posts == []


def test_nobody_waits_for_a_slot_into_the_time_that_an_exchange_needs(world: World, rate: Rate) -> None:
    rate.permits([Kind.SCHEDULED] * 2)
    seconds = COMMIT_RESERVE + LONGEST_EXCHANGE + 8
    assert world.refresh(permit=rate.permit(Kind.CALLER), seconds=seconds).outcome is RefreshOutcome.PACED
    assert world.clock.now == NOW
    assert world.endpoint.posts == []


@pytest.mark.parametrize(("asked", "pause"), [(None, 15), (240, 240)])
def test_a_429_pauses_the_stack_and_its_connection_goes_on_when_that_ends(
    world: World, rate: Rate, asked: int | None, pause: int
) -> None:
    """It counts as no failure."""
    world.change(retries=2)
    world.endpoint.answers = [Answer(Outcome.THROTTLED, retry_after=asked, status=429)]
    assert world.refresh(permit=rate.permit(Kind.CALLER)).outcome is RefreshOutcome.THROTTLED
    there = world.connection()
    assert (there.refresh_at, there.retries, there.in_doubt) == (NOW + pause, 2, None)
    assert paced(world).look().paused_until == (NOW + pause) * 1_000_000


@pytest.mark.parametrize(
    "outcome", [Outcome.THROTTLED, Outcome.REJECTED, Outcome.CONFIGURATION_ERROR, Outcome.IN_DOUBT, Outcome.TOKENS]
)
def test_a_429_slows_the_stack_down_whatever_else_it_says(world: World, rate: Rate, outcome: Outcome) -> None:
    told = tokens().tokens if outcome is Outcome.TOKENS else None
    world.refresh(Answer(outcome, told, retry_after=90, status=429), permit=rate.permit(Kind.CALLER))
    assert paced(world).look().paused_until == (NOW + 90) * 1_000_000


def test_tokens_that_came_with_a_429_are_stored_before_anything_else(world: World, rate: Rate) -> None:
    stored: list[int] = []
    real = rate.throttled

    def throttled(sent_at: float, retry_after: int | None) -> int:
        stored.append(world.connection().generation)
        return real(sent_at, retry_after)

    rate.throttled = throttled  # type: ignore[method-assign]
    world.refresh(Answer(Outcome.TOKENS, tokens().tokens, retry_after=90, status=429), permit=rate.permit(Kind.CALLER))
    assert stored == [2]


def test_a_retry_after_never_costs_the_last_try_before_the_deadline(world: World, rate: Rate) -> None:
    world.change(deadline=NOW + 2_000)
    world.endpoint.answers = [Answer(Outcome.THROTTLED, retry_after=3_600, status=429), tokens()]
    assert world.refresh(permit=rate.permit(Kind.CALLER)).outcome is RefreshOutcome.THROTTLED
    assert world.connection().refresh_at == NOW + 2_000 - 1_440
    world.clock.sleep(2_000 - 1_440)
    assert rate.permits([Kind.SCHEDULED]) == [None]
    assert world.refresh(permit=rate.permit(Kind.URGENT)).outcome is RefreshOutcome.REFRESHED


def test_a_429_that_the_table_does_not_take_keeps_its_connection_waiting_all_the_same(world: World, rate: Rate) -> None:
    world.endpoint.answers = [Answer(Outcome.THROTTLED, retry_after=240, status=429)]
    world.endpoint.on_post = lambda: world.table.faults["update_item"].append(Fault(UNREACHABLE))
    assert world.refresh(permit=rate.permit(Kind.CALLER)).outcome is RefreshOutcome.THROTTLED
    assert world.connection().refresh_at == NOW + 240


@pytest.mark.parametrize("status", [None, 500, 503])
def test_no_usable_answer_is_doubt_and_never_posted_again_within_the_attempt(world: World, status: int | None) -> None:
    said = world.refresh(Answer(Outcome.IN_DOUBT, error="no_answer", status=status))
    assert (said.outcome, said.in_doubt_since) == (RefreshOutcome.IN_DOUBT, NOW)
    there = world.connection()
    assert (there.status, there.in_doubt, there.attempt) == (Status.ACTIVE, NOW, None)
    assert there.refresh_at is not None
    assert there.refresh_at >= NOW + 180
    assert len(world.endpoint.posts) == 1
    assert unchanged_tokens(world)


def test_a_later_claim_sends_the_token_in_doubt_once_more(world: World) -> None:
    world.refresh(Answer(Outcome.IN_DOUBT), tokens())
    world.clock.now += 180
    assert world.refresh().outcome is RefreshOutcome.REFRESHED
    assert [token for token, _ in world.endpoint.posts] == ["refresh-1", "refresh-1"]
    assert world.connection().in_doubt is None


def test_doubt_keeps_its_beginning(world: World) -> None:
    world.refresh(Answer(Outcome.IN_DOUBT))
    world.clock.now += 1_000
    world.refresh()
    assert world.connection().in_doubt == NOW


def test_under_policy_never_a_token_in_doubt_is_not_sent_again(world: World) -> None:
    assert world.refresh(Answer(Outcome.IN_DOUBT), replay_policy="never").reason is Reason.IN_DOUBT
    assert world.connection().status is Status.REAUTHORIZATION_REQUIRED
    assert len(world.endpoint.posts) == 1


@pytest.mark.parametrize("killed", [True, False])
def test_under_policy_never_neither_a_recorded_doubt_nor_a_dead_worker_is_tried_again(
    world: World, killed: bool
) -> None:
    if killed:
        world.hold(started=-300, lease=-100)
    else:
        world.change(in_doubt=NOW - 500)
    said = world.refresh(replay_policy="never")
    assert world.endpoint.posts == []
    assert said.outcome is RefreshOutcome.REAUTHORIZATION_REQUIRED
    assert world.connection().reason is Reason.IN_DOUBT


def test_claiming_over_a_dead_worker_records_the_doubt_before_the_post(world: World) -> None:
    world.hold("dead", started=-300, lease=-100)
    seen: list[int | None] = []
    world.endpoint.on_post = lambda: seen.append(world.connection().in_doubt)
    assert world.refresh().outcome is RefreshOutcome.REFRESHED
    assert seen == [NOW - 300]


def test_an_attempt_under_way_is_left_alone(world: World) -> None:
    world.hold()
    assert world.refresh().outcome is RefreshOutcome.IN_FLIGHT
    assert world.endpoint.posts == []


def test_a_claim_that_is_refused_but_shows_our_own_attempt_is_a_claim(world: World) -> None:
    world.hold("mine")
    assert world.refresh().outcome is RefreshOutcome.REFRESHED


def test_a_claim_that_was_not_acknowledged_in_time_sends_nothing(world: World) -> None:
    world.table.faults["update_item"] = [Fault(UNREACHABLE)] * 99
    with pytest.raises(StoreUnavailable, match="InternalServerError"):
        world.refresh()
    assert world.endpoint.posts == []
    assert world.clock.now <= NOW + 45 - COMMIT_RESERVE - SHORTEST_EXCHANGE


@pytest.mark.parametrize("dead", [False, True])
def test_a_claim_is_written_until_it_is_acknowledged_and_costs_no_doubt(world: World, dead: bool) -> None:
    faults = [Fault(UNREACHABLE, written=True), Fault(UNREACHABLE)]
    if dead:
        # Over a dead attempt the second write is the claim.
        world.hold("dead", started=-300, lease=-100)
        world.table.on_call = lambda _: world.table.faults["update_item"].extend(
            faults if world.table.calls.count("update_item") == 1 else []
        )
    else:
        world.table.faults["update_item"] = faults
    assert world.refresh(replay_policy="allowed" if dead else "never").outcome is RefreshOutcome.REFRESHED
    assert len(world.endpoint.posts) == 1


def test_what_is_not_due_is_refreshed_on_demand_only(world: World) -> None:
    world.change(refresh_at=NOW + 1)
    assert world.refresh().outcome is RefreshOutcome.NOT_DUE
    assert world.refresh(generation=2).outcome is RefreshOutcome.SUPERSEDED
    assert world.refresh(generation=1).outcome is RefreshOutcome.REFRESHED


def test_on_demand_a_backoff_is_respected(world: World) -> None:
    world.change(refresh_at=NOW + 1, retries=1)
    assert world.refresh(generation=1).outcome is RefreshOutcome.NOT_DUE


def test_what_does_not_exist_or_lives_no_more_is_not_refreshed(world: World) -> None:
    assert world.rotation().refresh("N0", permit=FREE, remaining=lambda: 45.0).outcome is RefreshOutcome.UNKNOWN
    world.end("rejected")
    assert world.refresh().outcome is RefreshOutcome.NOT_ACTIVE
    assert world.refresh(generation=1).outcome is RefreshOutcome.NOT_ACTIVE
    world.disconnect()
    assert world.refresh().outcome is RefreshOutcome.NOT_ACTIVE
    assert world.endpoint.posts == []


@pytest.mark.parametrize("failing", ["kms", "unforeseen", "secret", "secret missing", "tokens of another item"])
def test_what_fails_before_the_post_costs_nothing(world: World, failing: str) -> None:
    if failing == "kms":
        world.kms.error = client_error("ThrottlingException")
    elif failing == "unforeseen":
        world.kms.error = RuntimeError("nobody thought of this")
    elif failing == "secret":
        world.secrets.error = client_error("InternalServiceError")
    elif failing == "secret missing":
        world.secrets.error = client_error("ResourceNotFoundException")
    else:
        world.change(tokens=b"\x01" + b"x" * 60)
    assert world.refresh().outcome is RefreshOutcome.NOT_PREPARED
    there = world.connection()
    assert (there.status, there.attempt, there.in_doubt, there.retries) == (Status.ACTIVE, None, None, 1)
    assert world.endpoint.posts == []


def test_without_the_time_to_commit_nothing_is_sent(world: World) -> None:
    assert world.refresh(seconds=COMMIT_RESERVE + SHORTEST_EXCHANGE - 0.1).outcome is RefreshOutcome.NO_TIME
    assert world.endpoint.posts == []
    assert (world.connection().attempt, world.connection().refresh_at) == (None, NOW)


@pytest.mark.parametrize("spare", [LONGEST_EXCHANGE + 10, LONGEST_EXCHANGE, 8, SHORTEST_EXCHANGE])
def test_the_post_leaves_time_to_commit(world: World, spare: float) -> None:
    world.refresh(seconds=COMMIT_RESERVE + spare)
    assert world.endpoint.budgets == [min(spare, LONGEST_EXCHANGE)]


def test_with_a_secret_that_was_replaced_the_token_goes_again(world: World) -> None:
    world.endpoint.answers = [Answer(Outcome.CONFIGURATION_ERROR, error="invalid_client"), tokens()]
    world.endpoint.on_post = lambda: setattr(world.secrets, "text", '{"client_secret": "newer"}')
    assert world.refresh().outcome is RefreshOutcome.REFRESHED
    assert world.endpoint.posts == [("refresh-1", "the-secret"), ("refresh-1", "newer")]


@pytest.mark.parametrize(
    "answer", [Answer(Outcome.IN_DOUBT), Answer(Outcome.CONFIGURATION_ERROR, error="invalid_grant")]
)
def test_a_replaced_secret_sends_nothing_again_after_any_other_answer(world: World, answer: Answer) -> None:
    world.endpoint.on_post = lambda: setattr(world.secrets, "text", '{"client_secret": "newer"}')
    world.refresh(answer)
    assert len(world.endpoint.posts) == 1


def test_tokens_of_another_business_are_dropped(world: World) -> None:
    theirs = TokenSet("access-theirs", "refresh-theirs", 3_600, "N7654321")
    done = world.refresh(Answer(Outcome.WRONG_CONNECTION, theirs))
    assert (done.reason, done.answered_for) == (Reason.WRONG_CONNECTION, "N7654321")
    there = world.connection()
    assert (there.status, there.reason) == (Status.REAUTHORIZATION_REQUIRED, Reason.WRONG_CONNECTION)
    assert unchanged_tokens(world)
    assert len([key for key in world.table.items if key[1] == "CONNECTION"]) == 1


def test_what_is_no_id_is_not_told_of_another_business(world: World) -> None:
    said = world.refresh(Answer(Outcome.WRONG_CONNECTION, TokenSet("a", "r", 3_600, "not <an> id")))
    assert (said.reason, said.answered_for) == (Reason.WRONG_CONNECTION, None)


def test_a_commit_is_tried_until_the_table_answers(world: World) -> None:
    world.endpoint.on_post = lambda: world.table.faults["update_item"].extend([Fault(UNREACHABLE)] * 3)
    assert world.refresh().outcome is RefreshOutcome.REFRESHED
    assert len(world.endpoint.posts) == 1


def test_a_commit_whose_acknowledgement_was_lost_is_recognised(world: World) -> None:
    world.endpoint.on_post = lambda: world.table.faults["update_item"].append(Fault(UNREACHABLE, written=True))
    said = world.refresh()
    assert (said.outcome, said.generation) == (RefreshOutcome.REFRESHED, 2)
    assert world.connection().generation == 2


def test_a_set_the_table_does_not_take_waits_as_ciphertext_within_the_time(world: World) -> None:
    world.endpoint.on_post = lambda: world.table.faults["update_item"].extend([Fault(UNREACHABLE)] * 99)
    assert world.refresh().outcome is RefreshOutcome.PENDING
    assert world.clock.now < NOW + 45
    text = world.sqs.sent[0]["MessageBody"]
    assert "access-2" not in text
    assert "refresh-2" not in text
    world.table.faults.clear()
    assert PendingCommits(world.table, "table").apply(text, now=NOW)[0] is PendingOutcome.APPLIED
    assert world.opened() == ("access-2", "refresh-2")


def test_what_neither_table_nor_queue_took_is_called_lost(world: World) -> None:
    world.sqs.error = client_error("OverLimit")
    world.endpoint.on_post = lambda: world.table.faults["update_item"].extend([Fault(UNREACHABLE)] * 99)
    said = world.refresh()
    assert said.outcome is RefreshOutcome.LOST
    assert (said.table_error, said.queue_error) == ("InternalServerError", "OverLimit")
    assert world.clock.now < NOW + 45


@pytest.mark.parametrize("mends", ["table", "queue"])
def test_to_the_last_whoever_takes_the_new_tokens_first_gets_them(world: World, mends: str) -> None:
    world.sqs.error = client_error("OverLimit")
    world.endpoint.on_post = lambda: world.table.faults["update_item"].extend([Fault(UNREACHABLE)] * 99)

    def mend() -> None:
        if world.clock.now > NOW + 45 - COMMIT_RESERVE + 3:
            if mends == "table":
                world.table.faults["update_item"].clear()
            else:
                world.sqs.error = None

    world.clock.on_sleep = mend
    said = world.refresh()
    assert said.outcome is (RefreshOutcome.REFRESHED if mends == "table" else RefreshOutcome.PENDING)
    assert said.queue_error is None


def after_the_post_each_call_hangs(world: World, seconds: float) -> None:
    def hang(operation: str) -> None:
        if world.endpoint.posts:
            world.clock.sleep(seconds)
            world.table.faults[operation] = [Fault(UNREACHABLE)]

    world.table.on_call = hang


@pytest.mark.parametrize("seconds", [float(seconds) for seconds in range(20, 46, 3)])
@pytest.mark.parametrize("queue", [0.1, LONGEST_WRITE])
def test_what_is_lost_is_told_before_the_invocation_ends_however_long_each_try_hangs(
    world: World, seconds: float, queue: float
) -> None:
    world.sqs.error = client_error("OverLimit")
    world.sqs.on_send = lambda: world.clock.sleep(queue)
    after_the_post_each_call_hangs(world, LONGEST_WRITE)
    assert world.refresh(seconds=seconds).outcome is RefreshOutcome.LOST
    assert world.clock.now < NOW + seconds


def test_a_write_that_hangs_twice_as_long_as_it_may_leaves_the_salvage_queue_its_turn(world: World) -> None:
    """boto3 has no deadline for a whole call: an answer that comes in drops, or a slow resolver, takes longer."""
    world.sqs.on_send = lambda: world.clock.sleep(0.1)
    after_the_post_each_call_hangs(world, 2 * LONGEST_WRITE - 0.5)
    world.endpoint.on_post = lambda: world.clock.sleep(LONGEST_EXCHANGE)
    seconds = COMMIT_RESERVE + LONGEST_EXCHANGE + 1
    assert world.refresh(seconds=seconds).outcome is RefreshOutcome.PENDING
    assert world.clock.now < NOW + seconds
    assert len(world.sqs.sent) == 1


def test_tokens_whose_table_was_lost_meanwhile_wait_for_it_in_the_salvage_queue(world: World) -> None:
    backup = {k: v for k, v in world.table.item("CONNECTION", CONNECTION).items() if k not in ("pk", "sk")}
    gone = {"TableName": "table", "Key": {"pk": {"S": f"CONNECTION#{CONNECTION}"}, "sk": {"S": "CONNECTION"}}}
    world.endpoint.on_post = lambda: _ignored(world.table.model.transact_write_items(TransactItems=[{"Delete": gone}]))
    said = world.refresh()
    assert (said.outcome, said.table_error) == (RefreshOutcome.PENDING, "no such connection")
    text = world.sqs.sent[0]["MessageBody"]
    with pytest.raises(StoreUnavailable):
        PendingCommits(world.table, "table").apply(text, now=NOW)
    dead_for_long = NOW + 2 * 86_400
    assert PendingCommits(world.table, "table").apply(text, now=dead_for_long)[0] is PendingOutcome.UNKNOWN
    world.table.put(
        "CONNECTION", CONNECTION, **{k: v if isinstance(v, str | bytes) else int(v) for k, v in backup.items()}
    )
    assert PendingCommits(world.table, "table").apply(text, now=NOW)[0] is PendingOutcome.APPLIED
    assert world.opened() == ("access-2", "refresh-2")


def test_tokens_that_meet_an_item_that_nobody_understands_wait_until_it_is_repaired(world: World) -> None:
    there = world.connection()
    world.endpoint.on_post = lambda: world.change(grant_id=None)
    assert world.refresh(tokens()).outcome is RefreshOutcome.PENDING
    (message,) = world.sqs.sent
    world.change(grant_id=there.grant_id)
    assert PendingCommits(world.table, "table").apply(message["MessageBody"], now=NOW + 60)[0] is PendingOutcome.APPLIED
    assert world.opened() == ("access-2", "refresh-2")


@pytest.mark.parametrize(
    "answer",
    [tokens(), *map(Answer, (Outcome.REJECTED, Outcome.IN_DOUBT, Outcome.NOT_SENT, Outcome.THROTTLED))],
    ids=lambda answer: answer.outcome,
)
def test_what_comes_second_never_touches_the_winner(world: World, answer: Answer) -> None:
    world.endpoint.on_post = world.rotated_by_another
    said = world.refresh(answer)
    assert (said.outcome, said.generation) == (RefreshOutcome.SUPERSEDED, 2)
    there = world.connection()
    assert (there.status, there.in_doubt, there.retries) == (Status.ACTIVE, None, None)
    assert world.opened() == ("access-other", "refresh-other")


@pytest.mark.parametrize("outcome", [Outcome.TOKENS, Outcome.REJECTED, Outcome.IN_DOUBT, Outcome.NOT_SENT])
def test_what_was_disconnected_meanwhile_stays_so(world: World, outcome: Outcome) -> None:
    world.endpoint.answers = [tokens() if outcome is Outcome.TOKENS else Answer(outcome)]
    world.endpoint.on_post = world.disconnect
    assert world.refresh().outcome is RefreshOutcome.NOT_ACTIVE
    assert world.connection().status is Status.DISCONNECTED
    assert world.connection().sealed is None


def test_a_failure_while_another_attempt_holds_it_is_no_verdict(world: World) -> None:
    world.endpoint.on_post = lambda: _ignored(world.hold("another"))
    assert world.refresh(Answer(Outcome.REJECTED)).outcome is RefreshOutcome.IN_FLIGHT
    assert world.connection().status is Status.ACTIVE


def test_a_success_wins_over_another_attempt_of_its_generation(world: World) -> None:
    world.endpoint.on_post = lambda: _ignored(world.hold("another"))
    assert world.refresh().outcome is RefreshOutcome.REFRESHED
    assert world.opened() == ("access-2", "refresh-2")


@pytest.mark.parametrize(
    ("answer", "ended"),
    [
        (Answer(Outcome.NOT_SENT), True),
        (Answer(Outcome.IN_DOUBT), True),
        (Answer(Outcome.THROTTLED), False),
        (Answer(Outcome.CONFIGURATION_ERROR, error="invalid_client"), False),
    ],
)
def test_a_full_lifetime_after_its_deadline_without_any_answer_a_connection_has_expired(
    world: World, answer: Answer, ended: bool
) -> None:
    world.clock.now = world.connection().deadline + 86_399
    world.refresh(answer)
    assert world.connection().status is Status.ACTIVE
    world.clock.now += 86_400
    world.refresh()
    assert (world.connection().reason is Reason.EXPIRED) is ended


def test_a_release_that_the_table_does_not_take_is_left_to_the_lease(world: World) -> None:
    world.endpoint.on_post = lambda: world.table.faults["update_item"].extend([Fault(UNREACHABLE)] * 1_000)
    assert world.refresh(Answer(Outcome.NOT_SENT)).outcome is RefreshOutcome.NOT_SENT
    assert world.connection().attempt is not None


@pytest.mark.parametrize(
    "outcome", [Outcome.NOT_SENT, Outcome.THROTTLED, Outcome.CONFIGURATION_ERROR, Outcome.REJECTED]
)
def test_a_release_or_refusal_that_the_table_did_not_take_at_once_is_written_again(
    world: World, outcome: Outcome
) -> None:
    world.endpoint.on_post = lambda: world.table.faults["update_item"].append(Fault(UNREACHABLE))
    world.refresh(Answer(outcome))
    assert world.connection().attempt is None
    assert (world.connection().refused_at is not None) is (outcome is Outcome.REJECTED)


def test_the_facts_of_a_refresh_hold_no_token(world: World) -> None:
    said = world.refresh()
    for secret in ("access-", "refresh-1", "refresh-2", "the-secret"):
        assert secret not in repr(said)


@pytest.mark.parametrize("seconds", [float(seconds) for seconds in range(29, 46, 4)])
@pytest.mark.parametrize("table", [0.1, 4.5])
@pytest.mark.parametrize(("failures", "queue"), [(1, 0.1), (1, 4.5), (2, 0.1)])
def test_while_the_table_hangs_a_few_failures_of_the_queue_lose_nothing(
    world: World, seconds: float, table: float, failures: int, queue: float
) -> None:
    def fail() -> None:
        world.clock.sleep(queue)
        world.sqs.error = client_error("InternalError") if len(tries) < failures else None
        tries.append(world.clock.now)

    def hang(operation: str) -> None:
        if world.endpoint.posts:
            world.clock.sleep(table)
            world.table.faults[operation] = [Fault(UNREACHABLE)]

    tries: list[float] = []
    world.sqs.on_send, world.table.on_call = fail, hang
    world.endpoint.on_post = lambda: world.clock.sleep(LONGEST_EXCHANGE if seconds > 41 else 0)
    assert world.refresh(seconds=seconds).outcome is RefreshOutcome.PENDING
    assert tries[0] - NOW < 3 + 2 + 2 * table + queue + LONGEST_EXCHANGE, "the queue does not wait for the last moment"


@pytest.mark.parametrize("away", [2, 5, 8, 12])
def test_a_table_that_is_back_in_time_ends_the_refresh_though_the_queue_has_a_copy(world: World, away: int) -> None:
    def break_down(operation: str) -> None:
        world.table.faults[operation] = [Fault(UNREACHABLE)] if world.clock.now < until[0] else []

    def begin() -> None:
        until[0] = world.clock.now + away
        world.table.on_call = break_down

    until = [0.0]
    world.endpoint.on_post = begin
    assert world.refresh().outcome is RefreshOutcome.REFRESHED
    assert len(world.sqs.sent) == (0 if away < 3 else 1)
    for message in world.sqs.sent:
        applied = PendingCommits(world.table, "table").apply(message["MessageBody"], now=NOW)
        assert applied[0] is PendingOutcome.APPLIED_BEFORE
    assert world.connection().generation == 2


@pytest.mark.parametrize("raised", [KeyError("Attributes"), RecursionError(), OSError(), MemoryError()])
def test_whatever_storing_raises_the_new_tokens_reach_the_queue(
    world: World, raised: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(_: object) -> None:
        raise raised

    monkeypatch.setattr(world.store, "commit", commit)
    said = world.refresh()
    assert (said.outcome, said.table_error) == (RefreshOutcome.PENDING, type(raised).__name__)


def test_an_answer_to_a_commit_that_has_no_item_is_no_acknowledgement(world: World) -> None:
    update = world.table.update_item

    def without_item(**given: object) -> dict[str, object]:
        update(**given)
        return {}

    world.endpoint.on_post = lambda: setattr(world.table, "update_item", without_item)
    said = world.refresh()
    assert (said.outcome, said.generation) == (RefreshOutcome.REFRESHED, 2), "a repeated write knows its own"
