"""Secrets of flags: given as they are, or as ``file:///path`` of a file that is read again when it changes."""

from __future__ import annotations

import hmac
import logging
from pathlib import Path
from typing import Final

from vmgw_core.errors import ConfigurationError

logger = logging.getLogger(__name__)

_FILE: Final = "file://"
_LARGEST: Final = 64 * 1024  # bytes


class Secret:
    """A password or key that is only ever compared, or sent where it belongs.

    As in VictoriaMetrics, white space at the end of a file does not count.

    Raises:
        ConfigurationError: the file cannot be read, or holds nothing.
    """

    def __init__(self, flag: str, text: str) -> None:
        self.flag = flag
        self.path = Path(text.removeprefix(_FILE)) if text.startswith(_FILE) else None
        self.version: tuple[int, ...] | None = None
        self.value = text.encode("utf-8", "surrogateescape")
        if self.path is not None:
            try:
                self.version = _version(self.path)
                self.value = _read(self.path)
            except (OSError, ValueError) as error:
                raise ConfigurationError(f"flag -{flag}: cannot use {self.path}: {_reason(error)}") from None

    def __bool__(self) -> bool:
        return bool(self.value)

    def __repr__(self) -> str:
        return f"Secret({self.flag!r})"

    def refresh(self) -> None:
        """Read the file again if it has changed. Blocks.

        A file that can no longer be read, or is empty, leaves the last value in force.
        """
        if self.path is not None:
            try:
                version = _version(self.path)
                if version != self.version:
                    self.version = version  # first, so that a bad file is told of once
                    self.value = _read(self.path)
            except (OSError, ValueError) as error:
                if self.version is not None:
                    logger.warning(f"-{self.flag}: the old value stays in use: {self.path}: {_reason(error)}")
                if isinstance(error, OSError):
                    self.version = None

    def matches(self, given: bytes) -> bool:
        """Whether ``given`` is the secret, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(self.value, given)


def _version(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        value = file.read(_LARGEST).rstrip()
    if not value:
        raise ValueError("it is empty")
    return value


def _reason(error: OSError | ValueError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else str(error)
