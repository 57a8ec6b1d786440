"""Where the next page of a list begins, as callers carry it: opaque, and nothing but letters, digits, `-` and `_`."""

import base64
import binascii


class InvalidNext(Exception):
    """A `next` that no page of this list gave."""


def encode(place: str) -> str:
    """A place in a list (ASCII) as a page's `next`."""
    return base64.urlsafe_b64encode(place.encode("ascii")).decode().rstrip("=")


def decode(next_: str) -> str:
    """The place that a `next` tells, whoever made it: what it says is still to be checked. Raises `InvalidNext`."""
    try:
        padded = next_ + "=" * (-len(next_) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        raise InvalidNext("this is not the `next` of a page of this list") from None
