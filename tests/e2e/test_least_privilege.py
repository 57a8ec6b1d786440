"""Nothing is granted in excess: without any one permission, something that its function is for stops working.

Each flow is the smallest that needs what it is named for. It works under the roles as they are deployed; then one
permission is taken out of a role, the flow is run once more, and must both fail and have been refused that very
permission. What the roles allow is read from the deployed roles, so a permission without a proof fails here.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from flowaccount_connect.notifying.webhooks import receiver
from flowaccount_connect.rotation.pending_commits import PendingCommit, Target
from flowaccount_connect.storage import stored_tokens
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import key_of
from tests.e2e.addresses import RECEIVERS, RETURN_URL
from tests.e2e.conftest import Simulator, change, delete_connections, until
from tests.e2e.links import confirmation_of
from tests.e2e.tampering import denied, restart
from tests.e2e.test_webhooks import listening, status
from tools.local import service
from tools.local.errors import LocalError
from tools.local.stack import FUNCTIONS as ALWAYS
from tools.local.stack import NOTIFY, Stack
from tools.local.visit import HttpVisitor
from tools.simulator.messengers import LINE_GROUP, LINE_PATH, LINE_TOKEN, SLACK_PATH

FUNCTIONS = (*ALWAYS, NOTIFY)
EVENTS = Path(__file__).parents[2] / "events"
TENANT = "least-privilege"
# One business for each kind of flow, so that none finds what another left.
REFRESHED, SERVED, LINKED, CONNECTED, IMPORTED, SWEPT = (f"N100000{number}" for number in range(1, 7))

SHORT = 19
"""Seconds that a function has here which keeps trying to write: just enough to send a request, and to give up soon."""


@dataclass(frozen=True, slots=True)
class World:
    """The deployed stack and what acts on it."""

    up: Stack
    simulator: Simulator
    set_item: Callable[..., None]

    def aws(self, name: str) -> Any:
        """A client of the stack's."""
        return service.client(self.up, name)

    def invoke(self, function: str, event: object) -> Any:
        """What a function answers to an event."""
        return service.invoke(self.up, function, event)

    def call(self, method: str, path: str, body: object = None) -> requests.Response:
        """A call of the app's."""
        return service.call(self.up, method, path, body=body)

    def generation(self, connection: str) -> int:
        """How often a connection's tokens have changed."""
        item = service.connection_item(self.up, connection)
        return int(item["generation"]["N"]) if item else 0

    def item(self, pk: str, sk: str) -> Any:
        """An item of the table, or `None`."""
        key = {"pk": {"S": pk}, "sk": {"S": sk}}
        return self.aws("dynamodb").get_item(TableName=self.up.table, Key=key, ConsistentRead=True).get("Item")

    def refresh(self, connection: str = REFRESHED, **more: object) -> str:
        """Refresh a connection as if six hours had passed; what became of it."""
        if not more:
            self.set_item(connection, refresh_at=int(time.time()) - 1)
        answer = self.invoke("refresh", {"connection_id": connection, **more})
        return str(answer.get("outcome", answer.get("error")))


# What the functions are for -----------------------------------------------------------------------------------------


def a_login_begins(world: World) -> bool:
    return requests.get(world.up.authorize_url, allow_redirects=False, timeout=30).status_code == 302


def a_link_is_made(world: World) -> bool:
    body = {"tenant": TENANT, "return_url": RETURN_URL}
    return world.call("POST", "/connect-links", body).status_code == 201


def a_link_opens(world: World) -> bool:
    return requests.get(link(world)["connect_url"], allow_redirects=False, timeout=30).status_code == 302


def link(world: World, tenant: str = TENANT) -> dict[str, Any]:
    """A new link of a tenant's."""
    answer = world.call("POST", "/connect-links", {"tenant": tenant, "return_url": RETURN_URL})
    made: dict[str, Any] = answer.json()
    return made | {"confirmation": confirmation_of(world.up, made["connect_url"])}


def confirm(world: World, confirmation: str, tenant: str) -> requests.Response:
    """The app confirms what a browser brought."""
    return world.call("POST", "/connect-links/confirm", {"confirmation": confirmation, "tenant": tenant})


