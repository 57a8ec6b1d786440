"""The campaign: kills refresh workers and loses answers on the deployed local stack, then accounts for every token.

`python -m tools.campaign` runs it; see `campaign.__main__`. It brings up a stack of its own, in `.local/campaign`.
"""

import os
import sys
from pathlib import Path

# Set before anything of `tools.local` is imported. The campaign has a stack of its own and never touches another one.
os.environ.setdefault("FLOWACCOUNT_CONNECT_STATE", ".local/campaign")
# The product's modules. They open sealed tokens, and write connections as `callback` does.
sys.path.append(str(Path(__file__).resolve().parents[2] / "layers" / "connector"))
