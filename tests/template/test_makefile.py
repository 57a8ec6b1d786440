"""The Makefile works with GNU make 3.81 of 2006, the newest that macOS has."""

import re
import shlex
import subprocess

import pytest

from tests.template.conftest import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
SINCE_3_82 = {
    ".ONESHELL": r"^\.ONESHELL",
    ".SHELLFLAGS": r"^\.SHELLFLAGS",
    "a private variable": r"^(\S+:\s*)?private\s",
    "an assignment of a shell's output": r"^\w+\s*!=",
    "a POSIX assignment": r"^\w+\s*:{2,3}=",
    "grouped targets": r"^[^\t#]*&:",
    "$(file …)": r"\$[({]file\s",
    "$(let …) or $(intcmp …)": r"\$[({](let|intcmp)\s",
    "$(guile …) or load": r"\$[({]guile\s|^-?load\s",
    "undefine": r"^(override\s+)?undefine\s",
    "define with an assignment": r"^define\s+\S+\s*[:+?]?=",
}
"""What later versions have, by how it looks. 3.81 ignores it, or takes it for something else."""


@pytest.mark.parametrize("what", SINCE_3_82)
def test_nothing_is_used_that_an_old_make_lacks(what: str) -> None:
    assert not re.search(SINCE_3_82[what], MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize(
    "line", [".ONESHELL:", "a: private X = 1", "X != date", "X ::= 1", "a b &: c", "X = $(file <x)", "define X ="]
)
def test_such_a_line_would_be_found(line: str) -> None:
    assert [what for what, looks in SINCE_3_82.items() if re.search(looks, line, re.MULTILINE)]


def test_every_tool_of_the_environment_is_called_by_its_path() -> None:
    """3.81 runs a line that needs no shell itself, and without the PATH that is exported."""
    (phony,) = re.findall(r"^\.PHONY: (.*)", MAKEFILE, re.MULTILINE)
    planned = subprocess.run(["make", "-n", *phony.split()], cwd=ROOT, capture_output=True, text=True, check=True)
    called = {
        next(word for word in shlex.split(line) if not re.match(r"\w+=", word))
        for line in planned.stdout.splitlines()
        if not line.startswith("make")
    }
    tools = {command for command in called if command.startswith(".local/venv/bin/")}
    assert {tool.rpartition("/")[2] for tool in tools} == {"python", "ruff", "mypy", "sam", "uv"}
    # The rest is the shell's or every machine's.
    assert called - tools == {"awk", "echo", "if", "rm", "command", "python3"}
