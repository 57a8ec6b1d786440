"""Refresh token rotation: claim, prepare, POST, commit. `docs/rotation.md` in code, from top to bottom.

    active ─claim─▶ in flight ─POST─▶ tokens ─commit─▶ active, generation + 1
                       │                 └─ table unreachable: keep trying, with a copy in the queue of pending commits
                       ├─ not sent · throttled · configuration_error: release
                       ├─ refused: release; refused again ten minutes later: reauthorization_required
                       └─ no usable answer: release and record the doubt

A refresh token works once, and only the newest works. Whatever is lost here costs a customer a new consent. So at most
one attempt sends a token at a time, its answer is stored before anything else happens, a failure never overwrites a
success, and a token in doubt is sent again only by a later claim.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from flowaccount_connect.domain.connection import Attempt, Connection, Reason, Status
from flowaccount_connect.domain.ids import is_connection_id, new_attempt_id
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.oauth.token_answer import TOO_MANY_REQUESTS, Answer, Outcome, TokenSet
from flowaccount_connect.rotation.new_tokens import timed
from flowaccount_connect.rotation.outcomes import Refresh, RefreshOutcome
from flowaccount_connect.rotation.pending_commits import PendingCommit, Target
from flowaccount_connect.rotation.permits import FIRST_PAUSE, NoPermit, Permit
from flowaccount_connect.rotation.ports import Health, Queue, RefreshEndpoint, Sealer, Secret, Store
from flowaccount_connect.rotation.time_left import TimeLeft
from flowaccount_connect.rotation.writes import Lost, Pending, acknowledged, persist, persist_or_queue
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import Refused
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.sealing import CannotOpen, DataKey, TokenPair

ReplayPolicy = Literal["allowed", "never"]
"""Whether a token in doubt is sent once more, or costs a new consent."""

ALONE_AFTER = 3
"""So many attempts in a row must have failed before a connection counts as refused alone. By then the endpoint's health
knows whether the others are refused too."""


ALONE_PAUSE = 900
"""How long a connection waits that is throttled alone, in seconds, where the answer does not say it."""


class _NoRate(Exception):
    """The rate could not be read or written, so that nothing was sent; the message is an error's code."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Everything that storing an answer needs, in hand before the token is spent."""

    tokens: TokenPair
    client_secret: str = field(repr=False)
    data_key: DataKey


