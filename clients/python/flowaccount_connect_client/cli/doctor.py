"""Looks at a deployed stack and says, thing by thing, what is right, what is not, and what mends it.

Each check asks AWS with the operator's own credentials, and reads only. What these may not look at is neither right nor
wrong, and the permission that is missing is named. The client secret is not read: the stack itself sends one canary, a
refresh with a made-up token, and says what FlowAccount answered. That is one request at the token endpoint, and the
stack counts it like any other.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests
from botocore.exceptions import BotoCoreError, ClientError

from flowaccount_connect_client import AccessDenied, FlowAccountConnect, FlowAccountConnectError, __version__

CLOCK = 60
"""By how many seconds this machine's clock may differ from AWS's. AWS refuses signatures that are five minutes off."""

TICK = 180
"""The schedule ticks once a minute; after so many seconds without a tick it does not."""

PLANNED = 0.7
"""The share of what the rate can keep alive that one plans with."""

WORKERS = 2
"""How many workers refresh at once, by the template."""

OTHERS = 8
"""Executions at once beside the refresh workers: one of each other function, and `publish` for both of its sources."""

NEW_ACCOUNT = 10
"""Concurrent executions of a new AWS account."""

_LOOKED_BACK = 900
_DENIED = ("AccessDenied", "AuthorizationError", "NotAuthorized", "UnauthorizedOperation", "403")
_RUNBOOK = "docs/runbook.md#"


class State(str, Enum):
    """What was found."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """It could not be looked at."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `fix` says what to do, where there is something."""

    check: str
    state: State
    text: str
    fix: str = ""


def right(check: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(check, State.RIGHT, text)


def wrong(check: str, text: str, fix: str) -> Finding:
    """Something to do."""
    return Finding(check, State.WRONG, text, fix)


def unknown(check: str, text: str, fix: str) -> Finding:
    """Nobody knows."""
    return Finding(check, State.UNKNOWN, text, fix)


@dataclass(frozen=True)
class Account:
    """Where the stack is: its name, a client of each AWS service, and its API by the URL that the stack names."""

    name: str
    client: Callable[[str], Any]
    api: Callable[[str], FlowAccountConnect]
    clock: Callable[[], float] = time.time


@dataclass(frozen=True)
class Stack:
    """A stack as CloudFormation describes it."""

    account: Account
    status: str
    changed_at: float
    """When it was made or changed last, in epoch seconds."""
    outputs: Mapping[str, str]
    seen: Mapping[str, str] = field(default_factory=dict)
    """The headers of the answer."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.account.name

    def client(self, service: str) -> Any:
        """A client of an AWS service."""
        return self.account.client(service)


def examine(account: Account) -> Iterator[Finding]:
    """Everything about a stack, one finding after the other. Raises nothing that AWS or a library can bring about."""
    found: list[Stack] = []
    yield from _guarded("stack", "cloudformation", lambda: _described(account, found))
    for stack in found:
        for check, service, look in CHECKS:
            yield from _guarded(check, service, partial(look, stack))


def _guarded(check: str, service: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a check finds; and where it cannot look, why."""
    try:
        yield from look()
    except ClientError as error:
        yield _refused(check, service, error)
    except FlowAccountConnectError as error:
        yield unknown(check, str(error), "Then look again.")
    except BotoCoreError as error:
        yield unknown(check, f"AWS cannot be asked ({type(error).__name__})", "Check credentials, region and network.")
    except Exception as error:  # Whatever an answer makes go wrong is no reason not to look at the rest.
        yield unknown(check, f"the answer cannot be read ({type(error).__name__})", "Is this the stack's own account?")


def _refused(check: str, service: str, error: ClientError) -> Finding:
    """What AWS refused. Its words are not repeated: they can hold what was sent."""
    details = error.response.get("Error")
    code = str(details.get("Code") if isinstance(details, Mapping) else "unknown")
    if any(one in code for one in _DENIED):
        operation = {"Invoke": "InvokeFunction"}.get(error.operation_name, error.operation_name)
        return unknown(check, "may not be looked at", f"Allow this identity {service}:{operation}.")
    skew = _skew(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}), time.time())
    if skew is not None and abs(skew) > CLOCK:
        return wrong("clock", f"this machine's clock {_off(skew)}, and AWS refuses its signatures", _SET_CLOCK)
    return unknown(check, f"AWS answers {code}", "Check credentials and region.")


