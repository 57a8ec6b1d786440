"""The canary: a refresh with a made-up token, which shows whether client and server work and costs no connection."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from flowaccount_connect.oauth.client_secret import SecretMisconfigured, SecretUnavailable
from flowaccount_connect.oauth.token_answer import Answer, Outcome
from flowaccount_connect.rotation.health import Sign
from flowaccount_connect.rotation.permits import NoPermit, Permit
from flowaccount_connect.rotation.ports import RefreshEndpoint, Secret
from flowaccount_connect.storage.dynamodb import StoreUnavailable

GOOD_TIME = 10.0
"""A canary must be answered within so many seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """Sends a refresh with a made-up token, through the same rate as everything else."""

    endpoint: RefreshEndpoint
    secret: Secret
    permits: Callable[[], Permit]
    """Makes the permit for one canary."""
    clock: Callable[[], float] = time.time

    def __call__(self) -> Sign:
        """Send one; what the answer says. `NOTHING` if none was sent, or FlowAccount wants us to slow down."""
        try:
            client_secret = self.secret.get()
            answer = self._send(client_secret)
            if answer.outcome is Outcome.CONFIGURATION_ERROR and answer.error == "invalid_client":
                newer = self.secret.newer_than(client_secret)
                answer = answer if newer is None else self._send(newer)
        except (NoPermit, StoreUnavailable, SecretUnavailable, SecretMisconfigured):
            return Sign.NOTHING
        match answer.outcome:
            case Outcome.REJECTED:
                return Sign.WELL
            case Outcome.CONFIGURATION_ERROR:
                return Sign.CONFIGURATION
            case Outcome.THROTTLED:
                return Sign.NOTHING
            case _:
                return Sign.DOUBT

    def _send(self, client_secret: str) -> Answer:
        permit = self.permits()
        permit.use(GOOD_TIME)
        sent_at = self.clock()
        answer = self.endpoint.refresh(
            secrets.token_urlsafe(32), client_secret, connection_id="canary", budget=GOOD_TIME
        )
        if answer.outcome is Outcome.THROTTLED:
            permit.throttled(sent_at, answer.retry_after)
        return answer
