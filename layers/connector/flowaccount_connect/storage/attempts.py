"""One attempt of a browser to connect: created by `authorize`, bound to the browser, consumed once by `callback`."""

import hmac
from dataclasses import dataclass

from flowaccount_connect.domain.ids import derived, fingerprint
from flowaccount_connect.storage.dynamodb import (
    AttributeValue,
    Client,
    ConditionRefused,
    Item,
    call,
    n,
    number,
    s,
    text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectSession:
    """A connect session. Times in epoch seconds; of `state` and the browser's secret only hashes are kept."""

    id: str
    """The fingerprint of `state`."""
    binding: str
    """The fingerprint of the value in the browser's cookie."""
    redirect_uri: str
    """Sent at the exchange byte for byte as at the authorization (RFC 6749 section 4.1.3)."""
    expires_at: int
    return_url: str | None = None
    host_state: str | None = None
    link: str | None = None
    """The id of the host's link that was opened, see `connect_link`; `None`: begun without one."""
    pkce: bool = False
    """Whether the code is bound to `verifier_of` the browser's secret."""
    consumed_by: str | None = None
    result: str | None = None
    """How it ended, once it has."""

    def is_bound_to(self, secret: str | None) -> bool:
        """Whether the browser that holds `secret` is the one that began."""
        return secret is not None and hmac.compare_digest(self.binding.encode(), fingerprint(secret).encode())


def cookie_name(session_id: str) -> str:
    """The cookie that binds the browser to a session: one each, so that several tabs may connect at once.

    `__Host-` (RFC 6265bis section 4.1.3.2): no other host and no other path of the domain can set or widen it.
    """
    return f"__Host-connect-{session_id[:16]}"


def browser_secret(secret: str, link: str | None) -> str:
    """The cookie's value: `secret`, and the link that was opened, which the browser has to keep, since only its hash
    is stored."""
    return f"{secret}.{link}" if link is not None else secret


def link_in(browser_secret: str) -> str:
    """The link in a cookie's value; empty where there is none."""
    return browser_secret.partition(".")[2]


def verifier_of(browser_secret: str) -> str:
    """The PKCE verifier (RFC 7636 section 4.1) of the browser that holds this cookie: so it is stored nowhere."""
    return derived(browser_secret, "pkce")


class SessionRefused(Exception):
    """The session cannot be consumed: `session` says why; `None` if it is unknown."""

    def __init__(self, session: ConnectSession | None) -> None:
        super().__init__("the session cannot be consumed")
        self.session = session


class SessionStore:
    """The connect sessions of one table, begun in one environment. `client` is a DynamoDB client.

    A session of the stack's other environment is unknown: its code must not be sent to this one's token endpoint.
    """

    def __init__(self, client: Client, table: str, environment: str) -> None:
        self._client = client
        self._table = table
        self._environment = environment

    def create(self, session: ConnectSession) -> None:
        """Write a new session, in one call. Raises `StoreUnavailable`."""
        item: dict[str, AttributeValue] = _key(session.id) | {
            "binding": s(session.binding),
            "redirect_uri": s(session.redirect_uri),
            "environment": s(self._environment),
            "expires_at": n(session.expires_at),
            "ttl": n(session.expires_at),
        }
        given = {"return_url": session.return_url, "host_state": session.host_state, "link": session.link}
        item |= {name: s(value) for name, value in given.items() if value is not None}
        if session.pkce:
            item["challenge_method"] = s("S256")
        call(self._client.put_item, TableName=self._table, Item=item)

    def consume(self, session_id: str, *, secret: str, attempt_id: str, now: int) -> ConnectSession:
        """Consume a session: once, before it expires, in the browser that began it.

        One conditional write; expiry is in the condition, since TTL deletion lags by days. Raises `SessionRefused`,
        `StoreUnavailable`.
        """
        try:
            answer = call(
                self._client.update_item,
                TableName=self._table,
                Key=_key(session_id),
                UpdateExpression="SET consumed_by = :attempt, consumed_at = :now",
                ConditionExpression="attribute_not_exists(consumed_by) AND expires_at > :now AND binding = :binding "
                "AND environment = :environment",
                ExpressionAttributeValues={
                    ":attempt": s(attempt_id),
                    ":now": n(now),
                    ":binding": s(fingerprint(secret)),
                    ":environment": s(self._environment),
                },
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ConditionRefused as refused:
            item = refused.items[0]
            found = _from_item(item) if item and text(item, "environment") == self._environment else None
            if found is not None and found.consumed_by == attempt_id:
                return found  # An SDK retry hid the success of the first write.
            raise SessionRefused(found) from None
        return _from_item(answer["Attributes"])

    def get(self, session_id: str) -> ConnectSession | None:
        """The session as it is now, or `None`. Raises `StoreUnavailable`."""
        answer = call(self._client.get_item, TableName=self._table, Key=_key(session_id), ConsistentRead=True)
        item = answer.get("Item")
        return _from_item(item) if item else None

    def finish(self, session_id: str, result: str) -> None:
        """Record how a session ended, so that a reload shows the same. Raises `StoreUnavailable`."""
        call(self._client.update_item, **self.finishing(session_id, result))

    def finishing(self, session_id: str, result: str) -> dict[str, object]:
        """The write of `finish`, to be sent with the connection's in one transaction."""
        return {
            "TableName": self._table,
            "Key": _key(session_id),
            "UpdateExpression": "SET #result = :result",
            "ConditionExpression": "attribute_exists(pk)",
            "ExpressionAttributeNames": {"#result": "result"},
            "ExpressionAttributeValues": {":result": s(result)},
        }


def _key(session_id: str) -> dict[str, AttributeValue]:
    return {"pk": s(f"SESSION#{session_id}"), "sk": s("SESSION")}


def _from_item(item: Item) -> ConnectSession:
    return ConnectSession(
        id=(text(item, "pk") or "").removeprefix("SESSION#"),
        binding=text(item, "binding") or "",
        redirect_uri=text(item, "redirect_uri") or "",
        expires_at=number(item, "expires_at") or 0,
        return_url=text(item, "return_url"),
        host_state=text(item, "host_state"),
        link=text(item, "link"),
        pkce=text(item, "challenge_method") == "S256",
        consumed_by=text(item, "consumed_by"),
        result=text(item, "result"),
    )