# ---- the stack itself -------------------------------------------------------------------------------------


def _described(account: Account, found: list[Stack]) -> Iterator[Finding]:
    try:
        answer = account.client("cloudformation").describe_stacks(StackName=account.name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        text = f"no stack {account.name} in this account and region"
        yield unknown("stack", text, "Name it with --stack, and check the region and the credentials.")
        return
    one = answer["Stacks"][0]
    changed: datetime = one.get("LastUpdatedTime") or one["CreationTime"]
    stack = Stack(
        account,
        str(one["StackStatus"]),
        changed.timestamp(),
        {output["OutputKey"]: str(output["OutputValue"]) for output in one.get("Outputs", [])},
        answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}),
    )
    text = f"{account.name} is {stack.status}"
    events = f"aws cloudformation describe-stack-events --stack-name {account.name}"
    if stack.status == "UPDATE_ROLLBACK_FAILED":
        resume = f"aws cloudformation continue-update-rollback --stack-name {account.name}"
        fix = f"AWS takes no deployment until that is done. Mend what {events} names, then: {resume}"
        yield wrong("stack", f"{text}: a deployment could not be taken back", fix)
    elif stack.status.endswith("_IN_PROGRESS"):
        yield unknown("stack", text, "Look again when that has ended.")
    elif stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
        yield right("stack", text)
    else:
        yield wrong("stack", text, f"The last deployment failed: {events} says why. Deploy again.")
    if "ApiUrl" in stack.outputs:
        found.append(stack)
    else:
        yield unknown("stack", f"{account.name} has no output ApiUrl", "It is no FlowAccount Connect: check its name.")


def _version(stack: Stack) -> Iterator[Finding]:
    deployed = stack.outputs.get("Version")
    if deployed is None:
        yield wrong("version", f"the stack is older than this command ({__version__})", "Deploy the same version.")
    elif deployed.split(".")[:2] != __version__.split(".")[:2]:
        fix = f"Install the client of {deployed}, or deploy {__version__}."
        yield wrong("version", f"the stack is {deployed}, this command {__version__}", fix)
    else:
        yield right("version", f"the stack is {deployed}, this command {__version__}")


_SET_CLOCK = "Set it, or turn time synchronization on."


def _clock(stack: Stack) -> Iterator[Finding]:
    skew = _skew(stack.seen, stack.account.clock())
    if skew is None:
        yield unknown("clock", "AWS's answer has no date", "Compare it with another clock.")
    elif abs(skew) > CLOCK:
        yield wrong("clock", f"this machine's clock {_off(skew)}", _SET_CLOCK)
    else:
        yield right("clock", "this machine's clock is AWS's")


def _off(skew: float) -> str:
    return f"is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} AWS's"


def _skew(headers: object, now: float) -> float | None:
    """By how many seconds this machine is ahead of who answered."""
    try:
        given = {str(name).lower(): value for name, value in dict(headers).items()}  # type: ignore[call-overload]
        return now - parsedate_to_datetime(given["date"]).timestamp()
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None


def _api(stack: Stack) -> Iterator[Finding]:
    url = stack.outputs["ApiUrl"]
    try:
        api = stack.account.api(url)
        url = api.url
        next(api.connections(), None)
    except AccessDenied as error:
        if error.denial == "permission":
            yield unknown("api", f"{url} may not be called", "Allow this identity execute-api:Invoke on it.")
        else:
            yield wrong("api", f"{url} refuses the request", error.detail)
    except FlowAccountConnectError as error:
        target = stack.outputs.get("DomainTarget")
        fix = f"Point the domain at {target} (CNAME)." if target else f"See {_RUNBOOK}api-errors."
        yield wrong("api", f"{url} does not answer: {error}", fix)
    else:
        yield right("api", f"{url} answers")