@dataclass(frozen=True, slots=True)
class Back:
    """A browser that comes back from FlowAccount."""

    world: World
    url: str
    cookie: str

    def callback(self, alias: str = "") -> str:
        """Where it ends: a page, or what it brings to the app; and why, where the log says more."""
        event = json.loads((EVENTS / "callback.json").read_text())
        query = {name: value for name, (value,) in parse_qs(urlsplit(self.url).query).items()}
        event |= {"queryStringParameters": query}
        event |= {"multiValueQueryStringParameters": {name: [value] for name, value in query.items()}}
        event["headers"]["Cookie"] = self.cookie
        event["multiValueHeaders"]["Cookie"] = [self.cookie]
        began = int(time.time() * 1000) - 1
        invoked = self.world.aws("lambda").invoke(
            FunctionName=self.world.up.functions["callback"] + alias, Payload=json.dumps(event).encode()
        )
        answer = json.loads(invoked["Payload"].read())
        group = f"/aws/lambda/{self.world.up.functions['callback']}"
        lines = self.world.aws("logs").filter_log_events(logGroupName=group, startTime=began)["events"]
        notes = [told["note"] for line in lines if "note" in (told := read(line["message"]))]
        headers = {name.lower(): value for name, (value, *_) in answer.get("multiValueHeaders", {}).items()}
        headers |= {name.lower(): value for name, value in answer.get("headers", {}).items()}
        where = urlsplit(headers.get("location", "")).query.partition("=")[0]
        page = answer.get("body", "").partition('data-page="')[2].partition('"')[0]
        return " ".join([where or page, *notes])


def read(line: str) -> dict[str, Any]:
    """A structured log line; nothing of any other."""
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def back(world: World, url: str | None = None, *, user: str = "suda", business: str = CONNECTED) -> Back:
    """A user who has consented, and whose browser is about to open the callback."""
    visitor = HttpVisitor()
    returned = visitor.consent(url or world.up.authorize_url, user=user, business=business)
    kept = visitor.cookies[urlsplit(returned).netloc]
    return Back(world, returned, "; ".join(f"{name}={value}" for name, value in kept.items()))


def back_through_a_link(world: World, tenant: str = TENANT) -> Back:
    """The same, through a link of the app's."""
    return back(world, link(world, tenant)["connect_url"], user="somchai", business=LINKED)


def a_business_is_connected(world: World) -> bool:
    before = world.generation(CONNECTED)
    return back(world).callback() == "connected" and world.generation(CONNECTED) == before + 1


def a_new_worker_connects(world: World) -> bool:
    restart(world.up, "callback")
    return a_business_is_connected(world)


def what_a_link_brought_waits(world: World) -> bool:
    return back_through_a_link(world).callback() == "confirmation"


def a_business_of_another_tenant_is_announced(world: World) -> bool:
    other = link(world, "another-tenant")
    visit = back(world, other["connect_url"], user="somchai", business=LINKED)
    return visit.callback() == "business_taken other_tenant"


def a_reload_waits_for_its_callback(world: World) -> bool:
    # Long enough for the second callback's process to start, on a busy machine too.
    world.simulator.fault("delay", seconds=4, when="before")
    visit = back(world)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(visit.callback)
        time.sleep(0.7)
        second = visit.callback()
        first.result()
    return second.startswith("connected")


def a_reload_of_a_link_shows_the_same(world: World) -> bool:
    visit = back_through_a_link(world)
    visit.callback()
    return visit.callback().startswith("confirmation")


def what_the_table_does_not_take_of_a_connect_waits_as_a_pending_commit(world: World) -> bool:
    visit = back(world)
    with denied(world.up, "callback", "dynamodb:UpdateItem", "CONNECTION#*"):
        return visit.callback() == "connected pending"


_long_ago = count(1_000_000)
"""Times at which something fell due, never the same twice: a worker remembers what it has dispatched."""


def what_is_due_is_dispatched(world: World) -> bool:
    world.set_item(SWEPT, refresh_at=next(_long_ago), deadline=int(time.time()) + 86_000)
    tick = world.invoke("sweep", {})
    return bool(tick["dispatched"] >= 1 and not tick["failed"] and tick["waiting"] is not None)


def connections_are_counted_in_a_tick(world: World) -> bool:
    return world.invoke("sweep", {})["connections"] is not None


def what_is_at_risk_is_marked(world: World) -> bool:
    now = int(time.time())
    world.aws("dynamodb").update_item(
        TableName=world.up.table,
        Key={"pk": {"S": f"CONNECTION#{SWEPT}"}, "sk": {"S": "CONNECTION"}},
        UpdateExpression="SET refresh_at = :due, deadline = :soon REMOVE at_risk",
        ExpressionAttributeValues={":due": {"N": str(next(_long_ago))}, ":soon": {"N": str(now + 3_600)}},
    )
    return bool(world.invoke("sweep", {})["marked"])


def a_connection_is_refreshed(world: World) -> bool:
    return world.refresh() == "refreshed"


def a_new_worker_refreshes(world: World) -> bool:
    restart(world.up, "refresh")
    return a_connection_is_refreshed(world)


def a_refresh_that_waited_looks_at_the_pace(world: World) -> bool:
    """On the alias, whose function has the time to wait."""
    world.set_item(REFRESHED, refresh_at=int(time.time()) - 1)
    wait_for_a_slot(world)
    answer = world.aws("lambda").invoke(
        FunctionName=f"{world.up.functions['refresh']}:live", Payload=json.dumps({"connection_id": REFRESHED}).encode()
    )
    return bool(json.loads(answer["Payload"].read()).get("outcome") == "refreshed")


