"""Why no access token is served. `http.problems` has the HTTP statuses."""

from flowaccount_connect.domain.errors import Failure


class ReauthorizationRequired(Failure):
    """FlowAccount no longer accepts the connection. The facts: the reason, the time, the way to a fresh link."""

    code = "reauthorization_required"
    detail = (
        "FlowAccount no longer accepts this connection. Its user has to connect the business again: make a link by "
        "POST /connect-links with the members of reconnect, and send the user's browser to its connect_url."
    )


class TokenUnavailable(Failure):
    """The access token has expired, and its refresh did not succeed yet."""

    code = "token_unavailable"
    detail = "The access token has expired and could not be refreshed yet. The stack keeps trying. Try again."


class RefreshedJustNow(Failure):
    """A refresh can be forced once a minute."""

    code = "refreshed_just_now"
    detail = "This connection was refreshed less than a minute ago. A refresh can be forced once a minute."


class SealedElsewhere(Failure):
    """The stored tokens do not open with the key of this stack."""

    code = "sealed_elsewhere"
    detail = "The stored tokens do not open with the key of this stack. See the runbook."
    retry_after = 60
