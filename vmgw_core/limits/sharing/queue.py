"""The queue of those whom a limit has refused, and who were told when to come back.

Whoever is refused keeps a place until it may come back, and ``GRACE_SECONDS`` longer. Nobody passes those who were
refused before. So a client that waits is not starved by one that does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

GRACE_SECONDS: Final = 3.0
"""How late a client may come back without losing its place. ``Retry-After`` is in whole seconds."""
MAX_CLAIMS: Final = 64
"""Places in one queue."""


@dataclass(slots=True)
class Queue:
    """For each client its need, and until when its place is kept. Moments are seconds of any one clock."""

    claims: dict[str, tuple[int, float]] = field(default_factory=dict)

    def expire(self, now: float, last_due: float = float("inf")) -> None:
        """Remove the places whose time is over.

        ``last_due``: the last moment that can have been promised, unless the clock has been set back since.
        """
        latest = last_due + GRACE_SECONDS
        self.claims = {
            client: (need, min(until, latest)) for client, (need, until) in self.claims.items() if until > now
        }

    def ahead(self, client: str) -> int:
        """Return what those need who were refused before this client."""
        ahead = 0
        for other, (need, _) in self.claims.items():
            if other == client:
                break
            ahead += need
        return ahead

    @property
    def claimed(self) -> int:
        """What all of them need."""
        return sum(need for need, _ in self.claims.values())

    @property
    def end(self) -> float:
        """When the last place is given up if nobody comes; -inf if there is none."""
        return max((until for _, until in self.claims.values()), default=float("-inf"))

    def keep(self, client: str, need: int, due: float, limit: int) -> None:
        """Give the client a place, or keep it, unless the queue is full or longer than a whole limit."""
        known = client in self.claims
        if self.ahead(client) + need <= limit and (known or len(self.claims) < MAX_CLAIMS):
            self.claims[client] = (need, due + GRACE_SECONDS)
        else:
            self.leave(client)

    def leave(self, client: str) -> None:
        self.claims.pop(client, None)
