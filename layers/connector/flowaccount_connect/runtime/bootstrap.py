"""The one place that wires the product: one builder for each function, from the environment variables.

A function calls its builder once, at the start of its process. A builder imports what only its function needs, so other
functions start faster. A wrong setting raises `InvalidSetting`, which names it.
"""

import gc
import os
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

from flowaccount_connect.runtime import settings
from flowaccount_connect.runtime.observability import logger

if TYPE_CHECKING:
    from flowaccount_connect.connect.begin import Authorize, BeginSettings
    from flowaccount_connect.connect.callback import Callback
    from flowaccount_connect.connect.confirm import Confirmation
    from flowaccount_connect.connections.importing import Importing
    from flowaccount_connect.connections.managing import Managing
    from flowaccount_connect.notifying.notify import Notify
    from flowaccount_connect.publishing.publisher import Publisher, UnpublishedQueue
    from flowaccount_connect.rotation.canary import Canary
    from flowaccount_connect.rotation.health import Change, Health
    from flowaccount_connect.rotation.pending_commits import PendingCommits
    from flowaccount_connect.rotation.protocol import Rotation
    from flowaccount_connect.rotation.refresh_function import RefreshFunction
    from flowaccount_connect.scheduling.rate import Rate
    from flowaccount_connect.scheduling.sweep import Sweep
    from flowaccount_connect.storage.sealing import Sealer
    from flowaccount_connect.tokens.serving import Serving


def _without_collection[**Parameters, Made](build: Callable[Parameters, Made]) -> Callable[Parameters, Made]:
    """`build` without garbage collection. Loaded modules live as long as the process, so a collection frees nothing.

    Nor does a later one: what has been loaded is frozen, else the next collection would look through all of it. Only
    for what is made once, at the start of a process.
    """

    @wraps(build)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Made:
        gc.disable()
        try:
            made = build(*args, **kwargs)
            gc.freeze()
            return made
        finally:
            gc.enable()

    return run


def client(service: str) -> Any:
    """A client of an AWS service, with the timeouts of `aws.client`."""
    from flowaccount_connect.runtime import aws

    return aws.client(service)


@_without_collection
def authorize() -> "Authorize":
    """The use case of `authorize`."""
    from flowaccount_connect.connect.begin import Authorize
    from flowaccount_connect.storage.attempts import AttemptStore
    from flowaccount_connect.storage.links import LinkStore

    stack, table = settings.stack(), client("dynamodb")
    return Authorize(
        attempts=AttemptStore(table, stack.table, stack.environment),
        links=LinkStore(table, stack.table, stack.environment),
        settings=begin_settings(),
    )


def begin_settings(variables: Mapping[str, str] = os.environ) -> "BeginSettings":
    """The settings of `authorize`. Raises `InvalidSetting`."""
    from flowaccount_connect.connect.begin import BeginSettings

    read = settings.Reader(variables)
    return BeginSettings(
        endpoint=read.url("AUTHORIZE_ENDPOINT"),
        client_id=read.text("CLIENT_ID"),
        redirect_uri=read.optional_url("REDIRECT_URI"),
        return_urls=read.urls("ALLOWED_RETURN_URLS"),
        link_lifetime=settings.LINK_LIFETIME,
        direct_connect=read.choice("DIRECT_CONNECT", "refused", "allowed") == "allowed",
        pkce=read.choice("PKCE", "disabled", "enabled") == "enabled",
        preselect=read.choice("PRESELECT_BUSINESS", "disabled", "enabled") == "enabled",
    )


