"""Series counts of a cluster's tenants, from the API of each tenant.

The open-source vmstorage has no metrics per tenant. The API of a tenant replaces them:

- ``active_series``: ``/api/v1/status/tsdb``, the series of the day.
- ``new_series``: how much ``/api/v1/series/count``, the number of series ever, has grown within the window. Growth
  is counted from the first response on.

A request costs the backend an index scan and counts as a query of that tenant. So the interval is far longer than that
of the datasource, and the number of tenants is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from vmgw_core.base import FieldError, TenantID, as_integer, as_list, as_object, child, load_object, required
from vmgw_core.limits.model import MEASURED, LimitType, Resolution

from .datasource_query import Values

MAX_TENANTS: Final = 1000

_PATHS: Final[Mapping[LimitType, str]] = {
    LimitType.ACTIVE_SERIES: "/api/v1/status/tsdb?topN=1",
    LimitType.NEW_SERIES: "/api/v1/series/count",
}
_STEPS: Final = 60
"""Points of growth kept for a window; more would not add precision at this interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    type: LimitType
    tenant: TenantID

    @property
    def target(self) -> str:
        """Path and query, after the path of ``-read.url``."""
        path = _PATHS[self.type]
        return f"/select/{self.tenant}/prometheus{path}"


@dataclass(slots=True)
class _Growth:
    """A growing number at up to ``_STEPS`` moments of a window, and at the last moment before it."""

    window: float
    points: deque[tuple[float, int]] = field(default_factory=deque)
    latest: int = 0

    def add(self, number: int, now: float) -> None:
        self.latest = number
        if not self.points or now - self.points[-1][0] >= self.window / _STEPS:
            self.points.append((now, number))
        # The last point before the window stays: the window began with it.
        while len(self.points) > 1 and self.points[1][0] <= now - self.window:
            self.points.popleft()

    def value(self) -> int:
        # It shrinks when series are deleted or their retention ends. That makes no room for new ones.
        return max(0, self.latest - self.points[0][1])


@dataclass(slots=True)
class _Tenant:
    asked: float | None = None
    answered: dict[LimitType, float] = field(default_factory=dict)
    """When the last good responses were requested; no entry for a type whose last request failed."""
    active: int | None = None
    growth: dict[Resolution, _Growth] = field(default_factory=dict)


class TenantSeries:
    """Plans the requests to tenants, and keeps their results. Times and ``interval`` are in seconds of one clock."""

    def __init__(self, *, interval: float) -> None:
        self.left_out = 0
        """Tenants beyond the bound in the last round."""
        self._interval = interval
        self._tenants: dict[TenantID, _Tenant] = {}

    def due(self, types: Iterable[LimitType], tenants: Iterable[TenantID], now: float) -> tuple[Ask, ...]:
        """Return what to request now, the most important tenants first. Tenants that are no longer named are forgotten.

        ``types`` are those of active_series and new_series that no metric measures.
        """
        types = tuple(types)
        wanted = list(dict.fromkeys(tenants))
        self.left_out = max(0, len(wanted) - MAX_TENANTS)
        self._tenants = {each: self._tenants.get(each) or _Tenant() for each in wanted[:MAX_TENANTS]}
        asks: list[Ask] = []
        for tenant, state in self._tenants.items():
            # If the clock was set back, ask at once.
            if state.asked is None or not 0 <= now - state.asked < self._interval:
                state.asked = now
                asks += (Ask(type=limit_type, tenant=tenant) for limit_type in types)
        return tuple(asks)

    def received(self, ask: Ask, document: bytes, now: float) -> None:
        """Store a response (the body of a 200); ``now`` is when it was requested.

        Raises ``FieldError`` if the response has another form; the old numbers stay.
        """
        number = _series(ask.type, document)
        state = self._tenants.get(ask.tenant)
        if state is None:
            return
        state.answered[ask.type] = now
        if ask.type is LimitType.ACTIVE_SERIES:
            state.active = number
            return
        for window in MEASURED:
            state.growth.setdefault(window, _Growth(window.seconds)).add(number, now)

    def failed(self, ask: Ask) -> None:
        """Note a failed request: the old numbers stay, and count as old."""
        if state := self._tenants.get(ask.tenant):
            state.answered.pop(ask.type, None)

    def values(self, limit_type: LimitType) -> Values:
        """Return the usage of every tenant that has responded, in every window."""
        values: dict[tuple[LimitType, Resolution, TenantID | None], float] = {}
        for tenant, state in self._tenants.items():
            for window in MEASURED:
                if limit_type is LimitType.ACTIVE_SERIES and state.active is not None:
                    values[limit_type, window, tenant] = state.active
                if limit_type is LimitType.NEW_SERIES and window in state.growth:
                    values[limit_type, window, tenant] = state.growth[window].value()
        return values

    def as_of(self, limit_type: LimitType) -> float | None:
        """Return when the oldest good response was requested, or None."""
        answered = (state.answered.get(limit_type) for state in self._tenants.values())
        return min((each for each in answered if each is not None), default=None)


def _series(limit_type: LimitType, document: bytes) -> int:
    answer, path = load_object(document, "answer"), "answer.data"
    if limit_type is LimitType.ACTIVE_SERIES:
        return required(required(answer, "data", as_object, "answer"), "totalSeries", _count, path)
    counts = required(answer, "data", as_list, "answer")
    if len(counts) != 1:
        raise FieldError(path, "expected one number")
    return _count(counts[0], child(path, 0))


def _count(value: object, path: str) -> int:
    return as_integer(value, path, minimum=0)
