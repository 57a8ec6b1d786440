"""The client of a FlowAccount Connect stack, for the app's own services: a valid access token, and no OAuth.

`FlowAccountConnect` is the stack, `FlowAccountAuth` what `requests` takes. `httpx_auth` has the same for httpx,
`webhooks` verifies what the stack sends, `testing` is a fake of the stack for your tests. `errors` draws all errors.
"""

from flowaccount_connect_client.auth import FlowAccountAuth
from flowaccount_connect_client.client import FlowAccountConnect
from flowaccount_connect_client.errors import (
    AccessDenied,
    ConnectionNotFound,
    FlowAccountConnectError,
    HostNotAllowed,
    InvalidAnswer,
    InvalidArgument,
    InvalidSignature,
    NotConfigured,
    Problem,
    ReauthorizationRequired,
    TemporarilyUnavailable,
)
from flowaccount_connect_client.results import AccessToken, Connection, ConnectLink, HistoryEntry
from flowaccount_connect_client.rules import FLOWACCOUNT

__version__ = "0.3.0"

__all__ = [
    "FLOWACCOUNT",
    "AccessDenied",
    "AccessToken",
    "ConnectLink",
    "Connection",
    "ConnectionNotFound",
    "FlowAccountAuth",
    "FlowAccountConnect",
    "FlowAccountConnectError",
    "HistoryEntry",
    "HostNotAllowed",
    "InvalidAnswer",
    "InvalidArgument",
    "InvalidSignature",
    "NotConfigured",
    "Problem",
    "ReauthorizationRequired",
    "TemporarilyUnavailable",
]
