"""How reloads ended, for metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Reloads:
    """How many reloads worked, and how many did not."""

    success: int = 0
    error: int = 0
