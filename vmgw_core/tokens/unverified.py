"""The contents of unverified tokens, for reports and never for decisions.

Parts of refused tokens are shown too: those are the ones that users look into.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final

from vmgw_core.base import FieldError, load_object

MAX_LENGTH: Final = 1024 * 1024
"""Characters of the longest token that is read, whatever the gateway accepts."""

_TO_STANDARD_ALPHABET: Final = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek:
    """Header and payload of a token without its signature; None if unreadable."""

    header: dict[str, object] | None = field(repr=False)
    claims: dict[str, object] | None = field(repr=False)
    signed: bool
    """Whether there is a signature, which was not verified."""


def peek(token: str) -> Peek:
    """Read as much as possible of a compact JWS (RFC 7515, section 7.1)."""
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
