"""No secret in any log: every log of the run is read for every token, code, state and secret that was in play.

The tests before this one made the traffic. Tokens, codes and states are known by their fingerprints alone, so every run
of token-like characters in a log is hashed, window by window, and looked up. The search proves itself first by finding
canaries that it planted in each log.
"""

import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Bus, Simulator, until
from tools.local import service
from tools.local.stack import Stack
from tools.local.visit import HttpVisitor

TOKEN_CHARACTERS = 43
_RUNS = re.compile(rb"[A-Za-z0-9_-]{%d,}" % TOKEN_CHARACTERS)


class Secrets:
    """Everything that was in play: as prefixes of SHA-256 where only that is known, and as text."""

    def __init__(self, up: Stack, simulator: Simulator) -> None:
        self.hashed = {entry["fingerprint"] for entry in simulator.get("ledger")["entries"]}
        confirmations: list[str] = []
        table = service.client(up, "dynamodb").get_paginator("scan")
        for page in table.paginate(TableName=up.table):
            for item in page["Items"]:
                if item["sk"]["S"] == "ATTEMPT":
                    self.hashed.add(item["pk"]["S"].removeprefix("ATTEMPT#")[:16])
                    self.hashed.add(item["binding"]["S"][:16])
                if item["sk"]["S"] == "LINK":
                    self.hashed.add(item["pk"]["S"].removeprefix("LINK#")[:16])
                    confirmations.append(item["pk"]["S"].removeprefix("LINK#") + ".")
        secret = service.client(up, "secretsmanager").get_secret_value(SecretId=up.secret)["SecretString"]
        self.text = [json.loads(secret)["client_secret"], *confirmations]
        for item in ("N1000001", "N1000002", "N1000003"):
            answer = service.call(up, "GET", f"/connections/{item}/token?min_ttl=0")
            if answer.ok:
                self.text.append(answer.json()["access_token"])

    def found_in(self, log: bytes) -> int:
        """How many places of `log` hold a secret."""
        places = sum(log.count(text.encode()) for text in self.text)
        for run in _RUNS.findall(log):
            for at in range(len(run) - TOKEN_CHARACTERS + 1):
                window = run[at : at + TOKEN_CHARACTERS]
                places += hashlib.sha256(window).hexdigest()[:16] in self.hashed
        return places


@pytest.fixture
def traffic(up: Stack, simulator: Simulator, visitor: HttpVisitor, set_item: Any, bus: Bus) -> None:
    """At least one connect, refresh, cancel, failed exchange, failed refresh and served token, whatever ran before."""
    assert visitor.connect(up.authorize_url, user="somchai", business="N1000001").page == "connected"
    visitor.follow(visitor.consent(up.authorize_url, user="anong", business=None))
    simulator.fault("garbage", processed=True)
    visitor.follow(visitor.consent(up.authorize_url, user="somchai", business="N1000002"))
    for fault in ("truncate", "reset", "garbage", "drip"):
        set_item("N1000001", refresh_at=int(time.time()) - 1, retries=0)
        simulator.fault(fault, **({"seconds": 5.0} if fault == "drip" else {}))
        service.invoke(up, "refresh", {"connection_id": "N1000001"})
    visitor.connect(up.authorize_url, user="somchai", business="N1000001")
    service.call(up, "GET", "/connections/N1000001/token")


def lines_of(client: Any, group: str) -> Iterator[str]:
    """All lines of a log, stream by stream: of a whole group the emulator hands over the first 10,000, and no more."""
    for page in client.get_paginator("describe_log_streams").paginate(logGroupName=group):
        for stream in page["logStreams"]:
            found = client.filter_log_events(logGroupName=group, logStreamNames=[stream["logStreamName"]])
            yield from (event["message"] for event in found["events"])


def logs_of(up: Stack, bus: Bus) -> dict[str, bytes]:
    """Every log there is but the simulator's (functions, gateway, emulator), the histories, and what is on the bus."""
    client, found = service.client(up, "logs"), {}
    for groups in client.get_paginator("describe_log_groups").paginate():
        for group in groups["logGroups"]:
            name = group["logGroupName"]
            found[name] = "\n".join(lines_of(client, name)).encode()
    found["histories"] = histories_of(up)
    bus.of("")
    found["bus"] = json.dumps(bus.seen).encode()
    found["emulator"] = Path(up.logs["emulator"]).read_bytes()
    return found


def histories_of(up: Stack) -> bytes:
    """All that `publish` ever wrote: histories, counts, and what waits to be told; and what was told by an item."""
    written = []
    for page in service.client(up, "dynamodb").get_paginator("scan").paginate(TableName=up.table):
        written += [item for item in page["Items"] if item["pk"]["S"].startswith(("HISTORY#", "COUNT", "EVENT#"))]
    assert written, "nothing was published, so nothing was searched"
    return json.dumps(written).encode()


def plant(up: Stack, group: str, text: str) -> None:
    """Write a line into a log, as its owner would."""
    if group == "emulator":
        with Path(up.logs["emulator"]).open("a") as log:
            log.write(text + "\n")
        return
    if group == "histories":
        item = {"pk": {"S": "HISTORY#canary"}, "sk": {"S": "1"}, "reason": {"S": text}}
        service.client(up, "dynamodb").put_item(TableName=up.table, Item=item)
        return
    if group == "bus":
        detail = json.dumps({"connection_id": "canary", "reason": text})
        event = {
            "EventBusName": up.event_bus,
            "Source": "flowaccount-connect",
            "DetailType": "canary",
            "Detail": detail,
        }
        service.client(up, "events").put_events(Entries=[event])
        return
    client = service.client(up, "logs")
    stream = f"canary-{uuid.uuid4()}"
    client.create_log_stream(logGroupName=group, logStreamName=stream)
    client.put_log_events(
        logGroupName=group,
        logStreamName=stream,
        logEvents=[{"timestamp": int(time.time() * 1000), "message": text}],
    )


@pytest.mark.usefixtures("traffic")
@pytest.mark.parametrize("stack", ["first", "second"])
def test_no_secret_is_in_any_log_event_or_history(up: Stack, simulator: Simulator, bus: Bus, stack: str) -> None:
    print(f"the {stack} stack of the run")
    until(lambda: {"in_doubt", "reconnected"} <= set(bus.types("N1000001")))
    secrets, logs = Secrets(up, simulator), logs_of(up, bus)
    assert len(secrets.hashed) > 10
    expected = {f"/aws/lambda/{name}" for name in up.functions.values()}
    assert expected <= logs.keys()
    for function in ("authorize", "callback", "refresh", "token"):
        assert logs[f"/aws/lambda/{up.functions[function]}"], f"{function} logged nothing, so nothing was searched"
    assert {name: secrets.found_in(log) for name, log in logs.items()} == dict.fromkeys(logs, 0)

    # Nothing is delivered any more, so that nobody else writes while the canaries are planted and found.
    service.client(up, "sqs").purge_queue(QueueUrl=up.queues["notify"])
    issued = simulator.post("consents", {"business": "N9999999"})["consents"][0]["refresh_token"]
    secrets = Secrets(up, simulator)
    for number, group in enumerate(logs):
        plant(up, group, f"canary {number}: code=x{issued}y&client={secrets.text[0]}")
    assert {name: secrets.found_in(log) for name, log in logs_of(up, bus).items()} == dict.fromkeys(logs, 2)
