"""The campaign of one seed: waves of refreshes with kills and lost answers, then a rest, then the evidence.

The seed determines all choices. It does not determine which worker takes which connection, or what a kill interrupts:
the campaign observes that and adds it to the evidence.
"""

import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import psutil

from flowaccount_connect.domain.connection import Status
from flowaccount_connect.storage.connections import from_item
from tools.campaign import troupe
from tools.campaign.accounting import DROPS
from tools.campaign.evidence import Dead, Evidence, Free, Kill, Open, Reconnect, Request, Token
from tools.campaign.stage import Stage
from tools.simulator.ledger import fingerprint

HOLD = 0.3
"""Seconds for which the simulator holds a request or its answer, so that a kill can be aimed. The time between answer
and commit is a few hundredths of a second, too short to be hit by chance."""

COMMIT = 0.03
"""A kill between answer and commit comes within this time after the answer. Seconds."""

CLAIMED, REQUESTED, ISSUED, ANSWERED = "claimed", "requested", "issued", "answered"
AIMS = {
    CLAIMED: "between claim and POST",
    REQUESTED: "request on its way",
    ISSUED: "token issued, answer on its way",
    ANSWERED: "between answer and commit",
}
_WEIGHTS = (3, 4, 4, 9)

LONGEST_WAVE = 60.0
"""The longest time of a wave: the function's timeout and some more. Seconds."""


@dataclass(frozen=True, slots=True)
class Aim:
    """A planned kill: the moment that it waits for, and the seconds between this moment and the kill."""

    kind: str
    after: float


@dataclass(slots=True, kw_only=True)
class Plan:
    """The plan of a wave."""

    invoked: list[str]
    queued: list[str]
    aims: dict[str, Aim]
    drops: dict[str, str]
    reconnected: str | None

    @property
    def actors(self) -> list[str]:
        """The connections to refresh, each once."""
        return list(dict.fromkeys([*self.invoked, *self.queued]))

    def faults(self) -> list[dict[str, Any]]:
        """The faults to order from the simulator."""
        orders: list[dict[str, Any]] = []
        for business, aim in self.aims.items():
            if aim.kind != CLAIMED:
                when = "after" if aim.kind == ISSUED else "before"
                orders.append({"business": business, "fault": "delay", "seconds": HOLD, "when": when})
        orders += [{"business": business, "fault": fault} for business, fault in self.drops.items()]
        return [{"path": "token", "grant_type": "refresh_token", **order} for order in orders]


@dataclass(slots=True)
class Tally:
    """The counts so far. `kills` met a worker in the middle of a refresh, by the evidence; `missed` did not."""

    kills: int = 0
    missed: int = 0
    drops: int = 0
    waves: int = 0

    @property
    def strikes(self) -> int:
        """Kills and lost answers together."""
        return self.kills + self.drops


