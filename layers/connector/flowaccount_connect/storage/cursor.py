"""Where the next page of a list begins, as callers carry it: opaque, and nothing but letters, digits, `-` and `_`."""

import base64
import binascii

from flowaccount_connect.domain.errors import Failure


class InvalidNext(Failure):
    """No page of this list gave this `next`."""

    code = "invalid_next"
    detail = "next must be what the page before gave, for the same list."


def encode(place: str) -> str:
    """A place in a list (ASCII) as a page's `next`."""
    return base64.urlsafe_b64encode(place.encode("ascii")).decode().rstrip("=")


def decode(next_: str) -> str:
    """The place in a `next`, whoever made it; the caller checks it. Raises `InvalidNext`."""
    try:
        padded = next_ + "=" * (-len(next_) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        raise InvalidNext from None
