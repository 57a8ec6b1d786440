"""The host's side of connecting: it asks for a link, and confirms what came of it. See `connect_link` for why."""

import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode, urljoin

from flowaccount_connect.domain.ids import is_connection_id, new_attempt_id
from flowaccount_connect.domain.return_urls import is_allowed
from flowaccount_connect.http.problems import Problem, invalid
from flowaccount_connect.storage.connections import from_item, grant_update
from flowaccount_connect.storage.dynamodb import Client, ConditionRefused, StoreUnavailable, call
from flowaccount_connect.storage.links import (
    CONNECTED,
    TO_BE_CONFIRMED,
    ConnectLink,
    LinkStore,
    Refusal,
    confirming,
    dropping,
    refused_put,
)

LONGEST_TENANT = 128
"""The most characters of a host's name for its tenant."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new link: where to send the user's browser, and what confirms. Its repr shows neither."""

    session: str
    connect_url: str
    expires_at: int

    def __repr__(self) -> str:
        return "Made(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """Makes links for the host and confirms what they brought. `client` is a DynamoDB client."""

    client: Client
    table: str
    environment: str
    links: LinkStore
    return_urls: Collection[str]
    lifetime: int
    """How long a link may be used, in seconds."""
    redirect_uri: str | None
    """`None`: the stage variable `callbackUrl` of the API says it."""
    clock: Callable[[], float] = time.time

    def make(self, fields: Mapping[str, object], *, redirect_uri: str) -> Made:
        """A link for the `fields` tenant, return_url and, if there is one, expected_connection.

        It leads to `authorize` beside `redirect_uri`: the cookie that binds the browser is one host's. Raises
        `Problem` (400), and `StoreUnavailable`; then nothing is written.
        """
        tenant, return_url = _tenant(fields["tenant"]), fields["return_url"]
        if not isinstance(return_url, str) or not is_allowed(return_url, self.return_urls):
            raise invalid(
                "return_url_not_allowed",
                "return_url must equal one of the stack's allowed return URLs, character by character.",
            )
        expected = fields.get("expected_connection")
        if "expected_connection" in fields and not is_connection_id(expected):
            raise invalid("invalid_connection_id", "expected_connection must be a supportCode, or absent.")
        expires_at = int(self.clock()) + self.lifetime
        link, session = self.links.create(
            tenant=tenant,
            return_url=return_url,
            expected_connection=expected if isinstance(expected, str) else None,
            expires_at=expires_at,
        )
        return Made(session, f"{urljoin(redirect_uri, 'authorize')}?{urlencode({'session': link})}", expires_at)

    def confirm(self, session: str, tenant: object) -> str:
        """Connect what the session brought, if it was made for `tenant`; the connection's id.

        The connection and the end of the session are one transaction; a repetition finds it done. A tenant that
        differs ends the session, and what waits is dropped: somebody else than who asked for the link came back from
        it. Raises `Problem` (400, 404, 409), `StoreUnavailable`.
        """
        tenant = _tenant(tenant)
        for _ in range(3):
            link = self.links.of_session(session)
            if link is None:
                raise Problem(
                    "unknown_session",
                    HTTPStatus.NOT_FOUND,
                    "There is no such session, or it is long over. Make another.",
                )
            confirmed = self._confirm(link, tenant)
            if confirmed is not None:
                return confirmed
        raise StoreUnavailable("the session changes all the time")

    def _confirm(self, link: ConnectLink, tenant: str) -> str | None:
        """One try; `None` where somebody changed the link meanwhile."""
        now, waiting = int(self.clock()), link.waiting
        if link.result == CONNECTED and link.connection_id is not None:
            if tenant != link.tenant:
                raise _mismatch()
            return link.connection_id
        if link.result not in (None, TO_BE_CONFIRMED):
            raise _failed(link.result)
        if link.is_over(now):
            with contextlib.suppress(StoreUnavailable, ConditionRefused):
                call(self.client.update_item, **dropping(self.table, link.id, "session_expired"))
            raise _failed("session_expired")
        if waiting is None:
            raise Problem(
                "not_finished",
                HTTPStatus.CONFLICT,
                "The user is not back from FlowAccount yet. Confirm when the browser returns with this session.",
            )
        if tenant != link.tenant:
            self._drop(link, waiting.connection_id, Refusal.TENANT_MISMATCH)
            return None
        update = grant_update(
            self.table,
            waiting.connection_id,
            grant_id=waiting.grant_id,
            attempt_id=link.consumed_by or "",
            environment=self.environment,
            tokens=waiting.tokens,
            now=now,
            tenant=tenant,
        )
        writes = [{"Update": update}, {"Update": confirming(self.table, link.id, tenant, now=now)}]
        try:
            call(self.client.transact_write_items, TransactItems=writes, ClientRequestToken=new_attempt_id())
        except ConditionRefused as refused:
            item = refused.items[0]
            if item is None:
                return None
            there = from_item(item)
            if there.committed_by == link.consumed_by:
                return None
            if there.tenant == tenant:
                # The same tenant has connected the same business once more since: those tokens are the newer ones.
                with contextlib.suppress(ConditionRefused):
                    call(self.client.update_item, **confirming(self.table, link.id, tenant, now=now))
            else:
                self._drop(link, waiting.connection_id, Refusal.OTHER_TENANT if there.tenant else None)
            return None
        return waiting.connection_id

    def _drop(self, link: ConnectLink, connection_id: str, reason: Refusal | None) -> None:
        """Take away what waits and announce why; the next look at the link tells the caller."""
        result = _RESULTS[reason]
        writes: list[dict[str, object]] = [{"Update": dropping(self.table, link.id, result)}]
        if reason is not None:
            writes.append({"Put": refused_put(self.table, connection_id, reason, link, self.clock)})
        with contextlib.suppress(ConditionRefused):
            call(self.client.transact_write_items, TransactItems=writes, ClientRequestToken=new_attempt_id())


_RESULTS = {
    Refusal.TENANT_MISMATCH: "tenant_mismatch",
    Refusal.OTHER_TENANT: "wrong_business",
    None: "superseded",
}
"""How a link ends whose set was dropped; without a reason: a later consent to the same business is stored."""


def _tenant(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_TENANT or not value.isprintable():
        raise invalid("invalid_tenant", f"tenant must be 1 to {LONGEST_TENANT} printable characters.")
    return value


def _mismatch() -> Problem:
    return Problem(
        "tenant_mismatch",
        HTTPStatus.CONFLICT,
        "The session was made for another tenant: whoever came back is not who the link was made for, and gets "
        "nothing connected.",
    )


def _failed(result: str | None) -> Problem:
    if result == "tenant_mismatch":
        return _mismatch()
    if result == "session_expired":
        return Problem(
            "session_expired",
            HTTPStatus.CONFLICT,
            "It was not confirmed in time, and nothing is connected. Make another.",
        )
    return Problem(
        "connect_failed",
        HTTPStatus.CONFLICT,
        "The user came back without a connection; ending says why. Make another session to try again.",
        extra={"ending": result},
    )
