"""Whether the token endpoint is well: the whole stack's answer to the question whether refresh tokens may be sent now.

docs/rotation.md ("When the endpoint is unwell") has the rules. If the configuration was refused, the first good canary
ends the unwell time. After missing answers or refused tokens a canary is not enough: a server that loses answers, or
refuses good tokens, may still refuse a made-up one correctly. Then the good canary is followed by one refresh of a
connection, and its success ends the unwell time. If that refresh proves nothing, because the connection always fails or
is not due, another one tests a few seconds later. A connection in its last hour is refreshed all the same, because
waiting would lose it, and its success makes the endpoint well at once.

The state is one item of the table, `pk=HEALTH, sk=token-endpoint`. A worker reads it every ten seconds at most, and
writes it after failures, and after the first success that follows them. If the item cannot be read, or says what no
worker can have written, the endpoint is taken to be well. docs/performance.md ("What was tried") says why this is not
Powertools' circuit breaker.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from flowaccount_connect.domain.connection import Reason
from flowaccount_connect.rotation.outcomes import Refresh, RefreshOutcome
from flowaccount_connect.storage.dynamodb import Item, StoreUnavailable, n, number, s, text
from flowaccount_connect.storage.shared_item import Changed, Shared

DOUBTS = 3
"""After missing answers to so many different connections the endpoint is unwell. Each of them may cost a connection."""

FAILURES = 5
"""After failures of any kind of so many different connections the endpoint is unwell."""

PAUSES = (60, 120, 240, 300)
"""Seconds from one canary to the next. The last one is repeated."""

NEXT_ONE = 5
"""If a connection that tests shows nothing, another one may test after so many seconds."""

CACHED = 10
"""How long a process trusts what it last read, in seconds."""

ALL_REFUSED = 3_600
"""If the endpoint refuses all tokens for so many seconds, and canaries are answered, its refusals are believed."""

_CLOCKS = 60
_REMEMBERED = 20
_TRIES = 5


class Sign(StrEnum):
    """What one answer says about the endpoint."""

    WELL = "well"
    CONFIGURATION = "configuration"
    """The stack's configuration is refused."""
    DOUBT = "doubt"
    """There is no usable answer."""
    REFUSAL = "refusal"
    """The token is refused (`invalid_grant`)."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Change:
    """The endpoint became unwell because of `cause`, or well again. `since` is when it became unwell (epoch)."""

    well: bool
    cause: Sign
    since: int


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failure of one connection, at `at` (epoch).

    Milliseconds count: many refreshes may succeed and fail within one second, and what came first must be known.
    """

    sign: Sign
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the item says. Times in epoch seconds."""

    failures: Mapping[str, Failure] = field(default_factory=dict)
    """By connection id: who failed since the last success."""
    unwell_since: int | None = None
    cause: Sign = Sign.NOTHING
    tests: int = 0
    """How many canaries were sent since then; no more than there are `PAUSES`."""
    next_test: int = 0


class Health:
    """The health of the token endpoint as one process knows it. Safe for several threads.

    `canary` sends a canary and returns what its answer says. `changed` is called for each change that this process
    writes.
    """

    def __init__(
        self,
        item: Shared,
        canary: Callable[[], Sign],
        *,
        changed: Callable[[Change], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._item = item
        self._canary = canary
        self._changed = changed
        self._clock = clock
        self._lock = threading.RLock()
        self._seen: tuple[Item, State, float] = {}, State(), 0.0
        """The item as it was last seen, what it says, and until when that is trusted."""
        self._alone_until = 0.0
        """Until when no write is tried, since the table did not answer the last one."""
        self._succeeded = 0.0
        """When this process last saw a success."""
        self._accepted: float = 0
        """When the last request that succeeded was sent, as far as this process knows. Epoch seconds."""
        self._throttled: dict[str, float] = {}
        """When this process last saw a 429 to a connection, of the last `_REMEMBERED`."""

    def _known(self, at: float) -> float:
        """A moment that this process has seen; 0 if it lies ahead, since then the clock has fallen back."""
        return at if at <= self._clock() + 1 else 0.0

    @property
    def unwell(self) -> bool:
        """Whether the endpoint is unwell, as this process knows it."""
        return self._look().unwell_since is not None

    def may_end(self, now: int) -> bool:
        """Whether a refusal may end a connection at `now` (epoch).

        While the endpoint is unwell it may not, unless all tokens have been refused for an hour and the canaries say
        that client and server work.
        """
        state = self._look()
        since = state.unwell_since
        return since is None or (state.cause is Sign.REFUSAL and now - since >= ALL_REFUSED)

    def succeeded_since(self, at: int) -> bool:
        """Whether a refresh of any connection has succeeded after `at` (epoch), as far as this process knows."""
        return self._known(self._succeeded) > at

    def throttled_alone(self, connection_id: str) -> bool:
        """Whether this connection was answered 429 before, and requests that were sent since have succeeded."""
        before = self._throttled.get(connection_id)
        return before is not None and self._known(self._accepted) > before

    def run(self, connection_id: str, refresh: Callable[[], Refresh], *, urgent: bool = False) -> Refresh:
        """Run `refresh` and learn from it; while the endpoint is unwell only if it is `urgent`, or the one that tests.

        Otherwise nothing is claimed or sent, and the outcome is `UNWELL`. Raises what `refresh` raises.
        """
        tests = self.unwell and not urgent
        if not self.admits(connection_id, urgent=urgent):
            return Refresh(outcome=RefreshOutcome.UNWELL, connection_id=connection_id)
        began = int(self._clock())
        done = refresh()
        self.learn(done, began, tests=tests)
        return done

    def admits(self, connection_id: str, *, urgent: bool = False) -> bool:
        """Whether this connection's token may be sent now. Sends a canary if it is time for one."""
        state = self._look()
        if state.unwell_since is None or urgent:
            return True
        failed = state.failures.get(connection_id)
        if failed is not None and state.cause is not Sign.CONFIGURATION and self._clock() - failed.at < PAUSES[-1]:
            # Its own trouble could be taken for the endpoint's. But a small stack may have no other connection.
            return False
        return self._takes_next_test() and self._canary_is_good()

    def learn(self, done: Refresh, began: int, *, tests: bool = False) -> None:
        """Take in what became of a refresh that began at `began` (epoch), and whether it was one that `tests`."""
        sign, now = sign_of(done), self._clock()
        if done.outcome in (RefreshOutcome.LOST, RefreshOutcome.PENDING):
            # The table does not answer, and the time that is left is for the line of the log.
            self._succeeded, self._accepted = now, max(self._known(self._accepted), began)
            return
        self._look()
        with self._lock:
            if sign is Sign.WELL or done.outcome is RefreshOutcome.THROTTLED:
                self._throttled.pop(done.connection_id, None)
            if done.outcome is RefreshOutcome.THROTTLED:
                self._throttled[done.connection_id] = now
                self._throttled = dict(list(self._throttled.items())[-_REMEMBERED:])
        if sign is Sign.WELL:
            self._succeeded = now
            self._accepted = max(self._known(self._accepted), began)
            self._update(lambda state: _after_success(state, began))
        elif sign is not Sign.NOTHING:
            failure = Failure(sign, now)
            self._update(lambda state: _after_failure(state, done.connection_id, failure, self._known(self._succeeded)))
        elif tests:
            self._update(lambda state: _after_silence(state, done, now))

    def _takes_next_test(self) -> bool:
        """Whether this process is the one that sends the next canary. It is, if it can write that down."""
        now = int(self._clock())

        def next_one(state: State) -> State:
            if state.unwell_since is None or now < state.next_test:
                return state
            pause = PAUSES[min(state.tests, len(PAUSES) - 1)]
            return replace(state, tests=min(state.tests + 1, len(PAUSES)), next_test=now + pause)

        return self._update(next_one)

    def _canary_is_good(self) -> bool:
        """Send a canary, note what it says, and return whether one connection may be tried."""
        sign = self._canary()
        if sign in (Sign.CONFIGURATION, Sign.DOUBT):
            self._update(lambda state: replace(state, cause=sign) if state.unwell_since is not None else state)
        elif sign is Sign.WELL:
            self._update(lambda state: State() if state.cause is Sign.CONFIGURATION else state)
        return sign is Sign.WELL

    def _look(self) -> State:
        """The state, read anew if what is known is too old."""
        with self._lock:
            item, _, until = self._seen
            now = self._clock()
            if until <= now or until > now + CACHED:
                try:
                    # It is at most one read late, so half the price will do.
                    item = self._item.get(consistent=False)
                    self._alone_until = 0.0
                except StoreUnavailable:
                    # This is remembered, too: a batch must not wait for a table that hangs, one thread after another.
                    item = {}
                self._saw(item, _decoded(item, int(now)))
            return self._seen[1]

    def _update(self, change: Callable[[State], State]) -> bool:
        """Whether this process changed the state; not if `change` returns the same, or the table does not answer.

        While the table does not answer, this process goes by itself for `CACHED` seconds: a batch must not wait for it,
        one thread after another.
        """
        with self._lock:
            for _ in range(_TRIES):
                item, state, _ = self._seen
                after = change(state)
                if after is state:
                    return False
                if self._clock() < self._alone_until <= self._clock() + CACHED:
                    self._saw(item, after)
                    return False
                try:
                    self._saw(self._item.replace(item, _encoded(after)), after)
                except Changed as changed:
                    self._saw(changed.item, _decoded(changed.item, int(self._clock())))
                except StoreUnavailable:
                    self._alone_until = self._clock() + CACHED
                    # The others do not know. This process does.
                    self._saw(item, after)
                    return False
                else:
                    self._report(state, after)
                    return True
            return False

    def _report(self, before: State, after: State) -> None:
        """Report a change."""
        if before.unwell_since is None and after.unwell_since is not None:
            self._changed(Change(False, after.cause, after.unwell_since))
        elif before.unwell_since is not None and after.unwell_since is None:
            self._changed(Change(True, before.cause, before.unwell_since))

    def _saw(self, item: Item, state: State) -> None:
        self._seen = item, state, self._clock() + CACHED


