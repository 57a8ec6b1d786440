"""Where things are: sources in the repository, everything made at run time below ``.local``."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCAL = ROOT / ".local"
LOGS = LOCAL / "log"
CACHE = LOCAL / "cache"
TOOLS = LOCAL / "venv" / "bin"
EMULATOR_TOOLS = LOCAL / "emulator-venv" / "bin"
BUILD = ROOT / ".aws-sam" / "build"
STACK_FILE = LOCAL / "stack.json"
STATE_FILE = LOCAL / "state.json"


def shown(path: Path) -> str:
    """A path as a person at the repository's root would write it."""
    return str(path.relative_to(ROOT))
