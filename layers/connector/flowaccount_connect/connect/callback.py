"""The end of a connect: the session is consumed once, the code exchanged once, the tokens sealed and stored.

Where a host's link was opened, it is used up right after the session, and what the exchange brings is not stored as a
connection but waits in the link for the host's confirmation; see `connect_link`.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from flowaccount_connect.domain.ids import fingerprint, new_attempt_id, new_grant_id
from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.oauth.client_secret import SecretMisconfigured, SecretUnavailable
from flowaccount_connect.oauth.token_answer import Answer, Outcome
from flowaccount_connect.rotation.new_tokens import timed
from flowaccount_connect.rotation.pending_commits import PendingCommit, Target
from flowaccount_connect.rotation.ports import CodeEndpoint, Queue, Seals, Secret
from flowaccount_connect.rotation.time_left import TimeLeft
from flowaccount_connect.rotation.writes import Lost, Pending, persist, persist_or_queue
from flowaccount_connect.storage.attempts import ConnectSession, SessionRefused, SessionStore, link_in, verifier_of
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import from_item, grant_update, tenant_check
from flowaccount_connect.storage.dynamodb import Client, ConditionRefused, StoreUnavailable, call
from flowaccount_connect.storage.links import (
    ConnectLink,
    LinkStore,
    Refusal,
    Waiting,
    failing,
    keeping,
    link_from_item,
    refused_put,
)
from flowaccount_connect.storage.sealing import SealingUnavailable, TokenPair
from flowaccount_connect.storage.stored_tokens import StoredTokens


class Ending(StrEnum):
    """How a connect can end; on the return to a host, `error` says all but the first."""

    CONNECTED = "connected"
    TO_BE_CONFIRMED = "to_be_confirmed"
    """The host has the last word; on the return it looks like a success, without a connection."""
    WRONG_BUSINESS = "wrong_business"
    """Another business than the one expected, or one that belongs to another tenant of the host's."""
    ACCESS_DENIED = "access_denied"
    """The user cancelled at FlowAccount."""
    AUTHORIZATION_FAILED = "authorization_failed"
    """FlowAccount sent another error back than a cancel."""
    SESSION_EXPIRED = "session_expired"
    SESSION_UNKNOWN = "session_unknown"
    """No such session, or it was begun in another browser; the two look the same from outside."""
    SESSION_USED = "session_used"
    """It was consumed, and how that ended is not known."""
    CODE_REJECTED = "code_rejected"
    INCOMPLETE_GRANT = "incomplete_grant"
    """FlowAccount gave no refresh token or no usable business code: the connection could not be kept."""
    CONFIGURATION_ERROR = "configuration_error"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"


_BY_OUTCOME = {
    Outcome.REJECTED: Ending.CODE_REJECTED,
    Outcome.INCOMPLETE: Ending.INCOMPLETE_GRANT,
    Outcome.CONFIGURATION_ERROR: Ending.CONFIGURATION_ERROR,
}

