"""Untrusted text in messages: on one line, without control characters, and of bounded length."""

from __future__ import annotations

import json
import re
from typing import Final

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""One control character of ASCII or of Latin-1."""

_LENGTH: Final = 200
_QUOTED: Final = 60


def printable(text: str, length: int = _LENGTH) -> str:
    """Escape what cannot be printed in ``text``, and cut it after ``length`` characters."""
    cut = text if len(text) <= length else text[:length] + "…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)


def quoted(text: str, length: int = _QUOTED) -> str:
    """Return ``text`` as a JSON string of printable ASCII, cut after ``length`` characters."""
    escaped = json.dumps(text[:length])[1:-1].replace("\x7f", "\\u007f")
    return f'"{escaped}"' if len(escaped) <= length and len(text) <= length else f'"{escaped[:length]}..."'
