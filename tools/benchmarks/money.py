"""What a stack costs in a month: counted calls, metrics, log and CPU, the template's resources, a dated price list.

What cannot be counted on one machine is in `Assumed`. Connections are at rest: kept alive, and read by nobody. At ten
thousand of them a refresh is nearly always alone in its batch.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flowaccount_connect.domain.schedule import Schedule
from flowaccount_connect.storage.history import REFRESHES_KEPT
from tools import deployed
from tools.benchmarks import calls
from tools.benchmarks.calls import Calls
from tools.benchmarks.report import Row, Section

PRICES = Path(__file__).with_name("prices-ap-southeast-1.json")
AT, TARGET = 10_000, 0.0015
"""With so many connections, US dollars for each and month, at list prices and without the dashboard."""
IDLE_TARGET = 2.0
"""US dollars a month for a stack without a connection and without the dashboard, of which every account has three free,
at list prices."""

_MINUTES = 30 * 24 * 60
_MONTH = _MINUTES * 60
_REFRESHES = _MINUTES * 60 / (Schedule().refresh_after * 0.95)
"""Of one connection in a month: it falls due up to a tenth early, a twentieth on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What no benchmark on one machine can know."""

    whole_cpu: float = 1_769
    """MB of memory with which a function has a whole CPU. With less it has a part of one, in proportion."""
    call: float = 0.006
    """Seconds that a call of AWS takes within a region."""
    exchange: float = 0.3
    """Seconds that FlowAccount takes for a token request, with the handshake before it."""
    report: int = 320
    """Bytes that Lambda itself logs of each invocation."""
    item: int = 1_100
    """Bytes of a connection with its index entries."""
    entry: int = 450
    """Bytes of an entry of a history; nearly all are refreshes, kept for 14 days."""
    polls: float = 5 * 3
    """Long polls a minute of a queue that feeds a function: five pollers, twenty seconds each."""


def standing(**given: str) -> Counter[str]:
    """How many of each type of resource a stack has, and of each type of event of its functions.

    By default, but for the parameters that are given.
    """
    resources = list(deployed.by_default(**given).values())
    functions = [one["Properties"] for one in resources if one["Type"] == "AWS::Serverless::Function"]
    events = [event["Type"] for function in functions for event in function.get("Events", {}).values()]
    return Counter([*(one["Type"] for one in resources), *events])


class Bill(dict[str, float]):
    """US dollars, by line; what is not listed costs nothing."""

    def __missing__(self, line: str) -> float:
        return 0.0

    def __add__(self, other: "Bill") -> "Bill":
        return Bill({line: self[line] + other[line] for line in self | other})

    def times(self, number: float) -> "Bill":
        """So many times as much."""
        return Bill({line: amount * number for line, amount in self.items()})

    @property
    def total(self) -> float:
        """All lines."""
        return sum(self.values())

    @property
    def dominant(self) -> str:
        """The three largest lines, and their shares."""
        first = sorted(self, key=lambda line: self[line], reverse=True)[:3]
        return ", ".join(f"{line} {self[line] / self.total:.0%}" for line in first if self.total)


@dataclass(frozen=True, slots=True)
class Costs:
    """Prices put on what was counted."""

    calls: Mapping[str, Calls]
    price: Mapping[str, float]
    standing: Mapping[str, int]
    memory: Mapping[str, int]
    """MB of each function."""
    assumed: Assumed = Assumed()

    def invocation(self, function: str, operation: str, *, waits: float = 0.0) -> Bill:
        """One run of a function. It takes its CPU, slower; its calls, one by one; and what it waits."""
        counted, memory = self.calls[operation], self.memory[function]
        asked = sum(
            number for name, number in counted.requests.items() if not name.startswith(("token endpoint", "receiver"))
        )
        seconds = counted.cpu / 1_000 * self.assumed.whole_cpu / memory + asked * self.assumed.call + waits
        logged = (counted.logged + self.assumed.report) / 1e9
        return Bill(
            {
                "Lambda time": seconds * memory / 1_024 * self.price["lambda_x86_64_gb_second"],
                "Lambda requests": self.price["lambda_request"],
                "logs": logged * (self.price["log_gb"] + self.price["log_gb_month"]),
            }
        )

    def asked(self, operation: str) -> Bill:
        """What its calls cost."""
        counted, of = self.calls[operation], Bill()
        for name, number in counted.requests.items():
            of[name.partition(".")[0]] += number
        units = counted.write_units * self.price["dynamodb_write_unit"]
        return Bill(
            {
                "table units": units + counted.read_units * self.price["dynamodb_read_unit"],
                "KMS requests": of["kms"] * self.price["kms_request"],
                "SQS": of["sqs"] * self.price["sqs_request"],
                "EventBridge": of["events"] * self.price["eventbridge_event"],
            }
        )

    def idle(self) -> Bill:
        """A month without a connection: a tick a minute, the metrics that it writes, and what is there anyway."""
        tick, price = calls.EMPTY, self.price
        bill = (self.invocation("sweep", tick) + self.asked(tick)).times(_MINUTES)
        return bill + Bill(
            {
                "alarms": self.standing["AWS::CloudWatch::Alarm"] * price["alarm_month"],
                "metrics": len(self.calls[tick].metrics) * price["metric_month"],
                "dashboard": self.standing["AWS::CloudWatch::Dashboard"] * price["dashboard_month"],
                "key": price["kms_key_month"],
                "secret": price["secret_month"],
                "SQS": self.standing["SQS"] * self.assumed.polls * _MINUTES * price["sqs_request"],
                "Scheduler": _MINUTES * price["scheduler_invocation"],
            }
        )

    def month(self, connections: int) -> Bill:
        """A month of so many connections. All metrics are paid for, as if one connected and one was read each hour."""
        metrics = frozenset[tuple[str, str]]().union(*(one.metrics for one in self.calls.values()))
        more = len(metrics - self.calls[calls.EMPTY].metrics) * self.price["metric_month"]
        gb = connections * (self.assumed.item + _REFRESHES * (REFRESHES_KEPT / _MONTH) * self.assumed.entry) / 1e9
        stored = {"table storage": gb * self.price["dynamodb_gb_month"]}
        stored["table recovery"] = gb * self.price["dynamodb_recovery_gb_month"]
        refreshes = self.refresh().times(connections * _REFRESHES)
        return self.idle() + refreshes + Bill({"metrics": more, **stored})

    def refresh(self) -> Bill:
        """One scheduled refresh, alone in its batch, and the entry of its history. Its message is sent with nine
        others, received and deleted."""
        bill = self.invocation("refresh", calls.ALONE, waits=self.assumed.exchange) + self.asked(calls.ALONE)
        bill += Bill({"SQS": (0.1 + 2) * self.price["sqs_request"]})
        return bill + self.invocation("publish", calls.REFRESHED) + self.asked(calls.REFRESHED)

    def receivers(self, **given: str) -> Bill:
        """A month of what is there for the receivers of these parameters, before the first event."""
        more, price = standing(**given) - Counter(self.standing), self.price
        return Bill(
            {
                "alarms": more["AWS::CloudWatch::Alarm"] * price["alarm_month"],
                "secret": more["AWS::SecretsManager::Secret"] * price["secret_month"],
                "SQS": more["SQS"] * self.assumed.polls * _MINUTES * price["sqs_request"],
            }
        )

    def webhook(self) -> Bill:
        """One event to one receiver: two messages, each received and deleted alone."""
        bill = self.invocation("notify", calls.WEBHOOK, waits=self.assumed.exchange) + self.asked(calls.WEBHOOK)
        bill += self.invocation("notify", calls.EVENT) + self.asked(calls.EVENT)
        return bill + Bill({"SQS": 4 * self.price["sqs_request"]})

    def less_free(self, bill: Bill) -> Bill:
        """The bill of an account that uses its always-free allowances for nothing else."""
        price = self.price
        allowed = {
            "Lambda time": 400_000 * price["lambda_x86_64_gb_second"],
            "Lambda requests": 1_000_000 * price["lambda_request"],
            "SQS": 1_000_000 * price["sqs_request"],
            "KMS requests": 20_000 * price["kms_request"],
            "metrics": 10 * price["metric_month"],
            "alarms": 10 * price["alarm_month"],
            "dashboard": 3 * price["dashboard_month"],
            "logs": 5 * (price["log_gb"] + price["log_gb_month"]),
            "table storage": 25 * price["dynamodb_gb_month"],
            "Scheduler": 14_000_000 * price["scheduler_invocation"],
        }
        return Bill({line: max(amount - allowed.get(line, 0.0), 0.0) for line, amount in bill.items()})


def costs(counted: Mapping[str, Calls]) -> Costs:
    """Today's template and prices, with what was counted."""
    listed = json.loads(PRICES.read_text("utf-8"))["prices"]
    return Costs(counted, {name: float(entry["usd"]) for name, entry in listed.items()}, standing(), deployed.memory())


