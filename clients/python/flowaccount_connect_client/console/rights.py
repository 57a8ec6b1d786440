"""What the caller's role may do, found out without doing it: an action that is not allowed is not shown."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from flowaccount_connect_client.client import FlowAccountConnect
from flowaccount_connect_client.errors import AccessDenied, FlowAccountConnectError, TemporarilyUnavailable


@dataclass(frozen=True)
class Rights:
    """Which actions the role has."""

    link: bool
    disconnect: bool


def of(api: FlowAccountConnect) -> Rights:
    """The rights of the caller's role.

    API Gateway checks the role before the stack sees a request. So a request that the stack must refuse shows the
    right and changes nothing: a link without a tenant, and the end of a connection that does not exist. Raises
    `TemporarilyUnavailable`.
    """
    return Rights(
        link=_may(lambda: api.connect_link("", "")),
        disconnect=_may(lambda: api.disconnect(f"console-{secrets.token_hex(8)}")),
    )


def _may(act: Callable[[], object]) -> bool:
    try:
        act()
    except AccessDenied:
        return False
    except TemporarilyUnavailable:
        raise
    except FlowAccountConnectError:
        return True
    return True
