"""Background processes: each starts in a session of its own (`setsid`), and ending it touches no other process."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tools.local.errors import LocalError


@dataclass(frozen=True, slots=True)
class Process:
    """A process that we started: its id, which is also that of its process group, and its start in epoch seconds.

    The operating system uses an id again, but never together with the same start.
    """

    pid: int
    started: float


def start(command: Sequence[str], environment: Mapping[str, str], log: Path, directory: Path) -> Process:
    """Starts a program in the background, with this environment and nothing else, its output in ``log``."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    # Appended to, so that nobody who adds a line is written over.
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # The child outlives this program. A return code keeps `Popen` from warning about that.
    child.returncode = 0
    try:
        return Process(child.pid, _started(psutil.Process(child.pid)))
    except psutil.NoSuchProcess:
        return Process(child.pid, time.time() - _clock_of_boot())


def interrupt_when_ended() -> None:
    """Has a closed terminal and a polite kill interrupt this program as Ctrl-C does."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def wait_until(ready: Callable[[], bool], process: Process, patience: float, failure: str) -> None:
    """Waits until a program that was just started is ``ready``, for ``patience`` seconds at most.

    If the time is over, or if the program has ended, ends the program and raises ``LocalError`` with ``failure``.
    """
    deadline = time.monotonic() + patience
    is_ready = False
    try:
        while not (is_ready := ready()) and is_alive(process) and time.monotonic() <= deadline:
            time.sleep(0.05)
    finally:
        # After Ctrl-C too: nobody else knows of it yet.
        if not is_ready:
            stop(process)
    if not is_ready:
        raise LocalError(failure)


def is_alive(process: Process) -> bool:
    """Whether the process still runs, and is still the one that we started."""
    try:
        found = psutil.Process(process.pid)
        return _same(found, process) and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop(process: Process, patience: float = 1.5) -> None:
    """Ends the process and its process group: by SIGTERM, and by SIGKILL after ``patience`` seconds.

    Does nothing if the process has ended already.
    """
    for sent in (signal.SIGTERM, signal.SIGKILL):
        members = _group(process)
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(sent)
        deadline = time.monotonic() + patience
        while _group(process) and time.monotonic() < deadline:
            _reap(process)
            time.sleep(0.1)
    _reap(process)


def _clock_of_boot() -> float:
    """What psutil adds to the start of a process on Linux. It moves with the clock."""
    return psutil.boot_time() if sys.platform == "linux" else 0.0


def _same(found: psutil.Process, process: Process) -> bool:
    """Whether a process with the same id has the same start (the system counts hundredths of a second)."""
    return abs(_started(found) - process.started) < 0.05


def _started(found: psutil.Process) -> float:
    """When a process started, whatever the clock is set to meanwhile. Seconds."""
    return found.create_time() - _clock_of_boot()


def _group(process: Process) -> list[psutil.Process]:
    """The living members of the process group that our process leads or led. No other group can have its id."""
    try:
        leader = psutil.Process(process.pid)
        if not _same(leader, process):
            return []
    except psutil.NoSuchProcess:
        pass
    members = []
    for candidate in psutil.process_iter():
        try:
            ours = os.getpgid(candidate.pid) == process.pid and _started(candidate) >= process.started - 0.05
            if ours and candidate.status() != psutil.STATUS_ZOMBIE:
                members.append(candidate)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return members


def _reap(process: Process) -> None:
    """Takes the exit status of a child of this program, so that it does not stay as a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
