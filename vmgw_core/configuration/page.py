"""The page ``/flags``: every flag with its value, in the form the command line takes, and no secret.

Passwords and keys show as ``secret``. Of a URL, whoever is named in it, its arguments and its fragment are left out:
each may hold a password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final
from urllib.parse import urlsplit

from .flag import Flag, Kind
from .settings import Settings, value_of
from .table import FLAGS
from .values import Value, format_array

HIDDEN: Final = "secret"

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_OF_URLS: Final = re.compile(r"(?:url|endpoints?)$", re.IGNORECASE)
_OF_PATHS: Final = re.compile(r"\.config$")  # or of URLs, and secret only then
_SAFE_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._:\[\]-]+(?:/[^?#@\s]*)?")


def flags_page(settings: Settings) -> str:
    """``-name="value"`` a line, in the order of names, as VictoriaMetrics shows them."""
    flags = sorted(FLAGS, key=lambda flag: flag.name)
    return "".join(f"-{flag.name}={json.dumps(shown(flag, value_of(flag, settings)))}\n" for flag in flags)


def shown(flag: Flag, value: Value) -> str:
    """The value of a flag as text: what its own parser takes again, but for what is hidden."""
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


def without_credentials(url: str) -> str:
    """Scheme, host, port and path of a URL; ``secret`` where it is none that can be taken apart for sure."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return bare if _SAFE_URL.fullmatch(bare) else HIDDEN


_UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def format_duration(seconds: float) -> str:
    """``1h30m`` or ``0.25s``: what :func:`vmgw_core.configuration.values.parse_duration` reads as these seconds."""
    return "".join(_duration_parts(Decimal(repr(seconds)))) or "0s"


def _duration_parts(seconds: Decimal) -> Iterator[str]:
    for unit, length in _UNITS:
        if unit == "s":
            if seconds:
                yield f"{seconds.normalize():f}s"
        elif seconds >= length:
            whole, seconds = divmod(seconds, length)
            yield f"{whole:f}{unit}"
