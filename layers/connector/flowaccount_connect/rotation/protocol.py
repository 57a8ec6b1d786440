"""Refresh token rotation: claim, prepare, POST, commit. The protocol of the design, top to bottom.

    active ─claim─▶ in flight ─POST─▶ tokens ─commit─▶ active, generation + 1
                       │                 └─ table unreachable: keep trying, then the salvage queue
                       ├─ not sent · throttled · configuration_error: release
                       ├─ rejected: reauthorization_required
                       └─ no usable answer: release and record the doubt

A refresh token works once, and only the newest of them: whatever is lost here costs a customer a new consent. So at
most one attempt has a token in the air, whatever an answer brings is stored before anything else happens, a failure
never overwrites a success, and a token in doubt is sent again only by a later claim.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, Protocol

from flowaccount_connect.domain.connection import Attempt, Connection, Reason, Sealed, Status
from flowaccount_connect.domain.ids import is_connection_id, new_attempt_id
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.oauth.client_secret import SecretMisconfigured, SecretUnavailable
from flowaccount_connect.oauth.token_answer import TOO_MANY_REQUESTS, Answer, Outcome, TokenSet
from flowaccount_connect.rotation.pending_commits import SalvageUnavailable
from flowaccount_connect.rotation.permits import FIRST_PAUSE, NoPermit, Permit, Unpaced
from flowaccount_connect.storage.connections import Refused, Rotated, StoreUnavailable
from flowaccount_connect.storage.sealing import CannotOpen, DataKey, SealingUnavailable, Tokens

LONGEST_EXCHANGE = 15.0
"""The most time one POST may take, in seconds."""

SHORTEST_EXCHANGE = 3.0
"""With less time than this nothing is sent, in seconds."""

LONGEST_WRITE = 7.0
"""What one write to the table can take at worst, with the timeouts and retries of `aws.client`, in seconds."""

SALVAGE_RESERVE = 7.0
"""The same for the message to the salvage queue: what is kept for it to the last, in seconds."""

LAST_TRY = LONGEST_WRITE + 0.5
"""With less time than this neither is tried again, in seconds, so that what is lost can still be told."""

COMMIT_RESERVE = LONGEST_WRITE + SALVAGE_RESERVE
"""What must be left of the invocation after the POST, to store its answer or else to salvage it, in seconds."""


ALONE_AFTER = 3
"""After so many failures in a row a connection counts as refused alone: else the endpoint would be unwell by then."""

ReplayPolicy = Literal["allowed", "never"]
"""Whether a token in doubt is sent once more, or costs a new consent."""


class RefreshOutcome(StrEnum):
    """What became of one refresh."""

    REFRESHED = "refreshed"
    KEPT = "kept"
    """New access token, no new refresh token: the old one is kept."""
    SALVAGED = "salvaged"
    """New tokens that could not be written; they wait, sealed, in the salvage queue."""
    LOST = "lost"
    """New tokens that neither the table nor the salvage queue took."""
    UNKNOWN = "unknown"
    NOT_ACTIVE = "not_active"
    NOT_DUE = "not_due"
    IN_FLIGHT = "in_flight"
    """Another attempt holds it."""
    SUPERSEDED = "superseded"
    """Somebody else moved the generation on; the winner's tokens stand."""
    NO_TIME = "no_time"
    NOT_PREPARED = "not_prepared"
    """KMS or Secrets Manager failed before anything was spent."""
    NOT_SENT = "not_sent"
    PACED = "paced"
    """The stack's own rate left no room; nothing was sent."""
    THROTTLED = "throttled"
    CONFIGURATION_ERROR = "configuration_error"
    UNWELL = "unwell"
    """Nothing was claimed or sent, since the token endpoint is unwell; see `health`."""
    IN_DOUBT = "in_doubt"
    REFUSED_ONCE = "refused_once"
    """FlowAccount refused the token for the first time; a second refusal will end the connection."""
    REAUTHORIZATION_REQUIRED = "reauthorization_required"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """The facts of one refresh: what is logged and counted of it, and nothing secret."""

    outcome: RefreshOutcome
    connection_id: str
    generation: int | None = None
    attempt_id: str | None = None
    reason: Reason | None = None
    error: str | None = None
    http_status: int | None = None
    exchange_ms: int | None = None
    seconds_to_deadline: int | None = None
    in_doubt_since: int | None = None
    retries: int | None = None
    """How many refreshes of this connection have failed in a row, this one included."""
    retry_after: int | None = None
    """In how many seconds the stack, which had to wait, goes on."""
    answered_for: str | None = None
    """The other business that an answer was for, if it says so in a form that an id has."""
    table_error: str | None = None
    """Why the table did not take the new tokens: an error's code."""
    queue_error: str | None = None
    """Why the salvage queue did not, either."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What the token endpoint said, as far as it may be logged."""

    error: str | None = None
    http_status: int | None = None
    exchange_ms: int | None = None


