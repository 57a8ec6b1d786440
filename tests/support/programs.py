"""Programs of the documents that serve HTTP, started as a reader starts them."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests

PATIENCE = 120
"""Seconds that a program may take until it listens: some are compiled first."""


@contextmanager
def serving(command: Sequence[str], url: str, folder: Path, env: Mapping[str, str]) -> Iterator[Path]:
    """The program, as soon as it answers at `url`, and for as long as the block runs; gives the file of its output."""
    log = folder / "log"
    with log.open("wb") as file:
        running = subprocess.Popen(command, cwd=folder, env=env, stdout=file, stderr=file, start_new_session=True)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                requests.get(url, timeout=10)
                break
            except requests.ConnectionError:
                assert running.poll() is None, log.read_text()
                assert time.monotonic() < end, "it does not listen"
                time.sleep(0.1)
        yield log
    finally:
        os.killpg(running.pid, signal.SIGTERM)  # The program may be a child of a shell.
        running.wait(10)
