"""Why a connection is not listed, ended or imported. `http.problems` has the HTTP statuses."""

from flowaccount_connect.domain.errors import Failure


class InvalidStatus(Failure):
    """Connections are not listed by this status."""

    code = "invalid_status"
    detail = "status must be active, importing, reauthorization_required or disconnected, or absent for all."


class InvalidRefreshToken(Failure):
    """The text cannot be a refresh token."""

    code = "invalid_refresh_token"
    detail = "refresh_token must be a string of visible ASCII characters."


class ConnectedMeanwhile(Failure):
    """Since it was read, the connection got a new consent, which the caller did not ask to end."""

    code = "connected_meanwhile"
    detail = "The connection changed during this request. Look at it, and repeat the request if it still applies."


class AlreadyConnected(Failure):
    """The connection is active, so an import would end a working connection."""

    code = "already_connected"
    detail = "The connection is active; an import would end a working connection."


class OfAnotherTenant(Failure):
    """The business belongs to another tenant."""

    code = "other_tenant"
    detail = "This business belongs to another tenant. To change its tenant, disconnect it first."


class ImportUnderWay(Failure):
    """Another import of this connection has not ended yet."""

    code = "import_under_way"
    detail = "An import of this connection has not ended yet. Look at the connection, or end it first."


class ImportRefused(Failure):
    """The refresh token did not prove good for this business. The fact `reason` says why."""

    code = "import_refused"
    detail = "The refresh token did not prove good for this business. Nothing else has changed."


class ImportUnread(Failure):
    """The token is stored, but the table cannot be read, so the result of the import is unknown."""

    code = "store_unavailable"
    detail = "The token is stored and is being proved, but its result cannot be read. Look at the connection."
    retry_after = 5