class _NoRate(Exception):
    """The rate could not be kept, so that nothing was sent; the message is an error's code."""


class Store(Protocol):
    """Where connections are kept; see `store.ConnectionStore`."""

    def claim(self, connection_id: str, attempt: Attempt, *, generation: int | None, now: int) -> Connection: ...
    def claim_over(
        self, connection_id: str, attempt: Attempt, *, dead: Attempt, generation: int, now: int
    ) -> Connection: ...
    def commit(
        self, connection_id: str, grant_id: str, generation: int, attempt_id: str, rotated: Rotated
    ) -> Connection: ...
    def commit_kept(self, connection_id: str, generation: int, attempt_id: str, rotated: Rotated) -> Connection: ...
    def release(
        self,
        connection_id: str,
        generation: int,
        attempt_id: str,
        *,
        refresh_at: int,
        retries: int,
        in_doubt: int | None = None,
    ) -> Connection: ...
    def require_reauthorization(
        self,
        connection_id: str,
        generation: int,
        attempt_id: str,
        reason: Reason,
        *,
        now: int,
        quarantine: Sealed | None = None,
    ) -> Connection: ...


class Endpoint(Protocol):
    """Where refresh tokens are sent; see `token_endpoint.TokenEndpoint`."""

    def refresh(self, refresh_token: str, client_secret: str, *, connection_id: str, budget: float) -> Answer: ...


class Secret(Protocol):
    """The client secret; see `client_secret.ClientSecret`."""

    def get(self) -> str: ...
    def newer_than(self, refused: str) -> str | None: ...


class Seals(Protocol):
    """What seals and opens token sets; see `sealing.Sealer`."""

    def data_key(self) -> DataKey: ...
    def seal(self, tokens: Tokens, key: DataKey, *, owner: str, grant_id: str) -> Sealed: ...
    def open(self, sealed: Sealed, *, owner: str, grant_id: str) -> Tokens: ...


class Salvages(Protocol):
    """Where a set goes that the table did not take; see `salvage.SalvageQueue`."""

    def send_rotation(
        self, connection_id: str, grant_id: str, generation: int, attempt_id: str, rotated: Rotated
    ) -> None: ...


