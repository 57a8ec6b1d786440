"""All that can happen: the states of the world, and the steps from one to the next.

A state is the table, the workers (each a history, see `process`), what travels, the authorization server, the salvage
queue, writes that arrive after their senders gave up, and the clock. Every call of a worker is a step of its own, and
for each there is "before", "done, but not acknowledged", "not done" and "after". Faults come out of a budget.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

import flowaccount_connect.storage.connections as connections_module
from flowaccount_connect.domain.connection import Sealed
from flowaccount_connect.domain.ids import fingerprint
from flowaccount_connect.rotation.pending_commits import PendingCommits, PendingOutcome
from flowaccount_connect.storage.attempts import AttemptStore, ConnectAttempt
from flowaccount_connect.storage.commits import Commit
from flowaccount_connect.storage.connections import ConnectionStore, Refused, grant_update, key_of
from flowaccount_connect.storage.dynamodb import StoreUnavailable
from flowaccount_connect.storage.imports import ImportStore
from flowaccount_connect.storage.links import Link
from flowaccount_connect.storage.stored_tokens import StoredTokens
from tests.model import invariants, process, server
from tests.model.invariants import Sent, Stored
from tests.model.process import LOST, NOT_SENT, TABLE, UNAVAILABLE, Call, Node, Processes
from tests.model.server import BUSINESS, Answer, Kind, Server
from tests.support.dynamodb_model import DynamoDbModel, Snapshot

START = 100_000
RESTORING = 1_800
"""How long it takes to restore the table, in seconds."""

PENDING, RETRYING, WAITING = 0, 1, 2
"""A worker is about to call, is about to be asked again by the SDK, or waits for an answer."""

LATEST = 3_600
"""How long after it was given up a write may still arrive, in seconds."""

STORE_FAULTS = frozenset({"crash", "failed", "unacknowledged", "retried", "late"})
"""Of workers and writes: killed; not done; done but not acknowledged; done and repeated by the SDK; done later."""
NETWORK_FAULTS = frozenset({"lost", "not sent", "garbage", "hurried"})
SERVICE_FAULTS = frozenset({"key", "secret", "rate", "queue", "repeated"})
"""Of KMS, Secrets Manager and the rate; of the queue of pending commits: not taken, or delivered twice."""
ANSWERS = frozenset(
    {"throttled", "kept", "misdirected", "broken refusal", "false refusal", "refused request", "revoked", "new secret"}
)

EVERYTHING = STORE_FAULTS | NETWORK_FAULTS | SERVICE_FAULTS | ANSWERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One world to explore, and its bounds."""

    name: str
    server: Kind = Kind.STRICT
    policy: str = "allowed"
    workers: int = 2
    """At most this many refreshes at a time."""
    starts: int = 3
    """At most this many refreshes and callbacks in all."""
    faults: int = 2
    """At most this many faults."""
    may: frozenset[str] = EVERYTHING
    """Which faults."""
    consents: int = 0
    """How many callbacks run, each with an attempt of its own."""
    same_attempt: bool = False
    """All callbacks have the same attempt and code."""
    links: bool = False
    """The callbacks end in a link each, and the app confirms what they brought, perhaps late, perhaps twice."""
    imported: bool = False
    """It begins with an import and no connection."""
    restores: int = 0
    """How often the table may be lost and come back from the backup that was made at the start."""
    disconnects: int = 0
    on_demand: bool = False
    age: int = 21_600
    """How long ago the stored tokens were requested, in seconds."""
    doubt: bool = False
    """The stored token is in doubt from the start, as after a change of the replay policy."""
    forgets: bool = False
    """A tombstone may be deleted, its 30 days over."""
    down: bool = False
    """The server refuses connections, at no charge to the faults."""
    misfit: bool = False
    """The server refuses every request of this connection, at no charge to the faults."""
    ends: bool = False
    """With no further fault every refresh that is under way comes to an end; for rules whose lack loses nothing."""
    unwell: bool = False
    """The endpoint's health may refuse to send, and to judge, at any time."""
    paced: bool = False
    """The rate may have no room at any time, or, as a fault, not answer."""
    limit: int = 1_000_000
    """At most this many states."""

    def bounds(self) -> str:
        """The bounds, in a line."""
        return (
            f"server {self.server}, replay {self.policy}, {self.workers} workers, {self.starts} starts, "
            f"{self.faults} faults of {len(self.may)} kinds, {self.consents} consents, {self.disconnects} disconnects"
            f"{', on demand too' if self.on_demand else ''}{', an import' if self.imported else ''}"
            f"{', links' if self.links else ''}{', unwell at any time' if self.unwell else ''}"
            f"{', no room at any time' if self.paced else ''}"
        )


class Flight(NamedTuple):
    """A request on its way to the server, or, once answered, its answer on the way back."""

    attempt: int
    token: str
    secret: str
    is_code: bool
    answer: Answer | None = None


