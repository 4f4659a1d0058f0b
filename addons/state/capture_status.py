"""How the capture is doing, for metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CaptureStatus:
    """For metrics. ``stopped`` says why nothing is captured any more, or is empty."""

    flows: int = 0
    size: int = 0
    """Bytes written by this process."""
    lost: int = 0
    """Flows that were not written: the disk was too slow."""
    stopped: str = ""
