"""Counts that replicas tell each other: which of its own a replica has to tell, and what those of the others come to.

Each tells its own window counts as absolute numbers, so nothing adds up wrongly when a message is lost or repeated.
The rules:

- A count is believed for a window and a quarter after it was told, whether or not its replica lives on: what a dead
  one has admitted counts until it has left the window.
- So one that stays as it is is told again within a quarter of its window.
- What others tell is untrusted: numbers are bounded, and so is how much of it is kept.

Times are seconds of a clock that does not jump.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .counter import RESERVED
from .model import Resolution

MAX_REPLICAS: Final = 1024
MAX_COUNTERS: Final = 200_000
"""Of one replica."""
MAX_KEY: Final = 16_384
"""Characters of the name of a counter, which holds the labels of its limit."""
MAX_COUNT: Final = 2**53
ALIVE_SECONDS: Final = 3.0
"""A replica that was not heard of for so long has no share of what is left."""

_SECONDS: Final = {resolution.value: float(resolution.seconds) for resolution in Resolution}


class OwnCounts:
    """What has to be told of this replica's own counters."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, float]] = {}

    def changes(self, counts: Mapping[str, int], now: float) -> dict[str, int]:
        """The counters to tell: new ones, changed ones, those told long ago, and with 0 those that are gone."""
        changes: dict[str, int] = {}
        for key, count in counts.items():
            told = self._told.get(key)
            if told is None or told[0] != count or not 0 <= now - told[1] < window_of(key) / 4:
                changes[key] = count
        changes |= {key: 0 for key in self._told if key not in counts}
        return changes

    def told(self, changes: Mapping[str, int], now: float) -> None:
        """They have arrived."""
        for key, count in changes.items():
            if count:
                self._told[key] = (count, now)
            else:
                self._told.pop(key, None)

    def forget(self) -> None:
        """Whoever was told has lost it: everything has to be told again."""
        self._told.clear()


@dataclass(slots=True)
class _Replica:
    heard: float = float("-inf")
    counts: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Name to count, and until when it is believed."""


class Others:
    """What the other replicas have told."""

    def __init__(self) -> None:
        self._replicas: dict[str, _Replica] = {}

    def alive(self, replica: str, now: float) -> None:
        """It has shown itself."""
        if (state := self._replica(replica)) is not None:
            state.heard = now

    def heard(self, replica: str, counts: Mapping[str, int], told: float) -> None:
        """Counts that a replica told at ``told``; 0 takes one back."""
        state = self._replica(replica)
        if state is None:
            return
        for key, count in counts.items():
            if len(key) > MAX_KEY:
                continue
            if count <= 0:
                state.counts.pop(key, None)
            elif key in state.counts or len(state.counts) < MAX_COUNTERS:
                state.counts[key] = (min(count, MAX_COUNT), told + 1.25 * window_of(key))

    def heard_all(self, replica: str, counts: Mapping[str, int], told: float) -> None:
        """As :meth:`heard`, of all counters that the replica has."""
        if (state := self._replica(replica)) is not None:
            state.counts.clear()
        self.heard(replica, counts, told)

    def totals(self, now: float) -> tuple[dict[str, int], int]:
        """The sum of all of them per counter, and how many replicas are alive beside this one."""
        totals: dict[str, int] = {}
        alive = 0
        for name, state in list(self._replicas.items()):
            state.counts = {key: entry for key, entry in state.counts.items() if entry[1] > now}
            for key, (count, _) in state.counts.items():
                totals[key] = totals.get(key, 0) + count
            if now - state.heard < ALIVE_SECONDS:
                alive += 1
            elif not state.counts:
                del self._replicas[name]
        return totals, alive

    def _replica(self, name: str) -> _Replica | None:
        if name not in self._replicas and len(self._replicas) >= MAX_REPLICAS:
            return None
        return self._replicas.setdefault(name, _Replica())


def window_of(key: str) -> float:
    """The window of a counter in seconds, by its key (``queries/minute/1:5``); of one that is unknown, the longest.

    What a replica has set aside (``queries/hour/1:5+``) is no count of a window. It is gone with the replica, so that
    the minute is time enough, and an hour would keep everybody else from using it.
    """
    if key.endswith(RESERVED):
        return float(Resolution.MINUTE.seconds)
    return _SECONDS.get("".join(key.split("/", 2)[1:2]), float(Resolution.HOUR.seconds))
