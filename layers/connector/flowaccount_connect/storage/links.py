"""A link of the app's: made for one user of one tenant, used up by one callback, ended by the app's confirmation.

docs/connecting.md ("Why a confirmation?") says why these are two secrets. Only hashes of them are stored. The
confirmation is made from the link, which the browser keeps in its cookie, and from a key in the item. Neither the table
nor the link alone is enough to make it.

    open ─callback─▶ used ─exchange─▶ to be confirmed ─confirm─▶ connected
                      └─ any other ending                  └─ another tenant, another business, 15 minutes: dropped
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from flowaccount_connect.domain.ids import derived, fingerprint, new_secret
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.dynamodb import (
    AttributeValue,
    Client,
    ConditionRefused,
    Item,
    attributes,
    call,
    get,
    number,
    text,
    updated,
    write,
)
from flowaccount_connect.storage.event_items import event_put
from flowaccount_connect.storage.stored_tokens import ATTRIBUTES, from_item

CONFIRM_WITHIN = 900
"""How long a link's token set waits for the confirmation, from the callback, in seconds."""

KEPT = 7 * 86_400
"""How long a link is kept after its end, in seconds. Until then its page can lead back to the app."""

MINUTE = 60

TO_BE_CONFIRMED = "to_be_confirmed"
CONNECTED = "connected"
_SET = ", ".join(ATTRIBUTES)


class Refusal(StrEnum):
    """Why a business was not connected: the `reason` of the event `connection.refused`."""

    OTHER_BUSINESS = "other_business"
    """The app expected another business."""
    OTHER_TENANT = "other_tenant"
    """The business belongs to another tenant."""
    TENANT_MISMATCH = "tenant_mismatch"
    """The app confirmed another tenant than the one that the link was made for."""


class TooMany(Exception):
    """A tenant has done all that it may do in this minute. `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many in this minute")
        self.retry_after = retry_after


class Act(StrEnum):
    """What is counted for each tenant and minute."""

    LINKS = "links"
    EXCHANGES = "exchanges"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link as it is stored. Times in epoch seconds."""

    id: str
    """The fingerprint of the link."""
    key: str
    """With the link it makes the confirmation; alone it is worth nothing."""
    tenant: str
    """The tenant that is to be connected."""
    return_url: str
    expires_at: int
    app_state: str | None = None
    """The app's own `state`, for the return URL."""
    expected_connection: str | None = None
    consumed_by: str | None = None
    confirm_until: int | None = None
    """Until when to confirm; set once the link is used."""
    result: str | None = None
    """`TO_BE_CONFIRMED`, `CONNECTED`, or another ending; `None` before its end."""
    connection_id: str | None = None
    grant_id: str | None = None
    """The grant that waits, or that was connected."""
    waiting: Commit | None = None
    """What the exchange brought, while it waits for the confirmation."""

    def confirmation(self, link: str) -> str:
        """The confirmation, made from the link itself."""
        return f"{self.id}.{derived(link, self.key)}"

    def is_over(self, now: int) -> bool:
        """Whether its time is over at `now`: the time to use it, or once it is used, the time to confirm."""
        return (self.confirm_until or self.expires_at) <= now

    def kept_for(self, callback: str) -> bool:
        """Whether the token set of this `callback` (its id) is kept here, or was."""
        return self.consumed_by == callback and self.result in (TO_BE_CONFIRMED, CONNECTED)


