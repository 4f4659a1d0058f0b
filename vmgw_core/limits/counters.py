"""The counters of all limits: those of totals, and those of the tenants that are kept.

A tenant whose window holds something is never forgotten. At ``max_tenants`` there is no room for a new tenant until
another has been idle for the longest window, and the days and months that it has counts in have ended.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from vmgw_core.base import Subject, TenantID

from .counter import Counter, Measurement, Peers, counter_key
from .limit_set import LimitSet, Slot
from .model import Limit, LimitType, Resolution
from .windows.calendar import Calendar
from .windows.series_counts import LEARNING, ActiveWindow, series_table
from .windows.series_table import SeriesTable

MAX_PLANS: Final = 64
"""Sets of limits kept for one tenant: one for each set of limits with labels or a class that its tokens match."""

_MOST_PASSED_OVER: Final = 8
"""Idle tenants with counts of a day or month that are passed over at once, to find one without."""
_MOVE_AFTER: Final = 1.0  # seconds: how exact the order of tenants is


@dataclass(frozen=True, slots=True)
class Plan:
    """The counters that apply to one kind of token of one tenant. "Late": known when a request ends."""

    queries: tuple[Counter, ...]
    rows: tuple[Counter, ...]
    measured: tuple[Counter, ...]
    """Those of series that a datasource measures."""
    series: tuple[Counter, ...]
    """Those that the gateway counts."""
    late_reads: tuple[Counter, ...]
    late_writes: tuple[Counter, ...]
    reads: tuple[Counter, ...]
    """``queries`` and ``late_reads``."""
    writes: tuple[Counter, ...]
    """``rows``, ``measured`` and ``late_writes``."""


class Tenant:
    """The counters of one tenant, when it was last admitted, and when it was last moved to the end.

    ``plan`` is the one of ``slots``, which were looked up last.
    """

    __slots__ = ("counters", "kept", "last", "moved", "plan", "plans", "slots")

    def __init__(self) -> None:
        self.counters: dict[Slot, Counter] = {}
        self.plans: dict[tuple[Slot, ...], Plan] = {}
        self.plan: Plan | None = None
        self.slots: tuple[Slot, ...] = ()
        self.kept = False
        self.last = self.moved = float("-inf")

    def counts_until(self) -> float:
        """Return when the last day or month ends that something is counted in, on the limiter's clock."""
        windows = [each.calendar for each in self.counters.values() if each.calendar is not None]
        return max((window.moment(window.until) for window in windows if window.total), default=float("-inf"))


