"""The programs of the local stack: what is started is known, and ended, whatever happens meanwhile."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tools.local import bootstrap, processes
from tools.local.errors import LocalError
from tools.local.processes import Process


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    """A program that runs for a minute."""
    made = processes.start([sys.executable, "-c", "import time; time.sleep(60)"], {}, tmp_path / "log", tmp_path)
    yield made
    processes.stop(made)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, LocalError])
def test_a_program_that_is_interrupted_while_it_starts_is_ended(sleeper: Process, raised: type[BaseException]) -> None:
    def ready() -> bool:
        raise raised

    with pytest.raises(raised):
        processes.wait_until(ready, sleeper, 10, "it did not start")
    assert not processes.is_alive(sleeper)


def test_a_program_that_does_not_get_ready_is_ended_and_said(sleeper: Process) -> None:
    with pytest.raises(LocalError, match="it did not start"):
        processes.wait_until(lambda: False, sleeper, 0.1, "it did not start")
    assert not processes.is_alive(sleeper)


def test_a_program_is_known_after_the_clock_was_set(sleeper: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a laptop has slept: psutil adds the time of the boot, which moves with the clock."""
    create_time, boot_time = psutil.Process.create_time, psutil.boot_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: create_time(self) + 3_600)
    monkeypatch.setattr(psutil, "boot_time", lambda: boot_time() + 3_600)
    monkeypatch.setattr(sys, "platform", "linux")
    assert processes.is_alive(sleeper)
    processes.stop(sleeper)
    assert not processes.is_alive(sleeper)


def test_an_environment_that_was_moved_is_made_anew(tmp_path: Path) -> None:
    """Its scripts have the old path inside."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("")
    for name in ("one", "two"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "python").symlink_to(sys.executable)
        (tmp_path / name / "made-from").write_text(bootstrap.fingerprint(tmp_path / "one", requirements))
    assert bootstrap.is_ready(tmp_path / "one", requirements)
    assert not bootstrap.is_ready(tmp_path / "two", requirements)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({"PIP_INDEX_URL": "https://mirror.example/simple"}, "https://mirror.example/simple"),
        (
            {"PIP_INDEX_URL": "https://mirror.example/simple", "UV_DEFAULT_INDEX": "https://own.example/"},
            "https://own.example/",
        ),
    ],
)
def test_uv_takes_the_index_that_pip_has(given: dict[str, str], used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE"):
        monkeypatch.setenv(name, given.get(name, ""))
    monkeypatch.setenv("PIP_INDEX_URL", given["PIP_INDEX_URL"])
    bootstrap.use_the_index_of_pip()
    assert os.environ["UV_DEFAULT_INDEX"] == used
