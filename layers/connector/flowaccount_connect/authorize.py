"""The beginning of a connect: a session, bound to the browser, and the way to FlowAccount's login."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from flowaccount_connect.authorization_request import authorization_url
from flowaccount_connect.connect_session import ConnectSession, SessionStore, cookie_name
from flowaccount_connect.identifiers import fingerprint, new_secret
from flowaccount_connect.problems import invalid
from flowaccount_connect.return_urls import is_allowed
from flowaccount_connect.settings import Authorize as Settings

LONGEST_HOST_STATE = 512
"""The most characters of a host's own `state`, which is handed back to it on the return."""


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the browser, and the cookie that binds it."""

    location: str
    cookie: str

    def __repr__(self) -> str:
        return "Begun(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorize:
    """Begins connects. Knows no client secret."""

    sessions: SessionStore
    settings: Settings
    clock: Callable[[], float] = time.time
    new_secret: Callable[[], str] = new_secret

    def begin(self, *, redirect_uri: str, return_url: str | None, host_state: str | None, session: str | None) -> Begun:
        """Write a connect session, in one call, and say where the browser goes.

        Raises `Problem` (400) for parameters that are not acceptable, and `StoreUnavailable`; either way nothing is
        written.
        """
        if session is not None:
            raise invalid("unknown_session", "This link is not known here, or it has expired. Ask for a new one.")
        if return_url is not None and not is_allowed(return_url, self.settings.return_urls):
            raise invalid(
                "return_url_not_allowed",
                "return_url must equal one of the stack's allowed return URLs, character by character.",
            )
        if host_state is not None and not (len(host_state) <= LONGEST_HOST_STATE and host_state.isprintable()):
            raise invalid("invalid_state", f"state may have at most {LONGEST_HOST_STATE} printable characters.")
        state, secret = self.new_secret(), self.new_secret()
        connect_session = ConnectSession(
            id=fingerprint(state),
            binding=fingerprint(secret),
            redirect_uri=redirect_uri,
            expires_at=int(self.clock()) + self.settings.session_lifetime,
            return_url=return_url,
            host_state=host_state,
        )
        self.sessions.create(connect_session)
        return Begun(
            location=authorization_url(
                self.settings.endpoint,
                client_id=self.settings.client_id,
                redirect_uri=redirect_uri,
                state=state,
            ),
            cookie=f"{cookie_name(connect_session.id)}={secret}; Path=/; Secure; HttpOnly; SameSite=Lax; "
            f"Max-Age={self.settings.session_lifetime}",
        )
