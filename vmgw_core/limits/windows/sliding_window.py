"""Sliding windows: exact counts of the last seconds.

A window keeps the moment of each of up to ``EXACT`` events. Beyond that, events within a thousandth of the window are
kept as one run that leaves with its last event: late by at most that, so a window never allows too much. It takes at
most some 50 KiB.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

EXACT: Final = 1000
"""Runs that are kept before any are merged, and the parts of a window then."""


class SlidingWindow:
    """Counts of events over the last ``seconds``. An event leaves when it is exactly that old.

    Moments are seconds of any clock; each call's ``now`` must not be before the one of the call before.
    """

    __slots__ = ("_begin", "_counts", "_grain", "_head", "_moments", "seconds", "total")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.total = 0
        """The count as of the last call of :meth:`count`, plus what was added since."""
        self._grain = seconds / EXACT
        # Parallel arrays, 16 bytes a run: the last moment of each, and its count. What lies before _head has left.
        self._moments = array("d")
        self._counts = array("q")
        self._head = 0
        self._begin = 0.0  # the first moment of the last run

    def count(self, now: float) -> int:
        moments, head = self._moments, self._head
        if head == len(moments) or moments[head] + self.seconds > now:
            return self.total
        end = len(moments)
        while head < end and moments[head] + self.seconds <= now:
            self.total -= self._counts[head]
            head += 1
        if head == end or head > EXACT:
            del moments[:head], self._counts[:head]
            head = 0
        self._head = head
        return self.total

    def add(self, count: int, now: float) -> None:
        """Count one or several events of one moment."""
        self.total += count
        moments = self._moments
        runs = len(moments) - self._head
        if runs and (now == moments[-1] or (runs >= EXACT and now - self._begin < self._grain)):
            moments[-1] = now
            self._counts[-1] += count
        else:
            moments.append(now)
            self._counts.append(count)
            self._begin = now

    def since(self, moment: float) -> int:
        """Return how much was counted at ``moment`` or later, including all of a run that began before it."""
        return sum(self._counts[bisect_left(self._moments, moment, self._head) :])

    def runs(self) -> Iterator[tuple[float, int]]:
        """Yield the moments and counts of what is counted."""
        for index in range(self._head, len(self._moments)):
            yield self._moments[index], self._counts[index]

    def fresh(self) -> SlidingWindow:
        """Return an empty window of the same kind."""
        return SlidingWindow(self.seconds)

    def spent(self, now: float) -> tuple[tuple[float, int], ...]:
        """Return how many seconds ago it was, and how much, for an account."""
        return tuple((now - moment, count) for moment, count in self.runs()) if self.count(now) else ()

    def left_at(self, now: float) -> float:
        """Return when everything that is counted now will have left."""
        return now + self.seconds

    def wait(self, excess: int, now: float) -> float:
        """Return the seconds until ``excess``, or at most everything, has left the window."""
        if excess <= 0 or self._head == len(self._moments):
            return 0.0
        index, left = self._head, 0
        for index in range(self._head, len(self._moments)):
            left += self._counts[index]
            if left >= excess:
                break
        return max(0.0, self._moments[index] + self.seconds - now)
