"""Counts that replicas publish: which local counts to publish, and the sums of the peers' counts.

A replica publishes absolute window counts, so a lost or repeated message does no harm. The rules:

- A count holds for one and a quarter windows after it was published, even if its replica dies: what that replica
  admitted still counts until it leaves the window.
- So an unchanged count is published again within a quarter of its window, and of an hour, after which stores drop it.
- Peers are untrusted: their numbers are bounded, and so is how many are kept.

Times are seconds of a clock that does not jump.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from vmgw_core.limits.model import Resolution

MAX_REPLICAS: Final = 1024
MAX_COUNTERS: Final = 200_000
"""Of one replica."""
MAX_KEY: Final = 16_384
"""Characters of the name of a counter, which holds the labels of its limit."""
MAX_COUNT: Final = 2**53
ALIVE_SECONDS: Final = 3.0
"""A replica that was not seen for this long gets no share of what is left."""
SETTLE_SECONDS: Final = 0.5
"""How long a replica keeps to its share after the store was emptied: until then all have told it their counts again."""

_SECONDS: Final = {resolution.value: float(resolution.seconds) for resolution in Resolution if resolution.seconds}


class LocalCounts:
    """Which of this replica's counts to publish."""

    def __init__(self) -> None:
        self._published: dict[str, tuple[int, float]] = {}

    def changes(self, counts: Mapping[str, int], now: float) -> dict[str, int]:
        """Return the counts to publish: new, changed and old ones, and 0 for those that are gone."""
        changes: dict[str, int] = {}
        for key, count in counts.items():
            last = self._published.get(key)
            if last is None or last[0] != count or not 0 <= now - last[1] < min(window_of(key), 3600.0) / 4:
                changes[key] = count
        changes |= {key: 0 for key in self._published if key not in counts}
        return changes

    def published(self, changes: Mapping[str, int], now: float) -> None:
        for key, count in changes.items():
            if count:
                self._published[key] = (count, now)
            else:
                self._published.pop(key, None)

    def forget(self) -> None:
        """Publish everything again: the store has lost it."""
        self._published.clear()


@dataclass(slots=True)
class _Replica:
    last_seen: float = float("-inf")
    counts: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Name to count, and until when it holds."""


class PeerCounts:
    """The counts that the other replicas published."""

    def __init__(self) -> None:
        self._replicas: dict[str, _Replica] = {}

    def seen(self, replica: str, now: float) -> None:
        if (state := self._replica(replica)) is not None:
            state.last_seen = now

    def update_counts(self, replica: str, counts: Mapping[str, int], published: float) -> None:
        """Store counts that a replica published at ``published``; 0 removes one."""
        state = self._replica(replica)
        if state is None:
            return
        for key, count in counts.items():
            if len(key) > MAX_KEY:
                continue
            if count <= 0:
                state.counts.pop(key, None)
            elif key in state.counts or len(state.counts) < MAX_COUNTERS:
                state.counts[key] = (min(count, MAX_COUNT), published + 1.25 * window_of(key))

    def replace_counts(self, replica: str, counts: Mapping[str, int], published: float) -> None:
        """Store all counts of a replica; those that are missing are removed."""
        if (state := self._replica(replica)) is not None:
            state.counts.clear()
        self.update_counts(replica, counts, published)

    def totals(self, now: float) -> tuple[dict[str, int], int]:
        """Return the sums by counter, and how many peers are alive."""
        totals: dict[str, int] = {}
        alive = 0
        for name, state in list(self._replicas.items()):
            state.counts = {key: entry for key, entry in state.counts.items() if entry[1] > now}
            for key, (count, _) in state.counts.items():
                totals[key] = totals.get(key, 0) + count
            if now - state.last_seen < ALIVE_SECONDS:
                alive += 1
            elif not state.counts:
                del self._replicas[name]
        return totals, alive

    def _replica(self, name: str) -> _Replica | None:
        if name not in self._replicas and len(self._replicas) >= MAX_REPLICAS:
            return None
        return self._replicas.setdefault(name, _Replica())


def window_of(key: str) -> float:
    """Return the window of a counter in seconds, by its key (``queries/minute/1:5``); an hour if unknown."""
    return _SECONDS.get("".join(key.split("/", 2)[1:2]), float(Resolution.HOUR.seconds))
