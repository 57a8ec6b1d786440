"""The runbook's commands, as they are on the page: an operator pastes them at night."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.restore.restoring import connection_ids

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
BLOCKS = [
    "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
    for indent, body in re.findall(r"^( *)```sh\n(.*?)^ *```$", RUNBOOK, re.MULTILINE | re.DOTALL)
]
HEAD = BLOCKS[0]
FOUND = {
    "results": [
        [{"field": "connection_id", "value": name}, {"field": "@ptr", "value": "CnsKPgo6MTIz"}]
        for name in ("N1000003", "N1000001", "N1000003")
    ],
    "statistics": {"recordsMatched": 3.0, "recordsScanned": 90.0, "bytesScanned": 9000.0},
    "status": "Complete",
}
AWS = """echo "$*" >> asked
case "$*" in
  *start-query*) echo 12ab ;;
  *get-query-results*) if [ -e ended ]; then cat found; else touch ended; jq '.status = "Running"' found; fi ;;
esac
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with an AWS CLI that answers a query of the logs when asked for the second time, with `found`."""
    for name, text in {
        "aws": f"#!/bin/bash\n{AWS}",
        "sleep": "#!/bin/sh\n",
        "make": '#!/bin/sh\necho "make $*" >> asked\n',
        ".local/venv/bin/sam": '#!/bin/sh\nprintf "%s\\n" "$@" >> asked\n',
    }.items():
        tool = tmp_path / name
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.write_text(text)
        tool.chmod(0o700)
    (tmp_path / "found").write_text(json.dumps(FOUND))
    return tmp_path


DENIED = "echo AccessDenied >&2; exit 254"


def say(here: Path, script: str) -> None:
    """What the AWS CLI does from now on."""
    (here / "aws").write_text(f"#!/bin/bash\n{script}\n")


def asked(here: Path) -> list[str]:
    """What the tools were called with, a call a line."""
    return (here / "asked").read_text().splitlines()


def run(here: Path, commands: str) -> str:
    """What commands say after those of the page's head."""
    environment = os.environ | {"PATH": f"{here}:{os.environ['PATH']}", "AWS_ENDPOINT_URL": ""}
    done = subprocess.run(
        ["/bin/bash", "-c", HEAD + commands], cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout


@pytest.fixture
def list_of_the_disconnected() -> str:
    (block,) = [block for block in BLOCKS if "> disconnected-since" in block]
    return "MOMENT=2026-01-31T05:59:00Z\n" + block


def test_all_of_it_is_shell() -> None:
    assert len(BLOCKS) > 20
    for block in BLOCKS:
        assert subprocess.run(["/bin/bash", "-n", "-c", block], check=False).returncode == 0, block


def test_what_was_disconnected_since_is_listed_as_the_tool_reads_it(here: Path, list_of_the_disconnected: str) -> None:
    said = run(here, list_of_the_disconnected)
    listed = (here / "disconnected-since").read_text()
    assert listed == "N1000001\nN1000003\n"
    assert connection_ids(listed.splitlines()) == {"N1000001", "N1000003"}
    assert said.split() == ["2", "disconnected-since"]
    begun, *waited = asked(here)
    assert "--start-time 1769839140 " in begun, "the moment of the backup, in UTC"
    assert "/aws/lambda/flowaccount-connect-connections " in begun
    assert ["get-query-results" in one for one in waited] == [True, True], "it waits until the query has ended"


@pytest.mark.parametrize("status", ["Failed", "Timeout", "Cancelled"])
def test_of_a_query_that_failed_nothing_is_taken(here: Path, list_of_the_disconnected: str, status: str) -> None:
    (here / "found").write_text(json.dumps(FOUND | {"status": status}))
    (here / "disconnected-since").write_text("of another time")
    run(here, list_of_the_disconnected)
    assert not (here / "disconnected-since").exists()


@pytest.mark.parametrize("denied", ["start-query", "get-query-results"])
def test_a_denied_query_is_not_one_without_results(here: Path, list_of_the_disconnected: str, denied: str) -> None:
    """Whichever half of it is: nobody must be taken for not disconnected."""
    say(here, f'case "$*" in *{denied}*) {DENIED} ;; esac\n{AWS}')
    assert run(here, list_of_the_disconnected) == ""
    assert not (here / "disconnected-since").exists()
    assert run(here, 'insights connections 1 "filter x" > lines || echo "failed: $?"').startswith("failed: ")


def test_no_query_is_sent_to_an_emulator_that_would_answer_it_wrongly(here: Path) -> None:
    assert (
        run(here, 'AWS_ENDPOINT_URL=http://127.0.0.1:4566\ninsights sweep 1 "stats count(*)" || echo "refused"')
        == "refused\n"
    )
    assert not (here / "asked").exists()


def test_a_query_with_no_result_is_no_failure(here: Path) -> None:
    (here / "found").write_text(json.dumps(FOUND | {"results": []}))
    assert run(here, 'insights connections 1 "filter x" && echo "none"') == "none\n"


def test_feeding_is_switched_for_each_queue_and_fails_where_it_is_denied(here: Path) -> None:
    say(here, 'echo "$*" >> asked\ncase "$*" in *list-*) echo "one two" ;; esac')
    run(here, "feed refresh --no-enabled")
    updates = [line for line in asked(here) if " update-" in line]
    assert [line.partition("--uuid ")[2].partition(" --query")[0] for line in updates] == [
        "one --no-enabled",
        "two --no-enabled",
    ]
    say(here, DENIED)
    assert run(here, 'feed refresh --enabled || echo "failed"') == "failed\n"


def test_refreshes_are_held_for_callers_too_and_let_go_again(here: Path) -> None:
    say(here, 'echo "$*" >> asked\ncase "$*" in *list-*) echo one ;; esac')
    run(here, "hold\nresume")
    assert [" ".join(line.split()[:2]) for line in asked(here)] == [
        *("lambda put-function-concurrency", "lambda list-event-source-mappings", "lambda update-event-source-mapping"),
        *("lambda delete-function-concurrency", "lambda list-event-source-mappings"),
        "lambda update-event-source-mapping",
    ]
    say(here, DENIED)
    assert run(here, 'hold || echo "failed"') == "failed\n"


def test_a_parameter_is_deployed_to_the_stack_that_is_meant_and_no_other(here: Path) -> None:
    (step,) = [block for block in BLOCKS if block.startswith("deploy ConnectionsTable=")]
    run(here, "STACK=other CONFIG=production\n" + step)
    made, *given = asked(here)
    assert made == "make build"
    for option, value in {"--stack-name": "other", "--region": "ap-southeast-1", "--config-env": "production"}.items():
        assert given[given.index(option) + 1] == value
    first = given.index("--parameter-overrides") + 1
    overrides = given[first : first + 2]
    assert overrides == ["ConnectionsTable=other-connections-2", "Deployment=AllAtOnce"]


def test_restoring_needs_no_path_but_that_of_the_checkout(here: Path) -> None:
    python = here / ".local/venv/bin/python"
    python.write_text('#!/bin/sh\necho "$PYTHONPATH"\nprintf "%s\\n" "$@"\n')
    python.chmod(0o700)
    path, *given = run(here, "STACK=other\nrestore restored --dry-run").splitlines()
    assert given == ["-m", "tools.restore", "--stack-name", "other", "restored", "--dry-run"]
    environment = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, "-m", "tools.restore", "--help"]
    helped = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (helped.returncode, "--dry-run" in helped.stdout) == (0, True), helped.stderr


def test_letters_are_deleted_one_by_one_until_there_is_none(here: Path) -> None:
    letters = "if [ -e one ]; then echo None; else touch one; echo letter; fi"
    say(here, f'echo "$*" >> asked\ncase "$*" in *receive-*) {letters} ;; esac')
    (step,) = [block for block in BLOCKS if "delete-message" in block]
    run(here, step)
    (deleted,) = [line for line in asked(here) if "delete-message" in line]
    assert deleted.endswith("--receipt-handle letter")


def test_every_command_of_the_tool_says_which_stack() -> None:
    commands = re.findall(r"(?:flowaccount-connect|tools\.restore) (?:--|[a-z])[^\n`]*", RUNBOOK)
    assert len(commands) >= 4
    for command in commands:
        assert re.search(r'--stack(-name)? "\$STACK"', command), command
