"""The page ``/flags``: every flag with its value as on the command line, without secrets.

Passwords and keys show as ``secret``. URLs show without user, arguments and fragment: each may hold a password.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Final

from vmgw_core.base import HIDDEN, without_credentials

from .flag import Flag, Kind
from .settings import Settings
from .table import FLAGS, value_of
from .values import Value, format_array

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_OF_URLS: Final = re.compile(r"(?:url|endpoints?)$", re.IGNORECASE)
_OF_PATHS: Final = re.compile(r"\.config$")  # or of URLs, and secret only then


def flags_page(settings: Settings) -> str:
    """Return a line ``-name="value"`` per flag, sorted by name, as VictoriaMetrics does."""
    flags = sorted(FLAGS, key=lambda flag: flag.name)
    return "".join(f"-{flag.name}={json.dumps(shown(flag, value_of(flag, settings)))}\n" for flag in flags)


def shown(flag: Flag, value: Value) -> str:
    """Return the value of a flag as text that its parser reads, except for what is hidden."""
    match flag.kind:
        case Kind.BOOL:
            return "true" if value else "false"
        case Kind.DURATION:
            assert isinstance(value, float)
            return format_duration(value)
        case Kind.ARRAY:
            assert isinstance(value, tuple)
            return format_array(_text(flag, item) for item in value)
        case _:
            return _text(flag, str(value))


def _text(flag: Flag, text: str) -> str:
    if not text:
        return ""
    if _URL.search(text):
        hidden = flag.secret and not (_OF_URLS.search(flag.name) or _OF_PATHS.search(flag.name))
        return HIDDEN if hidden else without_credentials(text)
    return HIDDEN if flag.secret and not _OF_PATHS.search(flag.name) else text


def format_duration(seconds: float) -> str:
    """Return ``1h30m`` or ``0.25s``, which :func:`parse_duration` reads as these seconds."""
    left, text = Decimal(repr(seconds)), ""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if left >= length:
            whole, left = divmod(left, length)
            text += f"{whole:f}{unit}"
    return f"{text}{left.normalize():f}s" if left or not text else text