# ---- FlowAccount's side -----------------------------------------------------------------------------------


def _redirect_uri(stack: Stack) -> Iterator[Finding]:
    """Whether FlowAccount takes the redirect URI.

    Nobody can ask it for its registrations. But it must refuse a redirect URI that nobody registered (RFC 6749, section
    3.1.2.4), so the answer to one shows what a refusal looks like. Both answers are looked at without following them.
    """
    uri = stack.outputs["CallbackUrl"]
    answer = stack.client("lambda").get_function_configuration(
        FunctionName=stack.outputs["AuthorizeFunctionName"], Qualifier="live"
    )
    settings = answer["Environment"]["Variables"]
    endpoint, client_id = settings["AUTHORIZE_ENDPOINT"], settings["CLIENT_ID"]
    try:
        given, made_up = (_authorize(endpoint, client_id, one) for one in (uri, f"{uri}-that-nobody-registered"))
    except requests.RequestException as error:
        text = f"{urlsplit(endpoint).hostname} does not answer ({type(error).__name__}), so nobody knows about {uri}"
        yield unknown("redirect URI", text, f"Look again later; registered must be, character by character: {uri}")
        return
    if given.refused and given == made_up:
        fix = f"Register it for the client {client_id}, character by character: {uri}"
        yield wrong("redirect URI", "FlowAccount refuses it, or the client id", fix)
    elif made_up.refused and not given.refused:
        yield right("redirect URI", f"{uri} is registered")
    else:
        fix = f"Compare by eye: registered must be, character by character: {uri}"
        yield unknown("redirect URI", "FlowAccount's answer does not show whether it is registered", fix)


@dataclass(frozen=True)
class _Page:
    """The kind of an answer: its status, and where it leads without what is of this request alone."""

    status: int
    to: str

    @property
    def refused(self) -> bool:
        """Whether it is an error page, or leads to one."""
        return self.status == 400 or "error" in self.to.lower()


def _authorize(endpoint: str, client_id: str, redirect_uri: str) -> _Page:
    wanted = {
        "response_type": "code",
        "client_id": client_id,
        "scope": "flowaccount-api offline_access",
        "redirect_uri": redirect_uri,
        "state": "doctor",
    }
    with requests.get(endpoint, wanted, allow_redirects=False, stream=True, timeout=(5, 20)) as answer:
        if answer.status_code >= 500:
            raise requests.HTTPError(f"status {answer.status_code}")
        to = urlsplit(answer.headers.get("Location", ""))
        return _Page(answer.status_code, f"{to.netloc}{to.path}")


def _client_secret(stack: Stack) -> Iterator[Finding]:
    """Whether the client secret is there, and whether FlowAccount knows the client by it."""
    invoked = stack.client("lambda").invoke(
        FunctionName=stack.outputs["RefreshFunctionName"], Qualifier="live", Payload=b'{"canary": true}'
    )
    answer = json.loads(invoked["Payload"].read())
    sign, error, detail = (answer.get(name) for name in ("sign", "error", "detail"))
    put = f"make secret STACK={stack.name}"
    if "FunctionError" in invoked or not isinstance(sign, str):
        text = "the function refresh fails, or is older and sends no canary"
        yield unknown("client secret", text, f"See {_RUNBOOK}function-errors.")
    elif error == "secret_misconfigured":
        yield wrong("client secret", str(detail), f"Put it in, typed hidden: {put}")
        yield unknown("client", "FlowAccount is not asked without a client secret", "First the client secret.")
    elif error in ("secret_unavailable", "store_unavailable", "no_room_in_the_rate", "throttled"):
        yield unknown("client", f"no canary can be sent now ({error})", "Look again in a minute.")
    else:
        yield right("client secret", "it is there, and has the form that it must have")
        if sign == "well":
            yield right("client", f"FlowAccount knows the client, and refuses a made-up token ({error})")
        elif error == "invalid_client":
            fix = f"Is it the secret of this client id, and of this environment? Put it in again: {put}"
            yield wrong("client", "FlowAccount does not know the client by this secret (invalid_client)", fix)
        else:
            yield wrong("client", f"FlowAccount does not answer a made-up token as it must ({error})",
                        f"See {_RUNBOOK}unwell.")  # fmt: skip