def a_connect_that_waited_looks_at_the_pace(world: World) -> bool:
    """On the alias, whose function has the time to wait."""
    visit = back(world)
    wait_for_a_slot(world)
    return visit.callback(":live") == "connected"


def wait_for_a_slot(world: World) -> None:
    """Let the next request to the token endpoint wait for 4.5 seconds, of which a cold start may take three.

    The new tag makes every worker take in the slot, also one that has never seen the item.
    """
    world.aws("dynamodb").update_item(
        TableName=world.up.table,
        Key={"pk": {"S": "RATE"}, "sk": {"S": "token-endpoint"}},
        UpdateExpression="SET next_slot = :at, tag = :tag",
        ExpressionAttributeValues={
            ":at": {"N": str(int((time.time() + 4.5) * 1_000_000))},
            ":tag": {"S": str(time.time_ns())},
        },
    )


@contextmanager
def health(world: World) -> Iterator[dict[str, Any]]:
    """The key of the endpoint's health, which is forgotten before and after."""
    key = {"pk": {"S": "HEALTH"}, "sk": {"S": "token-endpoint"}}
    try:
        world.aws("dynamodb").delete_item(TableName=world.up.table, Key=key)
        restart(world.up, "refresh")
        yield key
    finally:
        world.simulator.clear_faults()
        world.aws("dynamodb").delete_item(TableName=world.up.table, Key=key)
        restart(world.up, "refresh")


def a_failure_is_noted(world: World) -> bool:
    with health(world):
        # Only the first failure of a connection counts.
        if world.refresh() != "refreshed":
            return False
        world.simulator.fault("error", code="invalid_client", status=200, times=1)
        assert world.refresh() == "configuration_error"
        item = world.item("HEALTH", "token-endpoint")
        return item is not None and REFRESHED in item["failures"]["S"]


def an_unwell_endpoint_is_heeded(world: World) -> bool:
    with health(world) as key:
        now = {"N": str(int(time.time()))}
        state = {"unwell_since": now, "next_test": {"N": str(int(time.time()) + 60)}, "cause": {"S": "doubt"}}
        world.aws("dynamodb").put_item(TableName=world.up.table, Item=key | state)
        return world.refresh() == "unwell"


def forget_import(world: World) -> None:
    """Make a business one that can be imported: it is not connected, and no import was refused a moment ago."""
    world.call("DELETE", f"/connections/{IMPORTED}")
    world.aws("dynamodb").delete_item(TableName=world.up.table, Key=key_of(IMPORTED, "IMPORT"))


def under_way(world: World, token: str | None = None) -> bool:
    """An import that FlowAccount has not answered yet, due to be tried again; of a good token, or of this one."""
    forget_import(world)
    if token is None:
        token = world.simulator.post("consents", {"business": IMPORTED})["consents"][0]["refresh_token"]
    world.simulator.fault("status", status=503, body="{}", processed=False)
    began = world.call("POST", f"/connections/{IMPORTED}", {"refresh_token": token}).status_code == 202
    if began:
        change(world.up, f"CONNECTION#{IMPORTED}", "IMPORT", refresh_at=1)
    return began


def an_import_is_proved_later(world: World) -> bool:
    return under_way(world) and world.refresh(IMPORTED, **{"import": True}) == "refreshed"


def a_refused_import_is_announced(world: World) -> bool:
    if not under_way(world, "never-issued"):
        return False
    outcome = world.refresh(IMPORTED, **{"import": True})
    status = world.item(f"CONNECTION#{IMPORTED}", "IMPORT")["status"]["S"]
    return bool(outcome == "import_refused" and status == "reauthorization_required")


def what_the_table_does_not_take_of_a_refresh_waits_as_a_pending_commit(world: World) -> bool:
    seen = len(world.simulator.posts("refresh_token"))
    world.simulator.fault("delay", seconds=2, when="after")
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(world.refresh)
        until(lambda: len(world.simulator.posts("refresh_token")) > seen)
        with denied(world.up, "refresh", "dynamodb:UpdateItem", "CONNECTION#*"):
            return refreshing.result() == "pending"


def pending_commit(world: World, target: Target, *, generation: int = 0, link_id: str = "") -> bool:
    """Whether `salvage` takes a pending commit for a target; its token set is one that a connection has."""
    item = service.connection_item(world.up, REFRESHED)
    assert item is not None
    tokens = stored_tokens.from_item(item)
    assert tokens is not None
    commit = Commit(
        connection_id=REFRESHED,
        grant_id=item["grant_id"]["S"],
        attempt_id="of-a-worker-that-died",
        generation=generation,
        environment="sandbox",
        tokens=tokens,
    )
    message = PendingCommit(target=target, commit=commit, link_id=link_id).to_json()
    event = json.loads((EVENTS / "salvage-queue.json").read_text())
    event["Records"] = [event["Records"][0] | {"body": message}]
    return bool(world.invoke("salvage", event) == {"batchItemFailures": []})