class State(NamedTuple):
    """Everything that the future depends on."""

    now: int
    table: int
    workers: tuple[tuple[int, int], ...]
    flights: frozenset[Flight]
    server: Server
    vault: int
    """The version of the client secret that Secrets Manager holds."""
    queue: tuple[str, ...]
    late: tuple[tuple[int, int], ...]
    """Writes, as (process, call), that will arrive although their senders have given them up."""
    sent: frozenset[Sent]
    started: int
    faults: int
    disconnects: int
    leaving: str | None
    """The grant that a disconnect was asked to end, and has not yet."""
    ended: int = 0
    """How many tokens the server had issued at the last disconnect."""
    restores: int = 0
    confirms: int = 0


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, invariant: str, what: str, step: str = "") -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant
        self.what = what
        self.step = step


@dataclass(slots=True)
class World:
    """The steps of one configuration."""

    config: Config
    processes: Processes = field(init=False)
    _tables: list[Snapshot] = field(init=False, default_factory=list)
    _table_numbers: dict[Snapshot, int] = field(init=False, default_factory=dict)
    _stored: list[Stored] = field(init=False, default_factory=list)
    _waiting: list[frozenset[tuple[str, str]]] = field(init=False, default_factory=list)
    """The refresh tokens that wait for a confirmation, and their grants."""
    _backup: Any = field(init=False, default=None)
    _writes: dict[tuple[int, Any], tuple[int, tuple[str, str]]] = field(init=False, default_factory=dict)
    _applied: dict[tuple[int, str, int], tuple[int, PendingOutcome | None]] = field(init=False, default_factory=dict)
    _carried: dict[str, tuple[str, str]] = field(init=False, default_factory=dict)
    _model: Any = field(init=False, default_factory=DynamoDbModel)
    _salvage: PendingCommits = field(init=False)
    _store: ConnectionStore = field(init=False)
    _checked: set[tuple[Any, ...]] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.processes = Processes(
            self.config.policy, unwell=self.config.unwell, paced=self.config.paced or self.config.unwell
        )
        connections_module.new_grant_id = _ordered_grant_id  # type: ignore[assignment, attr-defined]
        self._salvage = PendingCommits(self._model, TABLE)
        self._store = ConnectionStore(self._model, TABLE)

    def first(self) -> State:
        """One connection, connected `age` ago, or an import of one; and the attempts of the consents to come."""
        asked_at = START - self.config.age
        given, token = server.consent(Server(), "code of the first")
        assert token is not None
        content = [process.access_token(token, 0, asked_at), token, BUSINESS, "grant-0"]
        if self.config.imported:
            content[0] = ""
        sealed = Sealed(json.dumps(content).encode(), b"wrapped")
        if self.config.imported:
            imports = ImportStore(self._model, TABLE, process.ENVIRONMENT)
            imports.begin(BUSINESS, "grant-0", sealed, deadline=START + 43_200, now=START, tenant=process.TENANT)
        else:
            tokens = StoredTokens(
                sealed=sealed,
                requested_at=asked_at,
                access_expires_at=asked_at + server.ACCESS_TOKEN_LIFETIME,
                deadline=process.SCHEDULE.deadline(asked_at),
                refresh_at=process.SCHEDULE.refresh_at(asked_at),
            )
            grant = grant_update(
                TABLE,
                Commit(
                    connection_id=BUSINESS,
                    grant_id="grant-0",
                    attempt_id="a0",
                    environment=process.ENVIRONMENT,
                    tokens=tokens,
                ),
                now=asked_at,
            )
            self._model.update_item(**grant)
        if self.config.doubt:
            self._model.update_item(
                TableName=TABLE,
                Key=key_of(BUSINESS),
                UpdateExpression="SET in_doubt = :since",
                ExpressionAttributeValues={":since": {"N": str(asked_at)}},
            )
        attempts = AttemptStore(self._model, TABLE, "sandbox")
        for number in range(self.config.consents):
            attempt = self._attempt_named(number)
            link = f"link {number}" if self.config.links else None
            attempts.create(
                ConnectAttempt(
                    id=fingerprint(attempt),
                    binding=fingerprint(process.browser_of(attempt)),
                    redirect_uri="https://x/callback",
                    expires_at=START + 10**6,
                    link=fingerprint(link) if link is not None else None,
                )
            )
            if link is not None:
                self._model.put_item(TableName=TABLE, Item=_link(link))
        self._backup = self._model.get_item(TableName=TABLE, Key=key_of(BUSINESS)).get("Item")
        return State(
            now=START,
            table=self._number(self._model.snapshot()),
            workers=(),
            flights=frozenset(),
            server=given,
            vault=1,
            queue=(),
            late=(),
            sent=frozenset({Sent(token, 0, 0)}) if self.config.doubt else frozenset(),
            started=0,
            faults=self.config.faults,
            disconnects=self.config.disconnects,
            leaving=None,
            restores=self.config.restores,
            confirms=2 if self.config.links else 0,
        )

    def _attempt_named(self, number: int) -> str:
        return f"{'link' if self.config.links else 'state'} {0 if self.config.same_attempt else number}"

    def stored(self, state: State) -> Stored:
        """The connection as the table has it."""
        return self._stored[state.table]

    # The table

    def _number(self, snapshot: Snapshot) -> int:
        number = self._table_numbers.get(snapshot)
        if number is None:
            number = self._table_numbers[snapshot] = len(self._tables)
            self._tables.append(snapshot)
            items = {key[1]: dict(item) for key, item in snapshot[0] if key[0] == f"CONNECTION#{BUSINESS}"}
            # An import stands for the connection that it may become, until there is one.
            self._stored.append(Stored.of(items.get("CONNECTION") or items.get("IMPORT"), items.get("IMPORT")))
            waiting = [dict(item) for key, item in snapshot[0] if key[1] == "LINK"]
            self._waiting.append(frozenset(_waiting(item) for item in waiting if "tokens" in item))
        return number

    def _write(self, table: int, call: Call) -> tuple[int, tuple[str, str]]:
        """The table after a write, and the write's result."""
        key = (table, call.request)
        found = self._writes.get(key)
        if found is None:
            self._model.restore(self._tables[table])
            operation, request = call.request
            try:
                result = process.result_of(getattr(self._model, operation)(**process.thawed(request)))
            except ClientError as error:
                result = process.failure_of(error)
                if error.response["Error"]["Code"] == "ValidationException":
                    raise
            found = self._writes[key] = self._number(self._model.snapshot()), result
        return found

    def _written(self, state: State, table: int, node: Node | None, attempt: str, call: str) -> None:
        """Check a write: everything that must hold between what stood before and what stands after."""
        if table == state.table:
            return
        policy, now, sent = self.config.policy, state.now, state.sent
        key = (state.table, table, node.number if node else None, attempt, now, sent, state.ended)
        if key in self._checked:
            return
        before, after = self._stored[state.table], self._stored[table]
        if before != after:
            step = f"{attempt}: {call}"
            _hold(invariants.generation_counts_tokens(before, after), "generation_counts_tokens", step)
            _hold(
                invariants.newer_replaces_older(
                    before, after, state.ended, is_restored=state.restores < self.config.restores
                ),
                "newer_replaces_older",
                step,
            )
            _hold(
                invariants.failures_touch_only_their_own(before, after, attempt, now),
                "failures_touch_only_their_own",
                step,
            )
            earned = invariants.reauthorization_is_earned(before, after, node, now, policy, sent)
            _hold(earned, "reauthorization_is_earned", step)
            for name, check in (
                ("refusal_is_noted_truly", invariants.refusal_is_noted_truly),
                ("a_second_refusal_is_waited_for", invariants.a_second_refusal_is_waited_for),
                ("refused_alone_is_noted", invariants.refused_alone_is_noted),
                ("a_final_refusal_ends_it", invariants.a_final_refusal_ends_it),
            ):
                _hold(check(before, after, node), name, step)
            over = invariants.ends_when_its_time_is_over(before, after, node, now)
            _hold(over, "ends_when_its_time_is_over", step)
            _hold(invariants.living_token_stays(before, after, now), "living_token_stays", step)
            _hold(invariants.one_generation(after), "one_generation", step)
            _hold(invariants.own_business(after), "own_business", step)
            _hold(invariants.import_ends_with_its_connection(after), "import_ends_with_its_connection", step)
            _hold(invariants.active_is_due_one_day(after), "active_is_due_one_day", step)
            backoff = invariants.backoff_ends_before_the_deadline(before, after, now)
            _hold(backoff, "backoff_ends_before_the_deadline", step)
        self._checked.add(key)

    # What we hold

    def _body(self, body: str) -> tuple[str, str]:
        """The refresh token and the grant in a message of the salvage queue."""
        found = self._carried.get(body)
        if found is None:
            message = json.loads(body)
            content = process.pending_content(message)
            found = self._carried[body] = content[1], message["grant_id"]
        return found

    def held(self, state: State, *, durably: bool = False) -> set[str]:
        """Every refresh token of the connection's present consent that works and is ours: stored, in the salvage
        queue, in a write under way, or, unless `durably`, in the memory of a worker.

        Not counted is one whose successor is ours: the successor is what will be stored and used. Should it be dead
        already, then because the network lost a newer one still.
        """
        stored = self._stored[state.table]
        if not stored.token:
            return set()
        nodes = self.processes.nodes
        kept = {stored.token, *(self._body(body)[0] for body in state.queue)}
        in_memory = {token for number, _ in (*state.workers, *state.late) if (token := nodes[number].holds) is not None}
        succeeded = {server.parent(token) for token in kept | in_memory}
        ours, works = server.family(stored.token), state.server.works
        return {
            token
            for token in (kept if durably else kept | in_memory)
            if server.family(token) == ours and works(token) and server.serial(token) not in succeeded
        }

    def _keeps(self, state: State, after: State, step: str) -> State:
        """Check that an action of our own has not dropped the last token that works."""
        before_item, after_item = self._stored[state.table], self._stored[after.table]
        if before_item.grant_id == after_item.grant_id and after_item.token:
            held = self.held(state)
            dropped = held and invariants.nothing_working_is_dropped(held, self.held(after))
            _hold(dropped or None, "nothing_working_is_dropped", step)
        return after

    # Steps

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Every step from here, with what happens in it. Raises `Violation`."""
        yield from self._starts(state)
        for worker in state.workers:
            node = self.processes.nodes[worker[0]]
            if worker[1] == WAITING:
                yield from self._waits(state, worker, node)
            else:
                yield from self._calls(state, worker, node)
            if self._may(state, "crash"):
                after = self._fault(state)._replace(workers=_without(state.workers, worker))
                yield f"{_name(node)}: is killed", after
        yield from self._server(state)
        yield from self._queue(state)
        yield from self._late(state)
        yield from self._outside(state)
        yield from self._time(state)

    def _may(self, state: State, fault: str) -> bool:
        return state.faults > 0 and fault in self.config.may

    @staticmethod
    def _fault(state: State) -> State:
        return state._replace(faults=state.faults - 1)

    def _starts(self, state: State) -> Iterator[tuple[str, State]]:
        stored, config = self._stored[state.table], self.config
        if state.started >= config.starts:
            return
        number = state.started + 1
        refreshing = sum(self.processes.nodes[n].refreshes for n, _ in state.workers)
        if refreshing < config.workers and stored.active:
            due = stored.refresh_at is not None and stored.refresh_at <= state.now and stored.due_shard is not None
            if due:
                yield from self._start(state, number, None)
            elif config.on_demand and stored.retries is None:
                yield from self._start(state, number, stored.generation)
        begun = {self.processes.nodes[n].subject for n, _ in state.workers if self.processes.nodes[n].is_callback}
        for number_of_attempt in range(config.consents):
            attempt = self._attempt_named(number_of_attempt)
            mark = f"code of {attempt}"
            if (attempt in begun or mark in state.server.burned) and not config.same_attempt:
                continue
            if config.same_attempt and len(state.workers) - refreshing >= config.consents:
                continue
            node = self.processes.start(number, state.now, "callback", subject=attempt)
            after = state._replace(started=number, workers=_with(state.workers, (node.number, PENDING)))
            yield f"{_name(node)}: the browser comes back with {attempt}", after
            break
        if state.confirms and self._waiting[state.table]:
            node = self.processes.start(number, state.now, "confirm", subject=_confirms("link 0"))
            workers = _with(state.workers, (node.number, PENDING))
            yield (
                f"{_name(node)}: the app confirms",
                state._replace(started=number, workers=workers, confirms=state.confirms - 1),
            )

    def _start(self, state: State, number: int, generation: int | None) -> Iterator[tuple[str, State]]:
        kind = "import" if self._stored[state.table].is_import else "refresh"
        node = self.processes.start(number, state.now, kind, generation=generation)
        after = state._replace(started=number, workers=_with(state.workers, (node.number, PENDING)))
        yield f"{_name(node)}: {kind} starts{f', of generation {generation}' if generation else ''}", after

    def _resumed(self, state: State, worker: tuple[int, int], result: Any, step: str) -> Iterator[tuple[str, State]]:
        """The worker goes on with a result; or, where that makes a difference, with little time left."""
        node = self.processes.nodes[worker[0]]
        workers = _without(state.workers, worker)
        after_node = self.processes.resume(node, result, state.now)
        yield step, self._went_on(state, workers, after_node, step)
        if after_node.asks_for_time and not node.hurried and self._may(state, "hurried"):
            hurried = self.processes.resume(node, result, state.now, hurried=True)
            step += ", and little time is left"
            yield step, self._went_on(self._fault(state), workers, hurried, step)

    def _went_on(self, state: State, workers: tuple[tuple[int, int], ...], node: Node, step: str) -> State:
        before = state
        if node.answer is not None and node.refreshes and state.sent:
            proof = (
                *("throttled", "invalid_client", "invalid_request", "tokens without a new refresh token", NOT_SENT),
                # No proof that it is unspent; but sent again it may be, and the refusal itself is noted and checked.
                invariants.REFUSAL,
            )
            if node.answer in proof:
                state = state._replace(sent=frozenset(s for s in state.sent if s.attempt != node.attempt))
        if node.call is not None:
            return self._doubted(state._replace(workers=_with(workers, (node.number, PENDING))), step)
        after = state._replace(workers=workers)
        kept = {*(self._body(body)[0] for body in state.queue), *(token for token, _ in self._waiting[state.table])}
        pending = node.holds in kept
        _hold(invariants.report_is_true(node, self._stored[state.table], pending), "report_is_true", step)
        _hold(invariants.no_claim_is_abandoned(node, self._stored[state.table]), "no_claim_is_abandoned", step)
        outcome = getattr(node.outcome, "outcome", None)
        if node.holds is not None and node.refreshes and outcome != "lost":
            holding = before._replace(workers=_with(workers, (node.number, PENDING)))
            self._keeps(holding, after, f"{step}; it ends: {outcome or repr(node.outcome)}")
        return self._doubted(after, step)

    def _doubted(self, state: State, step: str) -> State:
        if state.sent:
            recorded = invariants.doubt_is_recorded(self._stored[state.table], state.sent)
            _hold(recorded, "doubt_is_recorded", step)
        return state

    def _calls(self, state: State, worker: tuple[int, int], node: Node) -> Iterator[tuple[str, State]]:
        call = node.call
        assert call is not None
        name = f"{_name(node)}: {call.name}"
        match call.service:
            case "write":
                yield from self._write_steps(state, worker, node, call, name)
            case "secret":
                yield from self._resumed(state, worker, state.vault, name)
                if self._may(state, "secret"):
                    yield from self._resumed(self._fault(state), worker, None, f"{name} fails")
            case "key":
                yield from self._resumed(state, worker, True, name)
                if self._may(state, "key"):
                    yield from self._resumed(self._fault(state), worker, False, f"{name} fails")
            case "permit":
                yield from self._resumed(state, worker, True, name)
                yield from self._resumed(state, worker, False, f"{name}: none in time")
                if self._may(state, "rate"):
                    yield from self._resumed(self._fault(state), worker, None, f"{name}: the rate fails")
            case "health":
                yield from self._resumed(state, worker, True, f"{name}: the endpoint is well")
                yield from self._resumed(state, worker, False, f"{name}: the endpoint is unwell")
            case "queue":
                queued = state._replace(queue=tuple(sorted((*state.queue, call.request))))
                yield from self._resumed(queued, worker, True, name)
                if self._may(state, "queue"):
                    yield from self._resumed(self._fault(state), worker, False, f"{name} fails")
                    yield from self._resumed(self._fault(queued), worker, False, f"{name} is taken, not acknowledged")
            case _:
                yield from self._send(state, worker, node, call, name)

    def _write_steps(
        self, state: State, worker: tuple[int, int], node: Node, call: Call, name: str
    ) -> Iterator[tuple[str, State]]:
        table, result = self._write(state.table, call)
        self._written(state, table, node, f"a{node.attempt}", call.name)
        done = state._replace(table=table)
        if table != state.table:
            self._keeps(state, done, name)
        verdict = "done" if result[0] == "return" else "refused"
        retry = "the SDK asks again, " if worker[1] == RETRYING else ""
        yield from self._resumed(done, worker, result, f"{name}: {retry}{verdict}")
        if worker[1] == RETRYING:
            return
        if result[0] == "return":
            if self._may(state, "unacknowledged"):
                unacknowledged = f"{name}: done, not acknowledged"
                yield from self._resumed(self._fault(done), worker, UNAVAILABLE, unacknowledged)
            if self._may(state, "retried"):
                workers = _with(_without(state.workers, worker), (worker[0], RETRYING))
                yield f"{name}: done, the answer is lost to the SDK", self._fault(done)._replace(workers=workers)
            if self._may(state, "late"):
                late = self._fault(state)._replace(late=tuple(sorted((*state.late, (worker[0], 0)))))
                yield from self._resumed(late, worker, UNAVAILABLE, f"{name}: given up, still under way")
        if self._may(state, "failed"):
            yield from self._resumed(self._fault(state), worker, UNAVAILABLE, f"{name}: fails")

    def _send(
        self, state: State, worker: tuple[int, int], node: Node, call: Call, name: str
    ) -> Iterator[tuple[str, State]]:
        token, secret, budget, left = call.request
        if call.service == "post":
            under_way = [flight.token for flight in state.flights if self._heard(state, flight)]
            deadline = self._stored[state.table].deadline
            in_the_air = invariants.one_in_the_air(
                token, node, state.now, self.config.policy, state.sent, under_way, deadline
            )
            _hold(in_the_air, "one_in_the_air", name)
            _hold(invariants.time_to_commit_is_left(budget, left), "time_to_commit_is_left", name)
        else:
            _hold(invariants.code_is_sent_once(token, state.server.burned), "code_is_sent_once", name)
        if self._may(state, "not sent"):
            yield from self._resumed(self._fault(state), worker, NOT_SENT, f"{name}: not sent")
        if self.config.down:
            yield from self._resumed(state, worker, NOT_SENT, f"{name}: the server is down")
            return
        flight = Flight(node.attempt, token, secret, call.service == "exchange")
        sent = state.sent
        if call.service == "post":
            sent |= {Sent(token, node.attempt, node.lease_until)}
        workers = _with(_without(state.workers, worker), (worker[0], WAITING))
        yield f"{name} {token} leaves", state._replace(flights=state.flights | {flight}, workers=workers, sent=sent)

    def _waits(self, state: State, worker: tuple[int, int], node: Node) -> Iterator[tuple[str, State]]:
        for flight in state.flights:
            if flight.attempt == node.attempt and flight.answer is not None:
                arrived = state._replace(flights=state.flights - {flight})
                step = f"{_name(node)}: the answer comes: {flight.answer.kind} {flight.answer.refresh_token}".rstrip()
                yield from self._resumed(arrived, worker, flight.answer, step)
        if self._may(state, "lost"):
            left = frozenset(f for f in state.flights if f.attempt != node.attempt or f.answer is None)
            gone = self._fault(state)._replace(flights=left)
            yield from self._resumed(gone, worker, LOST, f"{_name(node)}: no answer comes")

    def _server(self, state: State) -> Iterator[tuple[str, State]]:
        for flight in sorted(state.flights):
            if flight.answer is not None:
                continue
            others = state.flights - {flight}
            waited = self._heard(state, flight)
            for fault, what, after, answer in self._answers(state, flight):
                flights = others | {flight._replace(answer=answer)} if waited else others
                moved = state._replace(server=after, flights=flights)
                unheard = "" if waited else ", which nobody waits for"
                yield f"server: {what}{unheard}", self._fault(moved) if fault else moved

    def _answers(self, state: State, flight: Flight) -> Iterator[tuple[bool, str, Server, Answer]]:
        """What the server may do with a request: whether that is a fault, words for it, its new state, its answer."""
        there, token = state.server, flight.token
        if flight.is_code:
            after, new = server.consent(there, token)
            answer = Answer("tokens", new) if new is not None else Answer("invalid_grant")
            yield False, f"{token}: {answer.kind} {new or ''}".rstrip(), after, answer
            return
        if flight.secret != f"secret {there.secret}":
            yield False, f"{token}: invalid_client", there, Answer("invalid_client")
            return
        if self.config.misfit:
            yield False, f"{token}: invalid_request", there, Answer("invalid_request")
            return
        after, new = server.refresh(there, self.config.server, token)
        answer = Answer("tokens", new) if new is not None else Answer("invalid_grant")
        yield False, f"{token}: {answer.kind} {new or ''}".rstrip(), after, answer
        if self._may(state, "garbage"):
            yield True, f"{token}: {answer.kind} {new or ''}, but answers garbage", after, Answer("garbage")
            yield True, f"{token}: garbage, nothing done", there, Answer("garbage")
        if self._may(state, "throttled"):
            yield True, f"{token}: throttled", there, Answer("throttled")
        if self._may(state, "false refusal"):
            yield True, f"{token}: a false refusal", there, Answer("invalid_grant")
        if self._may(state, "refused request"):
            yield True, f"{token}: invalid_request", there, Answer("invalid_request")
        if self._may(state, "broken refusal"):
            yield True, f"{token}: a broken refusal", there, Answer("a broken refusal")
        if self._may(state, "kept") and there.works(token):
            kind = "tokens without a new refresh token"
            yield True, f"{token}: {kind}", there, Answer(kind)
        if self._may(state, "misdirected") and there.works(token):
            after, new = server.misdirect(there, self.config.server, token)
            kind = "tokens of another business"
            yield True, f"{token}: {kind}", after, Answer(kind, new or "")

    def _queue(self, state: State) -> Iterator[tuple[str, State]]:
        for body in sorted(set(state.queue)):
            token, _ = self._body(body)
            after, outcome = self._commit_applied(state, body)
            if outcome is None:
                continue  # The connection is not there: the message waits for it.
            at = state.queue.index(body)
            step = f"salvage: {token}: {outcome}"
            removed = after._replace(queue=state.queue[:at] + state.queue[at + 1 :])
            if outcome is not PendingOutcome.APPLIED_BEFORE:
                self._keeps(state, removed, step)
            yield step, self._doubted(removed, step)
            if self._may(state, "repeated"):
                yield f"{step}, to be delivered again", self._fault(after)

    def _commit_applied(self, state: State, body: str) -> tuple[State, PendingOutcome | None]:
        key = (state.table, body, state.now)
        found = self._applied.get(key)
        if found is None:
            self._model.restore(self._tables[state.table])
            try:
                outcome: PendingOutcome | None = self._salvage.apply(body, now=state.now)[0]
            except StoreUnavailable:
                outcome = None
            found = self._applied[key] = self._number(self._model.snapshot()), outcome
            if outcome is not None:
                truth = invariants.salvage_tells_the_truth(outcome, changed=found[0] != state.table)
                _hold(truth, "salvage_tells_the_truth", "salvage")
        self._written(state, found[0], None, "salvage", "apply")
        return state._replace(table=found[0]), found[1]

    def _late(self, state: State) -> Iterator[tuple[str, State]]:
        for entry in sorted(set(state.late)):
            node = self.processes.nodes[entry[0]]
            call = node.call
            assert call is not None
            table, result = self._write(state.table, call)
            self._written(state, table, node, f"a{node.attempt}", call.name)
            at = state.late.index(entry)
            after = state._replace(table=table, late=state.late[:at] + state.late[at + 1 :])
            verdict = "done" if result[0] == "return" else "refused"
            step = f"{_name(node)}: {call.name} arrives late: {verdict}"
            if table != state.table:
                self._keeps(state, after, step)
            yield step, self._doubted(after, step)

    def _outside(self, state: State) -> Iterator[tuple[str, State]]:
        """What others do: the app disconnects, the user revokes, an operator changes the secret."""
        stored = self._stored[state.table]
        if state.leaving is not None:
            yield self._disconnect(state)
        elif state.disconnects and stored.grant_id:
            asked = state._replace(leaving=stored.grant_id, disconnects=state.disconnects - 1)
            yield f"the app asks to end {stored.grant_id}", asked
        if self.config.forgets and stored.status == "disconnected" and not state.workers:
            items, tokens = self._tables[state.table]
            left = frozenset(entry for entry in items if entry[0] != (f"CONNECTION#{BUSINESS}", "CONNECTION"))
            yield "the tombstone is deleted, 30 days over", state._replace(table=self._number((left, tokens)))
        if state.restores and self._backup is not None and not state.workers:
            yield self._restore(state)
        if self._may(state, "revoked") and stored.token and state.server.works(stored.token):
            after = server.revoke(state.server, server.family(stored.token))
            yield "the user revokes the connection at the server", self._fault(state)._replace(server=after)
        if self._may(state, "new secret") and state.vault == state.server.secret == 1:
            yield (
                "the secret changes at the server",
                self._fault(state)._replace(server=state.server._replace(secret=2)),
            )
            yield "the secret changes in Secrets Manager", self._fault(state)._replace(vault=2)
        elif state.vault != state.server.secret:
            yield (
                "the secret changes on the other side too",
                state._replace(vault=2, server=state.server._replace(secret=2)),
            )

    def _disconnect(self, state: State) -> tuple[str, State]:
        self._model.restore(self._tables[state.table])
        imports = ImportStore(self._model, TABLE, process.ENVIRONMENT)
        imported, connection, outcome = imports.get(BUSINESS), self._store.get(BUSINESS), "done"
        try:
            seen = connection or imported
            if imported is not None and imported.status == "active" and seen and seen.grant_id == state.leaving:
                imports.cancel(imported, connection, now=state.now)
            else:
                self._store.disconnect(BUSINESS, state.leaving or "", now=state.now)
        except Refused:
            outcome = "refused"
        table = self._number(self._model.snapshot())
        before, after = self._stored[state.table], self._stored[table]
        asked = invariants.disconnect_ends_what_was_asked(state.leaving, before, after)
        _hold(asked, "disconnect_ends_what_was_asked", "disconnect")
        self._written(state, table, None, "the app", "disconnect")
        ended = state.server.issued if outcome == "done" else state.ended
        step = f"disconnect of {state.leaving}: {outcome}"
        return step, state._replace(table=table, leaving=None, ended=ended)

    def _restore(self, state: State) -> tuple[str, State]:
        """The table is lost, and the connection comes back from the backup; pending commits and late writes are still
        under way. No worker lives through it: a restore takes far longer than an invocation."""
        self._model.restore(self._tables[state.table])
        found = connections_module.restored(
            self._backup,
            restored_to=START - self.config.age,
            now=state.now + RESTORING,
            disconnected=self._stored[state.table].status == "disconnected",
        )
        self._model.put_item(TableName=TABLE, Item=found)
        table = self._number(self._model.snapshot())
        _hold(invariants.restored_is_in_doubt(self._stored[state.table], self._stored[table]), "restored", "restore")
        # What else was sent, the lost table knew alone.
        sent = frozenset(sent for sent in state.sent if sent.token == self._stored[table].token)
        after = state._replace(table=table, now=state.now + RESTORING, restores=state.restores - 1, sent=sent)
        return "the table is restored from the backup", after

    def _time(self, state: State) -> Iterator[tuple[str, State]]:
        """The clock goes on to the next moment that matters, if whoever is at work still lives then."""
        stored, now = self._stored[state.table], state.now
        moments = set()
        if stored.active:
            moments = {stored.refresh_at or 0, stored.lease_until if stored.attempt else 0}
            if self.config.down or self.config.misfit:
                moments |= {stored.deadline, stored.deadline + process.SCHEDULE.refresh_token_lifetime}
        longest = now + 10**7
        for number, mode in state.workers:
            node = self.processes.nodes[number]
            longest = min(longest, node.started_at + process.FUNCTION_TIMEOUT)
            if mode == WAITING:
                moments.add(node.now + invariants.EXCHANGE)
        for moment in sorted(moments):
            if now < moment < longest:
                # What has not arrived long after its lease never will: no connection to the table lives that long.
                late = tuple(one for one in state.late if moment < self.processes.nodes[one[0]].now + LATEST)
                yield f"{moment - now} s pass", state._replace(now=moment, late=late)
                return

    # Recovery

    def must_recover(self, state: State) -> bool:
        """Whether a refresh token that works is held durably, and nothing by design speaks against its use."""
        held = self.held(state, durably=True)
        stored = self._stored[state.table]
        if stored.deadline <= state.now:
            return False  # It works no longer, whatever this server says.
        if self.config.misfit or (held == {stored.token} and self._is_refused_for_good(state)):
            return False
        if self.config.policy == "never" and held == {stored.token}:
            # What is in doubt is given up, and so is what a worker that died had claimed.
            alive = {f"a{self.processes.nodes[number].attempt}" for number, _ in state.workers}
            doubted = any(sent.token == stored.token for sent in state.sent)
            return not (doubted or stored.in_doubt or stored.reason or (stored.attempt and stored.attempt not in alive))
        return bool(held)

    def _is_refused_for_good(self, state: State) -> bool:
        """Whether the stored token, though it works, was refused for the last time, or is about to be.

        `reauthorization_is_earned` checks that the end is earned.
        """
        stored = self._stored[state.table]
        if stored.reason is not None:
            return True
        if stored.refused_at is None and not stored.is_import:
            return False
        nodes = [self.processes.nodes[number] for number, _ in state.workers]
        heard = any(node.posted == stored.token and node.answer == invariants.REFUSAL for node in nodes)
        return heard or any(
            flight.token == stored.token and flight.answer is not None and flight.answer.kind == invariants.REFUSAL
            for flight in state.flights
        )

    def must_end(self, state: State) -> bool:
        """Whether a refusal that nobody can mend must end the connection, or the import."""
        stored = self._stored[state.table]
        return self.config.ends and stored.active and not state.queue and not state.server.works(stored.token)

    def ends(self, state: State, known: set[State]) -> bool:
        """Whether, with no further fault, it ends, or becomes well by what a worker holds."""

        def reached(there: State) -> bool:
            stored = self._stored[there.table]
            return not stored.active or there.server.works(stored.token)

        return self._comes_to(state, known, reached)

    def recovers(self, state: State, known: set[State]) -> bool:
        """Whether, with no further fault, the connection becomes well again: active, with a token that works.

        This holds with the salvage queue drained first, except where a worker is about to replay a token while the
        answer to its first use is still in that queue. There only this is promised, that it *can* become well: on a
        server that revokes the family if that worker dies, on one that honours the newest only if it is first or dies.
        """
        if self._becomes_well(state, known):
            return True
        match self.config.server:
            case Kind.FAMILY_REVOKING:
                return self._becomes_well(state._replace(workers=()), known)
            case Kind.NEWEST_ONLY:
                first = self._becomes_well(state, known, workers_first=True)
                return first or self._becomes_well(state._replace(workers=()), known)
        return False

    def _becomes_well(self, state: State, known: set[State], *, workers_first: bool = False) -> bool:
        """What travels unheard is dropped; then the salvage queue is drained, the workers go on, time passes, and the
        sweep starts refreshes, until all is well. Every state on the way there is remembered in `known`."""
        return self._comes_to(
            state,
            known,
            lambda there: not there.queue and not there.workers and self._well(there),
            workers_first=workers_first,
        )

    def _comes_to(
        self, state: State, known: set[State], reached: Callable[[State], bool], *, workers_first: bool = False
    ) -> bool:
        state = state._replace(
            flights=frozenset(f for f in state.flights if self._heard(state, f)),
            server=state.server._replace(secret=max(state.vault, state.server.secret)),
            vault=max(state.vault, state.server.secret),
            late=(),
            started=100,
            faults=0,
            disconnects=0,
            leaving=None,
            restores=0,
            confirms=0,
        )
        way: list[State] = []
        for _ in range(200):
            if state in known or reached(state):
                known.update(way)
                return True
            way.append(state)
            following = self._fair(state, workers_first)
            if following is None:
                return False
            state = following
        return False

    def _well(self, state: State) -> bool:
        stored = self._stored[state.table]
        return stored.attempt is None and invariants.server_agrees(state.server, stored)

    def _heard(self, state: State, flight: Flight) -> bool:
        return any(self.processes.nodes[n].attempt == flight.attempt and mode == WAITING for n, mode in state.workers)

    def _fair(self, state: State, workers_first: bool) -> State | None:
        """The next step on the way: any that goes on without a fault."""
        ways = [self._work, self._queue] if workers_first else [self._queue, self._work]
        for way in (*ways, self._sweep, self._time):
            for _, after in way(state):
                return after
        return None

    def _work(self, state: State) -> Iterator[tuple[str, State]]:
        for worker in state.workers:
            node = self.processes.nodes[worker[0]]
            yield from self._waits(state, worker, node) if worker[1] == WAITING else self._calls(state, worker, node)
        yield from self._server(state)

    def _sweep(self, state: State) -> Iterator[tuple[str, State]]:
        stored = self._stored[state.table]
        due = stored.active and stored.due_shard is not None and (stored.refresh_at or 0) <= state.now
        if due and (stored.attempt is None or stored.lease_until <= state.now):
            yield from self._start(state, state.started + 1, None)


def _ordered_grant_id(clock: Callable[[], float]) -> str:
    """The id of a disconnect's moment is random beyond the millisecond; here it sorts behind all of its second."""
    return f"grant-{int(clock()):09d}~"


