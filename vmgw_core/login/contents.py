"""What the cookies hold: a session, and a login that has begun.

Both are JSON within a sealed text. Only this gateway seals, but a newer one may read what an older one has sealed, so
contents of another form count as none.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Final, Self

from vmgw_core.base import FieldError, as_number, as_text, load_object, optional, required

RETRY_SECONDS: Final = 30.0
"""Until a failed refresh is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login. Its repr shows no token."""

    token: str = field(repr=False)
    """What stands for ``Authorization: Bearer`` in each request: the ID token or the access token."""
    subject: str
    """``sub`` of the ID token."""
    refresh_at: float
    """When to ask for a new token, Unix seconds; only with a refresh token."""
    refresh_token: str | None = field(default=None, repr=False)
    id_token: str | None = field(default=None, repr=False)
    """The ID token for the logout, if it is not ``token``."""

    def is_due(self, now: float) -> bool:
        """Whether the token is to be refreshed."""
        return self.refresh_token is not None and not now < self.refresh_at

    def final(self) -> Self:
        """Return the session as it is without a refresh token: it ends with its token."""
        return replace(self, refresh_token=None)

    def later(self, now: float, refresh_token: str | None = None) -> Self:
        """Return the session with another attempt to refresh it in half a minute, with the newer refresh token."""
        return replace(self, refresh_at=now + RETRY_SECONDS, refresh_token=refresh_token or self.refresh_token)

    def to_bytes(self) -> bytes:
        """Return the session as JSON."""
        return _written(asdict(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self | None:
        """Read what :meth:`to_bytes` wrote."""
        try:
            fields = load_object(content, "session")
            return cls(
                token=required(fields, "token", as_text),
                subject=required(fields, "subject", as_text),
                refresh_at=required(fields, "refresh_at", as_number),
                refresh_token=optional(fields, "refresh_token", as_text),
                id_token=optional(fields, "id_token", as_text),
            )
        except FieldError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingLogin:
    """A login between the redirect to the provider and the callback. All but ``target`` and ``expires`` is random."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    """The code verifier (RFC 7636)."""
    target: str
    """Where to go afterwards: a path of this gateway."""
    expires: float
    """Unix seconds."""

    def to_bytes(self) -> bytes:
        """Return the login as JSON."""
        return _written(asdict(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self | None:
        """Read what :meth:`to_bytes` wrote."""
        try:
            fields = load_object(content, "login")
            texts = {name: required(fields, name, as_text) for name in ("state", "nonce", "verifier", "target")}
            return cls(**texts, expires=required(fields, "expires", as_number))
        except FieldError:
            return None


def _written(fields: dict[str, object]) -> bytes:
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(given, separators=(",", ":")).encode()
