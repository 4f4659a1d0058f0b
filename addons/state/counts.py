"""Counts for metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Reloads:
    """Reloads by result."""

    success: int = 0
    error: int = 0
    last_successful: bool = field(default=True, compare=False)
    """Whether the last attempt succeeded. It stays False while a bad file is there."""
    last_success: float = field(default=0.0, compare=False)
    """Unix time of the last success; 0 before the start has read the files."""

    def by_result(self) -> tuple[tuple[str, int], ...]:
        """Return the counts, as label and number."""
        return ("success", self.success), ("error", self.error)

    def read(self) -> None:
        """Note that the files could be read."""
        self.last_successful, self.last_success = True, time.time()

    def succeeded(self) -> None:
        """Count a reload."""
        self.success += 1
        self.read()

    def failed(self) -> None:
        """Count a reload that failed."""
        self.error += 1
        self.last_successful = False


@dataclass(slots=True)
class CaptureStatus:
    """What the capture has written."""

    flows: int = 0
    size: int = 0
    """Bytes written by this process."""
    lost: int = 0
    """Flows that were not written because the disk was too slow."""
    stopped: str = ""
    """Why the capture has stopped, or empty."""
