"""What the gateway knows of the series of one limit: those that were written lately.

- ``active_series``: the series written in the last hour. VictoriaMetrics calls those active.
- ``new_series``: those that were not written in the ``MEMORY`` before. A sliding window counts them, as it counts rows.

Nothing is known after a start. So for ``LEARNING`` after the first write under a limit no series is new: all are
learned. If it were otherwise, a restart would refuse series that have been there all the time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from vmgw_core.limits.model import Limit, LimitType

from .series_table import SeriesTable
from .sliding_window import SlidingWindow

ACTIVE: Final = 3600.0
"""Seconds."""
MEMORY: Final = 6 * 3600.0
"""Seconds that a series is known after its last sample."""
LEARNING: Final = 300.0
"""Seconds."""
_ACTIVE_PARTS: Final = 12
_MEMORY_PARTS: Final = 24
_RETRY: Final = 60.0  # seconds: nobody knows when series end


def kept_seconds(limit: Limit) -> float:
    """Return how long a limit on series must be kept after the last write of a tenant."""
    return ACTIVE if limit.type is LimitType.ACTIVE_SERIES else MEMORY


def series_table(limit: Limit) -> SeriesTable:
    """Return the table of a limit."""
    parts = _ACTIVE_PARTS if limit.type is LimitType.ACTIVE_SERIES else _MEMORY_PARTS
    return SeriesTable(kept_seconds(limit), parts)


class ActiveWindow(SlidingWindow):
    """The window of ``active_series``: it counts the series of the table."""

    __slots__ = ("_table",)

    def __init__(self, table: SeriesTable) -> None:
        super().__init__(ACTIVE)
        self._table = table

    def count(self, now: float) -> int:
        self.total = self._table.count(now)
        return self.total

    def add(self, count: int, now: float) -> None:
        """Count anew: the table has the new series."""
        self.count(now)

    def wait(self, excess: int, now: float) -> float:
        return _RETRY if excess > 0 else 0.0


class SeriesNews(NamedTuple):
    """Series that a process has seen, for the processes that share its limits."""

    tenant: str
    """Empty for a limit of all tenants together."""
    key: str
    """The name of the counter."""
    at: float
    """When it told so, on the clock that they share."""
    series: list[int]
