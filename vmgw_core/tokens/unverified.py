"""Looking into a token that nothing vouches for: for telling people, never for a decision.

What ``jws`` refuses is shown here as far as it can be read, since a token that is refused is the one to look into.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

from vmgw_core.base import FieldError, load_object

MAX_LENGTH: Final = 1024 * 1024
"""Characters of the longest token that is looked into, whatever the gateway accepts."""

_TO_STANDARD_ALPHABET: Final = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek:
    """Header and payload of a token, without its signature; None where they cannot be read."""

    header: dict[str, object] | None = field(repr=False)
    claims: dict[str, object] | None = field(repr=False)
    signed: bool
    """Whether a signature follows. It was not verified."""


def peek(token: str) -> Peek:
    """Read what can be read of a compact JWS (RFC 7515, section 7.1)."""
    segments = token.split(".", 3) if len(token) <= MAX_LENGTH else []
    header, payload, signature = (*segments, "", "", "")[:3]
    return Peek(header=_object(header), claims=_object(payload), signed=bool(signature))


def _object(segment: str) -> dict[str, object] | None:
    try:
        text = segment.translate(_TO_STANDARD_ALPHABET)
        data = base64.b64decode(text + "=" * (-len(text) % 4))
        return load_object(data, "token")
    except (FieldError, binascii.Error, ValueError):
        return None