_UNPACED = Unpaced()


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Everything that storing an answer needs, in hand before the token is spent."""

    tokens: Tokens
    client_secret: str = field(repr=False)
    data_key: DataKey
    permit: Permit


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Refreshes one connection at a time, safely beside any number of others. Raises only `StoreUnavailable`."""

    store: Store
    endpoint: Endpoint
    secret: Secret
    sealer: Seals
    salvage: Salvages
    schedule: Schedule
    replay_policy: ReplayPolicy = "allowed"
    lease_seconds: int = 180
    access_token_lifetime: int = 3_600
    """Assumed where an answer gives no usable `expires_in`, in seconds."""
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    attempt_id: Callable[[], str] = new_attempt_id

    def refresh(
        self,
        connection_id: str,
        *,
        generation: int | None = None,
        permit: Permit = _UNPACED,
        remaining: Callable[[], float],
    ) -> Refresh:
        """Refresh a connection that is due, or, on demand, one that is still of `generation`.

        `permit` is used for each POST, once everything else is in hand. `remaining` tells how many seconds the
        invocation has left. Raises `StoreUnavailable` if the claim was not acknowledged; then nothing was sent.
        """
        claimed = self._claim(connection_id, generation, remaining)
        if isinstance(claimed, Refresh):
            return claimed
        if claimed.in_doubt is not None and self.replay_policy == "never":
            return self._end(claimed, Reason.IN_DOUBT, remaining)
        try:
            prepared = self._prepare(claimed, permit)
        except (SealingUnavailable, CannotOpen, SecretUnavailable, SecretMisconfigured) as error:
            return self._release(claimed, RefreshOutcome.NOT_PREPARED, remaining, _Told(type(error).__name__))
        try:
            return self._exchange(claimed, prepared, remaining)
        except NoPermit as refused:
            said = self._release(claimed, RefreshOutcome.PACED, remaining, pause=refused.retry_after)
            return replace(said, retry_after=refused.retry_after)
        except _NoRate as error:
            return self._release(claimed, RefreshOutcome.NOT_PREPARED, remaining, _Told(str(error)))

    # Claim -------------------------------------------------------------------------------------------------------

    def _claim(
        self, connection_id: str, generation: int | None, remaining: Callable[[], float]
    ) -> Connection | Refresh:
        """One conditional update, which returns the item, so that no read precedes it."""
        now = int(self.clock())
        attempt = Attempt(id=self.attempt_id(), started_at=now, lease_until=now + self.lease_seconds)
        try:
            return self._acknowledged(
                lambda: self.store.claim(connection_id, attempt, generation=generation, now=now), remaining
            )
        except Refused as refused:
            found = refused.connection
        if found is None:
            return Refresh(outcome=RefreshOutcome.UNKNOWN, connection_id=connection_id)
        if found.attempt is not None and found.attempt.id == attempt.id:
            return found  # An earlier try of this very write went through, unacknowledged.
        hindrance = _hindrance(found, generation, now)
        if hindrance is not None or found.attempt is None:
            return self._report(found, hindrance or RefreshOutcome.IN_FLIGHT)
        return self._claim_over(found, found.attempt, attempt, now, remaining)

    def _claim_over(
        self, found: Connection, dead: Attempt, attempt: Attempt, now: int, remaining: Callable[[], float]
    ) -> Connection | Refresh:
        """The lease of `dead` ran out: its worker was killed, before or after its POST. That is doubt."""
        if self.replay_policy == "never":
            return self._end(found, Reason.IN_DOUBT, remaining)
        try:
            return self._acknowledged(
                lambda: self.store.claim_over(found.id, attempt, dead=dead, generation=found.generation, now=now),
                remaining,
            )
        except Refused as refused:
            there = refused.connection
        if there is not None and there.attempt is not None and there.attempt.id == attempt.id:
            return there
        return self._report(there or found, RefreshOutcome.IN_FLIGHT)

    def _acknowledged(self, claim: Callable[[], Connection], remaining: Callable[[], float]) -> Connection:
        """A claim that may have been written is written again, under the same attempt's id, while there is time to use
        it: left alone it would be taken for a killed worker's, and cost a doubt or, by policy, the connection.

        Raises `Refused`, and `StoreUnavailable` once there is no time.
        """
        last = StoreUnavailable()

        def noted() -> Connection:
            nonlocal last
            try:
                return claim()
            except StoreUnavailable as error:
                last = error
                raise

        claimed = persist(noted, remaining, self.sleep, reserve=COMMIT_RESERVE + SHORTEST_EXCHANGE)
        if claimed is None:
            raise last
        return claimed

    # Prepare -----------------------------------------------------------------------------------------------------

    def _prepare(self, claimed: Connection, permit: Permit) -> _Prepared:
        """The opened token, the client secret and a data key: nothing remote stands between answer and commit."""
        if claimed.sealed is None:
            raise CannotOpen("no tokens")
        return _Prepared(
            tokens=self.sealer.open(claimed.sealed, owner=claimed.id, grant_id=claimed.grant_id),
            client_secret=self.secret.get(),
            data_key=self.sealer.data_key(),
            permit=permit,
        )

    # POST --------------------------------------------------------------------------------------------------------

    def _exchange(self, claimed: Connection, prepared: _Prepared, remaining: Callable[[], float]) -> Refresh:
        answer, sent_at = self._post(claimed, prepared, prepared.client_secret, remaining)
        if answer is not None and answer.outcome is Outcome.CONFIGURATION_ERROR and answer.error == "invalid_client":
            # The client is authenticated first, so the token was not consumed: with a secret that was replaced
            # meanwhile it may go again, within this attempt.
            newer = self.secret.newer_than(prepared.client_secret)
            if newer is not None:
                answer, sent_at = self._post(claimed, prepared, newer, remaining)
        if answer is None:
            return self._release(claimed, RefreshOutcome.NO_TIME, remaining, at_once=True)
        told = _Told(answer.error, answer.status, int((self.clock() - sent_at) * 1000))
        if answer.outcome is Outcome.THROTTLED:
            pause = self._throttled(prepared.permit, sent_at, answer.retry_after)
            said = self._release(claimed, RefreshOutcome.THROTTLED, remaining, told, pause=pause)
            return replace(said, retry_after=pause)
        said = self._settle(claimed, prepared, answer, int(sent_at), remaining, told)
        if answer.status == TOO_MANY_REQUESTS:
            # Whatever it said beside that, the whole stack slows down; but not before what it brought is stored.
            self._throttled(prepared.permit, sent_at, answer.retry_after)
        return said

    def _settle(
        self,
        claimed: Connection,
        prepared: _Prepared,
        answer: Answer,
        sent_at: int,
        remaining: Callable[[], float],
        told: _Told,
    ) -> Refresh:
        """Write what an answer to what was sent at `sent_at` (epoch) means for the connection."""
        match answer.outcome:
            case Outcome.TOKENS | Outcome.WRONG_CONNECTION if answer.tokens is not None:
                rotated = self._rotated(claimed, prepared, answer.tokens, sent_at)
                if answer.outcome is Outcome.WRONG_CONNECTION:
                    # FlowAccount answered for another business: the set is used for nobody, and kept for an operator.
                    said = self._end(claimed, Reason.WRONG_CONNECTION, remaining, told, quarantine=rotated.sealed)
                    other = answer.tokens.support_code
                    return replace(said, answered_for=other if is_connection_id(other) else None)
                if answer.tokens.refresh_token is None:
                    return self._commit_kept(claimed, rotated, remaining, told)
                return self._commit(claimed, rotated, remaining, told)
            case Outcome.REJECTED:
                lost = claimed.in_doubt is not None
                return self._end(claimed, Reason.ROTATION_LOST if lost else Reason.REJECTED, remaining, told)
            case Outcome.NOT_SENT:
                return self._release(claimed, RefreshOutcome.NOT_SENT, remaining, told)
            case Outcome.CONFIGURATION_ERROR:
                return self._release(claimed, RefreshOutcome.CONFIGURATION_ERROR, remaining, told)
            case _:
                return self._doubt(claimed, sent_at, remaining, told)

    def _post(
        self, claimed: Connection, prepared: _Prepared, client_secret: str, remaining: Callable[[], float]
    ) -> tuple[Answer | None, float]:
        """One POST and when it was sent; no answer where too little time remains to store what it would bring.

        Waits for a permit first, for as long as leaves time for a whole exchange. Raises `NoPermit`, `_NoRate`.
        """
        if exchange_budget(remaining) is None:
            return None, self.clock()
        try:
            urgent = self.schedule.urgent(int(self.clock()), claimed.deadline)
            prepared.permit.use(remaining() - COMMIT_RESERVE - LONGEST_EXCHANGE, urgent=urgent)
        except StoreUnavailable as error:
            raise _NoRate(str(error)) from None
        sent_at, budget = self.clock(), exchange_budget(remaining)
        if budget is None:
            return None, sent_at
        answer = self.endpoint.refresh(
            prepared.tokens.refresh_token, client_secret, connection_id=claimed.id, budget=budget
        )
        return answer, sent_at

    @staticmethod
    def _throttled(permit: Permit, sent_at: float, retry_after: int | None) -> int:
        """The seconds that the stack pauses for; where it cannot be told, this connection waits alone."""
        try:
            return permit.throttled(sent_at, retry_after)
        except StoreUnavailable:
            return retry_after or FIRST_PAUSE

    def _rotated(self, claimed: Connection, prepared: _Prepared, tokens: TokenSet, sent_at: int) -> Rotated:
        """The new set, sealed, with its times."""
        opened = Tokens(tokens.access_token, tokens.refresh_token or prepared.tokens.refresh_token)
        sealed = self.sealer.seal(opened, prepared.data_key, owner=claimed.id, grant_id=claimed.grant_id)
        return timed(sealed, tokens.expires_in or self.access_token_lifetime, sent_at, self.schedule)

    # Commit ------------------------------------------------------------------------------------------------------

    def _commit(
        self,
        claimed: Connection,
        rotated: Rotated,
        remaining: Callable[[], float],
        told: _Told,
    ) -> Refresh:
        """Store the new set; while the table does not answer, keep trying, and salvage it in the end."""
        attempt_id = _attempt_id(claimed)

        def write() -> Refresh:
            try:
                stored = self.store.commit(claimed.id, claimed.grant_id, claimed.generation, attempt_id, rotated)
            except Refused as refused:
                there = refused.connection
                if there is None:
                    # A disconnect leaves a tombstone: the table itself was lost, and may be restored.
                    raise StoreUnavailable("nothing there") from None
                if there.committed_by != attempt_id:
                    return self._verdict(claimed, there, told)
                stored = there  # An earlier try of this very write went through, unacknowledged.
            return self._report(stored, RefreshOutcome.REFRESHED, attempt_id, told)

        def salvage() -> None:
            self.salvage.send_rotation(claimed.id, claimed.grant_id, claimed.generation, attempt_id, rotated)

        try:
            done = persist_or_salvage(write, salvage, remaining, self.sleep)
        except Lost as lost:
            said = self._report(claimed, RefreshOutcome.LOST, attempt_id, told)
            return replace(said, table_error=lost.table, queue_error=lost.queue)
        if isinstance(done, Salvaged):
            return replace(self._report(claimed, RefreshOutcome.SALVAGED, attempt_id, told), table_error=done.table)
        return done

    def _commit_kept(
        self, claimed: Connection, rotated: Rotated, remaining: Callable[[], float], told: _Told
    ) -> Refresh:
        """No new refresh token came: the old one is stored already, so this is never salvaged."""
        attempt_id = _attempt_id(claimed)

        def write() -> Refresh:
            try:
                stored = self.store.commit_kept(claimed.id, claimed.generation, attempt_id, rotated)
            except Refused as refused:
                there = refused.connection
                if there is None or there.committed_by != attempt_id:
                    return self._verdict(claimed, there, told)
                stored = there
            return self._report(stored, RefreshOutcome.KEPT, attempt_id, told)

        return persist(write, remaining, self.sleep) or self._report(claimed, RefreshOutcome.KEPT, attempt_id, told)

    # Release and failure writes ----------------------------------------------------------------------------------

    def _release(
        self,
        claimed: Connection,
        outcome: RefreshOutcome,
        remaining: Callable[[], float],
        told: _Told = _Told(),
        *,
        pause: int | None = None,
        at_once: bool = False,
        in_doubt: int | None = None,
        not_before: int = 0,
    ) -> Refresh:
        """Give the claim back, to be tried again by backoff; until the deadline has long passed without an answer.

        With a `pause`, in seconds, it was the stack that had to wait: no failure, and due again when that ends.
        """
        now = int(self.clock())
        answered = pause is not None or outcome is RefreshOutcome.CONFIGURATION_ERROR
        if not answered and not at_once and self.schedule.given_up(now, claimed.deadline):
            return self._end(claimed, Reason.EXPIRED, remaining, told)
        retries = claimed.retries or 0
        refresh_at = now
        if pause is not None:
            refresh_at = self.schedule.resume_at(now, claimed.deadline, pause)
            if outcome is RefreshOutcome.PACED and claimed.refresh_at is not None:
                # Nothing was sent, so what is due stays due: its turn, or its last try, may come before the pause ends.
                refresh_at = min(refresh_at, claimed.refresh_at)
        elif not at_once:
            alone = outcome is RefreshOutcome.CONFIGURATION_ERROR and retries >= ALONE_AFTER
            refresh_at = self.schedule.retry_at(now, claimed.deadline, retries, not_before=not_before, alone=alone)
        attempt_id = _attempt_id(claimed)

        def write() -> Refresh:
            try:
                stored = self.store.release(
                    claimed.id,
                    claimed.generation,
                    attempt_id,
                    refresh_at=refresh_at,
                    retries=retries + (pause is None),
                    in_doubt=in_doubt,
                )
            except Refused as refused:
                there = refused.connection
                if there is None or there.attempt is not None or _winner(claimed, there) is not None:
                    return self._verdict(claimed, there, told)
                stored = there  # Nobody holds it any more: an earlier try of this write went through.
            return self._report(stored, outcome, attempt_id, told)

        # Where it cannot be written, the lease runs out by itself; the next claim takes it for doubt, which is safe.
        return persist(write, remaining, self.sleep) or self._report(claimed, outcome, attempt_id, told)

    def _doubt(self, claimed: Connection, sent_at: int, remaining: Callable[[], float], told: _Told) -> Refresh:
        """No usable answer. Never again within this attempt: a server that revokes the family on replay would take
        the first request, still travelling, for an attack. A later claim, after the lease and the salvage have had
        their time, sends the same token once more."""
        if self.replay_policy == "never":
            return self._end(claimed, Reason.IN_DOUBT, remaining, told)
        lease_until = claimed.attempt.lease_until if claimed.attempt is not None else 0
        return self._release(
            claimed, RefreshOutcome.IN_DOUBT, remaining, told, in_doubt=sent_at, not_before=lease_until
        )

    def _end(
        self,
        claimed: Connection,
        reason: Reason,
        remaining: Callable[[], float],
        told: _Told = _Told(),
        *,
        quarantine: Sealed | None = None,
    ) -> Refresh:
        """Only a new consent helps. A refused write decides nothing: what it returns says who won."""
        attempt_id = _attempt_id(claimed)

        def write() -> Refresh:
            try:
                stored = self.store.require_reauthorization(
                    claimed.id,
                    claimed.generation,
                    attempt_id,
                    reason,
                    now=int(self.clock()),
                    quarantine=quarantine,
                )
            except Refused as refused:
                there = refused.connection
                if there is None or there.reason is not reason or there.generation != claimed.generation:
                    return self._verdict(claimed, there, told)
                stored = there  # An earlier try of this very write went through, unacknowledged.
            return self._report(stored, RefreshOutcome.REAUTHORIZATION_REQUIRED, attempt_id, told, reason)

        unwritten = RefreshOutcome.LOST if quarantine is not None else RefreshOutcome.REAUTHORIZATION_REQUIRED
        return persist(write, remaining, self.sleep) or self._report(claimed, unwritten, attempt_id, told, reason)

    def _report(
        self,
        connection: Connection,
        outcome: RefreshOutcome,
        attempt_id: str | None = None,
        told: _Told = _Told(),
        reason: Reason | None = None,
    ) -> Refresh:
        return Refresh(
            outcome=outcome,
            connection_id=connection.id,
            generation=connection.generation,
            attempt_id=attempt_id,
            reason=reason,
            error=told.error,
            http_status=told.http_status,
            exchange_ms=told.exchange_ms,
            seconds_to_deadline=connection.deadline - int(self.clock()),
            in_doubt_since=connection.in_doubt,
            retries=connection.retries,
        )

    def _verdict(self, claimed: Connection, there: Connection | None, told: _Told) -> Refresh:
        """What a refused write means: the item that stood in its way says what happened."""
        attempt_id = _attempt_id(claimed)
        if there is None:
            return self._report(claimed, RefreshOutcome.NOT_ACTIVE, attempt_id, told)
        outcome = _winner(claimed, there) or RefreshOutcome.IN_FLIGHT
        return self._report(there, outcome, attempt_id, told)