def section(counted: Mapping[str, Calls]) -> Section:
    """As a table. Its targets are of list prices."""
    made = costs(counted)
    idle, many = made.idle(), made.month(AT)
    bare, many_bare = (
        Bill({line: amount for line, amount in bill.items() if line != "dashboard"}) for bill in (idle, many)
    )

    def row(title: str, bill: Bill, each: int = 0, target: float = 0.0) -> Row:
        single = bill.total / (each or 1)
        cells = (title, f"{bill.total:,.2f}", f"{single:.4f}" if each else "", f"< {target:g}" if target else "")
        return Row((*cells, bill.dominant), single < target if target else None)

    rows = [
        row("a month, no connection", idle),
        row("a month, no connection, without the dashboard", bare, target=IDLE_TARGET),
        row("a month, no connection, less what is always free", made.less_free(idle)),
        row("a month, 10,000 connections", many, AT),
        row("a month, 10,000 connections, without the dashboard", many_bare, AT, TARGET),
        row("a month, 10,000 connections, less what is always free", made.less_free(many), AT),
        row("a month of webhooks, besides; 0 without", made.receivers(WebhookUrl="https://app.example.com/")),
        row("a month of Slack, LINE or mail, besides; 0 without", made.receivers(AlarmEmail="operator@example.com")),
        row("1,000 webhooks", made.webhook().times(1_000), 1_000),
    ]
    alarms, metrics = made.standing["AWS::CloudWatch::Alarm"], len(counted[calls.EMPTY].metrics)
    note = f"{alarms} alarms; {metrics} metrics without a connection."
    columns = ("", "USD", "each", "target", "what dominates")
    return Section("Money, at list prices of ap-southeast-1", columns, rows, note, judged=False)
