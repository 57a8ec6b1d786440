"""Commits that the table did not take: they wait, sealed, in a queue, and are applied under the same condition.

A message may come late, twice, or in any order. The commit of a refresh is written under the condition of a refresh,
those of a consent and of an import under the condition of a consent. The commit of a link is stored in the link, while
it can still be confirmed. Each recognises what it wrote before, and is dropped if it comes too late.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from flowaccount_connect.domain.connection import Status
from flowaccount_connect.domain.error_code import error_code
from flowaccount_connect.rotation.writes import QueueUnavailable
from flowaccount_connect.storage import links, stored_tokens
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import ConnectionStore, Refused, changed, grant_update
from flowaccount_connect.storage.dynamodb import Client, ConditionRefused, StoreUnavailable, call
from flowaccount_connect.storage.imports import ImportStore


class Target(StrEnum):
    """Where a commit is written."""

    CONNECTION = "connection"
    """A connection that was refreshed."""
    CONSENT = "consent"
    """A connection that a new consent makes or revives."""
    IMPORT = "import"
    """A connection that the proof of an imported token makes or revives."""
    LINK = "link"
    """A link, in which the tokens wait for the app's confirmation."""


class MalformedMessage(Exception):
    """A message that `PendingQueue` did not write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCommit:
    """A commit and where it is to be written: one message of the queue."""

    target: Target
    commit: Commit
    link_id: str = ""
    """The link in which the tokens wait; of the target `LINK` alone."""

    def to_json(self) -> str:
        """The message's body. It holds ciphertext, and no token."""
        commit = self.commit
        return json.dumps(
            {
                "target": self.target,
                "link_id": self.link_id,
                "connection_id": commit.connection_id,
                "grant_id": commit.grant_id,
                "attempt_id": commit.attempt_id,
                "generation": commit.generation,
                "environment": commit.environment,
                "tenant": commit.tenant,
                "tokens": commit.tokens.to_json(),
            }
        )

    @classmethod
    def from_json(cls, body: str) -> "PendingCommit":
        """Read what `to_json` wrote. Raises `MalformedMessage` for anything else."""
        try:
            message = json.loads(body)
            tenant = message["tenant"]
            return cls(
                target=Target(message["target"]),
                link_id=str(message["link_id"]),
                commit=Commit(
                    connection_id=str(message["connection_id"]),
                    grant_id=str(message["grant_id"]),
                    attempt_id=str(message["attempt_id"]),
                    generation=int(message["generation"]),
                    environment=str(message["environment"]),
                    tenant=str(tenant) if tenant is not None else None,
                    tokens=stored_tokens.from_json(message["tokens"]),
                ),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise MalformedMessage("not a pending commit") from None


class PendingQueue:
    """Sends commits that could not be written. `sqs` is an SQS client."""

    def __init__(self, sqs: Any, url: str) -> None:
        self._sqs = sqs
        self._url = url

    def send(self, pending: PendingCommit) -> None:
        """Queue one commit. Raises `QueueUnavailable`."""
        try:
            self._sqs.send_message(QueueUrl=self._url, MessageBody=pending.to_json())
        except Exception as error:
            raise QueueUnavailable(error_code(error)) from None


class PendingOutcome(StrEnum):
    """What became of a pending commit."""

    APPLIED = "applied"
    APPLIED_BEFORE = "applied_before"
    TOO_LATE = "too_late"
    """The generation has moved on, a later consent is stored, the connection was disconnected or belongs to another
    tenant, or the time to confirm is over: dropped."""
    UNKNOWN = "unknown"
    """There is no such link any more, or no such connection for longer than a token lives: dropped."""


class PendingCommits:
    """Applies pending commits. `client` is a DynamoDB client."""

    def __init__(self, client: Client, table: str) -> None:
        self._client = client
        self._table = table
        self._store = ConnectionStore(client, table)
        self._apply: dict[Target, Callable[[PendingCommit, int], PendingOutcome]] = {
            Target.CONNECTION: self._to_connection,
            Target.CONSENT: self._to_consent,
            Target.IMPORT: self._to_import,
            Target.LINK: self._to_link,
        }

    def apply(self, body: str, *, now: int) -> tuple[PendingOutcome, str]:
        """Apply one message; the outcome and the connection's id. `now` in epoch seconds.

        Idempotent, in any order. Raises `MalformedMessage`, and `StoreUnavailable` while the table cannot be written,
        or while the commit's connection cannot be understood.
        """
        pending = PendingCommit.from_json(body)
        commit = pending.commit
        try:
            return self._apply[pending.target](pending, now), commit.connection_id
        except Refused as refused:
            current = refused.connection
            if current is not None and current.status is Status.UNREADABLE:
                raise StoreUnavailable("unreadable") from None
            ours = None if current is None else current.committed_by == commit.attempt_id
            return _outcome(ours), commit.connection_id

    def _to_connection(self, pending: PendingCommit, now: int) -> PendingOutcome:
        commit, tokens = pending.commit, pending.commit.tokens
        try:
            self._store.commit(commit)
        except Refused as refused:
            lifetime = tokens.deadline - tokens.requested_at
            if refused.connection is None and now < tokens.deadline + lifetime:
                # A disconnect leaves a tombstone: the table itself was lost. While its token may be of use, the commit
                # waits for the table to be restored.
                raise StoreUnavailable("no such connection") from None
            raise
        return PendingOutcome.APPLIED

    def _to_consent(self, pending: PendingCommit, now: int) -> PendingOutcome:
        changed(self._client, grant_update(self._table, pending.commit, now=now))
        return PendingOutcome.APPLIED

    def _to_import(self, pending: PendingCommit, now: int) -> PendingOutcome:
        ImportStore(self._client, self._table, pending.commit.environment, clock=lambda: now).commit(pending.commit)
        return PendingOutcome.APPLIED

    def _to_link(self, pending: PendingCommit, now: int) -> PendingOutcome:
        commit = pending.commit
        try:
            call(self._client.update_item, **links.keeping(self._table, pending.link_id, commit, now=now))
        except ConditionRefused as refused:
            item = refused.items[0]
            return _outcome(None if item is None else links.link_from_item(item).kept_for(commit.attempt_id))
        return PendingOutcome.APPLIED


def _outcome(ours: bool | None) -> PendingOutcome:
    """What a refused write means. `ours`: whether this very commit is stored; `None`: nothing is."""
    if ours is None:
        return PendingOutcome.UNKNOWN
    return PendingOutcome.APPLIED_BEFORE if ours else PendingOutcome.TOO_LATE
