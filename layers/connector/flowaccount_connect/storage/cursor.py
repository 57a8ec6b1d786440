"""The `next` of a page: an opaque text of letters, digits, `-` and `_` that says where the next page begins."""

import base64
import binascii

from flowaccount_connect.domain.errors import Failure


class InvalidNext(Failure):
    """The `next` does not come from a page of this list."""

    code = "invalid_next"
    detail = "next must be what the page before gave, for the same list."


def encode(place: str) -> str:
    """A place in a list as a page's `next`."""
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def decode(next_: str) -> str:
    """The place in a `next`. Anybody can make a `next`, so the caller checks the place. Raises `InvalidNext`."""
    try:
        padded = next_ + "=" * (-len(next_) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise InvalidNext from None
