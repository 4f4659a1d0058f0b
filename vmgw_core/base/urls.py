"""URLs of flags and documents: which can be fetched, and what of them may be shown."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

HIDDEN: Final = "secret"
"""What is shown instead of a secret."""
_SAFE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._:\[\]-]+(?:/[^?#@\s]*)?")


def is_http_url(text: str) -> bool:
    """Whether it is an http or https URL with a host and, if any, a valid port."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def without_credentials(url: str) -> str:
    """Scheme, host, port and path of a URL; ``secret`` if it cannot be taken apart for sure."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return bare if _SAFE.fullmatch(bare) else HIDDEN