def a_pending_rotation_is_applied(world: World) -> bool:
    before = world.generation(REFRESHED)
    return pending_commit(world, Target.CONNECTION, generation=before) and world.generation(REFRESHED) == before + 1


def a_pending_import_is_applied(world: World) -> bool:
    return pending_commit(world, Target.IMPORT)


def what_a_link_brought_waits_as_a_pending_commit(world: World) -> bool:
    return pending_commit(world, Target.LINK, link_id=link(world)["confirmation"].partition(".")[0])


def a_token_is_served(world: World) -> bool:
    restart(world.up, "token")
    return world.call("GET", f"/connections/{SERVED}/token").status_code == 200


def an_expired_token_is_refreshed(world: World) -> bool:
    before, now = world.generation(SERVED), int(time.time())
    world.set_item(SERVED, requested_at=now - 3_000, access_expires_at=now - 1)
    answer = world.call("GET", f"/connections/{SERVED}/token")
    return answer.status_code == 200 and answer.json()["generation"] == before + 1


def connections_are_listed(world: World) -> bool:
    answer = world.call("GET", "/connections?limit=100")
    return answer.status_code == 200 and SERVED in [one["support_code"] for one in answer.json()["connections"]]


def a_history_is_shown(world: World) -> bool:
    return world.call("GET", f"/connections/{SERVED}/history").status_code == 200


def what_a_link_brought_is_confirmed(world: World) -> bool:
    made = link(world)
    back(world, made["connect_url"], user="somchai", business=LINKED).callback()
    return confirm(world, made["confirmation"], TENANT).status_code == 200


def a_confirmation_for_another_is_announced(world: World) -> bool:
    made = link(world)
    back(world, made["connect_url"], user="somchai", business=LINKED).callback()
    answer = confirm(world, made["confirmation"], "another-tenant")
    return bool(answer.json().get("code") == "tenant_mismatch")


def a_token_is_imported(world: World) -> bool:
    forget_import(world)
    token = world.simulator.post("consents", {"business": IMPORTED})["consents"][0]["refresh_token"]
    return world.call("POST", f"/connections/{IMPORTED}", {"refresh_token": token}).status_code == 200


def a_new_worker_imports(world: World) -> bool:
    restart(world.up, "connections")
    return a_token_is_imported(world)


def an_import_is_given_up(world: World) -> bool:
    return under_way(world) and world.call("DELETE", f"/connections/{IMPORTED}").status_code == 204


def a_connection_is_ended(world: World) -> bool:
    ended = world.call("DELETE", f"/connections/{CONNECTED}").status_code == 204
    return ended and back(world).callback() == "connected"