def exchange_budget(remaining: Callable[[], float]) -> float | None:
    """How many seconds one POST may take, or `None` where too little time remains to store what it would bring."""
    budget = min(LONGEST_EXCHANGE, remaining() - COMMIT_RESERVE)
    return None if budget < SHORTEST_EXCHANGE else budget


def timed(sealed: Sealed, lifetime: int, sent_at: int, schedule: Schedule) -> Rotated:
    """A sealed set with its times, all counted from the moment the request was sent. `lifetime` in seconds."""
    return Rotated(
        sealed=sealed,
        requested_at=sent_at,
        access_expires_at=sent_at + lifetime,
        deadline=schedule.deadline(sent_at),
        refresh_at=schedule.refresh_at(sent_at),
    )


def persist[Stored](
    write: Callable[[], Stored],
    remaining: Callable[[], float],
    sleep: Callable[[float], None],
    *,
    reserve: float = COMMIT_RESERVE,
) -> Stored | None:
    """`write` until the table acknowledges it, or `None` once only `reserve` seconds are left."""
    pause = 0.1
    while True:
        try:
            return write()
        except StoreUnavailable:
            if remaining() - pause < reserve:
                return None
            sleep(pause)
            pause = min(pause * 2, 2.0)


@dataclass(frozen=True, slots=True)
class Salvaged:
    """The salvage queue has what the table did not take, for the reason `table` (an error's code)."""

    table: str


