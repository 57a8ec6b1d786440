"""How a connect can end, in one list: what the return URL, the pages and a refused confirmation say."""

from enum import StrEnum


class Ending(StrEnum):
    """How a connect ended. The return URL says all but the first three as `error`."""

    CONNECTED = "connected"
    TO_BE_CONFIRMED = "to_be_confirmed"
    """The app has the last word. The browser brings it the confirmation."""
    BUSY = "busy"
    """The rate has no room in this minute. Nothing was consumed: a reload of the page works."""
    WRONG_BUSINESS = "wrong_business"
    """The user chose another business than the app expects, or a business of another tenant."""
    ACCESS_DENIED = "access_denied"
    """The user cancelled at FlowAccount."""
    AUTHORIZATION_FAILED = "authorization_failed"
    """FlowAccount sent another error back than a cancel."""
    ATTEMPT_EXPIRED = "attempt_expired"
    """The browser came back too late, or the business was disconnected after the consent was given."""
    ATTEMPT_UNKNOWN = "attempt_unknown"
    """The attempt does not exist, or another browser began it; from outside the two look the same."""
    ATTEMPT_USED = "attempt_used"
    """The browser came back with this attempt, or through its link, before."""
    CODE_REJECTED = "code_rejected"
    """FlowAccount refused the code."""
    INCOMPLETE_GRANT = "incomplete_grant"
    """FlowAccount gave no refresh token or no usable business code: the connection could not be kept."""
    CONFIGURATION_ERROR = "configuration_error"
    """The stack's client id, client secret or redirect URI is wrong."""
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    """FlowAccount, KMS or the table did not answer."""


class LateEnding(StrEnum):
    """How a link ended after its callback. Only a refused confirmation says it."""

    TENANT_MISMATCH = "tenant_mismatch"
    """The app confirmed another tenant than the one that the link was made for."""
    CONFIRMATION_EXPIRED = "confirmation_expired"
    """The app did not confirm in time."""
    SUPERSEDED = "superseded"
    """A later consent to the same business is stored."""
    DISCONNECTED = "disconnected"
    """The business was disconnected since its consent."""