class LinkStore:
    """The links of one table, made in one environment. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str, environment: str) -> None:
        self._client = client
        self._table = table
        self._environment = environment

    def create(
        self,
        *,
        tenant: str,
        return_url: str,
        expected_connection: str | None = None,
        app_state: str | None = None,
        expires_at: int,
    ) -> str:
        """Write a new link, in one call; the link. Raises `StoreUnavailable`."""
        link = new_secret()
        made = Link(id=fingerprint(link), key=new_secret(), tenant=tenant, return_url=return_url, expires_at=expires_at)
        item = _key(made.id) | attributes(
            confirmation=fingerprint(made.confirmation(link)),
            key=made.key,
            environment=self._environment,
            tenant=tenant,
            return_url=return_url,
            expires_at=expires_at,
            ttl=expires_at + KEPT,
            expected_connection=expected_connection,
            app_state=app_state,
        )
        call(self._client.put_item, TableName=self._table, Item=item)
        return link

    def count(self, tenant: str, act: Act, *, limit: int, now: int) -> None:
        """Count one act of a tenant in this minute, in one call.

        Raises `TooMany` where the tenant has reached `limit` in this minute, and `StoreUnavailable`.
        """
        minute, gone = divmod(now, MINUTE)
        update = write(
            self._table,
            attributes(pk=f"TENANT#{fingerprint(tenant)}#{minute}", sk="MINUTE"),
            f"SET {act} = if_not_exists({act}, :zero) + :one, #ttl = :ttl",
            condition=f"attribute_not_exists({act}) OR {act} < :limit",
            zero=0,
            one=1,
            limit=limit,
            ttl=(minute + 2) * MINUTE,
        )
        try:
            call(self._client.update_item, **update)
        except ConditionRefused:
            raise TooMany(MINUTE - gone) from None

    def opened(self, link: str) -> Link | None:
        """The link as it is now, or `None` if this environment has no such link. Raises `StoreUnavailable`."""
        item = self._get(fingerprint(link))
        return link_from_item(item) if item else None

    def of_confirmation(self, confirmation: str) -> Link | None:
        """The link that a confirmation belongs to, or `None`. Raises `StoreUnavailable`."""
        item = self._get(confirmation.partition(".")[0])
        if item is None or not hmac.compare_digest(
            (text(item, "confirmation") or "").encode(), fingerprint(confirmation).encode()
        ):
            return None
        return link_from_item(item)

    def _get(self, link_id: str) -> Item | None:
        item = get(self._client, self._table, _key(link_id))
        return item if item and text(item, "environment") == self._environment else None

    def consume(self, link_id: str, callback: str, *, now: int) -> Link | None:
        """Use a link up: once, before it expires. `None` if it was used up before, has expired, or is gone.

        The time to confirm begins here, and the table forgets the link after it: a set that nobody confirms must not
        stay. Raises `StoreUnavailable`.
        """
        update = write(
            self._table,
            _key(link_id),
            "SET consumed_by = :attempt, confirm_until = :until, #ttl = :until",
            condition="attribute_not_exists(consumed_by) AND expires_at > :now AND environment = :environment",
            attempt=callback,
            until=now + CONFIRM_WITHIN,
            now=now,
            environment=self._environment,
        )
        try:
            return link_from_item(updated(self._client, update))
        except ConditionRefused as refused:
            item = refused.items[0]
            found = link_from_item(item) if item else None
            # An SDK retry may have hidden the success of the first write.
            return found if found is not None and found.consumed_by == callback else None


def keeping(table: str, link_id: str, commit: Commit, *, now: int) -> dict[str, object]:
    """The write that keeps what a callback brought until it is confirmed; refused if it is too late.

    To be sent alone or in a transaction.
    """
    assignments, _, values = commit.tokens.setting()
    return write(
        table,
        _key(link_id),
        f"SET #result = :waiting, connection_id = :connection, grant_id = :grant, {assignments}",
        condition="consumed_by = :attempt AND attribute_not_exists(#result) AND confirm_until > :now",
        waiting=TO_BE_CONFIRMED,
        connection=commit.connection_id,
        grant=commit.grant_id,
        attempt=commit.attempt_id,
        now=now,
        **values,
    )


def failing(table: str, link_id: str, callback: str, result: str, *, now: int) -> dict[str, object]:
    """The write of how this `callback` (its id) ended, if it brought nothing to confirm."""
    return write(
        table,
        _key(link_id),
        "SET #result = :result, #ttl = :ttl",
        condition="consumed_by = :attempt AND attribute_not_exists(#result)",
        result=result,
        attempt=callback,
        ttl=now + KEPT,
    )


def confirming(table: str, link_id: str, tenant: str, *, grant_id: str, now: int) -> dict[str, object]:
    """The write that ends a link with the connection of the grant `grant_id`, which it keeps.

    To be sent in a transaction with the write of the connection, or alone if the connection is stored already.
    """
    return write(
        table,
        _key(link_id),
        f"SET #result = :connected, grant_id = :grant, #ttl = :ttl REMOVE {_SET}",
        condition="#result = :waiting AND confirm_until > :now AND #tenant = :tenant",
        connected=CONNECTED,
        grant=grant_id,
        waiting=TO_BE_CONFIRMED,
        now=now,
        tenant=tenant,
        ttl=now + KEPT,
    )


def dropping(table: str, link_id: str, result: str, *, now: int) -> dict[str, object]:
    """The write that removes the waiting token set and keeps why; to be sent alone or in a transaction."""
    return write(
        table,
        _key(link_id),
        f"SET #result = :result, #ttl = :ttl REMOVE {_SET}",
        condition="#result = :waiting",
        result=result,
        waiting=TO_BE_CONFIRMED,
        ttl=now + KEPT,
    )


def refused_put(
    table: str, connection_id: str, reason: Refusal, link: Link, clock: Callable[[], float]
) -> dict[str, object]:
    """The Put of the event that a business was not connected to the tenant of `link`."""
    return event_put(
        table, "connection.refused", connection_id=connection_id, reason=reason, tenant=link.tenant, clock=clock
    )


def link_from_item(item: Item) -> Link:
    """The link that an item of the table describes."""
    connection_id, grant_id, tokens = text(item, "connection_id"), text(item, "grant_id"), from_item(item)
    waiting = None
    if tokens is not None:
        waiting = Commit(
            connection_id=connection_id or "",
            grant_id=grant_id or "",
            attempt_id=text(item, "consumed_by") or "",
            environment=text(item, "environment") or "",
            tenant=text(item, "tenant"),
            tokens=tokens,
        )
    return Link(
        id=(text(item, "pk") or "").removeprefix("LINK#"),
        key=text(item, "key") or "",
        tenant=text(item, "tenant") or "",
        return_url=text(item, "return_url") or "",
        expires_at=number(item, "expires_at") or 0,
        expected_connection=text(item, "expected_connection"),
        app_state=text(item, "app_state"),
        consumed_by=text(item, "consumed_by"),
        confirm_until=number(item, "confirm_until"),
        result=text(item, "result"),
        connection_id=connection_id,
        grant_id=grant_id,
        waiting=waiting,
    )


def _key(link_id: str) -> dict[str, AttributeValue]:
    return attributes(pk=f"LINK#{link_id}", sk="LINK")
