"""What a stack costs in a month: counted calls, metrics and CPU, the template's resources, a dated list of prices.

What cannot be counted here is assumed, in `Assumed`, and said so beside the table.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flowaccount_connect.schedule import Schedule
from flowaccount_connect.sealing import KEY_AGE, SETS_PER_KEY
from tests.contract import deployed
from tools.benchmarks import operations
from tools.benchmarks.operations import Calls

PRICES = Path(__file__).with_name("prices-ap-southeast-1.json")
SIZES = (100, 10_000, 1_000_000)
AT, GOAL = 10_000, 0.002
"""With so many connections, US dollars for each and month."""

DAYS = 30
_MONTH = DAYS * 86_400
_BATCH = 10
"""Messages that one request of SQS carries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What no benchmark on one machine can know."""

    memory_gb: float = 0.5
    """Of every function, as the template has it."""
    slower: float = 1_769 / 512
    """A function has a whole CPU at 1,769 MB, and shares it below."""
    call: float = 0.006
    """Seconds that a call of AWS takes within a region."""
    exchange: float = 0.3
    """Seconds that FlowAccount takes for a token request, with the handshake before it."""
    report: int = 320
    """Bytes that Lambda itself logs of each invocation."""
    window: float = 1.0
    """Seconds for which the refresh queue gathers a batch."""
    headroom: float = 0.7
    """Load as a share of the rate that the stack is given."""
    item: int = 1_100
    """Bytes of a connection with its index entries."""
    entry: int = 450
    """Bytes of an entry of a history; kept for 90 days."""
    answer: int = 1_200
    """Bytes of a token's answer, with its headers."""
    polls: float = 5 * 3
    """Long polls a minute of a queue that feeds a function: five pollers, twenty seconds each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """What is there whether it is used or not; counted in template.yaml."""

    alarms: int
    polled_queues: int
    dashboards: int


def template() -> Template:
    """Of template.yaml as it is."""
    resources = list(deployed.resources().values())
    kinds = Counter(resource["Type"] for resource in resources)
    events = [
        event["Type"]
        for resource in resources
        if resource["Type"] == "AWS::Serverless::Function"
        for event in resource["Properties"].get("Events", {}).values()
    ]
    return Template(
        alarms=kinds["AWS::CloudWatch::Alarm"],
        polled_queues=events.count("SQS"),
        dashboards=kinds["AWS::CloudWatch::Dashboard"],
    )


class Lines(dict[str, float]):
    """US dollars, by line; what is not listed costs nothing."""

    def __missing__(self, line: str) -> float:
        return 0.0

    def __add__(self, other: "Lines") -> "Lines":
        return Lines({line: self[line] + other[line] for line in self | other})


@dataclass(frozen=True, slots=True)
class Bill:
    """US dollars, by line."""

    lines: Mapping[str, float]

    @property
    def total(self) -> float:
        """All lines."""
        return sum(self.lines.values())


def dominant(bill: Bill, count: int = 3) -> str:
    """The largest lines, and their shares."""
    first = sorted(bill.lines, key=lambda line: bill.lines[line], reverse=True)[:count]
    return ", ".join(f"{line} {bill.lines[line] / bill.total:.0%}" for line in first)


def prices(path: Path = PRICES) -> dict[str, float]:
    """US dollars by name."""
    listed = json.loads(path.read_text("utf-8"))["prices"]
    return {name: float(entry["usd"]) for name, entry in listed.items()}


@dataclass(frozen=True, slots=True)
class Costs:
    """Prices put on what was counted. `architecture` is `x86_64` or `arm64`."""

    calls: Mapping[str, Calls]
    price: Mapping[str, float]
    template: Template
    assumed: Assumed = Assumed()
    architecture: str = "x86_64"

    def invocation(self, seconds: float, logged: float) -> Lines:
        """One run of a function that takes so long and logs so many bytes."""
        gb_second = self.price[f"lambda_{self.architecture}_gb_second"]
        logs = (logged + self.assumed.report) / 1e9 * (self.price["log_gb"] + self.price["log_gb_month"])
        time = seconds * self.assumed.memory_gb * gb_second
        return Lines({"Lambda time": time, "Lambda requests": self.price["lambda_request"], "logs": logs})

    def asked(self, calls: Calls, *, kms: float | None = None) -> Lines:
        """What one operation's calls cost; `kms` where another number of calls of KMS is to be expected."""
        counted = calls.requests
        of = Lines({name: sum(v for k, v in counted.items() if k.startswith(f"{name}.")) for name in _SERVICES})
        units = calls.write_units * self.price["dynamodb_write_unit"]
        units += calls.read_units * self.price["dynamodb_read_unit"]
        return Lines(
            {
                "table units": units,
                "KMS requests": (of["kms"] if kms is None else kms) * self.price["kms_request"],
                "SQS": of["sqs"] * self.price["sqs_request"],
                "EventBridge": of["events"] * self.price["eventbridge_event"],
                "secret": of["secretsmanager"] * self.price["secret_request"],
            }
        )

    def duration(self, calls: Calls, *, waits: float = 0.0) -> float:
        """Seconds on Lambda of what was measured here: its CPU, slower; its calls one by one; what it waits."""
        count = sum(count for name, count in calls.requests.items() if not name.startswith("token endpoint"))
        return calls.cpu / 1_000 * self.assumed.slower + count * self.assumed.call + waits

    @property
    def metrics(self) -> int:
        """How many metrics there are while nothing is wrong: CloudWatch bills each by the hours in which it is written.
        All that were, as if there were connects and reads in each hour."""
        return len(frozenset[tuple[str, str]]().union(*(calls.metrics for calls in self.calls.values())))

    def token(self) -> Lines:
        """One call of `GET /connections/{id}/token`."""
        calls = self.calls[operations.TOKEN]
        cost = self.invocation(self.duration(calls), calls.logged) + self.asked(calls)
        cost["API Gateway"] = self.price["api_gateway_rest_request"]
        cost["transfer"] = self.assumed.answer / 1e9 * self.price["transfer_out_gb"]
        return cost

    def connect(self) -> Lines:
        """One consent by a host's link, as the template has it by default, and what `publish` makes of it."""
        cost = Lines()
        requests = (operations.SESSION, operations.LINK_AUTHORIZE, operations.LINK_CALLBACK, operations.CONFIRM)
        for name in (*requests, operations.NEW):
            calls, exchanges = self.calls[name], name == operations.LINK_CALLBACK
            waits = self.assumed.exchange if exchanges else 0.0
            cost += self.invocation(self.duration(calls, waits=waits), calls.logged)
            # A worker that connects few businesses has a new data key for each.
            cost += self.asked(calls, kms=1.0 if exchanges else None)
        cost["API Gateway"] = len(requests) * self.price["api_gateway_rest_request"]
        return cost

    def refresh(self, connections: int) -> Lines:
        """One scheduled refresh, its history, and its share of queue, batch and data key."""
        rate = connections * refreshes_a_month() / _MONTH
        batch = min(max(rate * self.assumed.window, 1.0), 50.0)
        alone, together = self.calls[operations.ALONE], self.calls[operations.BATCH]
        calls = together if batch >= 25 else alone
        # Its slots lie as far apart as the rate it is given says; the calls of a batch run side by side.
        spread = (batch - 1) * self.assumed.headroom / rate
        busy = calls.cpu / 1_000 * self.assumed.slower * batch
        seconds = max(spread, busy) + 5 * self.assumed.call + self.assumed.exchange
        cost = share(self.invocation(seconds, calls.logged * batch), batch)
        cost += self.asked(calls, kms=self.kms(rate, batch))
        # Sent by tens where a tick has so many; received and deleted with their batch.
        sends = 1 / min(max(rate * 60, 1.0), _BATCH)
        cost["SQS"] += (sends + 2 / min(batch, _BATCH)) * self.price["sqs_request"]
        # Of what comes from the stream the filter leaves the commit, by itself; it makes an entry of the history.
        history = self.calls[operations.HISTORY]
        return cost + self.asked(history) + self.invocation(self.duration(history), history.logged)

    def kms(self, rate: float, batch: float) -> float:
        """Calls of KMS for one refresh: a new data key for as many as come while it is used; an old one opened once for
        those it sealed, of which a worker remembers enough."""
        sets = min(max(rate * KEY_AGE / workers(rate, batch, self.assumed), 1.0), float(SETS_PER_KEY))
        return 2 / sets

    def standing(self) -> Lines:
        """What a month costs before the first connection."""
        t, p, ticks = self.template, self.price, DAYS * 24 * 60
        tick = self.calls[operations.NOTHING_DUE]
        cost = scaled(self.invocation(self.duration(tick), tick.logged) + self.asked(tick), ticks)
        cost["alarms"] = t.alarms * p["alarm_month"]
        cost["metrics"] = self.metrics * p["metric_month"]
        cost["dashboard"] = t.dashboards * p["dashboard_month"]
        cost["key"] = p["kms_key_month"]
        cost["secret"] += p["secret_month"]
        cost["SQS"] += t.polled_queues * self.assumed.polls * ticks * p["sqs_request"]
        cost["EventBridge"] += ticks * p["scheduler_invocation"]
        return cost

    def month(self, connections: int) -> Bill:
        """A month of so many connections at rest: kept alive, and read by nobody."""
        refreshes = connections * refreshes_a_month()
        cost = self.standing() + scaled(self.refresh(connections), refreshes)
        # What a tick reads grows with what is due; its first page is in the ticks above.
        entries = refreshes_a_month() / DAYS * 90
        gb = connections * (self.assumed.item + entries * self.assumed.entry) / 1e9
        cost["table storage"] = gb * self.price["dynamodb_gb_month"]
        cost["table recovery"] = gb * self.price["dynamodb_recovery_gb_month"]
        return Bill({name: amount for name, amount in cost.items() if amount > 0})

    def free(self, bill: Bill) -> Bill:
        """The bill of an account that uses its always-free allowances for nothing else."""
        gb_second = self.price[f"lambda_{self.architecture}_gb_second"]
        allowed = {
            "Lambda time": 400_000 * gb_second,
            "Lambda requests": 1_000_000 * self.price["lambda_request"],
            "SQS": 1_000_000 * self.price["sqs_request"],
            "KMS requests": 20_000 * self.price["kms_request"],
            "metrics": 10 * self.price["metric_month"],
            "alarms": 10 * self.price["alarm_month"],
            "dashboard": 3 * self.price["dashboard_month"],
            "logs": 5 * (self.price["log_gb"] + self.price["log_gb_month"]),
            "table storage": 25 * self.price["dynamodb_gb_month"],
        }
        left = {name: amount - min(amount, allowed.get(name, 0.0)) for name, amount in bill.lines.items()}
        return Bill({name: amount for name, amount in left.items() if amount > 0})


_SERVICES = ("kms", "sqs", "events", "secretsmanager")


def refreshes_a_month() -> float:
    """Of one connection: it falls due up to a tenth early, a twentieth on average."""
    return _MONTH / (Schedule().refresh_after * 0.95)


def workers(rate: float, batch: float, assumed: Assumed) -> int:
    """How many workers are busy at a time, at least one: each has data keys of its own."""
    return max(math.ceil(rate / batch * (assumed.exchange + assumed.window)), 1)


def share(cost: Lines, parts: float) -> Lines:
    """A part of it."""
    return Lines({name: amount / parts for name, amount in cost.items()})


def scaled(cost: Lines, times: float) -> Lines:
    """So many times as much."""
    return Lines({name: amount * times for name, amount in cost.items()})
