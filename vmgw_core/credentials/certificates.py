"""Certificates of clients (``-mtls``) as claims for the access policy (``-auth.mtlsClaims``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MTLS: Final = "mtls"
"""The claim that holds what a certificate says. Tokens may not have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a verified certificate says of its holder (RFC 5280, sections 4.1.2.6 and 4.2.1.6)."""

    common_names: tuple[str, ...]
    dns: tuple[str, ...]
    uris: tuple[str, ...]
    expires_at: float
    """Unix seconds. A connection may live longer."""

    def claims(self) -> dict[str, object]:
        """Return the claims, each a list."""
        return {
            MTLS: {"common_name": list(self.common_names), "dns": list(self.dns), "uri": list(self.uris)},
        }

    @property
    def name(self) -> str:
        """The name for limits and logs: the only common name, or the first alternative name."""
        names = self.common_names if len(self.common_names) == 1 else ()
        return next(iter((*names, *self.uris, *self.dns)), "")