def changed(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """A change of a connection that moved it from one status to another, as the stream and as the queue bring it."""
    mark = str(time.time_ns())
    record = json.loads((EVENTS / "publish.json").read_text())["Records"][0]
    record |= {"eventID": mark} | {"dynamodb": record["dynamodb"] | {"SequenceNumber": mark}}
    queued = json.loads((EVENTS / "publish-unpublished.json").read_text())["Records"][0]
    queued |= {"body": json.dumps(json.loads(queued["body"]) | {"id": mark, "sequence": mark})}
    return {"Records": [record]}, {"Records": [queued]}


def a_change_is_told(world: World) -> bool:
    told = bool(world.invoke("publish", changed(world)[1]) == {"batchItemFailures": []})
    if told:
        # The connection of the example is none of this table's.
        world.aws("dynamodb").update_item(
            TableName=world.up.table,
            Key={"pk": {"S": "COUNT"}, "sk": {"S": "connections"}},
            UpdateExpression="SET active = active + :one, reauthorization_required = reauthorization_required - :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
    return told


def what_cannot_be_told_is_put_away(world: World) -> bool:
    sqs, queue = world.aws("sqs"), world.up.queues["unpublished"]
    event = changed(world)[0]
    event["Records"][0]["dynamodb"].pop("OldImage", None)
    with denied(world.up, "publish", "dynamodb:PutItem"), asleep(world.up, "publish", "unpublished"):
        taken = bool(world.invoke("publish", event) == {"batchItemFailures": []})
        sqs.purge_queue(QueueUrl=queue)
    return taken


def an_event_is_fanned_out(world: World) -> bool:
    with asleep(world.up, NOTIFY, "notify"):
        world.aws("sqs").purge_queue(QueueUrl=world.up.queues["notify"])
        done = notified(
            world, {"source": "flowaccount-connect", "detail-type": "connection.connected", "detail": DETAIL}
        )
        sent = world.aws("sqs").receive_message(QueueUrl=world.up.queues["notify"], MaxNumberOfMessages=10)
        world.aws("sqs").purge_queue(QueueUrl=world.up.queues["notify"])
        return done and len(sent.get("Messages", [])) == len(RECEIVERS)


DETAIL = {"version": 1, "id": "least-privilege", "at": "2026-11-22T14:03:11Z", "connection_id": "N1"}
WEBHOOK = {"to": receiver(RECEIVERS[0]), "event": {"type": "connection.connected", "timestamp": "", "data": DETAIL}}
MESSAGE = {"subject": "words", "text": "words", "key": "123e4567-e89b-12d3-a456-426614174000"}


def notified(world: World, body: object, receipt: str = "none") -> bool:
    """Whether `notify` is done with a message of its queue."""
    record = {"messageId": "1", "receiptHandle": receipt, "body": json.dumps(body)}
    record |= {"attributes": {"ApproximateReceiveCount": "1"}}  # type: ignore[dict-item]
    return bool(world.invoke(NOTIFY, {"Records": [record]}) == {"batchItemFailures": []})


def a_webhook_is_signed(world: World) -> bool:
    restart(world.up, NOTIFY)
    with listening(RECEIVERS[0]):
        return notified(world, WEBHOOK)


def who_is_gone_leaves_a_dead_letter(world: World) -> bool:
    with listening(RECEIVERS[0], status(410)):
        done = notified(world, WEBHOOK)
    sqs, queue = world.aws("sqs"), world.up.queues["undelivered"]
    letters = sqs.receive_message(QueueUrl=queue).get("Messages", [])
    sqs.purge_queue(QueueUrl=queue)
    return done and len(letters) == 1


def what_failed_comes_back_when_its_turn_is(world: World) -> bool:
    sqs, queue = world.aws("sqs"), world.up.queues["notify"]
    with asleep(world.up, NOTIFY, "notify"):
        sqs.purge_queue(QueueUrl=queue)
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(WEBHOOK))
        (message,) = sqs.receive_message(QueueUrl=queue, VisibilityTimeout=240)["Messages"]
        notified(world, WEBHOOK, message["ReceiptHandle"])
        back_again = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=8).get("Messages", [])
        sqs.purge_queue(QueueUrl=queue)
        return len(back_again) == 1


def slack_is_told(world: World) -> bool:
    with a_secret(world, "slack", f"{world.simulator.url}{SLACK_PATH}"):
        return notified(world, {"to": "slack", **MESSAGE})


def line_is_told(world: World) -> bool:
    secret = {"channel_access_token": LINE_TOKEN, "to": LINE_GROUP, "url": f"{world.simulator.url}{LINE_PATH}"}
    with a_secret(world, "line", json.dumps(secret)):
        return notified(world, {"to": "line", **MESSAGE})


def the_mailbox_is_told(world: World) -> bool:
    with asleep(world.up, NOTIFY, "notify"):
        return notified(world, {"to": "mail", **MESSAGE})


@contextmanager
def a_secret(world: World, name: str, value: str) -> Iterator[None]:
    """A secret of the operator's."""
    secrets, id_ = world.aws("secretsmanager"), f"flowaccount-connect/{name}"
    secrets.create_secret(Name=id_, SecretString=value)
    try:
        yield
    finally:
        secrets.delete_secret(SecretId=id_, ForceDeleteWithoutRecovery=True)


def what_people_must_know_is_noted_and_told(world: World) -> bool:
    key = {"pk": {"S": "NOTICE#at_risk"}, "sk": {"S": "NOTICE"}}
    world.aws("dynamodb").delete_item(TableName=world.up.table, Key=key)
    with asleep(world.up, NOTIFY, "notify"):
        event = {"source": "flowaccount-connect", "detail-type": "connection.at_risk", "detail": DETAIL}
        done = notified(world, event) and notified(world, {"tell": "at_risk"})
        world.aws("sqs").purge_queue(QueueUrl=world.up.queues["notify"])
        item = world.item("NOTICE#at_risk", "NOTICE")
        world.aws("dynamodb").delete_item(TableName=world.up.table, Key=key)
        return done and item is not None and "waiting" not in item


@contextmanager
def asleep(up: Stack, function: str, queue: str) -> Iterator[None]:
    """A function does not take from a queue."""
    functions = service.client(up, "lambda")
    arn = f"arn:aws:sqs:{up.region}:000000000000:{up.queues[queue].rpartition('/')[2]}"
    name = f"{up.functions[function]}:live"
    found = functions.list_event_source_mappings(FunctionName=name, EventSourceArn=arn)["EventSourceMappings"]
    for mapping in found:
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        yield
    finally:
        for mapping in found:
            functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


type Flow = Callable[[World], bool]

