"""The interface of an exchange of counts between replicas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vmgw_core.limits import PeerCounts


class Exchange(Protocol):
    """Exchanges counts with the other replicas."""

    name: str
    peers: PeerCounts
    spent: float
    """Seconds of CPU time in the last swap, during which requests had to wait."""

    async def swap(self, counts: Mapping[str, int], now: float) -> bool:
        """Publish the local counts, then read those of the peers. Raises ``RequestFailed``.

        Returns:
            Whether there is more to exchange at once.
        """

    async def close(self) -> None:
        """Close the connections."""
