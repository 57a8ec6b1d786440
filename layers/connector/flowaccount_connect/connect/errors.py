"""Why a link is not made or opened, and why a confirmation connects nothing. `http.problems` has the HTTP statuses."""

from flowaccount_connect.domain.errors import Failure

LONGEST_APP_STATE = 512
"""The most characters of the app's own `state`."""


class InvalidState(Failure):
    """The app's `state` could not be put into the return URL."""

    code = "invalid_state"
    detail = f"state must be at most {LONGEST_APP_STATE} printable characters."


class InvalidExternalBrowser(Failure):
    """Whether the link is to be opened in the phone's own browser is neither true nor false."""

    code = "invalid_external_browser"
    detail = "external_browser must be true or false."


class ReturnUrlNotAllowed(Failure):
    """The return URL is not on the stack's list."""

    code = "return_url_not_allowed"
    detail = (
        "return_url must equal one of the stack's allowed return URLs, character by character: add it to the parameter "
        "AllowedReturnUrls."
    )


class TooManyLinks(Failure):
    """The tenant has made all the links that it may make in this minute."""

    code = "too_many_links"
    detail = "This tenant has asked for too many links in this minute. Wait, then ask again."


class IncompleteCallback(Failure):
    """The browser did not come from FlowAccount: its redirect has other parameters (RFC 6749 section 4.1.2)."""

    code = "incomplete_callback"
    detail = "FlowAccount's redirect carries state, and code or error."


class CannotOpenLink(Failure):
    """A link leads nowhere. `back` is the app's return URL with the error, if the link is known; the page shows it."""

    def __init__(self, back: str | None = None) -> None:
        super().__init__()
        self.back = back


class LinkRequired(CannotOpenLink):
    """The stack connects by links only."""

    code = "link_required"
    detail = (
        "Connecting begins with a link, which the app gets by POST /connect-links. "
        "(To try the stack without an app, deploy it with DirectConnect=allowed.)"
    )


class UnknownLink(CannotOpenLink):
    """The link was never made here, or it was deleted long after its end."""

    code = "unknown_link"
    detail = "This link is not known here. Ask the app for a new one."


class LinkUsed(CannotOpenLink):
    """A browser came back from FlowAccount through this link already, and nothing was connected yet."""

    code = "link_used"
    detail = "This link was used already. Ask the app for a new one."


class AlreadyConnected(CannotOpenLink):
    """The link was used, and the business is connected."""

    code = "already_connected"
    detail = "This link was used already, and the business is connected."


class LinkExpired(CannotOpenLink):
    """The time to use the link has passed."""

    code = "link_expired"
    detail = "This link has expired. Ask the app for a new one."


class CannotConfirm(Failure):
    """A confirmation connects nothing."""


class UnknownConfirmation(CannotConfirm):
    """No link has this confirmation."""

    code = "unknown_confirmation"
    detail = "This confirmation is not known here, or it ended long ago. Make a new link."


class NotFinished(CannotConfirm):
    """The browser has not come back yet."""

    code = "not_finished"
    detail = "The user is not back from FlowAccount yet. Confirm when the browser returns with the confirmation."


class TenantMismatch(CannotConfirm):
    """The link was made for another tenant than the one that confirms."""

    code = "tenant_mismatch"
    detail = (
        "The link was made for another tenant. Whoever came back is not the user that the link was made for, so "
        "nothing is connected. Make a new link."
    )

    def __init__(self) -> None:
        super().__init__({"ending": self.code})


class ConfirmationExpired(CannotConfirm):
    """The time to confirm has passed, or the link was not used in time."""

    code = "confirmation_expired"
    detail = "The connect was not confirmed in time, and nothing is connected. Make a new link."

    def __init__(self) -> None:
        super().__init__({"ending": self.code})


class ConnectFailed(CannotConfirm):
    """The connect ended without a connection, or what it connected is no longer the connection; `ending` says which."""

    code = "connect_failed"
    detail = "This confirmation stands for no connection; ending says why. Make a new link to try again."

    def __init__(self, ending: str) -> None:
        super().__init__({"ending": ending})
