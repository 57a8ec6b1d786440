"""The beginning of a connect: a session, bound to the browser, and the way to FlowAccount's login."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from flowaccount_connect.domain.ids import fingerprint, new_secret
from flowaccount_connect.domain.return_urls import is_allowed, with_parameters
from flowaccount_connect.http.problems import Problem, invalid
from flowaccount_connect.oauth.authorization_url import authorization_url
from flowaccount_connect.storage.attempts import (
    ConnectSession,
    SessionStore,
    browser_secret,
    cookie_name,
    verifier_of,
)
from flowaccount_connect.storage.links import ConnectLink, LinkStore

LONGEST_HOST_STATE = 512
"""The most characters of a host's own `state`, which is handed back to it on the return."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginSettings:
    """What `authorize` has to know; no secret."""

    endpoint: str
    client_id: str
    redirect_uri: str | None
    """`None`: the stage variable `callbackUrl` of the API says it."""
    return_urls: frozenset[str]
    session_lifetime: int
    """Seconds."""
    direct_connect: bool
    """Whether anybody may begin without a host's link."""
    pkce: bool


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
    links: LinkStore
    settings: BeginSettings
    clock: Callable[[], float] = time.time
    new_secret: Callable[[], str] = new_secret

    def begin(self, *, redirect_uri: str, return_url: str | None, host_state: str | None, session: str | None) -> Begun:
        """Write a connect session and say where the browser goes.

        `session` is a host's link, which may be opened any number of times, by previews too: each time begins an
        attempt of its own, and none lasts longer than the link. Raises `Problem` for parameters that are not
        acceptable, and `StoreUnavailable`; either way nothing is written.
        """
        if return_url is not None and not is_allowed(return_url, self.settings.return_urls):
            raise _return_url_not_allowed("one of the stack's allowed return URLs")
        if host_state is not None and not (len(host_state) <= LONGEST_HOST_STATE and host_state.isprintable()):
            raise invalid("invalid_state", f"state may have at most {LONGEST_HOST_STATE} printable characters.")
        now = int(self.clock())
        lifetime = self.settings.session_lifetime
        link = None
        if session is not None:
            link = self._opened(session, host_state, now)
            if return_url not in (None, link.return_url):
                raise _return_url_not_allowed("the link's own")
            return_url = link.return_url
            lifetime = min(lifetime, link.expires_at - now)
        elif not self.settings.direct_connect:
            raise Problem(
                "session_required",
                HTTPStatus.FORBIDDEN,
                "Connecting begins with a link, which the host gets by POST /connect-sessions. "
                "(To try the stack out without a host, deploy it with DirectConnect=allowed.)",
            )
        state, secret = self.new_secret(), browser_secret(self.new_secret(), session)
        connect_session = ConnectSession(
            id=fingerprint(state),
            binding=fingerprint(secret),
            redirect_uri=redirect_uri,
            expires_at=now + lifetime,
            return_url=return_url,
            host_state=host_state,
            link=link.id if link is not None else None,
            pkce=self.settings.pkce,
        )
        self.sessions.create(connect_session)
        return Begun(
            location=authorization_url(
                self.settings.endpoint,
                client_id=self.settings.client_id,
                redirect_uri=redirect_uri,
                state=state,
                verifier=verifier_of(secret) if self.settings.pkce else None,
            ),
            cookie=f"{cookie_name(connect_session.id)}={secret}; Path=/; Secure; HttpOnly; SameSite=Lax; "
            f"Max-Age={lifetime}",
        )

    def _opened(self, session: str, host_state: str | None, now: int) -> ConnectLink:
        """The link, while something can still come of opening it."""
        link = self.links.opened(session)
        if link is None:
            raise invalid("unknown_session", "This link is not known here, or it has expired. Ask for a new one.")
        refusal = None
        if link.consumed_by is not None:
            refusal = Problem("session_used", HTTPStatus.CONFLICT, "This link was used already. Ask for a new one.")
        elif link.is_over(now):
            refusal = Problem("session_expired", HTTPStatus.GONE, "This link has expired. Ask for a new one.")
        if refusal is None:
            return link
        if is_allowed(link.return_url, self.settings.return_urls):
            told = {"error": refusal.code} | ({"state": host_state} if host_state is not None else {})
            refusal.back = with_parameters(link.return_url, told)
        raise refusal


def _return_url_not_allowed(what: str) -> Problem:
    return invalid("return_url_not_allowed", f"return_url must equal {what}, character by character.")
