"""What the README shows runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

from local.stack import Stack

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_service_gets_a_token(up: Stack, connection: str) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    environment = {
        "PATH": os.environ["PATH"],
        "FLOWACCOUNT_CONNECT_URL": up.api_url,
        "AWS_ACCESS_KEY_ID": up.access_key_id,
        "AWS_SECRET_ACCESS_KEY": up.secret_access_key,
        "AWS_DEFAULT_REGION": up.region,
    }
    done = subprocess.run([sys.executable, "-c", example], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    business, status, expires_in = done.stdout.split()
    assert (business, status) == (connection, "active")
    assert int(expires_in) > 80_000
