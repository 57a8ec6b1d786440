"""Without a client: the probe against the stand-in for FlowAccount, its user played by a program."""

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import requests

from tools.local import ports, processes, stand_in
from tools.local.errors import LocalError
from tools.local.visit import HttpVisitor
from tools.probe.consent import Stuck
from tools.probe.target import Target

REDIRECT_URI = "http://127.0.0.1:9/callback"
"""Nobody listens there: the program that plays the user reads the address and does not follow it."""


class PlayedConsents:
    """A user who always does what is asked for, at the simulator or at a server that asks nobody."""

    def ask(self, url: str, *, why: str, cancel: bool = False) -> str | None:  # noqa: ARG002 - for people
        """Log in and consent, or cancel; `None` where nobody answers. Raises `Stuck` where the pages lead nowhere."""
        try:
            return HttpVisitor().consent(url, user="somchai", business=None if cancel else "N1000001")
        except (KeyError, RuntimeError):
            raise Stuck from None
        except requests.RequestException:
            return None


@contextmanager
def simulator(settings: str) -> Iterator[Target]:
    """A simulator for as long as the block, with these settings (a JSON object). Raises `LocalError`."""
    try:
        # More room than the sandbox gives, so that a demonstration does not spend its time waiting.
        chosen = {"requests_per_minute": 60} | json.loads(settings)
    except (TypeError, ValueError):
        raise LocalError('SIMULATOR must be a JSON object of settings, such as {"replay": "forgiving"}.') from None
    secret, port = secrets.token_urlsafe(32), ports.choose()
    process = stand_in.start(port, stand_in.CLIENT_ID, secret, [REDIRECT_URI], chosen)
    try:
        yield target(f"http://127.0.0.1:{port}", secret, chosen)
    finally:
        processes.stop(process)


def target(url: str, secret: str, settings: Mapping[str, object]) -> Target:
    """The simulator at `url` as a target."""
    path = settings.get("environment", "test")
    return Target(
        authorize_endpoint=f"{url}/connect/authorize",
        token_endpoint=f"{url}/{path}/token",
        client_id=stand_in.CLIENT_ID,
        client_secret=secret,
        redirect_uri=REDIRECT_URI,
    )
