"""The rate limiter: may this tenant do one thing more now?

Rules of this file:

- A request that is refused counts nowhere, and one that several limits hold counts for all of them or for none.
- A tenant is the verified one alone. One whose window holds something is never forgotten; at ``max_tenants`` of them
  a new tenant is refused, until one has been idle for the longest window.
- Time does not go back: a ``now`` before the last one counts as the last one, and where it is before it by more than
  the longest window (a captured day replayed behind a later one) time goes on from there.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .access import Access, TenantID
from .counters import Counter, Learnt, Peers
from .errors import BodyTooLarge, RateLimited, UsageUnknown
from .limittypes import Labels, Limit, LimitType, Resolution, Subject, Usage

__all__ = ["Limit", "LimitType", "Limiter", "Resolution", "Subject", "Usage"]

MAX_PLANS: Final = 64
"""Sets of limits kept for one tenant: as many as its tokens match different limits with labels."""
MAX_MATCHES: Final = 10_000
"""Label sets of tokens for which it is remembered which limits with labels they match."""

_LONGEST_WINDOW: Final = float(Resolution.HOUR.seconds)
_SLACK: Final = 0.001  # seconds, for what the arithmetic of floats loses
_OTHER: Final = "other"

_Slot = tuple[LimitType, Resolution, Labels]


@dataclass(frozen=True, slots=True)
class _Plan:
    """The counters that hold one kind of token of one tenant: those of reads, of rows, and of writes without count."""

    reads: tuple[Counter, ...]
    rows: tuple[Counter, ...]
    series: tuple[Counter, ...]


class _Tenant:
    """The counters of one tenant, and when something was last counted for it."""

    __slots__ = ("counters", "kept", "last", "plans")

    def __init__(self) -> None:
        self.counters: dict[_Slot, Counter] = {}
        self.plans: dict[tuple[_Slot, ...], _Plan] = {}
        self.kept = False
        self.last = float("-inf")


class Limiter:
    """Counts requests and rows, and refuses what is beyond the limits.

    ``now`` is seconds of a clock that does not jump; the same clock in every call. Not for use by several threads.
    """

    def __init__(
        self, limits: Iterable[Limit] = (), *, max_tenants: int = 10_000, stale_after: float | None = None
    ) -> None:
        """
        Args:
            limits: no two of the same tenant, scope and slot.
            max_tenants: how many tenants are kept.
            stale_after: refuse what a datasource should have measured once its data is older, in seconds; None: never.
        """
        self.max_tenants = max_tenants
        self.stale_after = stale_after
        self.warnings: deque[Usage] = deque(maxlen=1000)
        """Usages that have come near their limit since somebody last emptied this."""
        self.rejects: dict[tuple[LimitType | None, Resolution | None, str], int] = {}
        """Refusals by limit and tenant; type None is for tenants beyond ``max_tenants``, which have no name here."""
        self._now = float("-inf")
        self._offset = 0.0
        self._tenants: OrderedDict[TenantID | None, _Tenant] = OrderedDict()
        self._rejected: set[str] = set()
        self._learnt: dict[tuple[LimitType, Resolution], Learnt] = {}
        self._peers: Peers | None = None
        self._totals: dict[_Slot, Counter] = {}
        self.measured = False
        self.replace(limits)

    # --- the limits ------------------------------------------------------------------------------------------------

    def replace(self, limits: Iterable[Limit]) -> None:
        """Put other limits in force. What was counted for a limit that stays, or changes its value, is kept."""
        self.limits: tuple[Limit, ...] = tuple(limits)
        self.counts_rows = any(limit.type is LimitType.ROWS_INSERTED for limit in self.limits)
        """Whether some limit needs the rows of bodies: only then are they counted."""
        self._default = {limit.slot: limit for limit in self.limits if limit.tenant is None and not limit.total}
        self._own = {(limit.tenant, limit.slot): limit for limit in self.limits if limit.tenant is not None}
        slots = dict.fromkeys(limit.slot for limit in self.limits)
        self._plain_slots = tuple(slot for slot in slots if not slot[2])
        self._label_slots = tuple((slot, frozenset(slot[2])) for slot in slots if slot[2])
        self._matches: dict[Labels, tuple[_Slot, ...]] = {}
        totals = {limit.slot: limit for limit in self.limits if limit.total}
        self._totals = {slot: self._counter(limit, None, self._totals.get(slot)) for slot, limit in totals.items()}
        for tenant, entry in self._tenants.items():
            entry.plans.clear()
            old, entry.counters = entry.counters, {}
            for slot, counter in old.items():
                limit = self._limit_of(tenant, slot)
                if limit is not None:
                    entry.counters[slot] = self._counter(limit, tenant, counter)

    def _counter(self, limit: Limit, tenant: TenantID | None, old: Counter | None = None) -> Counter:
        learnt = None
        if not limit.labels and (tenant is not None or limit.total):  # no datasource knows of labels or multitenant
            learnt = self._learnt.get((limit.type, limit.resolution))
        counter = Counter(limit, tenant, learnt, self._peers)
        if old is not None:
            counter.window = old.window
        return counter

    def _limit_of(self, tenant: TenantID | None, slot: _Slot) -> Limit | None:
        if tenant is None:  # the behaviour of vmgateway: a multitenant request is nobody's, but it is a query
            return self._default.get(slot) if slot[0] is LimitType.QUERIES else None
        return self._own.get((tenant, slot)) or self._default.get(slot)

    def _matching(self, labels: Labels) -> tuple[_Slot, ...]:
        """The slots with labels that a token with ``labels`` falls under."""
        if not self._label_slots or not labels:
            return ()
        found = self._matches.get(labels)
        if found is None:
            if len(self._matches) >= MAX_MATCHES:
                self._matches.clear()
            carried = frozenset(labels)
            found = self._matches[labels] = tuple(slot for slot, wanted in self._label_slots if wanted <= carried)
        return found

    def _find(self, subject: Subject) -> tuple[_Tenant, _Plan]:
        """The tenant's counters, made but not kept where it has none yet, and those that hold this subject."""
        entry = self._tenants.get(subject.tenant)
        if entry is None:
            entry = _Tenant()
        matching = self._matching(subject.labels)
        plan = entry.plans.get(matching)
        if plan is None:
            if len(entry.plans) >= MAX_PLANS:
                entry.plans.clear()
            plan = entry.plans[matching] = self._plan(subject.tenant, entry, (*self._plain_slots, *matching))
        return entry, plan

    def _plan(self, tenant: TenantID | None, entry: _Tenant, slots: Sequence[_Slot]) -> _Plan:
        counters: list[Counter] = []
        for slot in slots:
            counter = entry.counters.get(slot)
            if counter is None and (limit := self._limit_of(tenant, slot)) is not None:
                counter = entry.counters[slot] = self._counter(limit, tenant)
            counters += [found for found in (counter, self._totals.get(slot)) if found is not None]
        return _Plan(
            reads=tuple(counter for counter in counters if counter.limit.type is LimitType.QUERIES),
            rows=tuple(counter for counter in counters if counter.limit.type is LimitType.ROWS_INSERTED),
            series=tuple(counter for counter in counters if not counter.limit.type.counted),
        )

    # --- verdicts --------------------------------------------------------------------------------------------------

    def admit(self, subject: Subject, access: Access, now: float) -> None:
        """Count a request that is about to pass.

        A read counts as one query. A write is refused where a limit on rows or series is reached already; its rows
        are counted by :meth:`take_rows`. Deleting is neither a query nor an insert: no limit holds it.

        Raises:
            RateLimited: a limit is reached, or there are too many tenants. Nothing was counted then.
            UsageUnknown: ``stale_after``.
        """
        now = self._clock(now)
        if access is Access.READ:
            entry, plan = self._find(subject)
            self._check_known(plan.reads, now)
            for counter in plan.reads:
                if not counter.fits(1, now):
                    raise self._refused(subject, entry, plan.reads, lambda counter: 1, now)
            self._count(subject, entry, plan.reads, 1, now)
        elif access is Access.WRITE:
            entry, plan = self._find(subject)
            held = plan.rows + plan.series
            self._check_known(held, now)
            for counter in held:
                if not counter.fits(1, now):
                    raise self._refused(subject, entry, held, lambda counter: counter.typical, now)
            for counter in plan.series:
                self._watch(counter, now)
            if not entry.kept and entry.counters and plan.rows:
                self._make_room(subject, now)

    def take_rows(self, subject: Subject, rows: int, now: float) -> None:
        """Count rows that are about to be passed on.

        Raises:
            RateLimited: they do not fit now, or there are too many tenants. Nothing was counted then.
            BodyTooLarge: they are more than a whole limit.
        """
        if rows <= 0:
            return
        now = self._clock(now)
        entry, plan = self._find(subject)
        for counter in plan.rows:
            counter.typical = min(rows, counter.limit.value)
            if rows > counter.limit.value:
                at_most = f"{counter.limit.value} per {counter.limit.resolution}"
                raise BodyTooLarge(f"{rows} rows at once, where the limit is {at_most}: send fewer at a time")
        for counter in plan.rows:
            if not counter.fits(rows, now):
                raise self._refused(subject, entry, plan.rows, lambda counter: rows, now)
        self._count(subject, entry, plan.rows, rows, now)

    def _count(self, subject: Subject, entry: _Tenant, counters: tuple[Counter, ...], count: int, now: float) -> None:
        if entry.counters:
            self._keep(subject, entry, now)
        for counter in counters:
            counter.add(count, now)
            self._watch(counter, now)

    def _keep(self, subject: Subject, entry: _Tenant, now: float) -> None:
        if entry.kept:
            self._tenants.move_to_end(subject.tenant)
        else:
            self._make_room(subject, now)
            self._tenants[subject.tenant] = entry
            entry.kept = True
        entry.last = now

    def _make_room(self, subject: Subject, now: float) -> None:
        """Forget tenants that have been idle for the longest window, those longest idle first."""
        while self._tenants:
            oldest = next(iter(self._tenants.values()))
            idle_at = oldest.last + _LONGEST_WINDOW
            if idle_at > now:
                if len(self._tenants) < self.max_tenants:
                    return
                self._reject(None, subject.tenant)
                raise RateLimited(
                    f"the gateway counts for {self.max_tenants} tenants at a time, and all of them are active "
                    "(-ratelimit.maxTenants)",
                    _whole_seconds(idle_at - now),
                )
            self._tenants.popitem(last=False)

    def _check_known(self, counters: tuple[Counter, ...], now: float) -> None:
        if self.stale_after is None:
            return
        for counter in counters:
            if counter.age(now) > self.stale_after:
                raise UsageUnknown(
                    f"the usage of {counter.limit.type.noun} is not known: the datasource has given no answer for "
                    f"{self.stale_after:g} seconds (-ratelimit.failClosed)"
                )

    def _refused(
        self,
        subject: Subject,
        entry: _Tenant,
        counters: tuple[Counter, ...],
        need: Callable[[Counter], int],
        now: float,
    ) -> RateLimited:
        """The refusal, by the limit that takes longest to have room again."""
        waits = [(counter.wait(need(counter), now), counter) for counter in counters]
        wait, slowest = max(waits, key=lambda pair: pair[0])
        # Short of its share alone, a replica asks for more, so the tenant must not be forgotten meanwhile.
        wanting = [counter for counter in counters if counter.want(need(counter), now)]
        if wanting and entry.counters:
            self._keep(subject, entry, now)
        self._reject(slowest.limit, slowest.tenant if slowest.limit.total else subject.tenant)
        usage = slowest.limit.described(slowest.usage(now), slowest.tenant)
        return RateLimited(f"request was rate limited: {usage}", _whole_seconds(wait))

    def _reject(self, limit: Limit | None, tenant: TenantID | None) -> None:
        name = "total" if limit is not None and limit.total else "multitenant" if tenant is None else str(tenant)
        if limit is None:
            name = _OTHER
        elif name not in self._rejected:
            if len(self._rejected) >= self.max_tenants:
                name = _OTHER
            self._rejected.add(name)
        key = (limit.type, limit.resolution, name) if limit is not None else (None, None, name)
        self.rejects[key] = self.rejects.get(key, 0) + 1

    def _watch(self, counter: Counter, now: float) -> None:
        if counter.crossed(now):
            self.warnings.append(_usage(counter, now))

    def _clock(self, now: float) -> float:
        now += self._offset
        if now < self._now:
            if self._now - now > _LONGEST_WINDOW:
                self._offset += self._now - now
            return self._now
        self._now = now
        return now

    # --- what others know ------------------------------------------------------------------------------------------

    def measure(self, measured: bool) -> None:
        """Whether a datasource is asked: then its numbers count, and ``stale_after`` holds before its first answer."""
        self.measured = measured
        wanted = {(limit.type, limit.resolution) for limit in self.limits} if measured else set()
        self._learnt = {pair: self._learnt.get(pair, Learnt()) for pair in wanted}
        self.replace(self.limits)

    def learn(
        self, values: Mapping[tuple[LimitType, Resolution, TenantID | None], float], as_of: float, now: float
    ) -> None:
        """Usage from the datasource; verdicts use ``max(own window, value + what was admitted here since as_of)``.

        Args:
            values: by type, resolution and tenant; tenant None is all of them together. The tenants of a type and
                resolution that has any value here, and no value of their own, have used nothing. A type and
                resolution without any value keeps what was known of it.
            as_of: when the newest sample behind the values was scraped, on the clock of ``now``. An answer that is
                older than the one known is dropped.
        """
        now = self._clock(now)
        as_of = min(as_of + self._offset, now)
        groups: dict[tuple[LimitType, Resolution], dict[TenantID | None, int]] = {}
        for (limit_type, resolution, tenant), value in values.items():
            if not math.isfinite(value):
                raise ValueError(f"{limit_type} per {resolution} of {tenant} is no number")
            groups.setdefault((limit_type, resolution), {})[tenant] = max(0, math.ceil(value))
        for pair, group in groups.items():
            learnt = self._learnt.get(pair)
            if learnt is not None and as_of >= learnt.as_of:
                learnt.lag = now - learnt.as_of if math.isfinite(learnt.as_of) else now - as_of
                learnt.values, learnt.as_of = group, as_of
                learnt.generation += 1

    def usages(self, now: float) -> dict[str, int]:
        """For the other replicas, by counter: what was counted here, and may be until the next exchange."""
        now = self._clock(now)
        if self._peers is None:
            self._peers = Peers(at=now)
            self.replace(self.limits)
        published = ((counter.key, counter.publish(now)) for counter in self._counters() if counter.limit.type.counted)
        return {key: count for key, count in published if count}

    def learn_others(self, others: Mapping[str, int], peers: int, now: float) -> None:
        """The sums of what the other replicas published, and how many of them are alive. Follows :meth:`usages`."""
        now = self._clock(now)
        if self._peers is None:
            self.usages(now)
        assert self._peers is not None
        self._peers.counts, self._peers.alive = others, peers
        self._peers.interval, self._peers.at = now - self._peers.at, now
        for counter in self._counters():
            counter.exchanged(now)

    # --- for people ------------------------------------------------------------------------------------------------

    def status(self, now: float) -> Iterator[Usage]:
        """Every limit of every tenant that is known, with what is used of it; the most recently active first."""
        now = self._clock(now)
        for counter in self._counters():
            yield _usage(counter, now)

    def status_of(self, subject: Subject, now: float) -> tuple[Usage, ...]:
        """The limits that hold this subject, with what is used of them."""
        now = self._clock(now)
        _, plan = self._find(subject)
        return tuple(_usage(counter, now) for counter in plan.reads + plan.rows + plan.series)

    @property
    def tenants(self) -> int:
        """How many tenants are kept."""
        return len(self._tenants)

    def age(self, now: float) -> float | None:
        """Seconds since the oldest of the datasource's data was scraped: inf before its first answer, None without."""
        now = self._clock(now)
        return max((now - learnt.as_of for learnt in self._learnt.values()), default=None)

    def _counters(self) -> Iterator[Counter]:
        yield from self._totals.values()
        for entry in reversed(self._tenants.values()):
            yield from entry.counters.values()


def _usage(counter: Counter, now: float) -> Usage:
    return Usage(limit=counter.limit, tenant=counter.tenant, usage=counter.usage(now), key=counter.key)


def _whole_seconds(wait: float) -> int:
    return max(1, math.ceil(wait + _SLACK))