def _after_success(state: State, began: int) -> State:
    """Nothing is wrong; but an answer to what was sent before the bad time does not say that it is over."""
    unwell = state.unwell_since is not None
    if (unwell and began < (state.unwell_since or 0)) or not (unwell or state.failures):
        return state
    return State()


def _after_silence(state: State, done: Refresh, now: float) -> State:
    """The test refresh proved nothing: it was not due, or always fails. Another one may test soon.

    But not after one that failed in this unwell time before: it has spent a token on it, and the others that failed
    would go on one after the other.
    """
    failed = state.failures.get(done.connection_id)
    if failed is not None and done.exchange_ms is not None:
        return replace(state, failures={**state.failures, done.connection_id: replace(failed, at=now)})
    soon = int(now) + NEXT_ONE
    return replace(state, next_test=soon) if state.unwell_since is not None and soon < state.next_test else state


def _after_failure(state: State, connection_id: str, failure: Failure, succeeded: float) -> State:
    """One connection more has failed. What failed before the last success that this process saw does not count."""
    failures = dict(state.failures)
    if state.unwell_since is None:
        failures = {one: before for one, before in failures.items() if before.at > succeeded}
    failures.pop(connection_id, None)
    failures[connection_id] = failure
    failures = dict(list(failures.items())[-_REMEMBERED:])
    signs = [each.sign for each in failures.values()]
    if state.unwell_since is None and (signs.count(Sign.DOUBT) >= DOUBTS or len(signs) >= FAILURES):
        cause = Sign.DOUBT if signs.count(Sign.DOUBT) >= DOUBTS else max(signs, key=signs.count)
        since = int(failure.at)
        return State(failures=failures, unwell_since=since, cause=cause, next_test=since)
    return replace(state, failures=failures)