@dataclass(frozen=True, slots=True)
class _LoggedAnswer:
    """What the token endpoint answered, as far as it may be logged."""

    error: str | None = None
    http_status: int | None = None
    exchange_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Refreshes one connection at a time, safely beside any number of others. Raises only `StoreUnavailable`."""

    store: Store
    endpoint: RefreshEndpoint
    secret: Secret
    sealer: Sealer
    queue: Queue
    schedule: Schedule
    health: Health
    target: Target = Target.CONNECTION
    """What is refreshed. An `IMPORT` is checked by its first refresh: the answer must name the business, and one
    refusal is final, since no connection depends on it."""
    replay_policy: ReplayPolicy = "allowed"
    lease_seconds: int = 180
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    attempt_id: Callable[[], str] = new_attempt_id

    def refresh(
        self,
        connection_id: str,
        *,
        generation: int | None = None,
        permit: Permit,
        remaining: Callable[[], float],
    ) -> Refresh:
        """Refresh a connection that is due, or, on demand, one that is still of `generation`.

        `permit` is used for each POST, once everything else is in hand. `remaining` reads how many seconds the
        invocation has left. Raises `StoreUnavailable` if the claim was not acknowledged; then nothing was sent.
        """
        time_left = TimeLeft(remaining, self.sleep)
        claimed = self._claim(connection_id, generation, time_left, permit)
        return claimed if isinstance(claimed, Refresh) else _Held(self, claimed, time_left, permit).refresh()

    # Claim -------------------------------------------------------------------------------------------------------

    def _claim(
        self, connection_id: str, generation: int | None, time_left: TimeLeft, permit: Permit
    ) -> Connection | Refresh:
        """Claim by one conditional update. It returns the item, so nothing has to be read first.

        A claim that was written and not acknowledged looks like the claim of a killed worker. It would put the
        connection in doubt or, by policy, end it. So it is repeated, under one attempt id, until it is acknowledged.
        """
        now = int(self.clock())
        attempt = Attempt(id=self.attempt_id(), started_at=now, lease_until=now + self.lease_seconds)
        try:
            return acknowledged(
                lambda: self.store.claim(connection_id, attempt, generation=generation, now=now), time_left
            )
        except Refused as refused:
            found = refused.connection
        if found is None:
            return Refresh(outcome=RefreshOutcome.UNKNOWN, connection_id=connection_id)
        if found.attempt is not None and found.attempt.id == attempt.id:
            return found  # An earlier try was stored, but its response was lost.
        hindrance = _hindrance(found, generation, now)
        ended = hindrance is RefreshOutcome.NOT_ACTIVE and found.refresh_at is not None
        if hindrance is RefreshOutcome.UNREADABLE or ended:
            self.put_off(found)
        if hindrance is not None or found.attempt is None:
            return self.report(found, hindrance or RefreshOutcome.IN_FLIGHT)
        # Its lease ran out: its worker was killed, before or after its POST. That is doubt.
        if self.replay_policy == "never":
            return _Held(self, found, time_left, permit).end(Reason.IN_DOUBT)
        return self._claim_over(found, found.attempt, attempt, now, time_left)

    def _claim_over(
        self, found: Connection, dead: Attempt, attempt: Attempt, now: int, time_left: TimeLeft
    ) -> Connection | Refresh:
        try:
            return acknowledged(
                lambda: self.store.claim_over(found.id, attempt, dead=dead, generation=found.generation, now=now),
                time_left,
            )
        except Refused as refused:
            current = refused.connection
        if current is not None and current.attempt is not None and current.attempt.id == attempt.id:
            return current
        return self.report(current or found, RefreshOutcome.IN_FLIGHT)

    def put_off(self, found: Connection) -> None:
        """Let a connection that cannot be refreshed fall due as seldom as one that is well.

        Otherwise each tick finds it first, since its deadline is the oldest, and it takes the slots of others. One try
        is left before its deadline, in case somebody repairs it.
        """
        now = int(self.clock())
        until = self.schedule.resume_at(now, found.deadline, self.schedule.refresh_at(now) - now)
        with contextlib.suppress(StoreUnavailable):
            self.store.put_off(found.id, until=until, now=now)

    def report(
        self,
        connection: Connection,
        outcome: RefreshOutcome,
        *,
        attempt_id: str | None = None,
        heard: _LoggedAnswer = _LoggedAnswer(),
        reason: Reason | None = None,
    ) -> Refresh:
        """The facts of a refresh of `connection`, as they are now."""
        return Refresh(
            outcome=outcome,
            connection_id=connection.id,
            generation=connection.generation,
            attempt_id=attempt_id,
            reason=reason,
            error=heard.error,
            http_status=heard.http_status,
            exchange_ms=heard.exchange_ms,
            seconds_to_deadline=connection.deadline - int(self.clock()),
            in_doubt_since=connection.in_doubt,
            refused_alone_since=connection.refused_alone,
            retries=connection.retries,
        )


@dataclass(slots=True)
class _Held:
    """One refresh from its claim to its last write: the connection that it holds, and the time that it has left."""

    rotation: Rotation
    claimed: Connection
    time_left: TimeLeft
    permit: Permit
    heard: _LoggedAnswer = _LoggedAnswer()

    @property
    def attempt_id(self) -> str:
        """The attempt that holds the connection."""
        return self.claimed.attempt.id if self.claimed.attempt is not None else ""

    @property
    def is_import(self) -> bool:
        """Whether this refresh tests an imported token."""
        return self.rotation.target is Target.IMPORT

    def now(self) -> int:
        """Epoch seconds."""
        return int(self.rotation.clock())

    def refresh(self) -> Refresh:
        """Prepare, POST, and write what the answer means."""
        if self.claimed.status is not Status.ACTIVE:
            # An item that cannot be understood cannot be written safely. The lease of the claim runs out by itself.
            self.rotation.put_off(self.claimed)
            return self._report(self.claimed, RefreshOutcome.UNREADABLE)
        if self.claimed.in_doubt is not None and self.rotation.replay_policy == "never":
            return self.end(Reason.IN_DOUBT)
        try:
            prepared = self._prepare()
        except Exception as error:
            # Of whatever kind: nothing was sent, so it must not look like doubt.
            self.heard = _LoggedAnswer(type(error).__name__)
            return self._release(RefreshOutcome.NOT_PREPARED)
        try:
            return self._exchange(prepared)
        except NoPermit as no:
            return replace(self._release(RefreshOutcome.PACED, pause=no.retry_after), retry_after=no.retry_after)
        except _NoRate as error:
            self.heard = _LoggedAnswer(str(error))
            return self._release(RefreshOutcome.NOT_PREPARED)

    # Prepare -----------------------------------------------------------------------------------------------------

    def _prepare(self) -> _Prepared:
        """The opened token, the client secret and a data key. Then the commit needs the table alone."""
        claimed, rotation = self.claimed, self.rotation
        if claimed.sealed is None:
            raise CannotOpen("no tokens")
        return _Prepared(
            tokens=rotation.sealer.open(claimed.sealed, owner=claimed.id, grant_id=claimed.grant_id),
            client_secret=rotation.secret.get(),
            data_key=rotation.sealer.data_key(),
        )

    # POST --------------------------------------------------------------------------------------------------------

    def _exchange(self, prepared: _Prepared) -> Refresh:
        answer, sent_at = self._post(prepared, prepared.client_secret)
        if answer is not None and answer.outcome is Outcome.CONFIGURATION_ERROR and answer.error == "invalid_client":
            # The client is authenticated first, so the token was not consumed: with a secret that was replaced
            # meanwhile it may go again, within this attempt.
            newer = self.rotation.secret.newer_than(prepared.client_secret)
            if newer is not None:
                answer, sent_at = self._post(prepared, newer)
        if answer is None:
            return self._release(RefreshOutcome.NO_TIME, at_once=True)
        self.heard = _LoggedAnswer(answer.error, answer.status, int((self.rotation.clock() - sent_at) * 1000))
        if answer.outcome is Outcome.THROTTLED:
            pause = self._throttled(sent_at, answer.retry_after)
            return replace(self._release(RefreshOutcome.THROTTLED, pause=pause), retry_after=pause)
        refresh = self._settle(prepared, answer, int(sent_at))
        if answer.status == TOO_MANY_REQUESTS:
            # The whole stack slows down, whatever else the answer says. Its tokens are stored first.
            self._throttled(sent_at, answer.retry_after)
        return refresh

    def _post(self, prepared: _Prepared, client_secret: str) -> tuple[Answer | None, float]:
        """Send one POST; the answer, and when it was sent.

        The answer is `None`, and nothing was sent, if too little time is left to store what it would bring. Waits for a
        permit first, as long as time for a whole exchange is left. Raises `NoPermit`, `_NoRate`.
        """
        rotation = self.rotation
        if self.time_left.for_exchange() is None:
            return None, rotation.clock()
        try:
            urgent = rotation.schedule.urgent(self.now(), self.claimed.deadline)
            self.permit.use(self.time_left.for_permit(), urgent=urgent)
        except StoreUnavailable as error:
            raise _NoRate(str(error)) from None
        sent_at, budget = rotation.clock(), self.time_left.for_exchange()
        if budget is None:
            return None, sent_at
        answer = rotation.endpoint.refresh(
            prepared.tokens.refresh_token, client_secret, connection_id=self.claimed.id, budget=budget
        )
        return answer, sent_at

    def _throttled(self, sent_at: float, retry_after: int | None) -> int:
        """The seconds that the stack pauses for; where the pause cannot be stored, this connection waits alone.

        So it does where FlowAccount has accepted others since the last 429 to it: then the limit is its own.
        """
        if self.rotation.health.throttled_alone(self.claimed.id):
            return retry_after or ALONE_PAUSE
        try:
            return self.permit.throttled(sent_at, retry_after)
        except StoreUnavailable:
            return retry_after or FIRST_PAUSE

    def _settle(self, prepared: _Prepared, answer: Answer, sent_at: int) -> Refresh:
        """Write what an answer to what was sent at `sent_at` (epoch) means for the connection."""
        match answer.outcome:
            case Outcome.TOKENS | Outcome.WRONG_CONNECTION if answer.tokens is not None:
                return self._received(prepared, answer.outcome, answer.tokens, sent_at)
            case Outcome.REJECTED:
                return self._refused(sent_at)
            case Outcome.NOT_SENT:
                return self._release(RefreshOutcome.NOT_SENT)
            case Outcome.CONFIGURATION_ERROR:
                return self._misconfigured()
            case _:
                return self._doubt(sent_at)

    # Commit ------------------------------------------------------------------------------------------------------

    def _received(self, prepared: _Prepared, outcome: Outcome, tokens: TokenSet, sent_at: int) -> Refresh:
        """Store the new tokens; those of another business are dropped, and nobody uses them."""
        if outcome is Outcome.WRONG_CONNECTION or (self.is_import and tokens.support_code is None):
            other = tokens.support_code
            return replace(self.end(Reason.WRONG_CONNECTION), answered_for=other if is_connection_id(other) else None)
        claimed, rotation = self.claimed, self.rotation
        pair = TokenPair(tokens.access_token, tokens.refresh_token or prepared.tokens.refresh_token)
        commit = Commit(
            connection_id=claimed.id,
            grant_id=claimed.grant_id,
            attempt_id=self.attempt_id,
            generation=claimed.generation,
            environment=claimed.environment,
            tenant=claimed.tenant,
            in_doubt=claimed.in_doubt if tokens.refresh_token is None else None,
            tokens=timed(
                rotation.sealer.seal(pair, prepared.data_key, owner=claimed.id, grant_id=claimed.grant_id),
                tokens,
                sent_at,
                rotation.schedule,
                before=claimed,
                renewed=self.is_import,
            ),
        )
        return self._commit_kept(commit) if tokens.refresh_token is None else self._commit(commit)

    def _commit(self, commit: Commit) -> Refresh:
        """Store the new set; while the table does not answer, keep trying, with a copy in the queue."""

        def write() -> Refresh:
            try:
                stored = self.rotation.store.commit(commit)
            except Refused as refused:
                current = refused.connection
                if current is None:
                    # A disconnect leaves a tombstone: the table itself was lost, and may be restored.
                    raise StoreUnavailable("no such connection") from None
                if current.status is Status.UNREADABLE:
                    # Somebody wrote over the connection. The tokens wait until it is repaired or disconnected.
                    raise StoreUnavailable("unreadable") from None
                if current.committed_by != commit.attempt_id:
                    return self._after_refused_write(current)
                stored = current  # An earlier try was stored, but its response was lost.
            return self._report(stored, RefreshOutcome.REFRESHED)

        def send() -> None:
            self.rotation.queue.send(PendingCommit(target=self.rotation.target, commit=commit))

        try:
            done = persist_or_queue(write, send, self.time_left)
        except Lost as lost:
            refresh = self._report(self.claimed, RefreshOutcome.LOST)
            return replace(refresh, table_error=lost.table, queue_error=lost.queue)
        if isinstance(done, Pending):
            return replace(self._report(self.claimed, RefreshOutcome.PENDING), table_error=done.table)
        return done

    def _commit_kept(self, commit: Commit) -> Refresh:
        """No new refresh token came: the old one is stored already, so this is never queued."""

        def write() -> Refresh:
            try:
                stored = self.rotation.store.commit_kept(commit)
            except Refused as refused:
                current = refused.connection
                if current is None or current.committed_by != commit.attempt_id:
                    return self._after_refused_write(current)
                stored = current
            return self._report(stored, RefreshOutcome.KEPT)

        return persist(write, self.time_left) or self._report(self.claimed, RefreshOutcome.KEPT)

    # Release and failure writes ----------------------------------------------------------------------------------

    def _refused(self, sent_at: int) -> Refresh:
        """FlowAccount refused the token (`invalid_grant`). One refusal can be a short fault of the server.

        The second one, at least ten minutes later, is final, and so is one after the deadline. An import ends with its
        first. While the endpoint is unwell, a refusal is final only if it has refused all tokens for an hour.
        """
        rotation, claimed = self.rotation, self.claimed
        final = self.is_import or rotation.schedule.refusal_is_final(sent_at, claimed.deadline, claimed.refused_at)
        if final and rotation.health.may_end(self.now()):
            lost = claimed.in_doubt is not None and not self.is_import
            return self.end(Reason.ROTATION_LOST if lost else Reason.REJECTED)
        not_before = sent_at + rotation.schedule.refusals_apart
        return self._release(RefreshOutcome.REFUSED, refused_at=sent_at, not_before=not_before)

    def _misconfigured(self) -> Refresh:
        """FlowAccount refused the request, not the token. The fault is the stack's, or the connection's own.

        A connection that is refused alone is noted as such, and ends one lifetime after its deadline.
        """
        rotation, claimed, now = self.rotation, self.claimed, self.now()
        often = (claimed.retries or 0) >= ALONE_AFTER
        alone = often and self.heard.error != "invalid_client" and rotation.health.may_end(now)
        if alone and rotation.schedule.given_up(now, claimed.deadline):
            return self.end(Reason.EXPIRED)
        return self._release(RefreshOutcome.CONFIGURATION_ERROR, refused_alone=now if alone else None)

    def _doubt(self, sent_at: int) -> Refresh:
        """FlowAccount gave no usable answer. Within this attempt the token is not sent again.

        The first request may still be on its way, and a server that ends a consent at a replay would take the second
        one for an attack. A later claim sends the token once more, after the lease has run out.
        """
        if self.rotation.replay_policy == "never":
            return self.end(Reason.IN_DOUBT)
        lease_until = self.claimed.attempt.lease_until if self.claimed.attempt is not None else 0
        return self._release(RefreshOutcome.IN_DOUBT, in_doubt=sent_at, not_before=lease_until)

    def _release(
        self,
        outcome: RefreshOutcome,
        *,
        pause: int | None = None,
        at_once: bool = False,
        not_before: int = 0,
        in_doubt: int | None = None,
        refused_at: int | None = None,
        refused_alone: int | None = None,
    ) -> Refresh:
        """Give the claim back, and set the next try: after a backoff, but not before `not_before` (epoch).

        A `pause`, in seconds, means that the stack had to wait. That is no failure, and the refresh is due again when
        the pause ends. `at_once` lets it be due now. One lifetime after the deadline the connection ends instead.
        `in_doubt`, `refused_at` and `refused_alone` (epoch) are recorded if none is recorded yet.
        """
        claimed, schedule, now = self.claimed, self.rotation.schedule, self.now()
        blameless = pause is not None or at_once or outcome is RefreshOutcome.CONFIGURATION_ERROR
        if not blameless and schedule.given_up(now, claimed.deadline):
            return self.end(Reason.EXPIRED)
        retries = claimed.retries or 0
        refresh_at = now
        if pause is not None:
            refresh_at = schedule.resume_at(now, claimed.deadline, pause)
            if outcome is RefreshOutcome.PACED and claimed.refresh_at is not None:
                # Nothing was sent, so the earlier due time stays: it may get a slot before the pause ends.
                refresh_at = min(refresh_at, claimed.refresh_at)
        elif not at_once:
            alone = refused_alone is not None or self._doubtful_alone(in_doubt)
            refresh_at = schedule.retry_at(now, claimed.deadline, retries, not_before=not_before, alone=alone)

        def write() -> Refresh:
            try:
                stored = self.rotation.store.release(
                    claimed.id,
                    claimed.generation,
                    self.attempt_id,
                    refresh_at=refresh_at,
                    retries=retries + (pause is None),
                    in_doubt=in_doubt,
                    refused_at=refused_at,
                    refused_alone=refused_alone,
                )
            except Refused as refused:
                current = refused.connection
                if current is None or current.attempt is not None or _winner(claimed, current) is not None:
                    return self._after_refused_write(current)
                stored = current  # Nobody holds it any more: an earlier try of this write went through.
            return self._report(stored, outcome)

        # Where it cannot be written, the lease runs out by itself; the next claim takes it for doubt, which is safe.
        return persist(write, self.time_left) or self._report(claimed, outcome)

    def _doubtful_alone(self, in_doubt: int | None) -> bool:
        """Whether a doubt concerns this connection alone: it had no answer several times, and others had one."""
        since, retries = self.claimed.in_doubt, self.claimed.retries or 0
        often = in_doubt is not None and since is not None and retries >= ALONE_AFTER
        return often and self.rotation.health.succeeded_since(since or 0)

    def end(self, reason: Reason) -> Refresh:
        """End the connection: only a new consent helps. If the write is refused, its item says who won."""
        claimed = self.claimed
        outcome = RefreshOutcome.IMPORT_REFUSED if self.is_import else RefreshOutcome.REAUTHORIZATION_REQUIRED

        def write() -> Refresh:
            try:
                stored = self.rotation.store.require_reauthorization(
                    claimed.id, claimed.generation, self.attempt_id, reason, now=self.now()
                )
            except Refused as refused:
                current = refused.connection
                if current is None or current.reason is not reason or current.generation != claimed.generation:
                    return self._after_refused_write(current)
                stored = current  # An earlier try was stored, but its response was lost.
            return self._report(stored, outcome, reason)

        return persist(write, self.time_left) or self._report(claimed, outcome, reason)

    def _report(self, connection: Connection, outcome: RefreshOutcome, reason: Reason | None = None) -> Refresh:
        return self.rotation.report(connection, outcome, attempt_id=self.attempt_id, heard=self.heard, reason=reason)

    def _after_refused_write(self, current: Connection | None) -> Refresh:
        """What a refused write means. The item that it returns says what happened."""
        if current is None:
            return self._report(self.claimed, RefreshOutcome.NOT_ACTIVE)
        return self._report(current, _winner(self.claimed, current) or RefreshOutcome.IN_FLIGHT)


def _hindrance(found: Connection, generation: int | None, now: int) -> RefreshOutcome | None:
    """Why a connection cannot be claimed at `now`, or `None` where only an attempt that ran out stands in the way."""
    if found.status is Status.UNREADABLE:
        return RefreshOutcome.UNREADABLE
    if found.status is not Status.ACTIVE:
        return RefreshOutcome.NOT_ACTIVE
    if found.attempt is not None and found.attempt.lease_until > now and not found.leased(now):
        # No worker writes a lease that ends so late. If it counted, nobody would claim the connection in time.
        return RefreshOutcome.UNREADABLE
    if generation is not None and found.generation != generation:
        return RefreshOutcome.SUPERSEDED
    if found.leased(now):
        return RefreshOutcome.IN_FLIGHT
    due = found.refresh_at is not None and found.refresh_at <= now
    if not due and (generation is None or found.retries is not None):
        return RefreshOutcome.NOT_DUE
    return None


def _winner(claimed: Connection, current: Connection) -> RefreshOutcome | None:
    """The outcome for `claimed` if another write has overtaken it; `None` if none has."""
    if current.status is Status.DISCONNECTED:
        return RefreshOutcome.NOT_ACTIVE
    if current.generation > claimed.generation or current.grant_id != claimed.grant_id:
        return RefreshOutcome.SUPERSEDED
    return None if current.status is Status.ACTIVE else RefreshOutcome.NOT_ACTIVE
