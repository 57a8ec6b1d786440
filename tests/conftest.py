"""What all tests share."""

import os

# Before anything of `local` is imported: tests bring up a stack of their own, and leave one that is in use alone.
os.environ["FLOWACCOUNT_CONNECT_STATE"] = ".local/test"
