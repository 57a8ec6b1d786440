"""What starting and answering takes: CPU, memory and time of the processes of all programs, which take turns.

CPU is of the user and the system together, which on a function with less than one CPU is the time that it takes.
Everything is spoken by TLS. A figure that could not be taken is named with the reason, and the others go on.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

from rich.console import Console
from rich.progress import track

from tools.benchmarks.programs import FLOOR, FUNCTIONS, INSTEAD, Function, Program, Took
from tools.benchmarks.stack import BATCH, HIGHEST_RATE, Stack, records, token_of
from tools.local.errors import LocalError

OURS = "ours"
LATENCY = 0.3
"""Seconds that FlowAccount takes for a token request where a worker's throughput is measured."""

RATE_OF_BATCHES = 6_000
"""Refreshes a minute where their CPU is measured. They begin 10 milliseconds apart, about the CPU that each takes: so
they run nearly one after the other, as those of the other programs do, and find the processor's caches as warm."""

READY, FIRST_TOKEN, FIRST_BATCH = "ready", "first token", "first batch"
TOKEN, IN_BATCH, ALONE, WORKER = "token", "refresh in a batch", "refresh alone", "a slow worker"
ONE_BY_ONE = "ours, one by one"

CPU, MEMORY, RATE = "CPU ms", "peak MiB", "refreshes a second"

Name = tuple[str, str]
"""A figure, and the program that it is of."""


class Figures:
    """What was taken, round by round, by unit; and why what was not taken was not.

    CPU is of one operation, or of a process since it began.
    """

    def __init__(self) -> None:
        self.taken: dict[str, dict[Name, list[float]]] = {CPU: {}, MEMORY: {}, RATE: {}}
        self.missed: dict[Name, str] = {}

    @contextmanager
    def taking(self, figure: str, program: str) -> Iterator[None]:
        """Whatever fails in here concerns this figure alone."""
        try:
            yield
        except Exception as error:
            self.missed[figure, program] = str(error) if isinstance(error, LocalError) else f"{error!r}"

    def add(self, of: Name, took: Took, *, operations: int = 0) -> None:
        """One round, of so many operations; 0: what counts is the whole process until now."""
        values = {CPU: took.cpu / operations if operations else took.started, MEMORY: took.memory}
        if operations:
            values[RATE] = operations / took.wall * 1_000
        for unit, value in values.items():
            self.taken[unit].setdefault(of, []).append(value)


class Run:
    """One run over a stack: our functions, and the others, of which the floor is one. Figures gather in `figures`."""

    def __init__(self, stack: Stack, others: dict[str, Program], console: Console, figures: Figures) -> None:
        self.figures = figures
        self._stack, self._others, self._console = stack, others, console
        self._instead = {name: others[name] for name in INSTEAD}
        stack.rate = RATE_OF_BATCHES
        (self._ours,) = stack.connect(1)
        self._theirs = stack.theirs(others[FLOOR], BATCH)

    def cold(self, rounds: int, batches: int) -> None:
        """Fresh processes: until each is ready, and until a token's and a refresh worker's have answered at first."""
        functions = self._stack.functions
        programs = {FLOOR: self._others[FLOOR]} | {name: functions[name] for name in FUNCTIONS} | self._instead
        for number, figures in self._rounds("cold starts", rounds):
            for name, program in programs.items():
                with figures.taking(READY, name), self._started(program, "token") as function:
                    figures.add((READY, name), function.ready)
            for name, program in ({OURS: functions["token"]} | self._others).items():
                with figures.taking(FIRST_TOKEN, name), self._started(program, "token") as function:
                    figures.add((FIRST_TOKEN, name), function.answer([self._token(name)]))
            if number > batches:
                continue
            for name, program in ({OURS: functions["refresh"]} | self._instead).items():
                with figures.taking(FIRST_BATCH, name), self._started(program, "refresh") as function:
                    self._refresh(figures, (FIRST_BATCH, name), function, [BATCH], since_start=True)

    def warm(self, rounds: int, tokens: int) -> None:
        """Processes that live on: a token, a refresh in a batch, and a refresh alone in its invocation."""
        with ExitStack() as running:
            readers, workers = self._kept(running, TOKEN, "token"), self._kept(running, IN_BATCH, "refresh")
            for _, figures in self._rounds("warm operations", rounds):
                for name, function in readers.items():
                    with figures.taking(TOKEN, name):
                        took = function.answer([self._token(name)] * tokens, answers=False)
                        figures.add((TOKEN, name), took, operations=tokens)
                for name, function in workers.items():
                    self._refresh(figures, (IN_BATCH, name), function, [BATCH])
                    self._refresh(figures, (ALONE, name), function, [1] * 10)

    def worker(self, batches: int, alone: int) -> None:
        """One refresh worker while FlowAccount takes its time: ours in batches and one by one, and what others do."""
        self._stack.rate = HIGHEST_RATE
        with ExitStack() as running:
            workers = self._kept(running, WORKER, "refresh")
            running.callback(self._stack.wire.delay, 0.0)
            for number, figures in self._rounds("a worker", batches):
                self._stack.wire.delay(LATENCY if number else 0.0)
                for name, function in workers.items():
                    # The others go one by one through a batch, too: a few connections are enough.
                    self._refresh(figures, (WORKER, name), function, [BATCH if name == OURS else alone])
                    if name == OURS:
                        self._refresh(figures, (WORKER, ONE_BY_ONE), function, [1] * alone)

    def _rounds(self, title: str, rounds: int) -> Iterator[tuple[int, Figures]]:
        """The numbers of rounds, and where their figures go. The first one, 0, warms up: its figures go nowhere."""
        for number in track(range(rounds + 1), title, console=self._console, transient=True):
            yield number, self.figures if number else Figures()

    def _started(self, program: Program, act: str) -> Function:
        """A process of ours, or of another program, which has a handler for each act."""
        return self._stack.started(program, "handler" if program.module == "app" else act)

    def _kept(self, running: ExitStack, figure: str, act: str) -> dict[str, Function]:
        """A process of ours and one of each other program that knows this act, as long as they start."""
        others = self._others if act == "token" else self._instead
        made = {}
        for name, program in ({OURS: self._stack.functions[act]} | others).items():
            with self.figures.taking(figure, name):
                made[name] = running.enter_context(self._started(program, act))
        return made

    def _token(self, program: str) -> dict[str, object]:
        """An event that asks for the token of a connection that the program knows. The floor reads one of ours."""
        return token_of(self._ours if program in (OURS, FLOOR) else self._theirs[0])

    def _refresh(
        self, figures: Figures, of: Name, function: Function, sizes: list[int], *, since_start: bool = False
    ) -> None:
        """Have batches of these sizes refreshed. It is no figure if less than nine in ten were: on a busy machine a
        worker lets some slots of the rate pass, and leaves their connections to the next tick."""
        with figures.taking(*of):
            # Ours are new ones each time, since what was refreshed is not due again.
            due = iter(self._stack.due(sum(sizes)) if of[1] in (OURS, ONE_BY_ONE) else self._theirs)
            events = [records(list(islice(due, size))) for size in sizes]
            self._stack.wire.counted()
            took = function.answer(events)
            sent = self._stack.wire.counted().requests["token endpoint.POST"]
            failed = sum(len(answer["batchItemFailures"]) for answer in took.answers)
            if failed or sent < 0.9 * sum(sizes):
                raise LocalError(f"{sent} of {sum(sizes)} were refreshed, {failed} failed")
            figures.add(of, took, operations=0 if since_start else sent)
