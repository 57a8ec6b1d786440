"""`make down`: ends what `make up` started."""

import sys

from tools.local import stack
from tools.local.errors import LocalError


def main() -> None:
    """Ends the stack and prints the result."""
    try:
        print("everything has ended" if stack.down() else "nothing was running")
    except LocalError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