class Lost(Exception):
    """Neither the table nor the salvage queue took it; `table` and `queue` are the codes of their last errors."""

    def __init__(self, table: str, queue: str) -> None:
        super().__init__("neither table nor queue")
        self.table = table
        self.queue = queue


def persist_or_salvage[Stored](
    write: Callable[[], Stored],
    salvage: Callable[[], None],
    remaining: Callable[[], float],
    sleep: Callable[[float], None],
) -> Stored | Salvaged:
    """`write` until the table acknowledges it; once only the time to salvage is left, whoever takes it first.

    Both may be repeated: each recognises what it wrote before. Raises `Lost` once there is no time for either.
    """
    table = queue = ""

    def noted() -> Stored:
        nonlocal table
        try:
            return write()
        except StoreUnavailable as error:
            table = str(error)
            raise

    if (stored := persist(noted, remaining, sleep)) is not None:
        return stored
    pause = 0.1
    while True:
        try:
            salvage()
            return Salvaged(table)
        except SalvageUnavailable as error:
            queue = str(error)
        if remaining() - pause < LAST_TRY:
            raise Lost(table, queue)
        sleep(pause)
        pause = min(pause * 2, 2.0)
        with suppress(StoreUnavailable):
            return noted()
        if remaining() < LAST_TRY:
            raise Lost(table, queue)


def _attempt_id(claimed: Connection) -> str:
    return claimed.attempt.id if claimed.attempt is not None else ""


def _hindrance(found: Connection, generation: int | None, now: int) -> RefreshOutcome | None:
    """Why a connection cannot be claimed at `now`, or `None` where only an attempt that ran out stands there."""
    if found.status is not Status.ACTIVE:
        return RefreshOutcome.NOT_ACTIVE
    if generation is not None and found.generation != generation:
        return RefreshOutcome.SUPERSEDED
    if found.leased(now):
        return RefreshOutcome.IN_FLIGHT
    due = found.refresh_at is not None and found.refresh_at <= now
    if not due and (generation is None or found.retries is not None):
        return RefreshOutcome.NOT_DUE
    return None


def _winner(claimed: Connection, there: Connection) -> RefreshOutcome | None:
    """Who won instead of `claimed`; `None` while it is still to be won."""
    if there.status is Status.DISCONNECTED:
        return RefreshOutcome.NOT_ACTIVE
    if there.generation > claimed.generation or there.grant_id != claimed.grant_id:
        return RefreshOutcome.SUPERSEDED
    return None if there.status is Status.ACTIVE else RefreshOutcome.NOT_ACTIVE
