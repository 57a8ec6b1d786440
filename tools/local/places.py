"""Where things are: sources in the repository, everything made at run time below ``.local``."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
# The files of a running stack. Tests set a folder of their own, so that they never touch a stack that is in use.
STATE = ROOT / os.environ.get("FLOWACCOUNT_CONNECT_STATE", ".local")
LOGS = STATE / "log"
CACHE = LOCAL / "cache"
TOOLS = LOCAL / "venv" / "bin"
EMULATOR_TOOLS = LOCAL / "emulator-venv" / "bin"
# Below the sources that it is made from.
BUILD = Path(".aws-sam", "build")
STACK_FILE = STATE / "stack.json"
STATE_FILE = STATE / "state.json"


def shown(path: Path) -> str:
    """A path as a person at the repository's root would write it."""
    return str(path.relative_to(ROOT))
