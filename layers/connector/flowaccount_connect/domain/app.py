"""The app as its users know it: what the pages show of it, and the rules for each value."""

import re
from dataclasses import dataclass

from flowaccount_connect.domain.return_urls import is_secure

LONGEST_LOGO = 2_000
"""The most characters of a logo. All settings of a Lambda function share 4 KB."""

# Compiled when they are used: no stack sets all of them.
_LETTER = r"[!-~\u00A1-\u00AC\u00AE-\u024F\u0E01-\u0E3A\u0E3F-\u0E5B]"
_NAME = rf"{_LETTER}(( |{_LETTER}){{0,58}}{_LETTER})?"
_LOGO_URL = (
    r"https://[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[1-9][0-9]{0,4})?(/([A-Za-z0-9._~@+-]|%[0-9A-Fa-f]{2})+)+"
)
_LOGO_DATA = r"data:image/(png|jpeg|webp|svg\+xml);base64,[A-Za-z0-9+/]+={0,2}"
_ADDRESS = r"mailto:[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,255}|tel:\+?[0-9-]{3,20}"


@dataclass(frozen=True, slots=True)
class App:
    """What the pages show of the app. Each value can be absent."""

    name: str | None = None
    logo: str | None = None
    """An https URL, or the image itself as a `data:` URL."""
    contact: str | None = None
    """Where users get help: an `https:`, `mailto:` or `tel:` URL."""
    restart: str | None = None
    """The app's page where a user begins to connect."""

    @property
    def logo_source(self) -> str | None:
        """The one source that the pages' policy allows for images (CSP level 3, section 2.3.1).

        A policy cannot name the content of a `data:` URL, so it allows the scheme.
        """
        return "data:" if self.logo is not None and self.logo.startswith("data:") else self.logo


def is_app_name(text: str) -> bool:
    """Whether `text` can be shown as a name: 1 to 60 Latin or Thai letters, digits, signs and inner spaces."""
    return re.fullmatch(_NAME, text) is not None


def is_logo(url: str) -> bool:
    """Whether `url` is a logo: https, or a PNG, JPEG, WebP or SVG as `data:` in base64; at most 2,000 characters.

    An https URL has no query and does not end with `/`: a content security policy could not name it exactly.
    """
    if len(url) > LONGEST_LOGO:
        return False
    return re.fullmatch(_LOGO_DATA, url) is not None or (re.fullmatch(_LOGO_URL, url) is not None and is_secure(url))


def is_contact(url: str) -> bool:
    """Whether `url` leads to help: `https:` (also a LINE account on line.me), `mailto:` or `tel:`."""
    return re.fullmatch(_ADDRESS, url) is not None or (url.startswith("https://") and is_secure(url))