# What each permission is for: the function, the action, and what on.
NEEDED: dict[str, Flow] = {
    "authorize dynamodb:GetItem LINK#*": a_link_opens,
    "authorize dynamodb:PutItem ATTEMPT#*": a_login_begins,
    "callback dynamodb:ConditionCheckItem CONNECTION#*": what_a_link_brought_waits,
    "callback dynamodb:GetItem LINK#*": a_reload_of_a_link_shows_the_same,
    "callback dynamodb:GetItem ATTEMPT#*": a_reload_waits_for_its_callback,
    "callback dynamodb:PutItem EVENT#*": a_business_of_another_tenant_is_announced,
    "callback dynamodb:UpdateItem CONNECTION#*": a_business_is_connected,
    "callback dynamodb:UpdateItem LINK#*": what_a_link_brought_waits,
    # Transactions, whose keys are judged together as well.
    "callback dynamodb:ConditionCheckItem LINK#*": what_a_link_brought_waits,
    "callback dynamodb:ConditionCheckItem ATTEMPT#*": what_a_link_brought_waits,
    "callback dynamodb:PutItem LINK#*": a_business_of_another_tenant_is_announced,
    "callback dynamodb:UpdateItem EVENT#*": a_business_of_another_tenant_is_announced,
    "callback dynamodb:UpdateItem ATTEMPT#*": a_business_is_connected,
    "callback dynamodb:UpdateItem TENANT#*": what_a_link_brought_waits,
    "callback dynamodb:GetItem RATE": a_connect_that_waited_looks_at_the_pace,
    "callback dynamodb:UpdateItem RATE": a_business_is_connected,
    "callback kms:GenerateDataKey key": a_new_worker_connects,
    "callback secretsmanager:GetSecretValue secret": a_new_worker_connects,
    "callback sqs:SendMessage salvage": what_the_table_does_not_take_of_a_connect_waits_as_a_pending_commit,
    "sweep dynamodb:GetItem COUNT": connections_are_counted_in_a_tick,
    "sweep dynamodb:GetItem RATE": what_is_due_is_dispatched,
    "sweep dynamodb:Query index/due": what_is_due_is_dispatched,
    "sweep dynamodb:UpdateItem CONNECTION#*": what_is_at_risk_is_marked,
    "sweep sqs:GetQueueAttributes refresh": what_is_due_is_dispatched,
    "sweep sqs:SendMessage refresh": what_is_due_is_dispatched,
    "refresh dynamodb:DeleteItem CONNECTION#*": an_import_is_proved_later,
    "refresh dynamodb:GetItem HEALTH": an_unwell_endpoint_is_heeded,
    "refresh dynamodb:GetItem RATE": a_refresh_that_waited_looks_at_the_pace,
    # One transaction, whose keys are judged together as well.
    "refresh dynamodb:PutItem CONNECTION#*": a_refused_import_is_announced,
    "refresh dynamodb:PutItem EVENT#*": a_refused_import_is_announced,
    "refresh dynamodb:UpdateItem EVENT#*": a_refused_import_is_announced,
    "refresh dynamodb:UpdateItem HEALTH": a_failure_is_noted,
    "refresh dynamodb:UpdateItem CONNECTION#*": a_connection_is_refreshed,
    "refresh dynamodb:UpdateItem RATE": a_connection_is_refreshed,
    "refresh kms:Decrypt key": a_new_worker_refreshes,
    "refresh kms:GenerateDataKey key": a_new_worker_refreshes,
    "refresh secretsmanager:GetSecretValue secret": a_new_worker_refreshes,
    "refresh sqs:SendMessage salvage": what_the_table_does_not_take_of_a_refresh_waits_as_a_pending_commit,
    "salvage dynamodb:DeleteItem CONNECTION#*": a_pending_import_is_applied,
    "salvage dynamodb:UpdateItem CONNECTION#*": a_pending_rotation_is_applied,
    "salvage dynamodb:UpdateItem LINK#*": what_a_link_brought_waits_as_a_pending_commit,
    "token dynamodb:GetItem CONNECTION#*": a_token_is_served,
    "token dynamodb:UpdateItem DEMAND#*": an_expired_token_is_refreshed,
    "token kms:Decrypt key": a_token_is_served,
    "token lambda:InvokeFunction refresh:live": an_expired_token_is_refreshed,
    "connections dynamodb:BatchGetItem CONNECTION#*": connections_are_listed,
    "connections dynamodb:ConditionCheckItem CONNECTION#*": a_token_is_imported,
    "connections dynamodb:DeleteItem CONNECTION#*": an_import_is_given_up,
    "connections dynamodb:GetItem CONNECTION#*": a_token_is_imported,
    "connections dynamodb:GetItem LINK#*": what_a_link_brought_is_confirmed,
    "connections dynamodb:PutItem CONNECTION#*": a_token_is_imported,
    "connections dynamodb:PutItem EVENT#*": a_confirmation_for_another_is_announced,
    "connections dynamodb:PutItem LINK#*": a_link_is_made,
    "connections dynamodb:Query HISTORY#*": a_history_is_shown,
    "connections dynamodb:Query index/status": connections_are_listed,
    "connections dynamodb:UpdateItem CONNECTION#*": a_connection_is_ended,
    "connections dynamodb:UpdateItem EVENT#*": a_confirmation_for_another_is_announced,
    "connections dynamodb:UpdateItem LINK#*": what_a_link_brought_is_confirmed,
    "connections dynamodb:UpdateItem TENANT#*": a_link_is_made,
    "connections kms:GenerateDataKey key": a_new_worker_imports,
    "connections lambda:InvokeFunction refresh:live": a_token_is_imported,
    "publish dynamodb:PutItem HISTORY#*": a_change_is_told,
    "publish dynamodb:PutItem COUNT": a_change_is_told,
    "publish dynamodb:UpdateItem COUNT": a_change_is_told,
    "publish dynamodb:UpdateItem HISTORY#*": a_change_is_told,
    "publish events:PutEvents bus": a_change_is_told,
    "publish sqs:SendMessage unpublished": what_cannot_be_told_is_put_away,
    "notify dynamodb:GetItem NOTICE#*": what_people_must_know_is_noted_and_told,
    "notify dynamodb:UpdateItem NOTICE#*": what_people_must_know_is_noted_and_told,
    "notify secretsmanager:GetSecretValue line": line_is_told,
    "notify secretsmanager:GetSecretValue slack": slack_is_told,
    "notify secretsmanager:GetSecretValue webhook-secret": a_webhook_is_signed,
    "notify sns:Publish mail": the_mailbox_is_told,
    "notify sqs:ChangeMessageVisibility notify": what_failed_comes_back_when_its_turn_is,
    "notify sqs:SendMessage notify": an_event_is_fanned_out,
    "notify sqs:SendMessage undelivered": who_is_gone_leaves_a_dead_letter,
}

