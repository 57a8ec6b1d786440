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
from flowaccount_connect.rotation.time_left import SHORTEST_EXCHANGE
from flowaccount_connect.storage.dynamodb import StoreUnavailable

GOOD_TIME = 10.0
"""A canary must be answered within so many seconds."""

LONGEST = 2 * GOOD_TIME
"""The most time that one takes, in seconds: to wait for its slot, and for its answer. With a client secret that was
replaced meanwhile it is sent once more within it."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one canary has shown."""

    sign: Sign
    error: str | None = None
    """The error code of FlowAccount's answer, or why there is no answer."""
    detail: str | None = None
    """What an operator has to put right, if that is known."""


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
        return self.look().sign

    def look(self) -> Heard:
        """Send one; what the answer says, and what is behind that."""
        until = self.clock() + LONGEST
        try:
            client_secret = self.secret.get()
            answer = self._send(client_secret, until)
            if answer.outcome is Outcome.CONFIGURATION_ERROR and answer.error == "invalid_client":
                newer = self.secret.newer_than(client_secret)
                answer = answer if newer is None else self._send(newer, until)
        except SecretMisconfigured as error:
            return Heard(Sign.NOTHING, "secret_misconfigured", str(error))
        except SecretUnavailable:
            return Heard(Sign.NOTHING, "secret_unavailable")
        except NoPermit:
            return Heard(Sign.NOTHING, "no_room_in_the_rate")
        except StoreUnavailable:
            return Heard(Sign.NOTHING, "store_unavailable")
        match answer.outcome:
            case Outcome.REJECTED:
                sign = Sign.WELL
            case Outcome.CONFIGURATION_ERROR:
                sign = Sign.CONFIGURATION
            case Outcome.THROTTLED:
                sign = Sign.NOTHING
            case _:
                sign = Sign.DOUBT
        return Heard(sign, answer.error or answer.outcome.value)

    def _send(self, client_secret: str, until: float) -> Answer:
        permit = self.permits()
        permit.use(min(GOOD_TIME, until - self.clock()))
        sent_at = self.clock()
        budget = min(GOOD_TIME, until - sent_at)
        if budget < SHORTEST_EXCHANGE:
            raise NoPermit(1)
        answer = self.endpoint.refresh(secrets.token_urlsafe(32), client_secret, connection_id="canary", budget=budget)
        if answer.outcome is Outcome.THROTTLED:
            permit.throttled(sent_at, answer.retry_after)
        return answer
