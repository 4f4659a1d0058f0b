"""Secrets in flags: the value itself, or ``file:///path`` of a file that is read again when it changes."""

from __future__ import annotations

import hmac
import logging
from pathlib import Path
from typing import Final

from vmgw_core.errors import Cause, ConfigurationError

from .files import file_version
from .outages import Outage, Outages

logger = logging.getLogger(__name__)

_FILE: Final = "file://"
_LARGEST: Final = 64 * 1024  # bytes


class Secret:
    """A password or key. Its ``repr`` hides the value.

    As in VictoriaMetrics, white space at the end of the file is ignored.

    Raises:
        ConfigurationError: the file cannot be read, or is empty.
    """

    def __init__(self, flag: str, text: str, outages: Outages | None = None) -> None:
        self.flag = flag
        self.path = Path(text.removeprefix(_FILE)) if text.startswith(_FILE) else None
        self.version: tuple[int, ...] | None = None
        self.value = text.encode("utf-8", "surrogateescape")
        self.outage: Outage | None = None
        if self.path is not None:
            try:
                self.version = file_version(self.path)
                self.value = _read(self.path)
            except (OSError, ValueError) as error:
                raise ConfigurationError(f"-{flag}: cannot use {self.path}: {_reason(error)}") from None
            self.outage = (outages or Outages()).of(f"-{flag}", logger, "the old value stays in use")
            self._works(self.outage)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __repr__(self) -> str:
        return f"Secret({self.flag!r})"

    def refresh(self) -> None:
        """Read the file again if it has changed. Blocks. Keep the old value if the file is empty or unreadable."""
        if self.path is None or self.outage is None or (version := file_version(self.path)) == self.version:
            return
        self.version = version
        try:
            self.value = _read(self.path)
        except (OSError, ValueError) as error:
            self.outage.failed(f"-{self.flag}: cannot use {self.path}: {_reason(error)}", Cause.FILE)
            if isinstance(error, OSError):
                self.version = None
        else:
            self._works(self.outage)

    def _works(self, outage: Outage) -> None:
        outage.succeeded(f"-{self.flag}: {self.path} can be used again")

    def matches(self, given: bytes) -> bool:
        """Compare ``given`` with the secret in constant time."""
        return hmac.compare_digest(self.value, given)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        value = file.read(_LARGEST).rstrip()
    if not value:
        raise ValueError("it is empty")
    return value


def _reason(error: OSError | ValueError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else str(error)