def _link(link: str) -> dict[str, Any]:
    """The item of a link that its user has opened."""
    key = "key of the link"
    made = Link(id=fingerprint(link), key=key, tenant=process.TENANT, return_url="", expires_at=START + 10**6)
    return {
        "pk": {"S": f"LINK#{made.id}"},
        "sk": {"S": "LINK"},
        "confirmation": {"S": fingerprint(made.confirmation(link))},
        "key": {"S": key},
        "environment": {"S": process.ENVIRONMENT},
        "tenant": {"S": process.TENANT},
        "return_url": {"S": "https://x/done"},
        "expires_at": {"N": str(START + 10**6)},
    }


def _confirms(link: str) -> str:
    """What confirms a link."""
    made = Link(id=fingerprint(link), key="key of the link", tenant="", return_url="", expires_at=0)
    return made.confirmation(link)


def _waiting(item: dict[str, tuple[str, Any]]) -> tuple[str, str]:
    """The refresh token that waits in a link, and its grant."""
    content = json.loads(item["tokens"][1])
    return content[1], content[3]


def _name(node: Node) -> str:
    return f"{'worker' if node.refreshes else node.kind} a{node.attempt}"


def _with(workers: tuple[tuple[int, int], ...], worker: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((*workers, worker)))


def _without(workers: tuple[tuple[int, int], ...], worker: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple(w for w in workers if w != worker)


def _hold(wrong: str | None, invariant: str, step: str) -> None:
    if wrong is not None:
        raise Violation(invariant, wrong, step)
