"""`make up`: brings the stack up in the background."""

import sys

from tools.local import processes, settings, stack
from tools.local.errors import LocalError
from tools.local.places import STACK_FILE, shown
from tools.local.steps import Steps


def main() -> None:
    """Brings the stack up and prints where it is."""
    processes.interrupt_when_ended()
    steps = Steps()
    try:
        up = stack.up(settings.read(), steps)
    except LocalError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; everything that was started has ended")
    steps.note(f"connect a business: {up.authorize_url}")
    steps.note(f"all addresses:      {shown(STACK_FILE)}")
    steps.note("to end it:          make down")


if __name__ == "__main__":
    main()
