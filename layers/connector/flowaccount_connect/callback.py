"""The end of a connect: the session is consumed once, the code exchanged once, the tokens sealed and stored."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from flowaccount_connect.client_secret import SecretMisconfigured, SecretUnavailable
from flowaccount_connect.connect_session import ConnectSession, SessionRefused, SessionStore
from flowaccount_connect.dynamodb import Client, ConditionRefused, StoreUnavailable, call
from flowaccount_connect.identifiers import fingerprint, new_attempt_id, new_grant_id
from flowaccount_connect.rotation import Seals, Secret, exchange_budget, persist, timed
from flowaccount_connect.salvage import SalvageUnavailable
from flowaccount_connect.schedule import Schedule
from flowaccount_connect.sealing import SealingUnavailable, Tokens
from flowaccount_connect.store import Rotated, from_item, grant_update
from flowaccount_connect.token_response import Answer, Outcome


class Ending(StrEnum):
    """How a connect can end; on the return to a host, `error` says all but the first."""

    CONNECTED = "connected"
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
    connection_id: str | None = None
    exchange: Answer | None = None
    note: str | None = None
    """What to log beside the ending; nothing secret."""


class Endpoint(Protocol):
    """Where codes are exchanged; see `token_endpoint.TokenEndpoint`."""

    def exchange_code(self, code: str, redirect_uri: str, client_secret: str, *, budget: float) -> Answer: ...


class Salvages(Protocol):
    """Where a set goes that the table did not take; see `salvage.SalvageQueue`."""

    def send_grant(
        self, connection_id: str, grant_id: str, attempt_id: str, environment: str, rotated: Rotated
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """Finishes connects."""

    client: Client
    table: str
    environment: str
    sessions: SessionStore
    endpoint: Endpoint
    secret: Secret
    sealer: Seals
    salvage: Salvages
    schedule: Schedule
    access_token_lifetime: int = 3_600
    issuer: str | None = None
    """An `iss` (RFC 9207) that differs from this one is refused; `None`: `iss` is ignored."""
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
        ended = self._consumed(session, returned, client_secret, attempt_id, remaining)
        if ended.ending is not Ending.CONNECTED or ended.note is not None:
            # Without it a reload will say that the link was used; nothing else depends on it.
            with contextlib.suppress(StoreUnavailable, ConditionRefused):
                self.sessions.finish(session.id, _result(ended))
        return ended

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
        return Ended(ending=Ending(ending), session=session, connection_id=connection_id or None, note="reload")

    def _consumed(
        self,
        session: ConnectSession,
        returned: Returned,
        client_secret: str,
        attempt_id: str,
        remaining: Callable[[], float],
    ) -> Ended:
        if self.issuer is not None and returned.issuer is not None and returned.issuer != self.issuer:
            return Ended(ending=Ending.CONFIGURATION_ERROR, session=session, note="another issuer answered")
        if returned.error is not None or returned.code is None:
            denied = returned.error == "access_denied"
            ending = Ending.ACCESS_DENIED if denied else Ending.AUTHORIZATION_FAILED
            return Ended(ending=ending, session=session)
        try:
            data_key = self.sealer.data_key()
        except SealingUnavailable as error:
            return Ended(ending=Ending.TEMPORARILY_UNAVAILABLE, session=session, note=f"sealing: {error}")
        budget = exchange_budget(remaining)
        if budget is None:
            return Ended(ending=Ending.TEMPORARILY_UNAVAILABLE, session=session, note="no time left")
        grant_id, sent_at = new_grant_id(self.clock), int(self.clock())
        answer = self.endpoint.exchange_code(returned.code, session.redirect_uri, client_secret, budget=budget)
        if answer.outcome is Outcome.CONFIGURATION_ERROR and answer.error == "invalid_client":
            self.secret.newer_than(client_secret)  # For the next connect: this code is not sent again.
        tokens = answer.tokens
        if answer.outcome is not Outcome.TOKENS or tokens is None:
            ending = _BY_OUTCOME.get(answer.outcome, Ending.TEMPORARILY_UNAVAILABLE)
            return Ended(ending=ending, session=session, exchange=answer)
        connection_id = tokens.support_code or ""
        sealed = self.sealer.seal(
            Tokens(tokens.access_token, tokens.refresh_token or ""),
            data_key,
            owner=connection_id,
            grant_id=grant_id,
        )
        rotated = timed(sealed, tokens.expires_in or self.access_token_lifetime, sent_at, self.schedule)
        return self._store(session, connection_id, grant_id, attempt_id, rotated, answer, remaining)

    def _store(
        self,
        session: ConnectSession,
        connection_id: str,
        grant_id: str,
        attempt_id: str,
        rotated: Rotated,
        answer: Answer,
        remaining: Callable[[], float],
    ) -> Ended:
        """Connect or reconnect, and the session's result with it, in one call; salvaged if the table stays away."""
        connected = Ended(ending=Ending.CONNECTED, session=session, connection_id=connection_id, exchange=answer)
        update = grant_update(
            self.table,
            connection_id,
            grant_id=grant_id,
            attempt_id=attempt_id,
            environment=self.environment,
            rotated=rotated,
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

        stored = persist(write, remaining, self.sleep)
        if stored is not None:
            return stored
        try:
            self.salvage.send_grant(connection_id, grant_id, attempt_id, self.environment, rotated)
        except SalvageUnavailable:
            return replace(connected, ending=Ending.TEMPORARILY_UNAVAILABLE, connection_id=None, note="lost")
        return replace(connected, note="salvaged")


def _result(ended: Ended) -> str:
    """How a connect ended, as its session keeps it for a reload."""
    return f"{ended.ending}:{ended.connection_id}" if ended.connection_id else ended.ending.value