class Counters:
    """The counters in use. Iteration yields the totals, then those of tenants, the last admitted first."""

    def __init__(self) -> None:
        self.set = LimitSet(())
        self.tenants: OrderedDict[TenantID | None, Tenant] = OrderedDict()
        self.measurements: dict[tuple[LimitType, Resolution], Measurement] = {}
        self.peers: Peers | None = None
        self.calendar = Calendar()
        self.restored: dict[str, tuple[int, int]] = {}
        """The end of the window and the count, by the key of a counter, that new counters begin with."""
        self._totals: dict[Slot, Counter] = {}
        self._measured = False
        self._learned: dict[Slot, float] = {}
        """For each limit on new series that the gateway counts: until when it learns."""

    def __iter__(self) -> Iterator[Counter]:
        yield from self._totals.values()
        for entry in reversed(self.tenants.values()):
            yield from entry.counters.values()

    def replace(self, limits: Iterable[Limit], *, measured: bool) -> None:
        """Replace the limits. Counts are kept for limits that stay or only change their value."""
        self._measured = measured
        self.set = LimitSet(limits, measured=measured)
        wanted = self.set.measurable if measured else set()
        self.measurements = {pair: self.measurements.get(pair, Measurement()) for pair in wanted}
        self._learned = {slot: until for slot, until in self._learned.items() if self.set.has(slot)}
        self.rebuild()

    def new_series(self, counter: Counter, series: Collection[int], now: float) -> int:
        """Return how many of the series count as new for a limit."""
        assert counter.series is not None
        limit = counter.limit
        if limit.type is LimitType.NEW_SERIES and now < self._learned.setdefault(limit.slot, now + LEARNING):
            return 0
        return counter.series.unknown(series, now)

    def forget_series(self) -> None:
        """Forget which series are known, and learn anew which are new."""
        self._learned.clear()
        for counter in self:
            if counter.series is not None:
                _use(series_table(counter.limit), counter)

    def of_series(self, tenant: TenantID | None, key: str, now: float, max_tenants: int) -> Counter | None:
        """Return the counter of a limit on series by its name; None if there is none, or no room for the tenant.

        ``tenant`` None: that of a limit of all tenants together.
        """
        for slot in self.set.series_slots:
            limit = self.set.totals.get(slot) if tenant is None else self.set.limit_of(tenant, slot)
            if limit is None or counter_key(limit, tenant) != key:
                continue
            if tenant is None:
                return self._totals[slot]
            entry = self.tenants.get(tenant) or Tenant()
            counter = entry.counters.get(slot)
            if counter is None:
                counter = entry.counters[slot] = self._counter(limit, tenant)
            return counter if self.keep(Subject(tenant), entry, now, max_tenants) == 0 else None
        return None

    def rebuild(self) -> None:
        """Make new counters that take over the windows of the old ones."""
        totals, self._totals = self._totals, {}
        for slot, limit in self.set.totals.items():
            self._totals[slot] = self._counter(limit, None, totals.pop(slot, None))
        self._set_aside(totals.values())
        for tenant, entry in self.tenants.items():
            entry.plans.clear()
            entry.plan = None
            old, entry.counters = entry.counters, {}
            for slot, counter in old.items():
                own = self.set.limit_of(tenant, slot)
                if own is None:
                    self._set_aside((counter,))
                else:
                    entry.counters[slot] = self._counter(own, tenant, counter)

    def _set_aside(self, counters: Iterable[Counter]) -> None:
        """Keep the counts of days and months whose limits are gone, as the state file does: they may come back."""
        for counter in counters:
            if counter.calendar is not None and counter.calendar.total:
                self.restored[counter.key] = counter.calendar.until, counter.calendar.total

    def _counter(self, limit: Limit, tenant: TenantID | None, old: Counter | None = None) -> Counter:
        measurement = None
        if limit.is_measurable and (tenant is not None or limit.total):  # a datasource knows no multitenant requests
            measurement = self.measurements.get((limit.type, limit.resolution))
        shared = limit.type.counted and not limit.is_burst
        counter = Counter(limit, tenant, measurement, self.peers if shared else None, self.calendar)
        if not (limit.type.counted or self._measured):
            _use(series_table(limit) if old is None or old.series is None else old.series, counter)
        if old is None:
            if counter.calendar is not None and counter.key in self.restored:
                counter.calendar.restore(*self.restored[counter.key])  # it stays there: this tenant may not be kept
        elif (old.series is None) is (counter.series is None):
            counter.keep_window(old)
            if counter.lease is not None and old.lease is not None:
                counter.lease = old.lease
                counter.lease.limit_changed()
            else:
                counter.account_lost()  # it has not heard of what was counted before
        return counter

    def find(self, subject: Subject) -> tuple[Tenant, Plan]:
        """Return the tenant's counters (new ones are not kept yet) and those that apply to this subject."""
        entry = self.tenants.get(subject.tenant)
        if entry is None:
            entry = Tenant()
        slots = self.set.slots(subject.labels, subject.classes)
        plan = entry.plan
        if plan is None or slots is not entry.slots:  # to compare and to hash slots takes long
            plan = entry.plans.get(slots)
            if plan is None:
                if len(entry.plans) >= MAX_PLANS:
                    entry.plans.clear()
                plan = entry.plans[slots] = self._plan(subject.tenant, entry, slots)
            entry.slots, entry.plan = slots, plan
        return entry, plan

    def _plan(self, tenant: TenantID | None, entry: Tenant, slots: tuple[Slot, ...]) -> Plan:
        counters: list[Counter] = []
        for slot in slots:
            counter = entry.counters.get(slot)
            if counter is None and (limit := self.set.limit_of(tenant, slot)) is not None:
                counter = entry.counters[slot] = self._counter(limit, tenant)
            counters += [found for found in (counter, self._totals.get(slot)) if found is not None]
        by_type = {each: tuple(counter for counter in counters if counter.limit.type is each) for each in LimitType}
        queries, rows = by_type[LimitType.QUERIES], by_type[LimitType.ROWS_INSERTED]
        of_series = [counter for counter in counters if not counter.limit.type.counted]
        measured = tuple(counter for counter in of_series if counter.series is None)
        series = tuple(counter for counter in of_series if counter.series is not None)
        late_reads = by_type[LimitType.BYTES_READ] + by_type[LimitType.SERIES_FETCHED]
        late_writes = by_type[LimitType.BYTES_WRITTEN]
        return Plan(
            queries=queries,
            rows=rows,
            measured=measured,
            series=series,
            late_reads=late_reads,
            late_writes=late_writes,
            reads=queries + late_reads,
            writes=rows + measured + late_writes,
        )

    def keep(self, subject: Subject, entry: Tenant, now: float, max_tenants: int) -> float:
        """Keep a tenant, of at most ``max_tenants``; return the seconds until there is room, or 0 if there is."""
        entry.last = now
        if now - entry.moved < _MOVE_AFTER:
            return 0.0
        if entry.kept:
            self.tenants.move_to_end(subject.tenant)
        else:
            wait = self._make_room(now, max_tenants)
            if wait > 0:
                return wait
            self.tenants[subject.tenant] = entry
            entry.kept = True
        entry.moved = now
        return 0.0

    def _make_room(self, now: float, max_tenants: int) -> float:
        """Forget tenants that have been idle for the longest window, those longest idle first."""
        waits: list[float] = []
        while self.tenants and len(waits) < _MOST_PASSED_OVER:
            tenant, entry = next(iter(self.tenants.items()))
            if (wait := entry.last + self.set.longest - now) > 0:
                waits.append(wait)
                break
            if (wait := entry.counts_until() - now) > 0:
                waits.append(wait)
                self.tenants.move_to_end(tenant)
            else:
                self.tenants.popitem(last=False)
        return min(waits) if waits and len(self.tenants) >= max_tenants else 0.0


def _use(table: SeriesTable, counter: Counter) -> None:
    """Let a counter know the series of ``table``."""
    counter.series = table
    if counter.limit.type is LimitType.ACTIVE_SERIES:
        counter.window = ActiveWindow(table)
