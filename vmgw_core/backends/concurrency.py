"""Limits of concurrent requests, in all and per tenant, and the queue of requests that wait.

Rules of this file:
- a slot that becomes free goes to a waiting request, so later ones do not overtake it;
- tenants take turns, so a busy tenant delays only itself;
- the queue is bounded, in all and for each tenant.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from vmgw_core.base import TenantID

MAX_WAITING: Final = 1000
"""The most requests in the queue."""
MAX_WAITING_OF_TENANT: Final = 250

Waiter = Callable[[], None]
"""A waiting request; called when it has its slot."""


class Concurrency:
    """The slots of ``-maxConcurrentRequests`` and ``-maxConcurrentPerTenant``. Tenant None: a multitenant request."""

    __slots__ = ("by_tenant", "of_tenant", "queue", "refused", "running", "total", "waiting")

    def __init__(self, total: int, of_tenant: int) -> None:
        """Set the limits; zero is no limit."""
        self.total = total
        self.of_tenant = of_tenant
        self.running = 0
        self.waiting = 0
        self.by_tenant: dict[TenantID | None, int] = {}
        self.queue: OrderedDict[TenantID | None, deque[Waiter]] = OrderedDict()
        """By tenant, the next one first; without tenants that have no waiter."""
        self.refused = 0
        """Requests that got no slot."""

    def enter(self, tenant: TenantID | None) -> bool:
        """Take a slot if there is one; give it back with :meth:`leave`."""
        if not self._has_room(tenant):
            return False
        self.running += 1
        self.by_tenant[tenant] = self.by_tenant.get(tenant, 0) + 1
        return True

    def wait(self, tenant: TenantID | None, waiter: Waiter) -> bool:
        """Join the queue after :meth:`enter` failed; return False if it is full."""
        of_tenant = self.queue.get(tenant, ())
        if self.waiting >= MAX_WAITING or len(of_tenant) >= MAX_WAITING_OF_TENANT:
            return False
        self.queue.setdefault(tenant, deque()).append(waiter)
        self.waiting += 1
        return True

    def give_up(self, tenant: TenantID | None, waiter: Waiter) -> None:
        """Leave the queue, if ``waiter`` is in it."""
        of_tenant = self.queue.get(tenant)
        if of_tenant is not None and waiter in of_tenant:
            of_tenant.remove(waiter)
            self._taken_from(tenant, of_tenant)

    def leave(self, tenant: TenantID | None) -> list[Waiter]:
        """Give a slot back; return the waiters that got one, to be called."""
        self.running -= 1
        left = self.by_tenant[tenant] - 1
        if left:
            self.by_tenant[tenant] = left
        else:
            del self.by_tenant[tenant]
        return self._next() if self.queue else []

    def resize(self, total: int, of_tenant: int) -> list[Waiter]:
        """Change the limits; return the waiters that got a slot, to be called. Running requests keep theirs."""
        self.total, self.of_tenant = total, of_tenant
        return self._next()

    def reached(self, tenant: TenantID | None) -> str:
        """Return which limit a tenant without a slot has reached, for a message."""
        if self.total and self.running >= self.total:
            return f"the gateway is at its limit of {self.total} concurrent requests (-maxConcurrentRequests)"
        return f"the tenant is at its limit of {self.of_tenant} concurrent requests (-maxConcurrentPerTenant)"

    def _has_room(self, tenant: TenantID | None) -> bool:
        if self.total and self.running >= self.total:
            return False
        return not self.of_tenant or self.by_tenant.get(tenant, 0) < self.of_tenant

    def _next(self) -> list[Waiter]:
        called: list[Waiter] = []
        while found := next(((tenant,) for tenant in self.queue if self._has_room(tenant)), None):
            (tenant,) = found  # None is a tenant too
            of_tenant = self.queue[tenant]
            self.queue.move_to_end(tenant)
            called.append(of_tenant.popleft())
            self._taken_from(tenant, of_tenant)
            self.enter(tenant)
        return called

    def _taken_from(self, tenant: TenantID | None, of_tenant: deque[Waiter]) -> None:
        self.waiting -= 1
        if not of_tenant:
            del self.queue[tenant]
