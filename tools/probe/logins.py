"""One login after the other: what the browser brought back, its code, and the tokens that the code brought."""

import re
import secrets
from dataclasses import dataclass, field

from flowaccount_connect.oauth.authorization_url import authorization_url
from tools.probe.answers import Seen, Unanswered
from tools.probe.consent import Consents, Stuck, parameters_of
from tools.probe.sender import Sender
from tools.probe.target import Target

_ERROR_CODE = re.compile(r"[a-z][a-z_]{2,39}")


class Failed(Unanswered):
    """A login that brought no tokens. `by_server`: that cannot have been the user's doing, as far as one can see."""

    def __init__(self, words: str, *, by_server: bool = False) -> None:
        super().__init__(words)
        self.by_server = by_server


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """What the browser brought back. Its repr shows none of it."""

    parameters: dict[str, list[str]] = field(repr=False)
    verifier: str | None = field(default=None, repr=False)

    def one(self, name: str) -> str | None:
        """A parameter's value, or `None` where it is absent, empty or repeated."""
        values = self.parameters.get(name, [])
        return values[0] or None if len(values) == 1 else None

    @property
    def error(self) -> str | None:
        """The error code, `unreadable` where it is no plain code, or `None` where there is no error."""
        error = self.one("error")
        return error if error is None or _ERROR_CODE.fullmatch(error) else "unreadable"


class Logins:
    """The logins of one run."""

    def __init__(self, target: Target, consents: Consents, sender: Sender) -> None:
        self.asked = 0
        """Consents that were asked for."""
        self.callbacks: list[Callback] = []
        """Every callback that belonged to its login."""
        self.needs_pkce = False
        """Whether logins without a challenge bring nothing."""
        self._target = target
        self._consents = consents
        self._sender = sender

    def callback(self, why: str, *, pkce: bool = False, cancel: bool = False) -> Callback:
        """Send the user to the login. Raises `Stuck`, and `Unanswered` where the browser brought nothing of use."""
        self.asked += 1
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48) if pkce or self.needs_pkce else None
        self._sender.secrets |= {state, verifier or ""}
        url = authorization_url(
            self._target.authorize_endpoint,
            client_id=self._target.client_id,
            redirect_uri=self._target.redirect_uri,
            state=state,
            verifier=verifier,
        )
        landed = self._consents.ask(url, why=f"consent {self.asked}: {why}.", cancel=cancel)
        if landed is None:
            raise Failed("The browser did not come back in time with the `state` that was sent.")
        callback = Callback(parameters=parameters_of(landed), verifier=verifier)
        secret = {value for values in callback.parameters.values() for value in values if len(value) > 15}
        self._sender.secrets |= secret - {callback.one("iss"), callback.one("scope"), callback.one("error")}
        if callback.one("state") != state:
            # Nobody knows whose it is, and its code is not ours to use.
            raise Failed("The browser came back without the `state` that was sent.")
        self.callbacks.append(callback)
        return callback

    def code(self, why: str, *, pkce: bool = False) -> tuple[str, str | None]:
        """A login that ends with a code: the code, and its verifier. Raises `Unanswered`."""
        try:
            callback = self.callback(why, pkce=pkce)
        except Stuck:
            raise Failed("The login ended on a page of the server.", by_server=True) from None
        code = callback.one("code")
        if code is None:
            words = f"The browser came back without a code (error: {callback.error})."
            raise Failed(words, by_server=callback.error not in (None, "access_denied"))
        return code, callback.verifier

    def tokens(self, why: str, *, pkce: bool = False) -> Seen:
        """A login and the answer to its code, with tokens. Raises `Unanswered`."""
        code, verifier = self.code(why, pkce=pkce)
        seen = self._sender.exchange("The exchange of a code", code, verifier=verifier)
        if seen.refused:
            raise Failed(f"The exchange of a good code was refused ({seen.look}).", by_server=True)
        if seen.tokens is None:
            raise Unanswered(f"The exchange of a code got no usable answer ({seen.look}).")
        return seen
