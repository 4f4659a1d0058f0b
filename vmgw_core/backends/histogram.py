"""A histogram of durations, as metrics show it."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Final

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Upper bounds in seconds; one more bucket counts what is above."""


class Durations:
    """Counts durations by bucket."""

    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0
        """Seconds."""

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Return each bound, as in the label ``le``, with the number of durations up to it."""
        bounds = [*map(str, map(float, BUCKETS)), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.buckets)), strict=True))