_RELOAD_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.5, 2.0, 2.0)
"""How long a reload waits for the callback that it overtook, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """What the browser brought back from FlowAccount, and the secret its cookie holds. Its repr shows none of it."""

    state: str
    code: str | None
    error: str | None
    issuer: str | None
    secret: str | None

    def __repr__(self) -> str:
        return "Returned(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a connect ended. `session` is given only to the browser that began it."""

    ending: Ending
    session: ConnectSession | None = None
    confirmation: str | None = field(default=None, repr=False)
    """The session that the host confirms, given only to the browser that used its link up."""
    connection_id: str | None = None
    exchange: Answer | None = None
    note: str | None = None
    """What to log beside the ending; nothing secret."""

    @property
    def unrecorded(self) -> bool:
        """Whether the write that stored the tokens, if there was one, did not record this ending with them."""
        stored = self.ending in (Ending.CONNECTED, Ending.TO_BE_CONFIRMED)
        return not stored or self.note is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """Finishes connects."""

    client: Client
    table: str
    environment: str
    sessions: SessionStore
    links: LinkStore
    endpoint: CodeEndpoint
    secret: Secret
    sealer: Seals
    queue: Queue
    schedule: Schedule
    access_token_lifetime: int = 3_600
    issuer: str | None = None
    """An `iss` (RFC 9207) that is missing or differs from this one is refused; `None`: `iss` is ignored."""
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    attempt_id: Callable[[], str] = new_attempt_id

    def finish(self, returned: Returned, *, remaining: Callable[[], float]) -> Ended:
        """Consume the session by one conditional write, then exchange the code, once, and store what it brings.

        The client secret is looked up first, so that a stack without one leaves the session and the code as they
        are. `remaining` tells the seconds left of the invocation. Raises `StoreUnavailable` if the session could not
        be consumed; then nothing was sent.
        """
        client_secret = ""
        if returned.error is None:
            try:
                client_secret = self.secret.get()
            except SecretMisconfigured as error:
                return Ended(ending=Ending.CONFIGURATION_ERROR, note=str(error))
            except SecretUnavailable as error:
                return Ended(ending=Ending.TEMPORARILY_UNAVAILABLE, note=f"secret: {error}")
        session_id, attempt_id = fingerprint(returned.state), self.attempt_id()
        if returned.secret is None:
            return Ended(ending=Ending.SESSION_UNKNOWN, note="no cookie")
        try:
            session = self.sessions.consume(
                session_id, secret=returned.secret, attempt_id=attempt_id, now=int(self.clock())
            )
        except SessionRefused as refused:
            return self._not_consumed(refused.session, returned.secret)
        # Whatever happens from here on, neither the session nor the link serves again.
        link = self.links.consume(session.link, attempt_id, now=int(self.clock())) if session.link is not None else None
        if session.link is not None and link is None:
            ended = Ended(ending=Ending.SESSION_USED, session=session)
        else:
            ended = self._consumed(session, link, returned, client_secret, remaining)
        if link is not None:
            ended = replace(ended, confirmation=link.session(link_in(returned.secret)))
        if ended.unrecorded:
            self._record(ended, link)
        return ended

    def _record(self, ended: Ended, link: ConnectLink | None) -> None:
        """Note how it ended. Without it a reload will say that the link was used; nothing else depends on it."""
        session = ended.session
        with contextlib.suppress(StoreUnavailable, ConditionRefused):
            if link is not None and ended.ending is not Ending.TO_BE_CONFIRMED:
                write = failing(self.table, link.id, link.consumed_by or "", ended.ending)
                call(self.client.update_item, **write)
        with contextlib.suppress(StoreUnavailable, ConditionRefused):
            if session is not None:
                self.sessions.finish(session.id, _result(ended))

    def _not_consumed(self, session: ConnectSession | None, secret: str) -> Ended:
        """Why the write was refused; a reload of what has ended, or is about to, shows the same again."""
        if session is None or not session.is_bound_to(secret):
            return Ended(ending=Ending.SESSION_UNKNOWN)
        if session.consumed_by is None:
            return Ended(ending=Ending.SESSION_EXPIRED, session=session)
        for pause in _RELOAD_PAUSES:
            if session.result is not None:
                break
            self.sleep(pause)
            session = self.sessions.get(session.id) or session
        ending, _, connection_id = (session.result or Ending.SESSION_USED).partition(":")
        link = self.links.opened(link_in(secret)) if session.link is not None else None
        used_up = link is not None and link.consumed_by == session.consumed_by
        return Ended(
            ending=Ending(ending),
            session=session,
            confirmation=link.session(link_in(secret)) if link is not None and used_up else None,
            connection_id=connection_id or None,
            note="reload",
        )

    def _consumed(
        self,
        session: ConnectSession,
        link: ConnectLink | None,
        returned: Returned,
        client_secret: str,
        remaining: Callable[[], float],
    ) -> Ended:
        if self.issuer is not None and returned.issuer != self.issuer:
            return Ended(ending=Ending.CONFIGURATION_ERROR, session=session, note="another issuer answered")
        if returned.error is not None or returned.code is None:
            denied = returned.error == "access_denied"
            ending = Ending.ACCESS_DENIED if denied else Ending.AUTHORIZATION_FAILED
            return Ended(ending=ending, session=session)
        try:
            data_key = self.sealer.data_key()
        except SealingUnavailable as error:
            return Ended(ending=Ending.TEMPORARILY_UNAVAILABLE, session=session, note=f"sealing: {error}")
        budget = TimeLeft(remaining).for_exchange()
        if budget is None:
            return Ended(ending=Ending.TEMPORARILY_UNAVAILABLE, session=session, note="no time left")
        grant_id, sent_at = new_grant_id(self.clock), int(self.clock())
        answer = self.endpoint.exchange_code(
            returned.code,
            session.redirect_uri,
            client_secret,
            budget=budget,
            verifier=verifier_of(returned.secret or "") if session.pkce else None,
        )
        if answer.outcome is Outcome.CONFIGURATION_ERROR and answer.error == "invalid_client":
            self.secret.newer_than(client_secret)  # For the next connect: this code is not sent again.
        tokens = answer.tokens
        if answer.outcome is not Outcome.TOKENS or tokens is None:
            ending = _BY_OUTCOME.get(answer.outcome, Ending.TEMPORARILY_UNAVAILABLE)
            return Ended(ending=ending, session=session, exchange=answer)
        connection_id = tokens.support_code or ""
        sealed = self.sealer.seal(
            TokenPair(tokens.access_token, tokens.refresh_token or ""),
            data_key,
            owner=connection_id,
            grant_id=grant_id,
        )
        rotated = timed(sealed, tokens.expires_in or self.access_token_lifetime, sent_at, self.schedule, issued=tokens)
        if link is not None:
            waiting = Waiting(connection_id=connection_id, grant_id=grant_id, tokens=rotated)
            return self._keep(session, link, waiting, answer, remaining)
        return self._store(session, connection_id, grant_id, rotated, answer, remaining)

    def _keep(
        self,
        session: ConnectSession,
        link: ConnectLink,
        waiting: Waiting,
        answer: Answer,
        remaining: Callable[[], float],
    ) -> Ended:
        """Let the set wait for the host, and the session's result with it, in one call; salvaged if the table stays
        away. A business that must not be connected here is announced, and nothing of it is stored."""
        attempt_id = link.consumed_by or ""
        kept = Ended(
            ending=Ending.TO_BE_CONFIRMED, session=session, connection_id=waiting.connection_id, exchange=answer
        )
        if link.expected_connection not in (None, waiting.connection_id):
            return self._refuse(kept, link, Refusal.OTHER_BUSINESS, remaining)
        writes: list[dict[str, object]] = [
            {"ConditionCheck": tenant_check(self.table, waiting.connection_id, link.tenant)},
            {"Update": keeping(self.table, link.id, attempt_id, waiting, now=waiting.tokens.requested_at)},
            {"Update": self.sessions.finishing(session.id, _result(kept))},
        ]

        def write() -> Ended | Refusal:
            nonlocal writes
            try:
                call(self.client.transact_write_items, TransactItems=writes, ClientRequestToken=self.attempt_id())
            except ConditionRefused as refused:
                others, item = refused.items[:2]
                if others is not None:
                    return Refusal.OTHER_TENANT
                if item is not None and link_from_item(item).kept_for(attempt_id):
                    return kept
                if item is not None or len(writes) == 2:
                    return replace(kept, ending=Ending.SESSION_EXPIRED, connection_id=None)
                # The link's item is gone, or only the session's: then nobody will ask for its result.
                writes = writes[:2]
                return write()
            return kept

        def send() -> None:
            commit = Commit(
                connection_id=waiting.connection_id,
                grant_id=waiting.grant_id,
                attempt_id=attempt_id,
                tokens=waiting.tokens,
            )
            self.queue.send(PendingCommit(target=Target.LINK, commit=commit, link_id=link.id))

        try:
            stored = persist_or_queue(write, send, TimeLeft(remaining, self.sleep))
        except Lost:
            return replace(kept, ending=Ending.TEMPORARILY_UNAVAILABLE, connection_id=None, note="lost")
        if isinstance(stored, Refusal):
            return self._refuse(kept, link, stored, remaining)
        return replace(kept, note="pending") if isinstance(stored, Pending) else stored

    def _refuse(self, kept: Ended, link: ConnectLink, reason: Refusal, remaining: Callable[[], float]) -> Ended:
        """Keep nothing of a business that must not be connected here but the event that says so."""
        connection_id = kept.connection_id or ""
        ended = replace(kept, ending=Ending.WRONG_BUSINESS, connection_id=None, note=reason.value)
        writes: list[dict[str, object]] = [
            {"Put": refused_put(self.table, connection_id, reason, link, self.clock)},
            {"Update": failing(self.table, link.id, link.consumed_by or "", ended.ending)},
        ]
        token = self.attempt_id()

        def write() -> bool:
            # Refused where it had been written after all.
            with contextlib.suppress(ConditionRefused):
                call(self.client.transact_write_items, TransactItems=writes, ClientRequestToken=token)
            return True

        if persist(write, TimeLeft(remaining, self.sleep)) is None:
            return replace(ended, note=f"{reason.value}, not announced")
        return ended

    def _store(
        self,
        session: ConnectSession,
        connection_id: str,
        grant_id: str,
        rotated: StoredTokens,
        answer: Answer,
        remaining: Callable[[], float],
    ) -> Ended:
        """Connect or reconnect, and the session's result with it, in one call; salvaged if the table stays away."""
        attempt_id = session.consumed_by or ""
        connected = Ended(ending=Ending.CONNECTED, session=session, connection_id=connection_id, exchange=answer)
        update = grant_update(
            self.table,
            connection_id,
            grant_id=grant_id,
            attempt_id=attempt_id,
            environment=self.environment,
            tokens=rotated,
            now=rotated.requested_at,
        )
        result = self.sessions.finishing(session.id, _result(connected))

        writes, token = [{"Update": update}, {"Update": result}], attempt_id

        def write() -> Ended:
            nonlocal writes, token
            try:
                call(self.client.transact_write_items, TransactItems=writes, ClientRequestToken=token)
            except ConditionRefused as refused:
                item = refused.items[0]
                if item is not None:
                    mine = from_item(item).committed_by == attempt_id
                    return replace(connected, note=None if mine else "a later consent is stored")
                # Only the session stood in the way: its item is gone. The tokens are what counts.
                writes, token = [{"Update": update}], self.attempt_id()
                return write()
            return connected

        def send() -> None:
            commit = Commit(
                connection_id=connection_id,
                grant_id=grant_id,
                attempt_id=attempt_id,
                environment=self.environment,
                tokens=rotated,
            )
            self.queue.send(PendingCommit(target=Target.CONSENT, commit=commit))

        try:
            stored = persist_or_queue(write, send, TimeLeft(remaining, self.sleep))
        except Lost:
            return replace(connected, ending=Ending.TEMPORARILY_UNAVAILABLE, connection_id=None, note="lost")
        return replace(connected, note="pending") if isinstance(stored, Pending) else stored


def _result(ended: Ended) -> str:
    """How a connect ended, as its session keeps it for a reload."""
    return f"{ended.ending}:{ended.connection_id}" if ended.connection_id else ended.ending.value
