"""Makes the two virtual environments that everything else runs in: ``python3 tools/local/bootstrap.py``.

``.local/venv`` has the tools, ``.local/emulator-venv`` the AWS emulator. Both have Python 3.13, like the functions.
An environment that was made from the same requirements stays as it is. This program runs on Python 3.9 and later, with
the standard library alone. If something is missing, one line on standard error says what to install, and the exit code
is 1.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".local"
LOG = STATE / "log" / "bootstrap.log"

# The environments that every command needs; see `main`.
ENVIRONMENTS = (
    ("venv", "requirements/dev.txt", "the tools"),
    ("emulator-venv", "requirements/emulator.txt", "the AWS emulator"),
)


class MissingError(Exception):
    """The person at the terminal must install something. The message says what, in one line."""


def run(command: list[str]) -> None:
    """Runs a command with its output into the log. Raises ``subprocess.CalledProcessError``."""
    with LOG.open("a") as log:
        print("$", " ".join(command), file=log, flush=True)
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def python_313(candidate: str) -> str | None:
    """The interpreter behind a command if it is a Python 3.13 that works, else ``None``.

    A version manager can put a command on PATH that fails. For a virtual environment this is its base interpreter,
    since no environment can be the base of another.
    """
    question = "import sys; print(sys.version_info[:2] == (3, 13) and getattr(sys, '_base_executable', '') or '')"
    try:
        answer = subprocess.run([candidate, "-c", question], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def find_python(uv: str) -> str:
    """A Python 3.13: from PATH, from pyenv, or one that uv finds or installs. Raises ``MissingError``."""
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    for candidate in ["python3.13", sys.executable, *sorted(glob.glob(f"{pyenv}/versions/3.13.*/bin/python3.13"))]:
        python = python_313(candidate)
        if python:
            return python
    for fetch in (False, True):
        try:
            if fetch:
                run([uv, "python", "install", "3.13"])
            answer = subprocess.run([uv, "python", "find", "3.13"], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        python = python_313(answer.stdout.strip())
        if python:
            return python
    raise MissingError("Python 3.13, the functions' runtime, was not found: install it so that `python3.13` runs.")


def find_uv() -> str:
    """The uv that installs everything: from PATH, else from ``.local/uv``. Raises ``MissingError``."""
    # An activated environment of ours is left out, because this program may be about to replace it.
    elsewhere = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if STATE not in Path(folder).parents]
    for candidate in ("uv", str(STATE / "uv" / "bin" / "uv")):
        found = shutil.which(candidate, path=os.pathsep.join(elsewhere))
        if found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
            return found
    say("uv, which installs the rest")
    home = STATE / "uv"
    shutil.rmtree(home, ignore_errors=True)
    try:
        run([sys.executable, "-m", "venv", str(home)])
    except subprocess.CalledProcessError:
        shutil.rmtree(home, ignore_errors=True)
        raise MissingError(
            "python3 has no working venv: install it (Debian: apt-get install python3-venv), or uv."
        ) from None
    pip = [str(home / "bin" / "python"), "-m", "pip"]
    run([*pip, "install", "--quiet", "--require-hashes", "-r", str(ROOT / "requirements/bootstrap.txt")])
    return str(home / "bin" / "uv")


def fingerprint(folder: Path, requirements: Path) -> str:
    """A digest of the requirements of an environment and of where it is: its scripts have its path inside."""
    return hashlib.sha256(requirements.read_bytes() + os.fsencode(folder.resolve())).hexdigest()


def is_ready(folder: Path, requirements: Path) -> bool:
    """Whether an environment is complete and made from these requirements."""
    stamp = folder / "made-from"
    try:
        made = stamp.read_text() == fingerprint(folder, requirements)
        return made and python_313(str(folder / "bin" / "python")) is not None
    except OSError:
        return False


def make(uv: str, python: str, folder: Path, requirements: Path) -> None:
    """Makes one environment, and replaces an older one."""
    shutil.rmtree(folder, ignore_errors=True)
    run([uv, "venv", "--quiet", "--python", python, str(folder)])
    there = ["--python", str(folder / "bin" / "python")]
    run([uv, "pip", "install", "--quiet", *there, "--require-hashes", "-r", str(requirements)])
    (folder / "made-from").write_text(fingerprint(folder, requirements))


def use_the_index_of_pip() -> None:
    """Has uv use the index that pip is configured with, unless uv has a configuration of its own.

    uv reads neither pip's variables nor its files.
    """
    if any(os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE")):
        return
    index = os.environ.get("PIP_INDEX_URL", "")
    if not index:
        command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
        index = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    if index:
        os.environ["UV_DEFAULT_INDEX"] = index


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keeps a second run in this folder waiting until the first one has ended."""
    STATE.mkdir(exist_ok=True)
    with (STATE / "lock-of-tools").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(what: str) -> None:
    """Prints what is being installed."""
    print(f"installing {what} …", file=sys.stderr, flush=True)


def main(environments: tuple[tuple[str, str, str], ...] = ENVIRONMENTS) -> None:
    """Makes the environments that are not ready. Each is a folder, its requirements file, and its name in messages."""
    if not waiting(environments):
        return
    with alone():
        install(waiting(environments))


def waiting(environments: tuple[tuple[str, str, str], ...]) -> list[tuple[Path, Path, str]]:
    """The environments that are not ready."""
    wanted = [(STATE / name, ROOT / requirements, what) for name, requirements, what in environments]
    return [one for one in wanted if not is_ready(one[0], one[1])]


def install(missing: list[tuple[Path, Path, str]]) -> None:
    """Makes environments. Ends the program with one line if that fails."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    try:
        use_the_index_of_pip()
        uv = find_uv()
        python = find_python(uv)
        for folder, requirements, what in missing:
            say(what)
            started = time.monotonic()
            make(uv, python, folder, requirements)
            print(f"installed {what} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    except MissingError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError:
        log = LOG.relative_to(ROOT)
        sys.exit(
            f"error: an installation failed (is the package index reachable?). The end of {log} says why. "
            "uv takes another index from UV_DEFAULT_INDEX, and an authority from SSL_CERT_FILE."
        )


if __name__ == "__main__":
    if sys.version_info < (3, 9):  # noqa: UP036 - it is started by whatever python3 there is
        sys.exit("error: python3 is older than 3.9: install a newer Python, best 3.13.")
    main()