_SIGNS = {
    RefreshOutcome.REFRESHED: Sign.WELL,
    RefreshOutcome.KEPT: Sign.WELL,
    RefreshOutcome.PENDING: Sign.WELL,
    RefreshOutcome.LOST: Sign.WELL,
    RefreshOutcome.CONFIGURATION_ERROR: Sign.CONFIGURATION,
    RefreshOutcome.IN_DOUBT: Sign.DOUBT,
    RefreshOutcome.REFUSED: Sign.REFUSAL,
}
"""What each outcome says of the endpoint. The other outcomes say nothing."""

_SIGNS_OF_ENDS = {
    Reason.REJECTED: Sign.REFUSAL,
    Reason.IN_DOUBT: Sign.DOUBT,
    Reason.WRONG_CONNECTION: Sign.WELL,
}
"""The same for the reasons of `REAUTHORIZATION_REQUIRED`."""


def sign_of(refresh: Refresh) -> Sign:
    """What a refresh says about the endpoint.

    Without a POST it says nothing. Only the first failure of a connection counts: if it fails again and again while
    others succeed, that is its own matter. Nor does the refusal of a token that was in doubt or past its deadline
    count: it was probably spent or dead, and then it is refused rightly.
    """
    sign = _SIGNS.get(refresh.outcome, Sign.NOTHING)
    if refresh.outcome is RefreshOutcome.REAUTHORIZATION_REQUIRED and refresh.exchange_ms is not None:
        sign = _SIGNS_OF_ENDS.get(refresh.reason, Sign.NOTHING) if refresh.reason else Sign.NOTHING
    dead = refresh.seconds_to_deadline is not None and refresh.seconds_to_deadline <= 0
    expected = sign is Sign.REFUSAL and (dead or refresh.in_doubt_since is not None)
    again = sign is not Sign.WELL and (refresh.retries or 0) > 1
    return Sign.NOTHING if expected or again else sign


def _encoded(state: State) -> Item:
    """The item of a state."""
    return {
        "failures": s(" ".join(f"{one.sign}:{one.at:.3f}:{who}" for who, one in state.failures.items())),
        "unwell_since": n(state.unwell_since or 0),
        "cause": s(state.cause),
        "tests": n(state.tests),
        "next_test": n(state.next_test),
    }


def _decoded(item: Item, now: int) -> State:
    """What the item says, without what no worker can have written by `now`."""
    since, next_test = number(item, "unwell_since") or 0, number(item, "next_test") or 0
    failures = [_failure(each, now) for each in (text(item, "failures") or "").split()]
    return State(
        failures=dict(each for each in failures if each is not None),
        unwell_since=since if 0 < since <= now + _CLOCKS else None,
        cause=_sign(text(item, "cause")),
        tests=min(max(number(item, "tests") or 0, 0), len(PAUSES)),
        next_test=next_test if next_test <= now + PAUSES[-1] + _CLOCKS else 0,
    )


def _failure(written: str, now: int) -> tuple[str, Failure] | None:
    sign, _, rest = written.partition(":")
    at, _, who = rest.partition(":")
    try:
        then = float(at)
    except ValueError:
        return None
    return (who, Failure(_sign(sign), then)) if who and 0 < then <= now + _CLOCKS else None


def _sign(value: str | None) -> Sign:
    return Sign(value) if value in set(Sign) else Sign.NOTHING
