"""The npm package of `clients/typescript`: built, packed and installed. What npm installs is kept under `.local`."""

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "clients" / "typescript"
# A folder for each process of tests.
BUILT = ROOT / ".local" / "-".join(["typescript", *os.environ.get("PYTEST_XDIST_WORKER", "").split()])
PATH = os.environ["PATH"]


def run(folder: Path, *command: str, env: Mapping[str, str] = os.environ) -> str:
    """What a command writes. A command that fails, fails the test with all that it wrote."""
    # A cache of its own, and nothing but the packages: no audit, no news, no scripts of packages.
    settings = {"cache": str(ROOT / ".local" / "npm"), "audit": "false", "fund": "false", "update_notifier": "false"}
    given = {**env, **{f"npm_config_{name}": value for name, value in settings.items()}}
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@functools.cache
def package() -> Path:
    """The package's sources beside the packages that they need; those are kept between runs."""
    BUILT.mkdir(parents=True, exist_ok=True)
    for name in ("src", "tests", "examples"):
        shutil.rmtree(BUILT / name, ignore_errors=True)
    ignored = shutil.ignore_patterns("node_modules", "build", "dist", "*.tgz")
    shutil.copytree(SOURCES, BUILT, dirs_exist_ok=True, ignore=ignored)
    version = run(BUILT, "node", "--version")
    assert tuple(map(int, version.strip("v\n").split(".")[:2])) >= (20, 11), f"Node.js 20.11 is needed, not {version}"
    run(BUILT, "npm", "install", "--ignore-scripts", "--prefer-offline")
    return BUILT


def pack(folder: Path) -> Path:
    """What would be published, packed into an empty folder."""
    run(package(), "npm", "pack", "--silent", "--pack-destination", str(folder))
    (packed,) = folder.iterdir()
    return packed


def install(packed: Path, folder: Path) -> Path:
    """A folder in which nothing but the package is installed."""
    run(folder, "npm", "install", "--ignore-scripts", "--prefer-offline", "--prefix", str(folder), str(packed))
    return folder
