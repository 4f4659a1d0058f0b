"""Counts for metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Reloads:
    """Reloads by result."""

    success: int = 0
    error: int = 0


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
