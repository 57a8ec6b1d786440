"""One attempt of a browser to connect: created by `authorize`, bound to the browser, consumed once by `callback`."""

import hmac
import re
from collections.abc import Collection
from dataclasses import dataclass

from flowaccount_connect.domain.ids import derived, fingerprint
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

CODE_LIFETIME = 9_000
"""How long a code of FlowAccount's lives, in seconds: 150 minutes from the choice of the business. So long an expired
attempt and its cookie are kept, and a browser that comes back late learns why it ended."""

COOKIE = "__Host-connect-"
"""How the names of our cookies begin. `__Host-` (RFC 6265bis section 4.1.3.2): no other host and no other path of the
domain can set such a cookie or read more into it."""

COOKIES_KEPT = 10
"""The most attempts whose cookies one browser keeps. More cookies make requests that API Gateway refuses."""

COOKIES_CLEARED = 40
"""The most cookies that one answer clears. API Gateway refuses an answer with more than 10,240 bytes of headers."""

_NAME = re.compile(rf"{COOKIE}[0-9a-f]{{16}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectAttempt:
    """An attempt as it is stored. Times in epoch seconds. Of `state` and the browser's secret only hashes are kept."""

    id: str
    """The fingerprint of `state`."""
    binding: str
    """The fingerprint of the value in the browser's cookie."""
    redirect_uri: str
    """Sent at the exchange byte for byte as at the authorization (RFC 6749 section 4.1.3)."""
    expires_at: int
    return_url: str | None = None
    app_state: str | None = None
    link: str | None = None
    """The id of the link that was opened; `None` where the attempt began without one."""
    pkce: bool = False
    """Whether the code is bound to `verifier_of` the browser's secret."""
    consumed_by: str | None = None
    """The id of the callback that consumed it."""
    result: str | None = None
    """How it ended; `None` before its end."""

    def is_bound_to(self, secret: str | None) -> bool:
        """Whether the browser that holds `secret` is the one that began."""
        return secret is not None and hmac.compare_digest(self.binding.encode(), fingerprint(secret).encode())

    def is_open(self, now: int) -> bool:
        """Whether it can still be consumed at `now`."""
        return self.consumed_by is None and self.expires_at > now


def cookie_name(attempt_id: str) -> str:
    """The name of the cookie that binds a browser to an attempt: one each, so that several tabs can connect at once."""
    return f"{COOKIE}{attempt_id[:16]}"


def beyond(names: Collection[str]) -> list[str]:
    """Which of a browser's cookies to clear before it gets one more, where `names` are in the order of their making.

    Only names that `cookie_name` makes: the answer repeats them.
    """
    ours = [name for name in names if _NAME.fullmatch(name)]
    return ours[: -(COOKIES_KEPT - 1)][:COOKIES_CLEARED]


def cookie(name: str, secret: str, seconds: int) -> str:
    """The header `Set-Cookie` that sets one of our cookies for so many seconds, or clears it with 0."""
    return f"{name}={secret}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}"


def browser_secret(secret: str, link: str | None) -> str:
    """The value of the cookie: `secret`, and the link that was opened. The browser alone keeps the link."""
    return f"{secret}.{link}" if link is not None else secret


def link_in(browser_secret: str) -> str:
    """The link in the value of a cookie; empty where the attempt began without one."""
    return browser_secret.partition(".")[2]


def verifier_of(browser_secret: str) -> str:
    """The PKCE verifier (RFC 7636 section 4.1) of the browser that holds this cookie. It is stored nowhere."""
    return derived(browser_secret, "pkce")


class AttemptRefused(Exception):
    """The attempt cannot be consumed. `attempt` is what stands in the table; `None` if nothing does."""

    def __init__(self, attempt: ConnectAttempt | None) -> None:
        super().__init__("the attempt cannot be consumed")
        self.attempt = attempt


class AttemptStore:
    """The attempts of one table that began in one environment. `client` is a DynamoDB client.

    An attempt of the stack's other environment is unknown: its code must not be sent to this one's token endpoint.
    """

    def __init__(self, client: Client, table: str, environment: str) -> None:
        self._client = client
        self._table = table
        self._environment = environment

    def create(self, attempt: ConnectAttempt) -> None:
        """Write a new attempt, in one call. Raises `StoreUnavailable`."""
        item = _key(attempt.id) | attributes(
            binding=attempt.binding,
            redirect_uri=attempt.redirect_uri,
            environment=self._environment,
            expires_at=attempt.expires_at,
            ttl=attempt.expires_at + CODE_LIFETIME,
            return_url=attempt.return_url,
            app_state=attempt.app_state,
            link=attempt.link,
            challenge_method="S256" if attempt.pkce else None,
        )
        call(self._client.put_item, TableName=self._table, Item=item)

    def consume(self, attempt_id: str, *, secret: str, callback_id: str, now: int) -> ConnectAttempt:
        """Consume an attempt: once, before it expires, in the browser that began it.

        One conditional write. The expiry is in its condition, since the table deletes expired items days later. Raises
        `AttemptRefused`, `StoreUnavailable`.
        """
        update = write(
            self._table,
            _key(attempt_id),
            "SET consumed_by = :callback, consumed_at = :now",
            condition="attribute_not_exists(consumed_by) AND expires_at > :now AND binding = :binding "
            "AND environment = :environment",
            callback=callback_id,
            now=now,
            binding=fingerprint(secret),
            environment=self._environment,
        )
        try:
            return _from_item(updated(self._client, update))
        except ConditionRefused as refused:
            found = self._found(refused.items[0])
            if found is not None and found.consumed_by == callback_id:
                return found  # A retry of the SDK hid the success of the first write.
            raise AttemptRefused(found) from None

    def get(self, attempt_id: str) -> ConnectAttempt | None:
        """The attempt as it is now, or `None`. Raises `StoreUnavailable`."""
        return self._found(get(self._client, self._table, _key(attempt_id)))

    def finish(self, attempt_id: str, result: str) -> None:
        """Record how an attempt ended, so that a reload shows the same. Raises `StoreUnavailable`."""
        call(self._client.update_item, **self.finishing(attempt_id, result))

    def finishing(self, attempt_id: str, result: str) -> dict[str, object]:
        """The write of `finish`, to be sent in one transaction with the write of the connection."""
        return write(
            self._table, _key(attempt_id), "SET #result = :result", condition="attribute_exists(pk)", result=result
        )

    def _found(self, item: Item | None) -> ConnectAttempt | None:
        return _from_item(item) if item and text(item, "environment") == self._environment else None


def _key(attempt_id: str) -> dict[str, AttributeValue]:
    return attributes(pk=f"ATTEMPT#{attempt_id}", sk="ATTEMPT")


def _from_item(item: Item) -> ConnectAttempt:
    return ConnectAttempt(
        id=(text(item, "pk") or "").removeprefix("ATTEMPT#"),
        binding=text(item, "binding") or "",
        redirect_uri=text(item, "redirect_uri") or "",
        expires_at=number(item, "expires_at") or 0,
        return_url=text(item, "return_url"),
        app_state=text(item, "app_state"),
        link=text(item, "link"),
        pkce=text(item, "challenge_method") == "S256",
        consumed_by=text(item, "consumed_by"),
        result=text(item, "result"),
    )