@_without_collection
def callback() -> "tuple[Callback, frozenset[str]]":
    """The use case of `callback`, and the allowed return URLs.

    Each exchange of a code counts in the rate that all requests to the token endpoint share. The links of one
    tenant may use a fifth of the rate, but at least two exchanges a minute.
    """
    from flowaccount_connect.connect.callback import Callback
    from flowaccount_connect.oauth.client_secret import ClientSecret
    from flowaccount_connect.oauth.token_endpoint import TokenEndpoint
    from flowaccount_connect.rotation.pending_commits import PendingQueue
    from flowaccount_connect.rotation.permits import Kind
    from flowaccount_connect.storage.attempts import AttemptStore
    from flowaccount_connect.storage.links import LinkStore

    stack, tokens, read = settings.stack(), settings.tokens(), settings.Reader(os.environ)
    table = client("dynamodb")
    endpoint, rate = TokenEndpoint(tokens.endpoint, tokens.client_id), _rate(table, stack)
    made = Callback(
        client=table,
        table=stack.table,
        environment=stack.environment,
        attempts=AttemptStore(table, stack.table, stack.environment),
        links=LinkStore(table, stack.table, stack.environment),
        endpoint=endpoint,
        secret=ClientSecret(client("secretsmanager"), tokens.client_secret_name),
        sealer=_sealer(stack, tokens.key_id),
        queue=PendingQueue(client("sqs"), tokens.salvage_queue_url),
        schedule=tokens.schedule,
        issuer=read.optional("ISSUER"),
        permits=lambda: rate.permit(Kind.CONNECT),
        exchanges_per_minute=max(rate.rule.limit // 5, 2),
    )
    return made, read.urls("ALLOWED_RETURN_URLS")


@_without_collection
def refresh() -> "tuple[Rotation, Rotation, Health, Rate, Canary]":
    """The use cases of `refresh`: rotation of connections, rotation of imports, the endpoint's health, the rate, and
    the canary."""
    from dataclasses import replace

    from flowaccount_connect.domain.connection import LONGEST_LEASE
    from flowaccount_connect.oauth.client_secret import ClientSecret
    from flowaccount_connect.oauth.token_endpoint import TokenEndpoint
    from flowaccount_connect.rotation.canary import Canary
    from flowaccount_connect.rotation.health import Health
    from flowaccount_connect.rotation.pending_commits import PendingQueue, Target
    from flowaccount_connect.rotation.permits import Kind
    from flowaccount_connect.rotation.protocol import Rotation
    from flowaccount_connect.storage.connections import ConnectionStore
    from flowaccount_connect.storage.imports import ImportStore
    from flowaccount_connect.storage.shared_item import SharedItem

    stack, tokens, read = settings.stack(), settings.tokens(), settings.Reader(os.environ)
    endpoint = TokenEndpoint(tokens.endpoint, tokens.client_id)
    policy = read.choice("REPLAY_POLICY", "allowed", "never")
    table = client("dynamodb")
    secret = ClientSecret(client("secretsmanager"), tokens.client_secret_name)
    rate = _rate(table, stack)
    canary = Canary(endpoint=endpoint, secret=secret, permits=lambda: rate.permit(Kind.CANARY))
    health = Health(SharedItem(table, stack.table, "HEALTH"), canary, changed=_log_change)
    rotation = Rotation(
        store=ConnectionStore(table, stack.table),
        endpoint=endpoint,
        secret=secret,
        sealer=_sealer(stack, tokens.key_id),
        queue=PendingQueue(client("sqs"), tokens.salvage_queue_url),
        schedule=tokens.schedule,
        replay_policy="never" if policy == "never" else "allowed",
        lease_seconds=read.number("LEASE_SECONDS", 180, 60, LONGEST_LEASE),
        health=health,
    )
    imports = replace(
        rotation,
        store=ImportStore(table, stack.table, stack.environment),
        target=Target.IMPORT,
    )
    return rotation, imports, health, rate, canary


@_without_collection
def salvage() -> "PendingCommits":
    """The use case of `salvage`."""
    from flowaccount_connect.rotation.pending_commits import PendingCommits

    return PendingCommits(client("dynamodb"), settings.stack().table)


@_without_collection
def sweep() -> "Sweep":
    """The use case of `sweep`."""
    from flowaccount_connect.domain.schedule import Schedule
    from flowaccount_connect.scheduling.due_index import DueIndex
    from flowaccount_connect.scheduling.refresh_queue import RefreshQueue
    from flowaccount_connect.scheduling.sweep import Sweep
    from flowaccount_connect.storage.connections import ConnectionStore
    from flowaccount_connect.storage.counts import Counts

    stack, read = settings.stack(), settings.Reader(os.environ)
    table = client("dynamodb")
    return Sweep(
        page=DueIndex(table, stack.table).page,
        queue=RefreshQueue(client("sqs"), read.text("REFRESH_QUEUE_URL")),
        rate=_rate(table, stack),
        mark_at_risk=ConnectionStore(table, stack.table).mark_at_risk,
        counts=Counts(table, stack.table).get,
        schedule=Schedule(*settings.refresh_times(read)),
        at_risk_before=settings.at_risk_before(read),
    )


@_without_collection
def token() -> "tuple[Serving, bool, str | None]":
    """The use case of `token`, whether a user can connect without a link, and the redirect URI.

    The redirect URI is `None` where the API's stage variable `callbackUrl` has it.
    """
    from flowaccount_connect.storage.connections import ConnectionStore
    from flowaccount_connect.tokens.demand import Demand
    from flowaccount_connect.tokens.serving import AccessTokens, Serving

    stack, read = settings.stack(), settings.Reader(os.environ)
    table = client("dynamodb")
    serving = Serving(
        store=ConnectionStore(table, stack.table),
        tokens=AccessTokens(_sealer(stack, read.text("KEY_ID"))),
        demand=Demand(table, stack.table),
        refresh=_refresh_function(read).refresh,
    )
    direct = read.choice("DIRECT_CONNECT", "refused", "allowed") == "allowed"
    return serving, direct, read.optional_url("REDIRECT_URI")


@_without_collection
def connections() -> "Managing":
    """The first use case of `connections`: managing connections. The others are `confirmation` and `importing`."""
    from flowaccount_connect.connections.managing import Managing
    from flowaccount_connect.storage.connections import ConnectionStore
    from flowaccount_connect.storage.history import History
    from flowaccount_connect.storage.imports import ImportStore

    stack, table = settings.stack(), client("dynamodb")
    return Managing(
        client=table,
        table=stack.table,
        store=ConnectionStore(table, stack.table),
        imports=ImportStore(table, stack.table, stack.environment),
        histories=History(table, stack.table),
    )


def importing(managing: "Managing") -> "Importing":
    """The use case of `connections` that imports refresh tokens.

    Imports happen while customers move here from an older integration. No other route needs a key and `refresh`, so
    the function makes this with the first import. `managing` has the stores.
    """
    from flowaccount_connect.connections.importing import Importing

    stack, read = settings.stack(), settings.Reader(os.environ)
    return Importing(
        store=managing.store,
        imports=managing.imports,
        sealer=_sealer(stack, read.text("KEY_ID")),
        prove=_refresh_function(read).prove,
        refresh_token_lifetime=settings.refresh_token_lifetime(read),
    )


@_without_collection
def publish() -> "tuple[Publisher, UnpublishedQueue]":
    """The use case of `publish`, and the queue for changes that it could not publish."""
    from flowaccount_connect.publishing.publisher import Publisher, UnpublishedQueue
    from flowaccount_connect.storage.history import History

    stack, read = settings.stack(), settings.Reader(os.environ)
    publisher = Publisher(
        history=History(client("dynamodb"), stack.table),
        bus=client("events"),
        bus_name=read.text("EVENT_BUS_NAME"),
        environment=stack.environment,
        log=logger,
        publish_refreshed=read.choice("PUBLISH_REFRESHED", "disabled", "enabled") == "enabled",
    )
    return publisher, UnpublishedQueue(client("sqs"), read.text("UNPUBLISHED_QUEUE_URL"), logger)


@_without_collection
def notify() -> "Notify":
    """The use case of `notify`.

    `LOOPBACK_RECEIVERS` is set by the local stack alone: receivers on this machine, by http too. The template has no
    such variable.
    """
    import time

    from flowaccount_connect.notifying.notices import Notices
    from flowaccount_connect.notifying.notify import Notify
    from flowaccount_connect.notifying.people import People
    from flowaccount_connect.notifying.queue import Queue
    from flowaccount_connect.notifying.sending import Sender
    from flowaccount_connect.notifying.signing import SigningKeys
    from flowaccount_connect.notifying.webhooks import Webhooks, receiver

    stack, read = settings.stack(), settings.Reader(os.environ)
    secrets = client("secretsmanager")
    post = Sender(loopback=read.choice("LOOPBACK_RECEIVERS", "refused", "allowed") == "allowed").post
    keys = SigningKeys(secrets, read.optional("WEBHOOK_SECRET") or "", logger)
    mail = read.optional("MAIL_TOPIC_ARN")
    return Notify(
        queue=Queue(client("sqs"), read.text("NOTIFY_QUEUE_URL"), read.text("UNDELIVERED_QUEUE_URL")),
        webhooks=Webhooks(
            urls={receiver(url): url for url in sorted(read.urls("WEBHOOK_URLS"))},
            events=frozenset((read.optional("WEBHOOK_EVENTS") or "").split()),
            keys=keys.get,
            post=post,
            clock=time.time,
        ),
        people=People(
            secrets=secrets,
            slack=read.optional("SLACK_SECRET_NAME"),
            line=read.optional("LINE_SECRET_NAME"),
            mail=mail,
            sns=client("sns") if mail else None,
            post=post,
        ),
        notices=Notices(client("dynamodb"), stack.table),
        stack=stack.name,
        language="th" if read.choice("NOTIFICATION_LANGUAGE", "en", "th") == "th" else "en",
        log=logger,
    )


@_without_collection
def confirmation(table: Any = None) -> "Confirmation":
    """The second use case of `connections`: making links and confirming them.

    `table` is the DynamoDB client that `connections` uses already.
    """
    from flowaccount_connect.connect.confirm import Confirmation
    from flowaccount_connect.storage.connections import ConnectionStore
    from flowaccount_connect.storage.links import LinkStore

    stack, read, table = settings.stack(), settings.Reader(os.environ), table or client("dynamodb")
    return Confirmation(
        client=table,
        table=stack.table,
        environment=stack.environment,
        links=LinkStore(table, stack.table, stack.environment),
        connections=ConnectionStore(table, stack.table),
        return_urls=read.urls("ALLOWED_RETURN_URLS"),
        lifetime=settings.LINK_LIFETIME,
        redirect_uri=read.optional_url("REDIRECT_URI"),
    )


def _refresh_function(read: settings.Reader) -> "RefreshFunction":
    from flowaccount_connect.rotation.refresh_function import LONGEST_INVOCATION, RefreshFunction
    from flowaccount_connect.runtime import aws

    # One attempt only: a second invocation would find the claim of the first one and wait for it.
    waits = aws.client("lambda", read_timeout=LONGEST_INVOCATION - aws.CONNECT_TIMEOUT, attempts=1)
    return RefreshFunction(waits, read.text("REFRESH_FUNCTION"), logger)


def _log_change(change: "Change") -> None:
    """One line for each change of the endpoint's health."""
    facts = {"cause": change.cause.value, "since": change.since}
    if change.well:
        logger.warning("the token endpoint is well again", extra=facts)
    else:
        logger.error("the token endpoint is unwell", extra=facts)


def _rate(table: Any, stack: settings.Stack) -> "Rate":
    from flowaccount_connect.scheduling.rate import Rate, Rule
    from flowaccount_connect.storage.shared_item import SharedItem

    limit = settings.Reader(os.environ).number("REFRESHES_PER_MINUTE", 15, 1, 60_000)
    return Rate(SharedItem(table, stack.table, "RATE"), Rule(limit))


def _sealer(stack: settings.Stack, key_id: str) -> "Sealer":
    from flowaccount_connect.storage.sealing import Sealer

    return Sealer(client("kms"), key_id, stack=stack.name, environment=stack.environment)
