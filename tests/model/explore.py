"""Visits every state that can be reached, within bounds, and checks each.

    python -m tests.model.explore            the short run, as in CI: about a minute on two cores
    python -m tests.model.explore --deep     millions of states
    …  --workers 3  --server strict          only such configurations

Prints what it explores with its bounds, how far it went, and the verdict; a counterexample as a numbered trace. Exit
code 1 if there is one.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tests.model.server import Kind
from tests.model.world import ANSWERS, NETWORK_FAULTS, STORE_FAULTS, Config, State, Violation, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an exploration found: how far it went, and the counterexample if there is one."""

    config: Config
    states: int
    """Distinct states visited: checked, and every step from them taken."""
    steps: int
    depth: int
    seconds: float
    complete: bool
    """Whether every state within the bounds was visited."""
    invariant: str | None = None
    trace: tuple[str, ...] = ()

    def line(self) -> str:
        """The figures, in a line."""
        far = "all of them" if self.complete else f"up to depth {self.depth}, the limit"
        verdict = "holds" if self.invariant is None else f"VIOLATED: {self.invariant}"
        return f"{self.config.name:42} {self.states:>9,} states, {far:27} {self.seconds:6.1f} s  {verdict}"


def explore(config: Config) -> Found:
    """Breadth first, so that a counterexample is a shortest one."""
    world = World(config)
    first = world.first()
    came: dict[State, tuple[State, str] | None] = {first: None}
    waiting = deque([(first, 0)])
    recovered: set[State] = set()
    ended: set[State] = set()
    began, visited, steps, depth = time.monotonic(), 0, 0, 0
    state, violation = first, None
    try:
        while waiting and visited < config.limit:
            state, depth = waiting.popleft()
            visited += 1
            _recovers(world, state, recovered)
            _ends(world, state, ended)
            for step, after in world.steps(state):
                steps += 1
                if after not in came:
                    came[after] = (state, step)
                    waiting.append((after, depth + 1))
    except Violation as found:
        violation = found
    return Found(
        config=config,
        states=visited,
        steps=steps,
        depth=depth,
        seconds=time.monotonic() - began,
        complete=not waiting,
        invariant=violation.invariant if violation else None,
        trace=(*_way_to(state, came), violation.step, str(violation)) if violation else (),
    )


def _recovers(world: World, state: State, known: set[State]) -> None:
    if not world.must_recover(state):
        return
    try:
        recovers = world.recovers(state, known)
    except Violation as wrong:
        raise Violation(wrong.invariant, wrong.what, f"(with no further fault) {wrong.step}") from None
    if not recovers:
        raise Violation("recovers", "a working token is held, and the connection never becomes well", "(and so on)")


def _ends(world: World, state: State, known: set[State]) -> None:
    if world.must_end(state) and not world.ends(state, known):
        raise Violation("ends", "no token works, and nothing says so", "(and so on)")


def _way_to(state: State, came: dict[State, tuple[State, str] | None]) -> list[str]:
    way: list[str] = []
    while (back := came[state]) is not None:
        state = back[0]
        way.append(back[1])
    return way[::-1]


