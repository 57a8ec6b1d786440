"""The end of a connect: the attempt is consumed once, the code is sent once, the tokens are sealed and stored.

An attempt that began with a link uses the link up, right after it is consumed. What its exchange brings is no
connection yet: it waits in the link for the app's confirmation (`storage.links`).
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from flowaccount_connect.connect.endings import Ending
from flowaccount_connect.domain.connection import Status
from flowaccount_connect.domain.ids import fingerprint, new_attempt_id, new_grant_id
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.oauth.client_secret import RETRY_AFTER, SecretMisconfigured, SecretUnavailable
from flowaccount_connect.oauth.token_answer import Answer, Outcome
from flowaccount_connect.rotation.new_tokens import timed
from flowaccount_connect.rotation.pending_commits import PendingCommit, Target
from flowaccount_connect.rotation.permits import NoPermit, Permit
from flowaccount_connect.rotation.ports import CodeEndpoint, Queue, Sealer, Secret
from flowaccount_connect.rotation.time_left import LAST_TRY, LONGEST_WRITE, TimeLeft
from flowaccount_connect.rotation.writes import Lost, Pending, acknowledged, persist, persist_or_queue
from flowaccount_connect.storage.attempts import AttemptRefused, AttemptStore, ConnectAttempt, link_in, verifier_of
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import from_item, grant_update, tenant_check
from flowaccount_connect.storage.dynamodb import Client, ConditionRefused, StoreUnavailable, call
from flowaccount_connect.storage.links import (
    Act,
    Link,
    LinkStore,
    Refusal,
    TooMany,
    failing,
    keeping,
    link_from_item,
    refused_put,
)
from flowaccount_connect.storage.sealing import DataKey, SealingUnavailable, TokenPair

EXCHANGES_PER_MINUTE = 6
"""The most codes that the links of one tenant can send in one minute."""

PATIENCE = 5.0
"""How long a callback waits for a permit, in seconds."""

_BY_OUTCOME = {
    Outcome.REJECTED: Ending.CODE_REJECTED,
    Outcome.INCOMPLETE: Ending.INCOMPLETE_GRANT,
    Outcome.CONFIGURATION_ERROR: Ending.CONFIGURATION_ERROR,
}

_RELOAD_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.5, 2.0, 2.0)
"""How long a reload waits for the first callback to finish: seconds between its looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """What the browser brought back from FlowAccount, and the secret in its cookie. Its repr shows none of it."""

    state: str
    code: str | None
    error: str | None
    issuer: str | None
    secret: str | None

    def __repr__(self) -> str:
        return "Returned(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a connect ended. `attempt` is given only to the browser that began it."""

    ending: Ending
    attempt: ConnectAttempt | None = None
    confirmation: str | None = field(default=None, repr=False)
    """The confirmation, given only to the browser that used the link up."""
    connection_id: str | None = None
    exchange: Answer | None = None
    refusal: Refusal | None = None
    """Why the business was not connected, where the ending is `WRONG_BUSINESS`."""
    note: str | None = None
    """What to log beside the ending; nothing secret. An ending with a note is `unrecorded`. The handler
    knows two: `lost` is logged as an error, and `reload` is counted in no metric."""
    untouched: bool = False
    """Whether nothing was consumed, so that a reload begins again."""
    retry_after: int | None = None
    """In how many seconds a reload can help."""

    @property
    def unrecorded(self) -> bool:
        """Whether the ending still has to be recorded: no write of tokens has done it."""
        stored = self.ending in (Ending.CONNECTED, Ending.TO_BE_CONFIRMED)
        return not stored or self.note is not None


class _NoTime(Exception):
    """Too little time is left of the invocation to send the code."""


