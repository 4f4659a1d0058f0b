"""Limits of concurrent requests, in all, per tenant and for some tokens, and the queue of requests that wait.

Rules of this file:
- a slot that becomes free goes to a waiting request, so later ones do not overtake it;
- tenants take turns, so a busy tenant delays only itself;
- of a tenant, the first request that may pass is next: one that waits for a limit of its own holds up no other;
- the queue is bounded, in all and for each tenant.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from vmgw_core.base import ScopedRules, Subject, TenantID, scope_of
from vmgw_core.base.scoped import Scoped

MAX_WAITING: Final = 1000
"""The most requests in the queue."""
MAX_WAITING_OF_TENANT: Final = 250

Waiter = Callable[[], None]
"""A waiting request; called when it has its slot."""
Key = tuple[tuple[object, ...], TenantID | None]
"""The scope of a limit, and the tenant that is counted."""


class SlotLimit(Scoped, Protocol):
    """At most ``value`` requests at the same time, of the tenant or of some tokens."""

    @property
    def value(self) -> int: ...
    @property
    def observe(self) -> bool:
        """Whether it refuses nothing."""
        ...

    def described(self, usage: int, tenant: TenantID | None) -> str: ...


class Use:
    """How many requests a limit has now. ``tenant`` is None if it is for all tenants together."""

    __slots__ = ("key", "limit", "running", "tenant")

    def __init__(self, limit: SlotLimit, tenant: TenantID | None, key: Key) -> None:
        self.limit = limit
        self.tenant = tenant
        self.key = key
        self.running = 0

    @property
    def is_full(self) -> bool:
        return self.running >= self.limit.value

    def __str__(self) -> str:
        return self.limit.described(self.running, self.tenant)


class Seat:
    """A request that wants a slot, or has one."""

    __slots__ = ("exceeded", "subject", "uses", "waiter")

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.uses: tuple[Use, ...] = ()
        """What its slot counts for, so that it is given back there whatever limits are in force then."""
        self.exceeded: tuple[Use, ...] = ()
        """Limits in ``mode: observe`` that would have refused it."""
        self.waiter: Waiter | None = None


class Concurrency:
    """The slots of ``-maxConcurrentRequests``, ``-maxConcurrentPerTenant`` and the limits of a file.

    Tenant None: a multitenant request.
    """

    __slots__ = ("_uses", "by_tenant", "limits", "of_tenant", "queue", "refused", "running", "total", "waiting")

    def __init__(self, total: int, of_tenant: int, limits: Iterable[SlotLimit] = ()) -> None:
        """Set the limits; zero is no limit."""
        self.total = total
        self.of_tenant = of_tenant
        self.limits = ScopedRules(limits)
        self.running = 0
        self.waiting = 0
        self.by_tenant: dict[TenantID | None, int] = {}
        self._uses: dict[Key, Use] = {}
        """Those with running requests."""
        self.queue: OrderedDict[TenantID | None, deque[Seat]] = OrderedDict()
        """By tenant, the next one first; without tenants that have no waiter."""
        self.refused = 0
        """Requests that got no slot."""

    def enter(self, seat: Seat) -> bool:
        """Take a slot if there is one; give it back with :meth:`leave`."""
        uses = self.uses(seat.subject)
        if not self._has_room(seat.subject.tenant, uses):
            return False
        self._take(seat, uses)
        return True

    def wait(self, seat: Seat, waiter: Waiter) -> bool:
        """Join the queue after :meth:`enter` failed; return False if it is full."""
        tenant = seat.subject.tenant
        of_tenant = self.queue.get(tenant, ())
        if self.waiting >= MAX_WAITING or len(of_tenant) >= MAX_WAITING_OF_TENANT:
            return False
        seat.waiter = waiter
        self.queue.setdefault(tenant, deque()).append(seat)
        self.waiting += 1
        return True

    def give_up(self, seat: Seat) -> None:
        """Leave the queue, if ``seat`` is in it."""
        of_tenant = self.queue.get(seat.subject.tenant)
        if of_tenant is not None and seat in of_tenant:
            self._remove(seat, of_tenant)

    def leave(self, seat: Seat) -> list[Waiter]:
        """Give a slot back; return the waiters that got one, to be called."""
        tenant = seat.subject.tenant
        self.running -= 1
        left = self.by_tenant[tenant] - 1
        if left:
            self.by_tenant[tenant] = left
        else:
            del self.by_tenant[tenant]
        for use in seat.uses:
            use.running -= 1
            if not use.running and self._uses.get(use.key) is use:
                del self._uses[use.key]
        return self._next() if self.queue else []

    def resize(self, total: int, of_tenant: int, limits: Iterable[SlotLimit] = ()) -> list[Waiter]:
        """Change the limits; return the waiters that got a slot, to be called. Running requests keep theirs.

        A limit that stays or only changes its value keeps its count. A new one counts the requests that come later.
        """
        self.total, self.of_tenant, self.limits = total, of_tenant, ScopedRules(limits)
        kept = {scope_of(limit): limit for limit in self.limits.rules}
        for key, use in list(self._uses.items()):
            limit = kept.get(key[0])
            if limit is None:
                del self._uses[key]
            else:
                use.limit = limit
        return self._next()

    def uses(self, subject: Subject) -> tuple[Use, ...]:
        """Return the limits of a file that hold ``subject``, with the number of requests that each has now."""
        if not self.limits.rules:
            return ()
        found = []
        for limit in self.limits.of(subject):
            tenant = None if limit.total else subject.tenant
            key = (scope_of(limit), tenant)
            found.append(self._uses.get(key) or Use(limit, tenant, key))
        return tuple(found)

    def in_use(self) -> tuple[Use, ...]:
        """Return the limits of a file with running requests."""
        return tuple(self._uses.values())

    def reached(self, subject: Subject) -> str:
        """Return which limit a request without a slot has reached, for a message."""
        if self.total and self.running >= self.total:
            return f"the gateway is at its limit of {self.total} concurrent requests (-maxConcurrentRequests)"
        full = self._full(self.uses(subject))
        if full is not None:
            return f"request was rate limited: {full}"
        return f"the tenant is at its limit of {self.of_tenant} concurrent requests (-maxConcurrentPerTenant)"

    def is_at_limit(self, subject: Subject) -> bool:
        """Whether a limit of a file refuses a request of ``subject``."""
        return self._full(self.uses(subject)) is not None

    @staticmethod
    def _full(uses: tuple[Use, ...]) -> Use | None:
        return next((use for use in uses if use.is_full and not use.limit.observe), None)

    def _has_room(self, tenant: TenantID | None, uses: tuple[Use, ...]) -> bool:
        if self.total and self.running >= self.total:
            return False
        if uses and self._full(uses) is not None:
            return False
        return not self.of_tenant or self.by_tenant.get(tenant, 0) < self.of_tenant

    def _take(self, seat: Seat, uses: tuple[Use, ...]) -> None:
        tenant = seat.subject.tenant
        self.running += 1
        self.by_tenant[tenant] = self.by_tenant.get(tenant, 0) + 1
        seat.uses = uses
        if uses:
            seat.exceeded = tuple(use for use in uses if use.is_full)
            for use in uses:
                use.running += 1
                self._uses[use.key] = use

    def _next(self) -> list[Waiter]:
        called: list[Waiter] = []
        while (seat := self._first()) is not None:
            self.queue.move_to_end(seat.subject.tenant)
            self._remove(seat, self.queue[seat.subject.tenant])
            self._take(seat, self.uses(seat.subject))
            assert seat.waiter is not None
            called.append(seat.waiter)
        return called

    def _first(self) -> Seat | None:
        """Return the first waiting request that may pass."""
        if self.total and self.running >= self.total:
            return None
        blocked: set[Subject] = set()
        for tenant, of_tenant in self.queue.items():
            if self.of_tenant and self.by_tenant.get(tenant, 0) >= self.of_tenant:
                continue
            full = self._full(self.uses(Subject(tenant)))  # which holds all tokens of the tenant
            if full is not None:
                if full.limit.total:
                    return None  # and those of all others
                continue
            for seat in of_tenant:
                if seat.subject not in blocked:
                    if self._full(self.uses(seat.subject)) is None:
                        return seat
                    blocked.add(seat.subject)
        return None

    def _remove(self, seat: Seat, of_tenant: deque[Seat]) -> None:
        self.waiting -= 1
        of_tenant.remove(seat)
        if not of_tenant:
            del self.queue[seat.subject.tenant]
