"""`make env`: the exports that the README's examples need. Use it as `eval "$(make env)"`."""

import shlex
import sys

from tools.local import stack
from tools.local.errors import LocalError
from tools.local.stack import Stack


def exports(up: Stack) -> dict[str, str]:
    """The environment variables with which a client finds the local stack and may call it."""
    variables = {
        "FLOWACCOUNT_CONNECT_URL": up.api_url,
        "AWS_ACCESS_KEY_ID": up.access_key_id,
        "AWS_SECRET_ACCESS_KEY": up.secret_access_key,
        "AWS_SESSION_TOKEN": "",
        "AWS_REGION": up.region,
        "AWS_DEFAULT_REGION": up.region,
        "RETURN_URL": up.return_urls[0],
    }
    return variables | ({"FLOWACCOUNT_URL": up.simulator_url} if up.simulator_url else {})


def main() -> None:
    """Print one `export` a line."""
    try:
        for name, value in exports(stack.read()).items():
            print(f"export {name}={shlex.quote(value)}")
    except LocalError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