def short() -> list[Config]:
    """CI's run: each kind of server and policy, each actor, each fault, with few faults at a time."""
    two = [
        Config(name=f"two workers, {kind}", server=kind, limit=60_000 if kind is Kind.STRICT else 20_000)
        for kind in Kind
    ]
    return [
        *two,
        Config(name="policy never", policy="never", limit=20_000),
        Config(name="policy never, from allowed", policy="never", doubt=True),
        Config(name="three workers", workers=3, faults=1),
        Config(name="on demand, token still living", age=600, on_demand=True, faults=1, starts=2),
        Config(name="on demand", on_demand=True, faults=1, starts=2),
        Config(name="a disconnect", disconnects=1, faults=1, starts=2),
        Config(name="a reconnect", consents=1, faults=1, starts=2),
        Config(name="reconnect and disconnect", consents=1, disconnects=1, starts=2, faults=1, limit=10_000),
        Config(name="two consents", workers=0, consents=2, starts=2, faults=1),
        Config(name="one attempt, two callbacks", workers=0, consents=2, starts=2, same_attempt=True, faults=1),
        Config(name="tombstone forgotten", workers=1, consents=1, disconnects=1, forgets=True, starts=2, faults=1,
               may=STORE_FAULTS, limit=10_000),
        Config(name="near the deadline", age=86_400 - 1_500, starts=2, faults=1),
        Config(name="at the deadline", age=86_400 - 100, starts=2, faults=1),
        Config(name="the server is down", down=True, faults=1, starts=4),
        Config(name="refused alone", misfit=True, unwell=True, faults=0, starts=9, workers=1, limit=10_000),
        Config(name="no room in the rate", paced=True, faults=1, starts=3, limit=20_000),
        Config(name="the endpoint is unwell", unwell=True, faults=1, starts=2, limit=20_000),
        *(
            Config(name=f"two refusals, {kind}", server=kind, faults=2, starts=3, workers=1, ends=True,
                   may=frozenset({"false refusal", "revoked", "lost"}))
            for kind in Kind
        ),
        Config(name="an import", imported=True, faults=1, starts=2),
        Config(name="an import and a consent", imported=True, consents=1, faults=1, starts=2, limit=20_000),
        Config(name="an import and a disconnect", imported=True, consents=1, disconnects=1, faults=1, starts=2,
               may=STORE_FAULTS, limit=10_000),
        Config(name="a confirmation", workers=0, consents=1, links=True, faults=1, starts=3, limit=20_000),
        Config(name="a confirmation and a disconnect", workers=0, consents=1, links=True, disconnects=2, faults=1,
               starts=3, may=STORE_FAULTS, limit=20_000),
        Config(name="from a backup", restores=1, faults=1, starts=3, limit=20_000,
               may=frozenset({"failed", "hurried", "late", "crash", "lost"})),
    ]  # fmt: skip


def deep() -> list[Config]:
    """The same to the end; and with more faults, attempts and workers at a time: millions of states."""
    found = [replace(config, limit=400_000) for config in short()]
    for config in short():
        name = f"{config.name}, more"
        found.append(replace(config, name=name, faults=config.faults + 1, starts=config.starts + 1, limit=150_000))
    for kind in Kind:
        found += [
            Config(name=f"three workers, {kind}", server=kind, workers=3, starts=4, faults=2, limit=150_000),
            Config(name=f"two workers, three faults, {kind}", server=kind, faults=3, limit=150_000,
                   may=STORE_FAULTS | NETWORK_FAULTS | {"queue", "repeated"}),
            Config(name=f"reconnect, {kind}", server=kind, consents=1, starts=3, faults=2, limit=150_000,
                   may=STORE_FAULTS | NETWORK_FAULTS | ANSWERS),
        ]  # fmt: skip
    return found


def run(configs: Iterable[Config]) -> Iterator[Found]:
    """Explore configurations, on as many processes as there are processors; each result as it comes."""
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        yield from pool.imap_unordered(explore, configs, chunksize=1)


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.explore", description=__doc__.partition("\n")[0])
    parser.add_argument("--deep", action="store_true", help="millions of states instead of some hundred thousand")
    parser.add_argument("--workers", type=int, choices=(2, 3), help="only configurations with this many workers")
    parser.add_argument("--server", type=Kind, choices=list(Kind), help="only configurations with this server")
    parser.add_argument("--only", nargs="+", help="only configurations of these names")
    chosen = parser.parse_args(arguments)
    configs = [
        config
        for config in (deep() if chosen.deep else short())
        if chosen.workers in (None, config.workers)
        and chosen.server in (None, config.server)
        and (chosen.only is None or config.name in chosen.only)
    ]
    print("Bounds:")
    for config in configs:
        print(f"  {config.name:42} {config.bounds()}; at most {config.limit:,} states")
    print()
    began, states, wrong = time.monotonic(), 0, 0
    for found in run(configs):
        states += found.states
        print(found.line(), flush=True)
        if found.invariant is not None:
            wrong += 1
            for number, step in enumerate(found.trace, 1):
                print(f"  {number:3}. {step}")
    seconds = time.monotonic() - began
    verdict = "every invariant holds in every one" if not wrong else f"{wrong} counterexamples"
    print(f"\n{states:,} distinct states in {len(configs)} configurations, {seconds:.0f} s: {verdict}.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