LAMBDAS_OWN = {
    *(f"{name} logs:{action} {name}" for name in FUNCTIONS for action in ("CreateLogStream", "PutLogEvents")),
    *(
        f"{name} sqs:{action} {queue}"
        for name, queue in (
            ("refresh", "refresh"),
            ("salvage", "salvage"),
            ("publish", "unpublished"),
            ("notify", "notify"),
        )
        for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
    ),
    *(
        f"publish dynamodb:{action} stream"
        for action in ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")
    ),
    "publish sqs:SendMessage dead-letters",
}
"""What Lambda itself does in a function's name: write its logs, read its sources. The emulator does that without
asking, so `tests/template/test_grants.py` holds it to what Lambda's documentation asks for."""


# Permission by permission -------------------------------------------------------------------------------------------

Statement = dict[str, Any]


def role_of(up: Stack, function: str) -> str:
    """The name of a function's role."""
    configuration = service.client(up, "lambda").get_function(FunctionName=up.functions[function])["Configuration"]
    return str(configuration["Role"].rpartition("/")[2])


def policy_of(up: Stack, function: str) -> dict[str, Any]:
    """What a function's role allows, as deployed: its one policy."""
    iam, role = service.client(up, "iam"), role_of(up, function)
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == [function]
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    document: dict[str, Any] = iam.get_role_policy(RoleName=role, PolicyName=function)["PolicyDocument"]
    return document


def permissions(policy: dict[str, Any], function: str, without: str = "") -> dict[str, Statement]:
    """What a policy allows, by its name: one action on one resource, for one kind of items; but for `without`.

    The keys of a statement stay together in it, as the keys of a transaction may be judged together.
    """
    found: dict[str, Statement] = {}
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        for action in listed(statement["Action"]):
            for resource in listed(statement["Resource"]):
                one = {"Effect": "Allow", "Action": action, "Resource": resource}
                one["Condition"] = condition = deepcopy(statement.get("Condition", {}))
                given = condition.get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys")
                named = {
                    f"{function} {action} {key or short(resource)}": key for key in (listed(given) if given else [None])
                }
                named.pop(without, None)
                if given and named:
                    condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"] = [*named.values()]
                assert not set(named) & set(found), f"granted twice: {named}"
                found |= dict.fromkeys(named, one)
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def short(arn: str) -> str:
    """What a resource is, without the names that the stack gives."""
    _, _, kind, _, _, resource = arn.split(":", 5)
    resource = resource.removesuffix(":*")
    for mark, name in (("/stream/", "stream"), ("/index/", f"index/{resource.rpartition('/')[2]}")):
        if mark in resource:
            return name
    if kind == "secretsmanager" and not resource.startswith("secret:flowaccount-connect/client-secret"):
        return resource.removeprefix("secret:flowaccount-connect/").rpartition("-")[0]
    named = {"kms": "key", "secretsmanager": "secret", "events": "bus"}.get(kind)
    return named or resource.rpartition("flowaccount-connect-")[2]


