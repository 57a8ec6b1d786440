"""sam, called by its path: Apple's make hands no PATH on to a command without a shell."""

import os
import subprocess
from collections.abc import Mapping

from tools.local import built_for
from tools.local.errors import LocalError
from tools.local.places import CACHE, ROOT, TOOLS


def run(*arguments: str, more: Mapping[str, str] | None = None) -> None:
    """Runs sam in the repository. Raises `LocalError`; what went wrong is on the terminal."""
    environment = os.environ | {"PATH": f"{TOOLS}:{os.environ.get('PATH', '/usr/bin:/bin')}", "SAM_CLI_TELEMETRY": "0"}
    done = subprocess.run([str(TOOLS / "sam"), *arguments], cwd=ROOT, env=environment | dict(more or {}), check=False)
    if done.returncode != 0:
        raise LocalError(f"sam {arguments[0]} failed; the lines above say why.")


def build(processor: str) -> None:
    """Builds functions and layers for a `LAYER_ARCHITECTURE`. Raises `LocalError`."""
    run("build", more={"LAYER_CACHE": str(CACHE), "LAYER_ARCHITECTURE": processor})
    built_for.name_processor(ROOT, processor)
