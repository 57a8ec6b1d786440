"""What the app gives with a link, checked: the tenant, the app's own state, and which browser is to open the link."""

from flowaccount_connect.connect.errors import LONGEST_APP_STATE, InvalidExternalBrowser, InvalidState
from flowaccount_connect.domain.errors import InvalidTenant
from flowaccount_connect.domain.ids import is_tenant


def checked_tenant(tenant: object) -> str:
    """A tenant. Raises `InvalidTenant`."""
    if not is_tenant(tenant):
        raise InvalidTenant
    return tenant


def checked_state(state: object) -> str | None:
    """The app's own state, or `None`. Raises `InvalidState` where it could not be handed back."""
    if state is None:
        return None
    if not isinstance(state, str) or len(state) > LONGEST_APP_STATE or not state.isprintable():
        raise InvalidState
    return state


def external_browser(wanted: object) -> dict[str, str]:
    """The parameter that makes LINE open a link in the phone's own browser (LINE Developers, "Using LINE features with
    the LINE URL scheme"); empty where `wanted` is `None` or false. Raises `InvalidExternalBrowser`."""
    if wanted is not None and not isinstance(wanted, bool):
        raise InvalidExternalBrowser
    return {"openExternalBrowser": "1"} if wanted else {}
