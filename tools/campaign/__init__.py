"""The campaign: kills refresh workers and loses answers on the deployed local stack, then accounts for every token.

`python -m tools.campaign` runs it; see `campaign.__main__`. It brings up a stack of its own, in `.local/campaign`.
"""

import os
import sys
from pathlib import Path

# Before anything of `local` is imported: a stack of its own, so that it never meets one that is in use.
os.environ.setdefault("FLOWACCOUNT_CONNECT_STATE", ".local/campaign")
# The product as its functions import it; here to open what they sealed, and to write what `callback` would.
sys.path.append(str(Path(__file__).resolve().parents[2] / "layers" / "connector"))
