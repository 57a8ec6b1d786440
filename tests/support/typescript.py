"""The npm package beside what npm installs for it, below `.local`. It needs node and npm."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "clients" / "typescript"
BUILT = ROOT / ".local" / "typescript"


def run(folder: Path, *command: str) -> str:
    """What a command writes. A command that fails, fails the test with all that it wrote."""
    # A cache of its own, and nothing but the packages: no audit, no news, no scripts of packages.
    settings = {"cache": str(ROOT / ".local" / "npm"), "audit": "false", "fund": "false", "update_notifier": "false"}
    env = os.environ | {f"npm_config_{name}": value for name, value in settings.items()}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def installed() -> Path:
    """The package's sources beside the packages that they need; those are kept between runs."""
    BUILT.mkdir(parents=True, exist_ok=True)
    for name in ("src", "tests", "examples"):
        shutil.rmtree(BUILT / name, ignore_errors=True)
    ignored = shutil.ignore_patterns("node_modules", "build", "dist", "*.tgz")
    shutil.copytree(SOURCES, BUILT, dirs_exist_ok=True, ignore=ignored)
    run(BUILT, "npm", "install", "--ignore-scripts", "--prefer-offline")
    return BUILT
