"""How many requests are under way at once, in all and by tenant, and who is next when there is room again.

Rules of this file:
- room that becomes free is handed to whoever waits, so that nobody who comes later overtakes;
- tenants take turns: one that asks for a lot makes itself wait, and not the others;
- the queue is bounded, in all and for each tenant.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from vmgw_core.base import TenantID

MAX_WAITING: Final = 1000
"""Requests that wait at most."""
MAX_WAITING_OF_TENANT: Final = 250

Waiter = Callable[[], None]
"""Whoever waits: it is called when it has got its place."""


class Concurrency:
    """The places of ``-maxConcurrentRequests`` and ``-maxConcurrentPerTenant``. Tenant None: a multitenant request."""

    __slots__ = ("by_tenant", "of_tenant", "queue", "refused", "running", "total", "waiting")

    def __init__(self, total: int, of_tenant: int) -> None:
        """Zero is no limit."""
        self.total = total
        self.of_tenant = of_tenant
        self.running = 0
        self.waiting = 0
        self.by_tenant: dict[TenantID | None, int] = {}
        self.queue: OrderedDict[TenantID | None, deque[Waiter]] = OrderedDict()
        """By tenant, the one whose turn it is first; no tenant without a waiter."""
        self.refused = 0
        """Requests that got no place."""

    def enter(self, tenant: TenantID | None) -> bool:
        """Take a place if there is one. Whoever has one leaves it by :meth:`leave`."""
        if not self._has_room(tenant):
            return False
        self.running += 1
        self.by_tenant[tenant] = self.by_tenant.get(tenant, 0) + 1
        return True

    def wait(self, tenant: TenantID | None, waiter: Waiter) -> bool:
        """Queue up behind :meth:`enter`; whether the queue has room."""
        of_tenant = self.queue.get(tenant, ())
        if self.waiting >= MAX_WAITING or len(of_tenant) >= MAX_WAITING_OF_TENANT:
            return False
        self.queue.setdefault(tenant, deque()).append(waiter)
        self.waiting += 1
        return True

    def give_up(self, tenant: TenantID | None, waiter: Waiter) -> None:
        """Leave the queue. Nothing happens where ``waiter`` is not in it."""
        of_tenant = self.queue.get(tenant)
        if of_tenant is not None and waiter in of_tenant:
            of_tenant.remove(waiter)
            self._taken_from(tenant, of_tenant)

    def leave(self, tenant: TenantID | None) -> list[Waiter]:
        """Give a place back; whoever got one by that, and is to be called."""
        self.running -= 1
        left = self.by_tenant[tenant] - 1
        if left:
            self.by_tenant[tenant] = left
        else:
            del self.by_tenant[tenant]
        return self._next() if self.queue else []

    def resize(self, total: int, of_tenant: int) -> list[Waiter]:
        """Other limits. Who has a place keeps it; whoever got one by that, and is to be called."""
        self.total, self.of_tenant = total, of_tenant
        return self._next()

    def _has_room(self, tenant: TenantID | None) -> bool:
        if self.total and self.running >= self.total:
            return False
        return not self.of_tenant or self.by_tenant.get(tenant, 0) < self.of_tenant

    def _next(self) -> list[Waiter]:
        called: list[Waiter] = []
        while (tenant := next(filter(self._has_room, self.queue), _NOBODY)) is not _NOBODY:
            assert not isinstance(tenant, _Nobody)
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


class _Nobody:
    """In place of a tenant: None is one."""


_NOBODY: Final = _Nobody()
