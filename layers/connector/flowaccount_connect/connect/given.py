"""What the app gives with a link, checked: the tenant, and the app's own state."""

from flowaccount_connect.connect.errors import LONGEST_APP_STATE, InvalidState
from flowaccount_connect.domain.errors import InvalidTenant
from flowaccount_connect.domain.ids import is_tenant


def checked_tenant(tenant: object) -> str:
    """A tenant. Raises `InvalidTenant`."""
    if not isinstance(tenant, str) or not is_tenant(tenant):
        raise InvalidTenant
    return tenant


def checked_state(state: object) -> str | None:
    """The app's own state, or `None`. Raises `InvalidState` where it could not be handed back."""
    if state is None:
        return None
    if not isinstance(state, str) or len(state) > LONGEST_APP_STATE or not state.isprintable():
        raise InvalidState
    return state