@pytest.fixture(scope="module")
def granted(up: Stack) -> dict[str, dict[str, Statement]]:
    """All permissions by function, as deployed."""
    return {function: permissions(policy_of(up, function), function) for function in FUNCTIONS}


@pytest.fixture(scope="module", autouse=True)
def undisturbed(up: Stack) -> Iterator[None]:
    """The schedule's refreshes wait, and functions that keep trying to write give up soon where a test invokes them."""
    functions = service.client(up, "lambda")
    names = [up.functions[name] for name in ("callback", "refresh")]
    before = {name: functions.get_function_configuration(FunctionName=name)["Timeout"] for name in names}
    for name in names:
        functions.update_function_configuration(FunctionName=name, Timeout=SHORT)
    with asleep(up, "refresh", "refresh"):
        yield
    for name, timeout in before.items():
        functions.update_function_configuration(FunctionName=name, Timeout=timeout)


@pytest.fixture(scope="module", autouse=True)
def businesses(up: Stack) -> Iterator[None]:
    """Who is connected before anything is taken away: each to nobody, but for one that belongs to a tenant."""
    delete_connections(up, REFRESHED, SERVED, LINKED, CONNECTED, IMPORTED, SWEPT)
    for user, business in (("suda", CONNECTED), ("suda", REFRESHED), ("somchai", SERVED), ("suda", SWEPT)):
        assert HttpVisitor().connect(up.authorize_url, user=user, business=business).page == "connected"
    made = service.call(up, "POST", "/connect-links", body={"tenant": TENANT, "return_url": RETURN_URL}).json()
    visitor = HttpVisitor()
    visitor.get(visitor.consent(made["connect_url"], user="somchai", business=LINKED))
    wanted = {"confirmation": confirmation_of(up, made["connect_url"]), "tenant": TENANT}
    confirmed = service.call(up, "POST", "/connect-links/confirm", body=wanted)
    assert confirmed.status_code == 200, confirmed.text
    yield
    forget(up)


def forget(up: Stack) -> None:
    """Leave nothing behind that is due: what stopped working half-way would be taken up again beside later tests."""
    database = service.client(up, "dynamodb")
    for page in database.get_paginator("scan").paginate(TableName=up.table, ConsistentRead=True):
        for item in page["Items"]:
            if item["pk"]["S"].startswith("CONNECTION#"):
                database.delete_item(TableName=up.table, Key={"pk": item["pk"], "sk": item["sk"]})
    service.client(up, "sqs").purge_queue(QueueUrl=up.queues["refresh"])


@pytest.fixture
def world(up: Stack, simulator: Simulator, set_item: Any) -> World:
    return World(up, simulator, set_item)


def works(flow: Flow, world: World) -> bool:
    """Whether a flow came to its end; a function that failed altogether did not."""
    try:
        return flow(world)
    except LocalError:
        return False


@contextmanager
def only(up: Stack, function: str, statements: list[Statement]) -> Iterator[None]:
    """A function's role with these permissions only, for as long as the block runs."""
    iam, role, before = service.client(up, "iam"), role_of(up, function), policy_of(up, function)

    def put(document: dict[str, Any]) -> None:
        iam.put_role_policy(RoleName=role, PolicyName=function, PolicyDocument=json.dumps(document))

    put({"Version": "2012-10-17", "Statement": statements})
    try:
        yield
    finally:
        put(before)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_permission_has_its_proof(granted: dict[str, dict[str, Statement]], function: str) -> None:
    shown = {name for name in {*NEEDED, *LAMBDAS_OWN} if name.split()[0] == function}
    assert set(granted[function]) == shown


FLOWS: dict[str, Flow] = {flow.__name__: flow for flow in NEEDED.values()}


@pytest.mark.parametrize("flow", FLOWS)
def test_with_all_permissions(world: World, flow: str) -> None:
    assert works(FLOWS[flow], world)


@pytest.mark.parametrize("permission", NEEDED)
def test_without(world: World, permission: str) -> None:
    function, action, on = permission.split()
    others = permissions(policy_of(world.up, function), function, without=permission)
    left = [json.loads(text) for text in {json.dumps(statement) for statement in others.values()}]
    log = Path(world.up.logs["emulator"])
    before = log.stat().st_size
    with only(world.up, function, left):
        assert not works(NEEDED[permission], world), f"it works without {permission}: granted in excess"
    refused = log.read_bytes()[before:].decode(errors="replace")
    wanted = f"{world.up.functions[function]} is not allowed {action}"
    of_items = on if on.isupper() or "#" in on else ""
    assert [line for line in refused.splitlines() if wanted in line and of_items in line], (
        f"it failed for another reason: {refused[-1_000:]}"
    )