# ---- at work ----------------------------------------------------------------------------------------------


def _schedule(stack: Stack) -> Iterator[Finding]:
    now = stack.account.clock()
    pages = (
        stack.client("logs")
        .get_paginator("filter_log_events")
        .paginate(
            logGroupName=f"/aws/lambda/{stack.outputs['SweepFunctionName']}",
            startTime=int((now - _LOOKED_BACK) * 1000),
            filterPattern='"tick"',
        )
    )
    ticks = [one for page in pages for event in page["events"] if (one := _tick(event)) is not None]
    at, facts = max(ticks, key=lambda one: one[0], default=(0.0, {}))
    if now - at <= TICK:
        yield right("schedule", f"it ticked {max(now - at, 0):.0f} s ago")
    elif not ticks and now - stack.changed_at < TICK:
        yield unknown("schedule", "it has not ticked yet; the stack is new", "Look again in two minutes.")
    else:
        text = f"it has not ticked for {(now - at) / 60:.0f} minutes" if ticks else "it has not ticked lately"
        yield wrong("schedule", text, f"See {_RUNBOOK}tick-missing.")
    if ticks:
        yield _connections(facts)


def _tick(event: Mapping[str, Any]) -> tuple[float, Mapping[str, Any]] | None:
    """When a tick was, and what it saw; `None` for another line of the log."""
    try:
        facts = json.loads(event["message"])
    except ValueError:
        return None
    return (event["timestamp"] / 1000, facts) if isinstance(facts, dict) and facts.get("message") == "tick" else None


def _connections(tick: Mapping[str, Any]) -> Finding:
    count, capacity, at_risk = (tick.get(name) for name in ("connections", "capacity", "at_risk"))
    if at_risk:
        return wrong(
            "connections", f"{at_risk} are at risk", f"flowaccount-connect status; {_RUNBOOK}connections-at-risk"
        )
    if not isinstance(capacity, int):
        return unknown("connections", "the last tick does not say", "Look again in a minute.")
    # They are counted from the first one on.
    count = count if isinstance(count, int) else 0
    text = f"{count} active, none at risk; the allowed rate keeps {capacity} alive"
    if count / max(capacity, 1) > PLANNED:
        return wrong("connections", text, f"See {_RUNBOOK}capacity-nearly-used.")
    return right("connections", text)


def _workers(stack: Stack) -> Iterator[Finding]:
    name = f"{stack.outputs['RefreshFunctionName']}:live"
    fed = stack.client("lambda").list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
    if any(one["State"] in ("Enabled", "Enabling", "Updating", "Creating") for one in fed):
        yield right("workers", "what is due reaches the function that refreshes it")
    else:
        text = "nothing that is due is refreshed: its queue is disabled; after a day all connections are lost"
        yield wrong("workers", text, f"feed refresh --enabled; {_RUNBOOK.removesuffix('#')}")


def _concurrency(stack: Stack) -> Iterator[Finding]:
    limits = stack.client("lambda").get_account_settings()["AccountLimit"]
    free = int(limits.get("UnreservedConcurrentExecutions", limits["ConcurrentExecutions"]))
    text = f"{free} functions may run at once; {WORKERS} refresh workers and {OTHERS} others can"
    if free < WORKERS + OTHERS:
        yield wrong("concurrency", text, "Ask AWS to raise Lambda's concurrent executions (Service Quotas).")
    elif free <= NEW_ACCOUNT:
        yield right("concurrency", f"{text}. A new account has so few: ask for more before customers come")
    else:
        yield right("concurrency", text)


