"""The app's side of connecting: it asks for a link, and confirms what came of it.

`storage/links.py` says why a link and its confirmation are two secrets.
"""

import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin

from flowaccount_connect.connect.endings import Ending, LateEnding
from flowaccount_connect.connect.errors import (
    ConfirmationExpired,
    ConnectFailed,
    NotFinished,
    ReturnUrlNotAllowed,
    TenantMismatch,
    TooManyLinks,
    UnknownConfirmation,
)
from flowaccount_connect.connect.given import checked_state, checked_tenant, external_browser
from flowaccount_connect.domain.connection import Connection, Status
from flowaccount_connect.domain.errors import InvalidConnectionId
from flowaccount_connect.domain.ids import is_connection_id, new_attempt_id
from flowaccount_connect.domain.return_urls import is_allowed
from flowaccount_connect.storage.connections import ConnectionStore, from_item, grant_update
from flowaccount_connect.storage.dynamodb import Client, ConditionRefused, StoreUnavailable, call
from flowaccount_connect.storage.links import (
    CONNECTED,
    TO_BE_CONFIRMED,
    Act,
    Link,
    LinkStore,
    Refusal,
    TooMany,
    confirming,
    dropping,
    refused_put,
)

LINKS_PER_MINUTE = 60
"""The most links that one tenant gets in one minute."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new link: where to send the user's browser, and until when (epoch seconds). Its repr does not show the link."""

    connect_url: str
    expires_at: int

    def __repr__(self) -> str:
        return "Made(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """Makes links for the app and confirms what they brought. `client` is a DynamoDB client."""

    client: Client
    table: str
    environment: str
    links: LinkStore
    connections: ConnectionStore
    return_urls: Collection[str]
    lifetime: int
    """How long a link can be used, in seconds."""
    redirect_uri: str | None
    """`None`: the API's stage variable `callbackUrl` is the redirect URI."""
    links_per_minute: int = LINKS_PER_MINUTE
    clock: Callable[[], float] = time.time

    def make(
        self,
        *,
        tenant: object,
        return_url: object,
        expected_connection: object = None,
        app_state: object = None,
        external: object = None,
        redirect_uri: str,
    ) -> Made:
        """A link for one user of `tenant`; with an `expected_connection` it connects that business only.

        If `external`, LINE opens it in the phone's own browser.

        It leads to `authorize` on the host of `redirect_uri`, because the browser's cookie belongs to that host.
        Raises `InvalidTenant`, `ReturnUrlNotAllowed`, `InvalidConnectionId`, `InvalidState`, `InvalidExternalBrowser`,
        `TooManyLinks`, `StoreUnavailable`; then no link is written.
        """
        whose, state, more = checked_tenant(tenant), checked_state(app_state), external_browser(external)
        if not isinstance(return_url, str) or not is_allowed(return_url, self.return_urls):
            raise ReturnUrlNotAllowed
        if expected_connection is not None and not is_connection_id(expected_connection):
            raise InvalidConnectionId
        now = int(self.clock())
        try:
            self.links.count(whose, Act.LINKS, limit=self.links_per_minute, now=now)
        except TooMany as reached:
            raise TooManyLinks(retry_after=reached.retry_after) from None
        link = self.links.create(
            tenant=whose,
            return_url=return_url,
            expected_connection=expected_connection,
            app_state=state,
            expires_at=now + self.lifetime,
        )
        connect_url = f"{urljoin(redirect_uri, 'authorize')}?{urlencode({'link': link} | more)}"
        return Made(connect_url, now + self.lifetime)

    def confirm(self, confirmation: object, tenant: object) -> Connection:
        """Connect what the browser with this confirmation brought, if its link was made for `tenant`; the connection.

        The connection and the end of the link are written in one transaction. A repeated call answers the same while
        the connection is the one that this link made. Another tenant ends the link, and the token set that waits is
        dropped: whoever came back is not the user that the link was made for. Raises `InvalidTenant`, `CannotConfirm`,
        `StoreUnavailable`.
        """
        tenant = checked_tenant(tenant)
        for _ in range(3):
            link = self.links.of_confirmation(confirmation) if isinstance(confirmation, str) else None
            if link is None:
                raise UnknownConfirmation
            if link.result == CONNECTED:
                if tenant != link.tenant:
                    raise TenantMismatch
                return self._connected(link)
            if self._confirm(link, tenant):
                return self._connected(link)
        raise StoreUnavailable("the link changes all the time")

    def _connected(self, link: Link) -> Connection:
        """The connection that the link made. Raises `ConnectFailed` if another consent, or nothing, took its place."""
        found = self.connections.get(link.connection_id or "")
        if found is None or found.status is Status.DISCONNECTED:
            raise ConnectFailed(LateEnding.DISCONNECTED)
        if found.grant_id != link.grant_id:
            raise ConnectFailed(LateEnding.SUPERSEDED)
        return found

    def _confirm(self, link: Link, tenant: str) -> bool:
        """One try to end the link; whether it connected. If not, the link, read again, says why."""
        now, waiting = int(self.clock()), link.waiting
        if link.result not in (None, TO_BE_CONFIRMED):
            raise _failed(link.result)
        if link.is_over(now):
            with contextlib.suppress(StoreUnavailable, ConditionRefused):
                call(self.client.update_item, **dropping(self.table, link.id, LateEnding.CONFIRMATION_EXPIRED, now=now))
            raise ConfirmationExpired
        if waiting is None:
            raise NotFinished
        if tenant != link.tenant:
            self._drop(link, LateEnding.TENANT_MISMATCH, Refusal.TENANT_MISMATCH)
            return False
        update = grant_update(self.table, waiting, now=now)
        end = confirming(self.table, link.id, tenant, grant_id=waiting.grant_id, now=now)
        try:
            call(
                self.client.transact_write_items,
                TransactItems=[{"Update": update}, {"Update": end}],
                ClientRequestToken=new_attempt_id(),
            )
        except ConditionRefused as refused:
            item = refused.items[0]
            if item is None:
                return False  # The link changed meanwhile.
            stored = from_item(item)
            if stored.committed_by == link.consumed_by:
                return False  # This very confirmation was written already.
            if stored.status is Status.UNREADABLE:
                raise StoreUnavailable("unreadable") from None
            if stored.tenant == tenant:
                # The same tenant has connected the same business again since: those tokens are the newer ones.
                with contextlib.suppress(ConditionRefused):
                    end = confirming(self.table, link.id, tenant, grant_id=stored.grant_id, now=now)
                    call(self.client.update_item, **end)
            elif stored.tenant is not None:
                self._drop(link, Ending.WRONG_BUSINESS, Refusal.OTHER_TENANT)
            elif stored.status is Status.DISCONNECTED:
                self._drop(link, LateEnding.DISCONNECTED)
            else:
                self._drop(link, LateEnding.SUPERSEDED)
            return False
        return True

    def _drop(self, link: Link, ending: Ending | LateEnding, reason: Refusal | None = None) -> None:
        """Remove the token set that waits, and announce `reason`; the next look at the link finds its ending."""
        connection_id, now = link.connection_id or "", int(self.clock())
        writes: list[dict[str, object]] = [{"Update": dropping(self.table, link.id, ending, now=now)}]
        if reason is not None:
            writes.append({"Put": refused_put(self.table, connection_id, reason, link, self.clock)})
        with contextlib.suppress(ConditionRefused):
            call(self.client.transact_write_items, TransactItems=writes, ClientRequestToken=new_attempt_id())


def _failed(ending: str | None) -> Exception:
    """Why a link that ended without a connection is not confirmed."""
    match ending:
        case LateEnding.TENANT_MISMATCH:
            return TenantMismatch()
        case LateEnding.CONFIRMATION_EXPIRED:
            return ConfirmationExpired()
        case _:
            return ConnectFailed(ending or "")
