"""Every code, refresh token and access token ever issued, and what became of it.

The ledger is the authority on what a credential is still good for, and it is what a test accounts by: for
everything it issued it can say who got it, what it was made from, when it was spent, and whether it would
work now. What it shows are fingerprints, never the tokens.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import threading
from dataclasses import dataclass
from typing import Any, Literal

from tools.simulator.clients import OFFLINE_SCOPE, Client
from tools.simulator.clock import Clock
from tools.simulator.settings import Settings

MAX_ACCESS_TOKENS = 500_000
"""Access tokens kept; beyond it the oldest are forgotten, and are then as good as unknown."""


def fingerprint(token: str) -> str:
    """The first 16 hexadecimal digits of the token's SHA-256: they tell tokens apart and spend none."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


@dataclass(eq=False)
class Consent:
    """One user's permission for one business: the family that all its codes and tokens belong to."""

    consent_id: str
    client_id: str
    support_code: str
    scope: str
    first_token_at: float | None = None
    newest: Entry | None = None
    family_revoked: bool = False
    withdrawn: bool = False


@dataclass(eq=False, slots=True)
class Entry:
    """A code or a refresh token. `get_*` and `check_client` are what Authlib asks of it.

    outcome: `unused`; `exchanged` (a code) or `rotated` (a refresh token); `burned: ` and the reason, for a
    code whose one exchange failed. last_refusal: why it was refused the last time that it was presented, if
    it was. delivered: whether every byte of the answer that carried it was handed to the socket; None while
    that is under way. receiver_gone: whether the peer had closed its side of the connection before those
    bytes were written.
    """

    kind: Literal["code", "refresh_token"]
    fingerprint: str
    consent: Consent
    issued_at: float
    expires_at: float
    issued_by: str | None
    redirect_uri: str | None = None
    code_challenge: str | None = None
    code_challenge_method: str | None = None
    spent_at: float | None = None
    presented: int = 0
    outcome: str = "unused"
    last_refusal: str | None = None
    delivered: bool | None = None
    receiver_gone: bool = False

    def get_redirect_uri(self) -> str | None:
        """The redirect URI of the authorize request."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """The scope that the user consented to."""
        return self.consent.scope

    def check_client(self, client: Client) -> bool:
        """Whether this was issued to *client*."""
        return self.consent.client_id == client.client_id


@dataclass(eq=False, slots=True)
class AccessToken:
    """An access token; it lives out its own time, whatever happens to the refresh tokens beside it."""

    consent: Consent
    expires_at: float


class Ledger:
    """The books. Every public method is atomic."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._entries: dict[str, Entry] = {}
        self._access_tokens: dict[str, AccessToken] = {}
        self._consents: list[Consent] = []
        self._numbers = itertools.count(1)

    def new_token(self, length: int) -> str:
        """*length* random characters that need no encoding in a URL or a form."""
        return secrets.token_urlsafe(length)[:length]

    # Issuing

    def open_consent(self, client_id: str, support_code: str, scope: str) -> Consent:
        """A user's new consent. Earlier ones for the same business go on, as with IdentityServer."""
        with self._lock:
            consent = Consent(f"consent-{next(self._numbers)}", client_id, support_code, scope)
            self._consents.append(consent)
        return consent

    def record_code(
        self,
        code: str,
        consent: Consent,
        redirect_uri: str,
        settings: Settings,
        challenge: tuple[str | None, str | None] = (None, None),
    ) -> Entry:
        """Enter a code for *consent*, with the redirect URI and PKCE challenge it is bound to."""
        now = self._clock.now()
        entry = Entry("code", fingerprint(code), consent, now, now + settings.code_lifetime, None, redirect_uri)
        entry.code_challenge, entry.code_challenge_method = challenge
        with self._lock:
            self._entries[code] = entry
        return entry

    def record_tokens(
        self,
        consent: Consent,
        parent: Entry | None,
        access_token: str,
        refresh_token: str | None,
        settings: Settings,
    ) -> list[Entry]:
        """Enter what a token request is answered with; returns the new refresh token's entry, if any.

        Without a new refresh token on a refresh, the old one's time starts anew.
        """
        with self._lock:
            now = self._clock.now()
            if consent.first_token_at is None:
                consent.first_token_at = now
            self._access_tokens[access_token] = AccessToken(consent, now + settings.access_token_lifetime)
            while len(self._access_tokens) > MAX_ACCESS_TOKENS:
                del self._access_tokens[next(iter(self._access_tokens))]
            expires_at = now + settings.refresh_token_lifetime
            if settings.refresh_absolute_lifetime is not None:
                expires_at = min(expires_at, consent.first_token_at + settings.refresh_absolute_lifetime)
            if refresh_token is None:
                if parent is not None and parent.kind == "refresh_token":
                    parent.expires_at = expires_at
                return []
            issued_by = parent.fingerprint if parent else None
            entry = Entry("refresh_token", fingerprint(refresh_token), consent, now, expires_at, issued_by)
            self._entries[refresh_token] = entry
            consent.newest = entry
            return [entry]

    # Presenting

    def take_code(self, code: str, client: Client, settings: Settings) -> tuple[Entry | None, str | None]:
        """The entry of a code, if any, and why *client* may not exchange it, if so. This spends it.

        IdentityServer removes the code before it looks at its expiry, its redirect URI and its PKCE verifier,
        so whatever is found wrong afterwards has burned it (`burn`). Only a client it was not issued to burns
        nothing.
        """
        with self._lock:
            entry = self._entries.get(code)
            if entry is None or entry.kind != "code":
                return None, "unknown"
            entry.presented += 1
            if not entry.check_client(client):
                entry.last_refusal = "another client's"
                return entry, entry.last_refusal
            refusal = self._refusal(entry, settings)
            entry.last_refusal = refusal or entry.last_refusal
            if entry.spent_at is None:
                entry.spent_at = self._clock.now()
                entry.outcome = f"burned: {refusal}" if refusal else "exchanged"
            return entry, refusal

    def burn(self, entry: Entry, reason: str) -> None:
        """Note that the one exchange of a code failed after all, and why."""
        with self._lock:
            entry.outcome, entry.last_refusal = f"burned: {reason}", reason

    def look_up_refresh_token(self, token: str, client: Client, settings: Settings) -> tuple[Entry | None, str | None]:
        """The entry of a refresh token, if any, and why *client* may not use it now, if so.

        This spends nothing. A spent token may take its whole family down with it, by the replay policy.
        """
        with self._lock:
            entry = self._entries.get(token)
            if entry is None or entry.kind != "refresh_token":
                return None, "unknown"
            entry.presented += 1
            refusal = "another client's" if not entry.check_client(client) else self._refusal(entry, settings)
            self._note(entry, refusal, settings)
            return entry, refusal

    def spend(self, entry: Entry, settings: Settings) -> str | None:
        """Spend a refresh token that was looked up; why it cannot be, if somebody else was faster.

        Check and consume are one step here. Under `racy` nothing is checked again: whoever looked the token
        up in time has it, as with IdentityServer.
        """
        with self._lock:
            refusal = None if settings.racy else self._refusal(entry, settings)
            self._note(entry, refusal, settings)
            if refusal is None and settings.refresh_answer == "new_token":
                entry.spent_at = entry.spent_at or self._clock.now()
                entry.outcome = "rotated"
            return refusal

    def _note(self, entry: Entry, refusal: str | None, settings: Settings) -> None:
        """Write a refusal down, with what follows from it."""
        if refusal is not None:
            entry.last_refusal = refusal
            if refusal == "spent" and settings.replay == "family_revoking":
                entry.consent.family_revoked = True

    def _refusal(self, entry: Entry, settings: Settings) -> str | None:
        """Why a code or refresh token would be refused at this moment, or None."""
        if entry.consent.withdrawn:
            return "withdrawn"
        if self._clock.now() >= entry.expires_at:
            return "expired"
        if entry.kind == "code":
            return "spent" if entry.spent_at is not None else None
        if entry.consent.family_revoked:
            return "family revoked"
        if entry.spent_at is not None:
            return "spent" if settings.replay in ("strict", "family_revoking") else None
        superseded = settings.replay == "newest_only" and entry.consent.newest is not entry
        return "superseded" if superseded else None

    def find_access_token(self, token: str) -> tuple[Consent | None, str | None]:
        """Whose consent an access token is for, if it was ever issued, and why it is refused, if it is."""
        with self._lock:
            known = self._access_tokens.get(token)
            if known is None:
                return None, "unknown"
            if known.consent.withdrawn:
                return known.consent, "withdrawn"
            return known.consent, "expired" if self._clock.now() >= known.expires_at else None

    def business_of(self, token: str) -> str | None:
        """The support code that a code, refresh token or access token is for, if it was ever issued."""
        with self._lock:
            known = self._entries.get(token) or self._access_tokens.get(token)
            return known.consent.support_code if known else None

    def withdraw(self, support_code: str) -> int:
        """The user unlinks the client in FlowAccount: nothing of that business's consents works any more.

        Returns how many consents that ended.
        """
        with self._lock:
            living = [c for c in self._consents if c.support_code == support_code and not c.withdrawn]
            for consent in living:
                consent.withdrawn = True
        return len(living)

    # Accounting

    def entries(self, settings: Settings, support_code: str | None = None) -> list[dict[str, Any]]:
        """All codes and refresh tokens in the order of issue, of one business or of all.

        works: whether the token endpoint would take it at this moment, under *settings*. A spent refresh
        token works under the forgiving policies.
        """
        with self._lock:
            return [
                {
                    "kind": entry.kind,
                    "fingerprint": entry.fingerprint,
                    "consent": entry.consent.consent_id,
                    "business": entry.consent.support_code,
                    "client_id": entry.consent.client_id,
                    "issued_at": entry.issued_at,
                    "issued_by": entry.issued_by,
                    "expires_at": entry.expires_at,
                    "spent_at": entry.spent_at,
                    "presented": entry.presented,
                    "outcome": entry.outcome,
                    "last_refusal": entry.last_refusal,
                    "delivered": entry.delivered,
                    "receiver_gone": entry.receiver_gone,
                    "works": self._refusal(entry, settings) is None,
                }
                for entry in self._entries.values()
                if support_code is None or entry.consent.support_code == support_code
            ]


def wants_refresh_token(scope: str) -> bool:
    """Whether *scope* has `offline_access`, without which no refresh token ever comes (page)."""
    return OFFLINE_SCOPE in scope.split(" ")
