"""The rate limiter: may this tenant send one more request, or so many rows, now?

Rules of this file:

- A refused request counts nowhere. A request under several limits counts for all of them or for none.
- The tenant is the verified one.
- Time does not go back: a ``now`` before the last one counts as the last one. If it is earlier by more than the longest
  window (a captured day that is replayed after a later one), time continues from there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from vmgw_core.base import Access, Subject, TenantID, tenant_name
from vmgw_core.errors import BodyTooLarge, RateLimited, Refusal, UsageUnknown

from .counter import RESERVED, Counter, Peers
from .counters import Counters, Tenant
from .model import Limit, LimitType, Resolution, Usage

OTHER: Final = "other"
"""The name under which the refusals of further tenants are counted, beyond ``max_tenants``."""

_LONGEST_WINDOW: Final = float(Resolution.HOUR.seconds)
_SLACK: Final = 1e-5  # seconds that float arithmetic may lose


class Limiter:
    """Counts requests and rows, and refuses those beyond the limits.

    ``now`` is in seconds of one clock that does not jump. Not thread-safe.
    """

    def __init__(
        self,
        limits: Iterable[Limit] = (),
        *,
        max_tenants: int = 10_000,
        measured: bool = False,
        stale_after: float | None = None,
    ) -> None:
        """Of ``limits`` no two have the same tenant, scope and slot. ``measured``: whether a datasource is queried and
        :meth:`learn` is called; then requests under measured limits are refused if its data is older than
        ``stale_after`` seconds or has not arrived yet."""
        self.max_tenants = max_tenants
        self.measured = measured
        self.stale_after = stale_after
        self.warnings: deque[Usage] = deque(maxlen=1000)
        """Usages that came near their limit since this was last emptied."""
        self.rejects: dict[tuple[LimitType | None, Resolution | None, str], int] = {}
        """Refusals by limit and tenant; type None: there was no room for another tenant."""
        self._rejected: set[str] = set()
        self._now = float("-inf")
        self._offset = 0.0
        self._counters = Counters()
        self.replace(limits)

    def replace(self, limits: Iterable[Limit]) -> None:
        """Replace the limits. Counts are kept for limits that stay or only change their value."""
        self._counters.replace(limits, measured=self.measured)
        self.limits = self._counters.set.limits
        self.counts_rows = self._counters.set.counts_rows
        """Whether a limit needs the rows of bodies to be counted."""

    def admit(self, subject: Subject, access: Access, now: float) -> None:
        """Count a request that is about to pass.

        A read counts as one query. A write is refused if a limit on rows or series is already reached;
        :meth:`take_rows` counts its rows. A delete is neither, so no limit applies. Raises ``RateLimited`` if a limit
        is reached or there are too many tenants, and ``UsageUnknown`` if the datasource's numbers are older than
        ``stale_after``; then nothing was counted.
        """
        if access is Access.DELETE:
            return
        now = self._clock(now)
        entry, plan = self._counters.find(subject)
        if access is Access.READ:
            self._check(subject, entry, plan.reads, 1, now)
            self._count(plan.reads, 1, now)
        else:
            self._check(subject, entry, plan.writes, 1, now)
            self._count(plan.series, 0, now)

    def judge(self, subject: Subject, access: Access, now: float) -> Refusal | None:
        """Return the refusal that :meth:`admit` would raise for a limit now. Nothing is counted or kept."""
        if access is Access.DELETE:
            return None
        now = self._clock(now)
        _, plan = self._counters.find(subject)
        counters = plan.reads if access is Access.READ else plan.writes
        for counter in counters:
            if self._is_stale(counter, now):
                return self._usage_unknown(counter)
            if not counter.fits(1, now):
                return _rate_limited(_waits(counters, now), now)[0]
        return None

    def take_rows(self, subject: Subject, rows: int, now: float) -> None:
        """Count rows that are about to be forwarded. Raises as :meth:`admit`, and ``BodyTooLarge`` if they are more
        than a whole limit allows."""
        if rows <= 0:
            return
        now = self._clock(now)
        entry, plan = self._counters.find(subject)
        for counter in plan.rows:
            limit = counter.limit
            if rows > limit.value:
                at_most = f"{limit.value} per {limit.resolution}"
                raise BodyTooLarge(f"the body has {rows} rows and the limit is {at_most}: send smaller bodies")
            counter.typical = rows
        self._check(subject, entry, plan.rows, rows, now)
        self._count(plan.rows, rows, now)

    def _check(self, subject: Subject, entry: Tenant, counters: tuple[Counter, ...], need: int, now: float) -> None:
        """Keep the tenant if ``need`` more fit all counters; raise if not."""
        for counter in counters:
            if self._is_stale(counter, now):
                raise self._usage_unknown(counter)
            if not counter.fits(need, now):
                raise self._refused(subject, entry, counters, now)
        if entry.counters:
            self._keep(subject, entry, now)

    def _is_stale(self, counter: Counter, now: float) -> bool:
        return self.stale_after is not None and counter.age(now) > self.stale_after

    def _usage_unknown(self, counter: Counter) -> UsageUnknown:
        return UsageUnknown(
            f"the usage of {counter.limit.type.noun} is unknown: the datasource has not responded for "
            f"{self.stale_after:g} seconds (-ratelimit.failClosed)"
        )

    def _count(self, counters: tuple[Counter, ...], count: int, now: float) -> None:
        for counter in counters:
            if count:
                counter.add(count, now)
            if counter.crossed(now):
                self.warnings.append(_usage(counter, now))

    def _refused(self, subject: Subject, entry: Tenant, counters: tuple[Counter, ...], now: float) -> RateLimited:
        """Return the refusal for the limit that takes longest to have room again."""
        waits = _waits(counters, now)
        refusal, slowest = _rate_limited(waits, now)
        if self._counters.peers is not None:
            for own, counter in waits:
                if counter.shared:
                    counter.await_retry(counter.typical, own, now)
            if entry.counters:  # its share must be there when the client retries
                self._keep(subject, entry, now)
        self._reject(slowest.limit, subject.tenant)
        return refusal

    def _reject(self, limit: Limit | None, tenant: TenantID | None) -> None:
        name = tenant_name(tenant)
        if name not in self._rejected:
            if len(self._rejected) >= self.max_tenants:
                name = OTHER
            self._rejected.add(name)
        key = (limit.type, limit.resolution, name) if limit is not None else (None, None, name)
        self.rejects[key] = self.rejects.get(key, 0) + 1

    def _keep(self, subject: Subject, entry: Tenant, now: float) -> None:
        wait = self._counters.keep(subject, entry, now, self.max_tenants)
        if wait > 0:
            self._reject(None, subject.tenant)
            raise RateLimited(
                f"request was rate limited: the gateway tracks {self.max_tenants} tenants (-ratelimit.maxTenants), "
                f"and all of them are active, so it cannot track tenant {tenant_name(subject.tenant)}",
                _whole_seconds(wait),
            )

    def _clock(self, now: float) -> float:
        now += self._offset
        if now < self._now:
            if self._now - now > _LONGEST_WINDOW:
                self._offset += self._now - now
            return self._now
        self._now = now
        return now

    def learn(
        self, values: Mapping[tuple[LimitType, Resolution, TenantID | None], float], as_of: float, now: float
    ) -> None:
        """Store usage from the datasource. Raises ``ValueError`` if a value is not finite.

        Decisions use ``max(local window, value + what was admitted here since as_of)``. Tenant None is all of them
        together. If a type and resolution has values, tenants without one have used nothing; if it has none, its old
        values stay. ``as_of``: when the newest sample was scraped, on the clock of ``now``; older values than the known
        ones are dropped.
        """
        now = self._clock(now)
        as_of = min(as_of + self._offset, now)
        groups: dict[tuple[LimitType, Resolution], dict[TenantID | None, int]] = {}
        for (limit_type, resolution, tenant), value in values.items():
            if not math.isfinite(value):
                raise ValueError(f"{limit_type} per {resolution} of {tenant_name(tenant)} is not a finite number")
            groups.setdefault((limit_type, resolution), {})[tenant] = max(0, math.ceil(value))
        for pair, group in groups.items():
            measurement = self._counters.measurements.get(pair)
            if measurement is not None:
                measurement.take(group, as_of, now)

    def local_counts(self, now: float) -> dict[str, int]:
        """Return the counts to publish: by counter key, and under ``key+`` what may still be counted before the next
        exchange. Both can be summed alike."""
        now = self._clock(now)
        if self._counters.peers is None:
            self._counters.peers = Peers(at=now)
            self._counters.rebuild()
        published: dict[str, int] = {}
        for counter in self._counters:
            if counter.shared and (reserved := counter.publish(now)) is not None:
                if own := counter.window.total:
                    published[counter.key] = own
                if reserved:
                    published[counter.key + RESERVED] = reserved
        return published

    def learn_peers(self, counts: Mapping[str, int], alive: int, now: float) -> None:
        """Store the sums of what peers published and how many are alive. Call it after :meth:`local_counts`."""
        now = self._clock(now)
        if self._counters.peers is None:
            self.local_counts(now)
        assert self._counters.peers is not None
        self._counters.peers.take(counts, alive, now)
        for counter in self._counters:
            if counter.shared:
                counter.exchanged(now)

    def status(self, now: float) -> Iterator[Usage]:
        """Yield the totals, then the limits of every kept tenant, the most recently admitted first."""
        now = self._clock(now)
        for counter in self._counters:
            yield _usage(counter, now)

    def status_of(self, subject: Subject, now: float) -> tuple[Usage, ...]:
        """Return the limits that apply to this subject, with their usage."""
        now = self._clock(now)
        _, plan = self._counters.find(subject)
        return tuple(_usage(counter, now) for counter in plan.reads + plan.rows + plan.series)

    def age(self, now: float) -> float | None:
        """Return the seconds since the oldest data was scraped: inf before the first, None without a datasource."""
        now = self._clock(now)
        return max((now - measurement.as_of for measurement in self._counters.measurements.values()), default=None)

    @property
    def tenants(self) -> int:
        return len(self._counters.tenants)


def _usage(counter: Counter, now: float) -> Usage:
    return Usage(limit=counter.limit, tenant=counter.tenant, usage=counter.usage(now), key=counter.key)


def _waits(counters: Iterable[Counter], now: float) -> list[tuple[float, Counter]]:
    """Return how long each counter takes to have room again."""
    return [(counter.wait(counter.typical, now), counter) for counter in counters]


def _rate_limited(waits: Iterable[tuple[float, Counter]], now: float) -> tuple[RateLimited, Counter]:
    """Return the refusal for the limit that takes longest to have room again, and its counter."""
    wait, slowest = max(waits, key=lambda pair: pair[0])
    usage = slowest.limit.described(slowest.usage(now), slowest.tenant)
    return RateLimited(f"request was rate limited: {usage}", _whole_seconds(wait)), slowest


def _whole_seconds(wait: float) -> int:
    return max(1, math.ceil(wait + _SLACK))
