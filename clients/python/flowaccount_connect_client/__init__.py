"""The client of a FlowAccount Connect stack, for the app's own services: a valid access token, and no OAuth."""

from flowaccount_connect_client.client import (
    FLOWACCOUNT,
    AccessDenied,
    AccessToken,
    Api,
    ConnectionNotFound,
    FlowAccountAuth,
    FlowAccountConnectError,
    HostNotAllowed,
    InvalidAnswer,
    NotConfigured,
    Problem,
    ReauthorizationRequired,
    TemporarilyUnavailable,
)

__all__ = [
    "FLOWACCOUNT",
    "AccessDenied",
    "AccessToken",
    "Api",
    "ConnectionNotFound",
    "FlowAccountAuth",
    "FlowAccountConnectError",
    "HostNotAllowed",
    "InvalidAnswer",
    "NotConfigured",
    "Problem",
    "ReauthorizationRequired",
    "TemporarilyUnavailable",
]
