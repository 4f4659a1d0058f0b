"""What a place where replicas meet has to offer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vmgw_core.limits import PeerCounts


class Exchange(Protocol):
    """Where replicas meet."""

    name: str
    others: PeerCounts
    spent: float
    """Seconds of computing in the last swap, for which requests had to wait."""

    async def swap(self, counts: Mapping[str, int], now: float) -> bool:
        """Tell the own counts, then hear the others'. Whether there is more at once. Raises AskError."""

    async def close(self) -> None:
        """Let go of connections."""
