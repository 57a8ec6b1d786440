"""Brings the whole stack up on one machine: an AWS emulator, a stand-in for FlowAccount, `sam deploy`."""

import os

# All of it is on this machine. A proxy of the machine's would be asked for it otherwise, and knows nothing of it.
for _name in ("NO_PROXY", "no_proxy"):
    os.environ[_name] = ",".join([*filter(None, [os.environ.get(_name)]), "127.0.0.1", "localhost"])
