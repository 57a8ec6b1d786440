"""The workflows of GitHub Actions: what they may do, and whose code they run."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.template.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One workflow."""
    loaded: dict[str, Any] = yaml.safe_load(request.param.read_text())
    return loaded


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of all its jobs."""
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_is_one_that_tests_and_one_that_deploys() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "deploy"]


def test_every_job_reads_the_sources_and_only_deploy_gets_an_identity(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        expected = {"contents": "read", "id-token": "write"} if workflow["name"] == "deploy" else None
        assert job.get("permissions") == expected
        # How long a deployment may take: tests/template/test_deploying.py.
        assert job["timeout-minutes"] <= 45 or workflow["name"] == "deploy"


def test_every_action_is_one_commit_which_nobody_can_move(workflow: dict[str, Any]) -> None:
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"(actions|aws-actions)/[a-z-]+@[0-9a-f]{40}", step["uses"])
            assert "checkout" not in step["uses"] or step["with"] == {"persist-credentials": False}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_beside_the_commit_is_its_release_for_people_and_for_dependabot(path: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", path.read_text())
    assert used
    assert [action for action, after in used if not re.fullmatch(r" # v\d+\.\d+\.\d+", after)] == []


def test_no_secret_is_used_and_nothing_from_outside_gets_into_a_script(workflow: dict[str, Any]) -> None:
    assert "secrets." not in str(workflow)
    assert not [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")]


def test_what_is_deployed_is_built_for_the_processor_that_the_environment_names() -> None:
    deploy = yaml.safe_load((ROOT / ".github" / "workflows" / "deploy.yml").read_text())
    (last,) = [step for step in steps(deploy) if "deploy" in step.get("run", "").split()]
    assert last["env"]["LAYER_ARCHITECTURE"] == "${{ vars.LAYER_ARCHITECTURE || 'x86_64' }}"


def test_every_command_exists(workflow: dict[str, Any]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for step in steps(workflow):
        command, *words = step.get("run", "make").split()
        if command == "make":
            assert {word for word in words if "=" not in word} <= targets
        elif not command.startswith(".local/"):
            assert (ROOT / command).is_file()
