"""The beginning of a connect: an attempt, bound to the browser, and the way to FlowAccount's login."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from flowaccount_connect.connect.errors import (
    AlreadyConnected,
    CannotOpenLink,
    LinkExpired,
    LinkRequired,
    LinkUsed,
    ReturnUrlNotAllowed,
    UnknownLink,
)
from flowaccount_connect.connect.given import checked_state
from flowaccount_connect.domain.ids import fingerprint, new_secret, secret_in
from flowaccount_connect.domain.return_urls import is_allowed, with_parameters
from flowaccount_connect.oauth.authorization_url import authorization_url
from flowaccount_connect.storage.attempts import (
    CODE_LIFETIME,
    AttemptStore,
    ConnectAttempt,
    beyond,
    browser_secret,
    cookie,
    cookie_name,
    verifier_of,
)
from flowaccount_connect.storage.links import CONNECTED, Link, LinkStore


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginSettings:
    """What `authorize` has to know; no secret."""

    endpoint: str
    """FlowAccount's authorization endpoint."""
    client_id: str
    redirect_uri: str | None
    """`None`: the API's stage variable `callbackUrl` is the redirect URI."""
    return_urls: frozenset[str]
    link_lifetime: int
    """Seconds."""
    direct_connect: bool
    """Whether anybody can begin without a link."""
    pkce: bool
    preselect: bool = False
    """Whether FlowAccount's login learns which business a link expects."""


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the browser, and the headers `Set-Cookie`: first the cookie that binds it to its attempt, then the
    cookies to clear."""

    location: str
    cookies: tuple[str, ...]

    def __repr__(self) -> str:
        return "Begun(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorize:
    """Begins connects. Knows no client secret."""

    attempts: AttemptStore
    links: LinkStore
    settings: BeginSettings
    clock: Callable[[], float] = time.time
    new_secret: Callable[[], str] = new_secret

    def through_link(self, link: str, *, redirect_uri: str, cookies: Collection[str] = ()) -> Begun:
        """Begin an attempt through a link of the app's.

        A link can be opened many times: each opening begins an attempt, and none lasts longer than the link. The
        return URL and the app's state are the link's own. `cookies` are the names of our cookies in this browser, the
        oldest first. Raises `CannotOpenLink`, `StoreUnavailable`; then nothing is written.
        """
        link, now = secret_in(link), int(self.clock())
        opened = self._opened(link, now)
        return self._begin(
            link,
            redirect_uri=redirect_uri,
            return_url=opened.return_url,
            app_state=opened.app_state,
            business=opened.expected_connection if self.settings.preselect else None,
            lifetime=min(self.settings.link_lifetime, opened.expires_at - now),
            cookies=cookies,
        )

    def directly(
        self, *, redirect_uri: str, return_url: str | None, app_state: str | None, cookies: Collection[str] = ()
    ) -> Begun:
        """Begin an attempt without a link, where the stack allows that. `cookies` as in `through_link`.

        Raises `LinkRequired`, `ReturnUrlNotAllowed`, `InvalidState`, `StoreUnavailable`; then nothing is written.
        """
        if not self.settings.direct_connect:
            raise LinkRequired
        if return_url is not None and not is_allowed(return_url, self.settings.return_urls):
            raise ReturnUrlNotAllowed
        return self._begin(
            None,
            redirect_uri=redirect_uri,
            return_url=return_url,
            app_state=checked_state(app_state),
            lifetime=self.settings.link_lifetime,
            cookies=cookies,
        )

    def _begin(
        self,
        link: str | None,
        *,
        redirect_uri: str,
        return_url: str | None,
        app_state: str | None,
        lifetime: int,
        cookies: Collection[str],
        business: str | None = None,
    ) -> Begun:
        state, secret = self.new_secret(), browser_secret(self.new_secret(), link)
        attempt = ConnectAttempt(
            id=fingerprint(state),
            binding=fingerprint(secret),
            redirect_uri=redirect_uri,
            expires_at=int(self.clock()) + lifetime,
            return_url=return_url,
            app_state=app_state,
            link=fingerprint(link) if link is not None else None,
            pkce=self.settings.pkce,
        )
        self.attempts.create(attempt)
        location = authorization_url(
            self.settings.endpoint,
            client_id=self.settings.client_id,
            redirect_uri=redirect_uri,
            state=state,
            verifier=verifier_of(secret) if self.settings.pkce else None,
            business=business,
        )
        own = cookie(cookie_name(attempt.id), secret, lifetime + CODE_LIFETIME)
        return Begun(location, (own, *(cookie(name, "", 0) for name in beyond(cookies))))

    def _opened(self, link: str, now: int) -> Link:
        """The link, if it can still lead to a connection."""
        found = self.links.opened(link)
        if found is None:
            raise UnknownLink
        if found.result == CONNECTED:
            raise self._refused(AlreadyConnected, found)
        if found.consumed_by is not None:
            raise self._refused(LinkUsed, found)
        if found.is_over(now):
            raise self._refused(LinkExpired, found)
        return found

    def _refused(self, error: type[CannotOpenLink], link: Link) -> CannotOpenLink:
        """The error, with the way back to the app as long as the stack allows that return URL."""
        if not is_allowed(link.return_url, self.settings.return_urls):
            return error()
        parameters = {"error": error.code} | ({"state": link.app_state} if link.app_state is not None else {})
        return error(back=with_parameters(link.return_url, parameters))
