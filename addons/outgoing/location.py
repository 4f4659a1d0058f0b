"""Configuration in a file or behind a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from vmgw_core.base import without_credentials
from vmgw_core.errors import ConfigurationError

from .errors import RequestFailed, describe
from .http import download
from .tls_files import TLSFiles

MAX_BYTES: Final = 1 << 20


def read(flag: str, location: str, tls: TLSFiles | None = None) -> bytes:
    """Read at most ``MAX_BYTES`` and one more, so that a larger file is refused and not cut off.

    Blocks, up to 15 seconds for a URL. Raises ``ConfigurationError``, without credentials.
    """
    try:
        if is_url(location):
            return download(location, tls)
        with Path(location).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (RequestFailed, OSError, ValueError) as error:  # ValueError: a path with a NUL
        raise ConfigurationError(f"{shown(flag, location)}: cannot read it: {describe(error)}") from None


def is_url(location: str) -> bool:
    """Whether ``location`` is a URL rather than a path."""
    return location.lower().startswith(("http://", "https://"))


def shown(flag: str, location: str) -> str:
    """Return the flag and its value, without what may be secret in a URL: user, password and arguments."""
    return f"{flag} {without_credentials(location) if is_url(location) else location}"