@dataclass(slots=True)
class Campaign:
    """One seed's campaign. `run` does everything; `collect` gathers the evidence again."""

    stage: Stage
    seed: int
    size: int
    strikes: int
    tell: Callable[[Tally], None]
    tally: Tally = field(default_factory=Tally)
    _evidence: Evidence = field(default_factory=Evidence)
    _after: int = 0
    _started: float = 0.0

    def run(self) -> Evidence:
        """Run waves until enough kills and lost answers happened, then rest, then gather the evidence."""
        self.stage.clear()
        self._started = time.time()
        everybody = troupe.businesses(self.size)
        with ThreadPoolExecutor(2) as few:
            _all(few.submit(troupe.connect, self.stage, business) for business in everybody)
        with ThreadPoolExecutor(16) as pool:
            while self.tally.strikes < self.strikes or self.tally.kills <= self.tally.drops:
                # New dice for each wave: the number of throws in a wave depends on the machine.
                dice = random.Random(f"{self.seed}/{self.tally.waves}")  # noqa: S311 - to be repeated, nothing secret
                self._wave(self._plan(dice, everybody), dice, pool)
                self.tally.waves += 1
                self.tell(self.tally)
            self._rest(pool)
        return self.collect()

    # Waves

    def _plan(self, dice: random.Random, everybody: list[str]) -> Plan:
        """Plan the next wave: the refreshes and their ways, the kills and their times, the lost answers."""
        actors = dice.sample(everybody, self.size // 2)
        direct, aimed, dropped = len(actors) * 7 // 12, len(actors) // 2, len(actors) // 3
        invoked, queued = actors[:direct], actors[direct:]
        # Sometimes refresh one connection twice at once: by invocation, by queue, or by both.
        if dice.random() < 0.4:
            invoked = [*invoked, invoked[0]]
        if dice.random() < 0.4:
            queued = [*queued, invoked[1], queued[0]]
        targets = dice.sample(actors, aimed + dropped)
        aims = {}
        for business in targets[:aimed]:
            kind = dice.choices(tuple(AIMS), _WEIGHTS)[0]
            if kind == CLAIMED and business not in invoked:
                kind = ANSWERED
            span = {CLAIMED: (0.0, 0.02), REQUESTED: (0.02, 0.25), ISSUED: (0.02, 0.25)}.get(
                kind, (HOLD, HOLD + COMMIT)
            )
            aims[business] = Aim(kind, dice.uniform(*span))
        drops = {business: dice.choice(sorted(DROPS)) for business in targets[aimed:]}
        while drops and self.tally.drops + len(drops) > self.tally.kills + 2:
            drops.popitem()
        if dice.random() < 0.4:
            drops[dice.choice(sorted(set(actors) - set(targets)))] = "lose_request"
        consenting = [business for business in actors if business in troupe.OWNERS]
        reconnected = dice.choice(consenting) if consenting and dice.random() < 0.4 else None
        return Plan(invoked=invoked, queued=queued, aims=aims, drops=drops, reconnected=reconnected)

    def _wave(self, plan: Plan, dice: random.Random, pool: ThreadPoolExecutor) -> None:
        """Connect the lost connections again, start all refreshes at once, kill as planned, then settle."""
        self._revive(pool)
        self.stage.forget_doubts()
        _all(pool.submit(self.stage.let_fall_due, business) for business in plan.actors)
        seen = self.stage.token_requests(self._after)
        start = self._after = seen[-1]["number"] if seen else self._after
        self.stage.control("DELETE", "faults")
        self.stage.control("POST", "faults", plan.faults())
        self.stage.send(plan.queued)
        running: list[Future[Any]] = [pool.submit(self.stage.invoke, business) for business in plan.invoked]
        if plan.reconnected:
            running.append(pool.submit(self._reconnect, plan.reconnected))
        kills = self._strike(plan, start, dice, running)
        _all(running)
        opened = self._settle()
        self._evidence.kills += kills
        held = sum(kill.held for kill in kills)
        blind = sum(1 for kill in kills if not kill.held)
        claimed = max(0, min(blind, opened - held))
        self.tally.kills += len(kills) - blind + claimed
        self.tally.missed += blind - claimed
        ended = self.stage.token_requests(start)
        self.tally.drops += sum(1 for one in ended if one["outcome"] == "issued" and DROPS.intersection(one["fault"]))

    def _strike(self, plan: Plan, start: int, dice: random.Random, running: list[Future[Any]]) -> list[Kill]:
        """Watch the requests arrive, and kill the workers as planned."""
        kills: list[Kill] = []
        waiting = dict(plan.aims)
        ready: list[tuple[float, psutil.Process, Aim]] = []
        seen: set[tuple[int, int]] = set()
        last = start
        until = quiet = time.time() + LONGEST_WAVE
        while time.time() < min(until, quiet) and (waiting or ready):
            new = self.stage.token_requests(last)
            if new:
                last = new[-1]["number"]
                senders = self._senders(seen, len(new), dice)
                for one, sender in zip(new, senders, strict=True):
                    business = one["business"] or _held(one, waiting)
                    aim = waiting.get(business)
                    if one["grant"] == "refresh_token" and aim is not None and aim.kind != CLAIMED:
                        del waiting[business]
                        ready += [(one["at"] + aim.after, sender, aim)] if sender else []
            for business in [name for name, aim in waiting.items() if aim.kind == CLAIMED]:
                if "attempt_id" in self.stage.item(business):
                    aim, worker = waiting.pop(business), self._claimant(dice)
                    ready += [(time.time() + aim.after, worker, aim)] if worker else []
            for strike in sorted(ready, key=lambda one: one[0]):
                moment, worker, aim = strike
                if moment - time.time() < 0.04:
                    time.sleep(max(0.0, moment - time.time()))
                    kill = self.stage.kill(worker, AIMS[aim.kind])
                    kills += [kill] if kill else []
                    ready.remove(strike)
            if new or ready or any(not future.done() for future in running):
                # After one quiet second the other targets were refused their claim, or another kill ended them.
                quiet = time.time() + 1.0
            time.sleep(0.01)
        return kills

    def _senders(self, seen: set[tuple[int, int]], count: int, dice: random.Random) -> list[psutil.Process | None]:
        """The likely senders of the newest requests: the workers with new connections."""
        workers = {process.pid: process for process in self.stage.workers()}
        held = {(pid, port) for pid, ports in self.stage.connections().items() for port in ports}
        candidates = [pid for pid, _ in sorted(held - seen)] or [pid for pid, _ in sorted(held)]
        seen |= held
        if not candidates:
            return [None] * count
        dice.shuffle(candidates)
        return [workers.get(candidates[number % len(candidates)]) for number in range(count)]

    def _claimant(self, dice: random.Random) -> psutil.Process | None:
        """A busy worker that has not sent a request; `None` if none is found."""
        held = self.stage.connections()
        busy = [one for one in self.stage.workers() if not held.get(one.pid) and not self.stage.is_idle(one)]
        return dice.choice(busy) if busy else None

    # Between waves

    def _settle(self) -> int:
        """End the leases of attempts whose processes are gone. Returns the number of these attempts.

        In reality a lease lasts longer than a worker and its request. So before this ends a lease, the simulator has
        finished all requests, and every worker that could have the attempt is idle or dead.
        """
        until = time.monotonic() + 30
        while any(one["delivered"] is None for one in self.stage.token_requests(self._after)):
            if time.monotonic() > until:
                raise RuntimeError("the simulator does not finish a request")
            time.sleep(0.02)
        items, now = self.stage.items(), time.time()
        attempts = _attempts(items)
        self._evidence.frees += [Free(business=business, at=now) for business in items.keys() - attempts.keys()]
        if not attempts:
            return 0
        # Only these workers can have one of the attempts. A worker that was idle once, or is gone, has none.
        suspects = self.stage.workers()
        until = time.monotonic() + 5
        while suspects and time.monotonic() < until:
            suspects = [process for process in suspects if not self.stage.is_idle(process)]
            time.sleep(0.02)
        for process in suspects:
            kill = self.stage.kill(process, "still busy after a wave")
            self._evidence.kills += [kill] if kill else []
        items = self.stage.items()
        now = time.time()
        opened = 0
        for business, attempt in _attempts(items).items():
            if attempts.get(business) != attempt:
                continue
            started = float(items[business]["attempt_started_at"]["N"])
            self._evidence.opens.append(Open(business=business, attempt=attempt, started_at=started, seen_at=now))
            self.stage.let_lease_end(business, attempt)
            opened += 1
        return opened

    def _revive(self, pool: ThreadPoolExecutor) -> None:
        """Connect the lost connections again, so that the campaign keeps its size."""
        _all(pool.submit(self._reconnect, business) for business in self._note_dead())

    def _note_dead(self) -> list[str]:
        """The connections that need a new consent. Adds to the evidence whether their tokens still work."""
        dead = [(b, i) for b, i in self.stage.items().items() if i["status"]["S"] == Status.REAUTHORIZATION_REQUIRED]
        if not dead:
            return []
        works = {entry["fingerprint"]: entry["works"] for entry in self.stage.ledger()}
        for business, item in dead:
            stored = fingerprint(self.stage.refresh_token(item))
            if any((one.business, one.stored) == (business, stored) for one in self._evidence.dead):
                continue  # Noted before, and still so.
            self._evidence.dead.append(
                Dead(
                    business=business,
                    at=time.time(),
                    reason=item.get("reason", {}).get("S", "none"),
                    stored=stored,
                    works=works.get(stored, False),
                )
            )
        return [business for business, _ in dead]

    def _reconnect(self, business: str) -> None:
        """Make a new consent, and add to the evidence which token it replaces."""
        before, start = fingerprint(self.stage.refresh_token(self.stage.item(business))), time.time()
        troupe.connect(self.stage, business)
        self._evidence.reconnects.append(Reconnect(business=business, start=start, end=time.time(), before=before))

    # Rest

    def _rest(self, pool: ThreadPoolExecutor) -> None:
        """Without faults and kills, refresh until every connection is active without doubt, or lost.

        Each connection is refreshed once more. This proves the stored token.
        """
        self.stage.control("DELETE", "faults")
        self.stage.forget_doubts()
        dead = set(self._note_dead())
        unproved = set(troupe.businesses(self.size)) - dead
        for _ in range(8):
            self._settle()
            _all(pool.submit(self.stage.let_fall_due, business) for business in unproved)
            with ThreadPoolExecutor(4) as few:
                everybody = sorted(unproved)
                outcomes = zip(everybody, few.map(self.stage.invoke, everybody), strict=True)
                unproved -= {business for business, outcome in outcomes if outcome == "refreshed"}
            gone = {b for b in unproved if self.stage.item(b)["status"]["S"] != Status.ACTIVE}
            unproved -= gone
            if not unproved:
                break
            time.sleep(0.2)
        self._settle()
        self._note_dead()

    def collect(self) -> Evidence:
        """Gather all evidence at its present state."""
        items = self.stage.items()
        self._evidence.stored = {
            business: fingerprint(self.stage.refresh_token(item)) for business, item in items.items()
        }
        self._evidence.unsettled = [
            business
            for business, connection in ((b, from_item(i)) for b, i in items.items())
            if (connection.status, connection.in_doubt, connection.attempt) != (Status.ACTIVE, None, None)
            and connection.status is not Status.REAUTHORIZATION_REQUIRED
        ]
        self._evidence.requests = [_request(one) for one in self.stage.token_requests()]
        self._evidence.tokens = [_token(one) for one in self.stage.ledger()]
        log = self.stage.log(self._started)
        self._evidence.finishes = self.stage.finishes(log)
        self._evidence.exceptions = [
            (line.get("connection_id", ""), line.get("error_type", ""))
            for line in log
            if line["message"] == "unexpected"
        ]
        return self._evidence


def _attempts(items: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The attempts that items show, by business."""
    return {business: item["attempt_id"]["S"] for business, item in items.items() if "attempt_id" in item}


def _held(one: dict[str, Any], waiting: dict[str, Aim]) -> str:
    """A guess whose request the simulator holds before reading it: its record has no business yet."""
    held = [business for business, aim in waiting.items() if aim.kind in (REQUESTED, ANSWERED)]
    return held[0] if held and "delay" in one["fault"] else ""


def _request(one: dict[str, Any]) -> Request:
    return Request(
        number=one["number"],
        at=one["at"],
        grant=one["grant"] or "",
        business=one["business"] or "",
        fingerprint=one["fingerprint"] or "",
        outcome=one["outcome"] or "",
        faults=tuple(one["fault"]),
        issued=tuple(one["issued"]),
        delivered=bool(one["delivered"]),
        receiver_gone=one["receiver_gone"],
    )


def _token(one: dict[str, Any]) -> Token:
    return Token(
        fingerprint=one["fingerprint"],
        business=one["business"],
        issued_at=one["issued_at"],
        issued_by=one["issued_by"],
        rotated=one["outcome"] == "rotated",
        works=one["works"],
    )


def _all(futures: Iterable[Future[Any]]) -> None:
    """Wait for all, and raise what any of them raised."""
    started = list(futures)
    wait(started)
    for future in started:
        future.result()
