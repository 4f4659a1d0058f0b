"""Calendar windows: counts of the present day or month, in UTC or another zone.

A window is named by its end, in Unix seconds. The limiter's clock does not follow the calendar, so a :class:`Calendar`
says how far Unix time is ahead of it. A window holds until its end, and not for longer than ``LONGEST``: a clock that
was far ahead and is set back cannot keep a count for years. If a clock is set back by less, the window goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from vmgw_core.limits.model import Resolution

LONGEST: Final[Mapping[Resolution, int]] = {Resolution.DAY: 26 * 3600, Resolution.MONTH: 32 * 86400}
"""The longest day and month in seconds: one more hour when the clocks go back, and one that a clock may be ahead."""
_LAST: Final = 250_000_000_000.0  # a moment that a date can have


def next_begin(zone: str, resolution: Resolution, moment: float) -> int:
    """Return when the day or month that ``moment`` is in ends. Both are Unix seconds.

    If the zone skips midnight, the day begins at the first moment after it.
    """
    where = ZoneInfo(zone)
    day = datetime.fromtimestamp(min(max(moment, 0.0), _LAST), where).date()
    day = (
        day + timedelta(1) if resolution is Resolution.DAY else date(day.year + day.month // 12, day.month % 12 + 1, 1)
    )
    return int(datetime(day.year, day.month, day.day, tzinfo=where).timestamp())


def holds(until: int, moment: float, longest: int) -> bool:
    """Whether a window that ends at ``until`` is the present one at ``moment``."""
    return 0 < until - moment <= longest


class Calendar:
    """The Unix time of the limiter's clock, and the counts that the state file does not have yet."""

    __slots__ = ("changed", "offset")

    def __init__(self) -> None:
        self.offset = 0.0
        """The seconds that Unix time is ahead of the limiter's clock."""
        self.changed: dict[CalendarWindow, None] | None = None
        """The windows that have such counts; None without a state file."""

    def tell_time(self, unix: float, now: float) -> None:
        """Note that it is ``unix`` at ``now``. Call it often, since clocks are set."""
        self.offset = unix - now

    def unsaved(self, now: float) -> tuple[Unsaved, ...]:
        """Return what was counted since the last call in windows that have not ended.

        Call :meth:`not_saved` if it could not be written.
        """
        changed = self.changed
        if not changed:
            return ()
        unix = now + self.offset
        found = tuple(Unsaved(each, each.until, each.total - each.kept) for each in changed if each.until > unix)
        changed.clear()
        for each in found:
            each.window.kept = each.window.total
        return found

    def not_saved(self, counts: Iterable[Unsaved]) -> None:
        """Take back what :meth:`unsaved` returned."""
        assert self.changed is not None
        for each in counts:
            if each.window.until == each.until:
                each.window.kept -= each.count
                self.changed[each.window] = None


class CalendarWindow:
    """What was counted in the present day or month. It has the methods of ``SlidingWindow`` that a counter needs."""

    __slots__ = ("_calendar", "_last", "_resolution", "kept", "key", "seconds", "total", "until", "zone")

    def __init__(self, calendar: Calendar, resolution: Resolution, zone: str, key: str = "") -> None:
        self.key = key
        """The name of its counter; empty if its counts are not for the state file."""
        self.zone = zone
        self.seconds = LONGEST[resolution]
        self.until = 0
        """The end of the window that ``total`` belongs to."""
        self.total = 0
        self.kept = 0
        """How much of ``total`` is in the state file."""
        self._calendar = calendar
        self._resolution = resolution
        self._last = 0.0

    def fresh(self) -> CalendarWindow:
        """Return an empty window of the same kind."""
        return CalendarWindow(self._calendar, self._resolution, self.zone)

    def count(self, now: float) -> int:
        moment = now + self._calendar.offset
        if not holds(self.until, moment, self.seconds):
            self.until = next_begin(self.zone, self._resolution, moment)
            self.total = self.kept = 0
        return self.total

    def add(self, count: int, now: float) -> None:
        self.count(now)
        self.total += count
        self._last = now
        if self._calendar.changed is not None and self.key:
            self._calendar.changed[self] = None

    def restore(self, until: int, count: int) -> None:
        """Add what was counted, before this process started, in the window that ends at ``until``."""
        if not self.total:
            self.until = until
        if until == self.until:
            self.total += count
            self.kept += count

    def moment(self, until: int) -> float:
        """Return the moment ``until`` of the calendar on the limiter's clock."""
        return until - self._calendar.offset

    def left_at(self, now: float) -> float:
        """Return when everything that is counted now will have left."""
        self.count(now)
        return self.moment(self.until)

    def wait(self, excess: int, now: float) -> float:
        """Return the seconds until ``excess`` has left: nothing leaves before the window ends."""
        return self.left_at(now) - now if excess > 0 else 0.0

    def bounds(self, now: float) -> tuple[int, int]:
        """Return the end of the present window, and that of the next."""
        self.count(now)
        return self.until, next_begin(self.zone, self._resolution, self.until)

    def runs(self) -> Iterator[tuple[float, int]]:
        """Yield the moment of the last count, and what was counted."""
        if self.total:
            yield self._last, self.total

    def spent(self, now: float) -> tuple[tuple[float, int], ...]:
        """Return the end of the window and what was counted in it, for an account."""
        return ((self.until, self.total),) if self.count(now) else ()


@dataclass(frozen=True, slots=True)
class Unsaved:
    """What was counted in a day or month since its count was last written to the state file."""

    window: CalendarWindow
    until: int
    count: int