_UNAVAILABLE = {SecretUnavailable: "secret", SealingUnavailable: "sealing", _NoTime: "no time left"}


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What one exchange needs. Its repr shows none of it."""

    client_secret: str = field(default="", repr=False)
    data_key: DataKey | None = field(default=None, repr=False)
    permit: Permit | None = None
    """`None`: nobody counts what is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """Finishes connects."""

    client: Client
    table: str
    environment: str
    attempts: AttemptStore
    links: LinkStore
    endpoint: CodeEndpoint
    secret: Secret
    sealer: Sealer
    queue: Queue
    schedule: Schedule
    issuer: str | None = None
    """A callback whose `iss` (RFC 9207) is missing or differs from this one is refused; `None`: `iss` is ignored."""
    permits: Callable[[], Permit] | None = None
    """Makes the permit for one POST; `None`: nobody counts what is sent."""
    exchanges_per_minute: int = EXCHANGES_PER_MINUTE
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    new_id: Callable[[], str] = new_attempt_id

    def finish(self, returned: Returned, *, remaining: Callable[[], float]) -> Ended:
        """Consume the attempt by one conditional write, then send the code, once, and store what it brings.

        What the exchange needs comes first: the client secret, a data key, the room in the rate, and the time. Without
        one of them the attempt, the link and the code stay as they are. `remaining` returns the seconds left of the
        invocation. Raises `StoreUnavailable` if the attempt could not be consumed; then nothing was sent.
        """
        secret = returned.secret
        if secret is None:
            return self._without_cookie(returned.state)
        prepared = _Prepared()
        if returned.error is None:
            try:
                prepared = self._prepare(returned.state, secret, remaining)
            except SecretMisconfigured as error:
                return Ended(ending=Ending.CONFIGURATION_ERROR, note=str(error), untouched=True)
            except (SecretUnavailable, SealingUnavailable, _NoTime) as error:
                return Ended(
                    ending=Ending.TEMPORARILY_UNAVAILABLE,
                    note=f"{_UNAVAILABLE[type(error)]}: {error}",
                    untouched=True,
                    retry_after=RETRY_AFTER,
                )
            except (NoPermit, TooMany) as full:
                note = "rate" if isinstance(full, NoPermit) else "tenant"
                return Ended(ending=Ending.BUSY, note=note, untouched=True, retry_after=full.retry_after)
        callback_id, time_left = self.new_id(), TimeLeft(remaining, self.sleep)
        try:
            attempt = acknowledged(
                lambda: self.attempts.consume(
                    fingerprint(returned.state), secret=secret, callback_id=callback_id, now=int(self.clock())
                ),
                time_left,
            )
        except AttemptRefused as refused:
            return self._not_consumed(refused.attempt, secret, remaining)
        # From here on neither the attempt nor the link serves again, whatever happens.
        link, link_id = None, attempt.link
        if link_id is not None:
            link = acknowledged(lambda: self.links.consume(link_id, callback_id, now=int(self.clock())), time_left)
        if link_id is not None and link is None:
            ended = Ended(ending=Ending.ATTEMPT_USED, attempt=attempt)
        else:
            ended = self._consumed(attempt, link, returned, prepared, remaining)
        if link is not None:
            ended = replace(ended, confirmation=link.confirmation(link_in(secret)))
        if ended.unrecorded:
            self._record(ended, link, remaining)
        return ended

    def _without_cookie(self, state: str) -> Ended:
        """The browser has no cookie of the attempt: it is another browser, or the attempt has ended and the cookie was
        cleared. Both learn at most that the attempt was used."""
        attempt = self.attempts.get(fingerprint(state))
        ended = attempt is not None and attempt.consumed_by is not None
        return Ended(ending=Ending.ATTEMPT_USED if ended else Ending.ATTEMPT_UNKNOWN, note="no cookie")

    def _prepare(self, state: str, secret: str, remaining: Callable[[], float]) -> "_Prepared":
        """What one exchange needs, before anything is consumed.

        Only the client secret if the attempt or the link cannot be consumed: the callback ends there. The permit is
        from the tenant's share and the stack's rate. Raises `SecretMisconfigured`, `SecretUnavailable`,
        `SealingUnavailable`, `TooMany`, `NoPermit`, `_NoTime`, `StoreUnavailable`.
        """
        client_secret, began = self.secret.get(), self.clock()
        attempt, now = self.attempts.get(fingerprint(state)), int(self.clock())
        # Both writes that consume will take as long as this read did.
        consuming = 2 * min(max(self.clock() - began, 0.0), LONGEST_WRITE)
        if attempt is None or not attempt.is_bound_to(secret) or not attempt.is_open(now):
            return _Prepared(client_secret)
        link = None
        if attempt.link is not None:
            link = self.links.opened(link_in(secret))
            if link is None or link.consumed_by is not None or link.is_over(now):
                return _Prepared(client_secret)
        data_key, permit = self.sealer.data_key(), None
        if self.permits is not None:
            if link is not None:
                self.links.count(link.tenant, Act.EXCHANGES, limit=self.exchanges_per_minute, now=now)
            permit = self.permits()
            permit.use(PATIENCE)
        if TimeLeft(lambda: remaining() - consuming).for_exchange() is None:
            raise _NoTime("the table is slow")
        return _Prepared(client_secret, data_key, permit)

    def _record(self, ended: Ended, link: Link | None, remaining: Callable[[], float]) -> None:
        """Record how the connect ended, if the time suffices: the log line comes after it. If it is not recorded, a
        reload only learns that the attempt was used."""
        attempt, now = ended.attempt, int(self.clock())
        with contextlib.suppress(StoreUnavailable, ConditionRefused):
            if link is not None and ended.ending is not Ending.TO_BE_CONFIRMED and remaining() > LAST_TRY:
                write = failing(self.table, link.id, link.consumed_by or "", ended.ending, now=now)
                call(self.client.update_item, **write)
        with contextlib.suppress(StoreUnavailable, ConditionRefused):
            if attempt is not None and remaining() > LAST_TRY:
                self.attempts.finish(attempt.id, _result(ended))

    def _not_consumed(self, attempt: ConnectAttempt | None, secret: str, remaining: Callable[[], float]) -> Ended:
        """Why the attempt could not be consumed. A reload in the same browser ends as the first callback did."""
        if attempt is None or not attempt.is_bound_to(secret):
            return Ended(ending=Ending.ATTEMPT_UNKNOWN)
        if attempt.consumed_by is None:
            return Ended(ending=Ending.ATTEMPT_EXPIRED, attempt=attempt)
        for pause in _RELOAD_PAUSES:
            if attempt.result is not None or remaining() < pause + LONGEST_WRITE:
                break
            self.sleep(pause)
            attempt = self.attempts.get(attempt.id) or attempt
        name, _, detail = (attempt.result or "").partition(":")
        ending = Ending(name) if name in set(Ending) else Ending.ATTEMPT_USED
        refused = detail if ending is Ending.WRONG_BUSINESS else ""
        link = self.links.opened(link_in(secret)) if attempt.link is not None else None
        used_up = link is not None and link.consumed_by == attempt.consumed_by
        return Ended(
            ending=ending,
            attempt=attempt,
            confirmation=link.confirmation(link_in(secret)) if link is not None and used_up else None,
            connection_id=None if refused else detail or None,
            refusal=Refusal(refused) if refused in set(Refusal) else None,
            note="reload",
        )

    def _consumed(
        self,
        attempt: ConnectAttempt,
        link: Link | None,
        returned: Returned,
        prepared: "_Prepared",
        remaining: Callable[[], float],
    ) -> Ended:
        """Send the code, and store or keep what it brings."""
        if self.issuer is not None and returned.issuer != self.issuer:
            return Ended(ending=Ending.CONFIGURATION_ERROR, attempt=attempt, note="another issuer answered")
        if returned.error is not None or returned.code is None:
            denied = returned.error == "access_denied"
            ending = Ending.ACCESS_DENIED if denied else Ending.AUTHORIZATION_FAILED
            return Ended(ending=ending, attempt=attempt)
        budget, data_key = TimeLeft(remaining).for_exchange(), prepared.data_key
        if budget is None or data_key is None:
            return Ended(ending=Ending.TEMPORARILY_UNAVAILABLE, attempt=attempt, note="no time left")
        grant_id, sent_at = new_grant_id(self.clock), int(self.clock())
        answer = self.endpoint.exchange_code(
            returned.code,
            attempt.redirect_uri,
            prepared.client_secret,
            budget=budget,
            verifier=verifier_of(returned.secret or "") if attempt.pkce else None,
        )
        if answer.outcome is Outcome.CONFIGURATION_ERROR and answer.error == "invalid_client":
            self.secret.newer_than(prepared.client_secret)  # For the next connect: this code is not sent again.
        if answer.outcome is Outcome.THROTTLED and prepared.permit is not None:
            with contextlib.suppress(StoreUnavailable):
                prepared.permit.throttled(sent_at, answer.retry_after)
        tokens = answer.tokens
        if answer.outcome is not Outcome.TOKENS or tokens is None:
            ending = _BY_OUTCOME.get(answer.outcome, Ending.TEMPORARILY_UNAVAILABLE)
            return Ended(ending=ending, attempt=attempt, exchange=answer)
        connection_id = tokens.support_code or ""
        sealed = self.sealer.seal(
            TokenPair(tokens.access_token, tokens.refresh_token or ""),
            data_key,
            owner=connection_id,
            grant_id=grant_id,
        )
        stored = timed(sealed, tokens, sent_at, self.schedule)
        commit = Commit(
            connection_id=connection_id,
            grant_id=grant_id,
            attempt_id=attempt.consumed_by or "",
            environment=self.environment,
            tenant=link.tenant if link is not None else None,
            tokens=stored,
        )
        if link is not None:
            return self._keep(attempt, link, commit, answer, remaining)
        return self._store(attempt, commit, answer, remaining)

    def _keep(
        self,
        attempt: ConnectAttempt,
        link: Link,
        commit: Commit,
        answer: Answer,
        remaining: Callable[[], float],
    ) -> Ended:
        """Keep the token set for the confirmation, and the attempt's result, in one call; queue it if the table does
        not take it. If the business must not be connected, only the event is stored."""
        kept = Ended(
            ending=Ending.TO_BE_CONFIRMED, attempt=attempt, connection_id=commit.connection_id, exchange=answer
        )
        if link.expected_connection not in (None, commit.connection_id):
            return self._refuse(kept, link, Refusal.OTHER_BUSINESS, remaining)
        writes: list[dict[str, object]] = [
            {"ConditionCheck": tenant_check(self.table, commit.connection_id, link.tenant)},
            {"Update": keeping(self.table, link.id, commit, now=commit.tokens.requested_at)},
            {"Update": self.attempts.finishing(attempt.id, _result(kept))},
        ]

        def write() -> Ended | Refusal:
            nonlocal writes
            try:
                call(self.client.transact_write_items, TransactItems=writes, ClientRequestToken=self.new_id())
            except ConditionRefused as refused:
                taken, item = refused.items[:2]
                if taken is not None:
                    if from_item(taken).status is Status.UNREADABLE:
                        raise StoreUnavailable("unreadable") from None
                    return Refusal.OTHER_TENANT
                if item is not None and link_from_item(item).kept_for(commit.attempt_id):
                    return kept
                if item is not None or len(writes) == 2:
                    return replace(kept, ending=Ending.ATTEMPT_EXPIRED, connection_id=None)
                # The link's item is gone, or the attempt's. Try without the attempt's: then a refusal means the link's.
                writes = writes[:2]
                return write()
            return kept

        def send() -> None:
            self.queue.send(PendingCommit(target=Target.LINK, commit=commit, link_id=link.id))

        stored = self._persisted(kept, write, send, remaining)
        return self._refuse(kept, link, stored, remaining) if isinstance(stored, Refusal) else stored

    def _refuse(self, kept: Ended, link: Link, reason: Refusal, remaining: Callable[[], float]) -> Ended:
        """The business must not be connected: store only the event."""
        connection_id, now = kept.connection_id or "", int(self.clock())
        ended = replace(kept, ending=Ending.WRONG_BUSINESS, connection_id=None, refusal=reason, note=reason.value)
        writes: list[dict[str, object]] = [
            {"Put": refused_put(self.table, connection_id, reason, link, self.clock)},
            {"Update": failing(self.table, link.id, link.consumed_by or "", ended.ending, now=now)},
        ]
        token = self.new_id()

        def write() -> bool:
            # The condition is refused if an earlier try was written after all.
            with contextlib.suppress(ConditionRefused):
                call(self.client.transact_write_items, TransactItems=writes, ClientRequestToken=token)
            return True

        if persist(write, TimeLeft(remaining, self.sleep)) is None:
            return replace(ended, note=f"{reason.value}, not announced")
        return ended

    def _store(self, attempt: ConnectAttempt, commit: Commit, answer: Answer, remaining: Callable[[], float]) -> Ended:
        """Write the connection and the attempt's result in one call; queue the token set if the table does not take
        it."""
        connected = Ended(ending=Ending.CONNECTED, attempt=attempt, connection_id=commit.connection_id, exchange=answer)
        update = grant_update(self.table, commit, now=commit.tokens.requested_at)
        result = self.attempts.finishing(attempt.id, _result(connected))

        writes, token = [{"Update": update}, {"Update": result}], commit.attempt_id

        def write() -> Ended:
            nonlocal writes, token
            try:
                call(self.client.transact_write_items, TransactItems=writes, ClientRequestToken=token)
            except ConditionRefused as refused:
                item = refused.items[0]
                if item is not None:
                    stored = from_item(item)
                    if stored.status is Status.UNREADABLE:
                        raise StoreUnavailable("unreadable") from None
                    if stored.status is Status.DISCONNECTED:
                        expired = replace(connected, ending=Ending.ATTEMPT_EXPIRED, connection_id=None)
                        return replace(expired, note="disconnected since the consent")
                    mine = stored.committed_by == commit.attempt_id
                    return replace(connected, note=None if mine else "a later consent is stored")
                # Only the attempt stood in the way: its item is gone. The tokens are what counts.
                writes, token = [{"Update": update}], self.new_id()
                return write()
            return connected

        def send() -> None:
            self.queue.send(PendingCommit(target=Target.CONSENT, commit=commit))

        return self._persisted(connected, write, send, remaining)

    def _persisted[Stored](
        self, ended: Ended, write: Callable[[], Stored], send: Callable[[], None], remaining: Callable[[], float]
    ) -> Stored | Ended:
        """What `write` returns once the table has acknowledged it; or else what `ended` is without that."""
        try:
            stored = persist_or_queue(write, send, TimeLeft(remaining, self.sleep))
        except Lost:
            return replace(ended, ending=Ending.TEMPORARILY_UNAVAILABLE, connection_id=None, note="lost")
        return replace(ended, note="pending") if isinstance(stored, Pending) else stored


def _result(ended: Ended) -> str:
    """The ending, and the connection or why it was refused, as the attempt keeps them for a reload."""
    detail = ended.connection_id or ended.refusal
    return f"{ended.ending}:{detail}" if detail else ended.ending.value