_QUEUES = {
    "DeadLettersUrl": ("dead letters", "dead-letters"),
    "SalvageQueueUrl": ("pending commits", "pending-commits"),
    "UnpublishedUrl": ("changes that wait to be published", "events-unpublished"),
}
"""The queues that are empty while all is well, and the runbook's entry for each."""


def _queues(stack: Stack) -> Iterator[Finding]:
    full = False
    for output, (what, entry) in _QUEUES.items():
        count = _held(stack, output)
        if count:
            full = True
            yield wrong("queues", f"{count} {what}", f"See {_RUNBOOK}{entry}.")
    if not full:
        yield right("queues", "nothing was given up, and nothing waits to be written or published")


def _held(stack: Stack, output: str) -> int:
    """How many messages a queue holds, waiting or in work."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    held = stack.client("sqs").get_queue_attributes(QueueUrl=stack.outputs[output], AttributeNames=names)["Attributes"]
    return sum(int(held[name]) for name in names)


def _table(stack: Stack) -> Iterator[Finding]:
    """Whether DynamoDB refuses to delete the table. The template does not ask for it: a first deployment that fails has
    to delete what it made."""
    table = stack.outputs["TableName"]
    if stack.client("dynamodb").describe_table(TableName=table)["Table"].get("DeletionProtectionEnabled"):
        yield right("table", f"{table} is protected from deletion")
    else:
        how = f"aws dynamodb update-table --table-name {table} --deletion-protection-enabled"
        yield wrong("table", f"{table} can be deleted by one call, and all connections with it", f"Protect it: {how}")


def _receivers(stack: Stack) -> Iterator[Finding]:
    """Whether webhooks and messages reach their receivers; nothing where no receiver is configured."""
    if "UndeliveredUrl" not in stack.outputs:
        return
    if count := _held(stack, "UndeliveredUrl"):
        yield wrong("receivers", f"{count} webhooks or messages were given up", f"See {_RUNBOOK}undelivered.")
    else:
        text = "no webhook and no message was given up; `flowaccount-connect webhook test` sends one"
        yield right("receivers", text)


def _alarms(stack: Stack) -> Iterator[Finding]:
    topics = [stack.outputs[name] for name in ("AlarmTopicArn", "MailTopicArn") if name in stack.outputs]
    ask = stack.client("sns").get_paginator("list_subscriptions_by_topic").paginate
    subscribed = [one for topic in topics for page in ask(TopicArn=topic) for one in page["Subscriptions"]]
    if len(topics) > 1:
        # What writes to the mailbox hears them itself.
        notify = f":{stack.outputs['NotifyFunctionName']}"
        subscribed = [one for one in subscribed if not one["Endpoint"].endswith(notify)]
    waiting = [one["Endpoint"] for one in subscribed if one["SubscriptionArn"] == "PendingConfirmation"]
    heard = [one for one in subscribed if str(one["SubscriptionArn"]).startswith("arn:")]
    for address in waiting:
        yield wrong("alarms", f"{address} has not confirmed", "Confirm the mail that AWS sent there.")
    if heard:
        yield right("alarms", f"{len(heard)} subscribed to {topics[-1]}")
    elif not waiting:
        how = f"make deploy EMAIL=…, or subscribe somebody to {topics[0]}."
        yield wrong("alarms", "nobody hears them", how)


CHECKS: tuple[tuple[str, str, Callable[[Stack], Iterator[Finding]]], ...] = (
    ("version", "cloudformation", _version),
    ("clock", "cloudformation", _clock),
    ("api", "execute-api", _api),
    ("redirect URI", "lambda", _redirect_uri),
    ("client secret", "lambda", _client_secret),
    ("schedule", "logs", _schedule),
    ("workers", "lambda", _workers),
    ("concurrency", "lambda", _concurrency),
    ("table", "dynamodb", _table),
    ("queues", "sqs", _queues),
    ("receivers", "sqs", _receivers),
    ("alarms", "sns", _alarms),
)
"""What is looked at, in this order: its name, the AWS service that it asks, and how."""
