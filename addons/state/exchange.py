"""The interface of an exchange of counts between replicas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from vmgw_addons.outgoing import RequestFailed
from vmgw_core.limits import Limiter, PeerCounts, Reply, Want


class Accounts(Protocol):
    """The accounts of the limits that processes share."""

    emptied: bool
    """Whether the store has forgotten what this process had told it, before the last failure."""
    failure: RequestFailed | None
    """Why the last question was not answered; None if it was."""

    def ask(self, wants: Sequence[Want], done: Callable[[Sequence[Reply] | None], None]) -> None:
        """Ask, and call ``done`` with the replies, at once or later; with None if there are none in time."""


class Exchange(Protocol):
    """Exchanges counts with the other replicas."""

    name: str
    peers: PeerCounts
    spent: float
    """Seconds of CPU time in the last swap, during which requests had to wait."""

    @property
    def accounts(self) -> Accounts:
        """The accounts of the limits that are shared there."""

    async def swap(self, counts: Mapping[str, int], now: float) -> bool:
        """Publish the local counts, then read those of the peers. Raises ``RequestFailed``.

        Returns:
            Whether there is more to exchange at once.
        """

    async def swap_series(self, limiter: Limiter, now: float) -> bool:
        """Tell the other processes the series that the limiter has seen, and let it learn theirs.

        Raises ``RequestFailed``. Returns whether there is more to exchange at once.
        """

    async def close(self) -> None:
        """Close the connections."""
