"""How many requests are under way at once, and who is next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.backends.concurrency import MAX_WAITING, MAX_WAITING_OF_TENANT, Concurrency
from vmgw_core.base.tenants import TenantID

A, B, C = TenantID(1), TenantID(2), TenantID(3)


class Calls:
    """Who was called, in order."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def waiter(self, name: str) -> Callable[[], None]:
        return lambda: self.names.append(name)

    def call(self, waiters: list[Callable[[], None]]) -> list[str]:
        before = len(self.names)
        for waiter in waiters:
            waiter()
        return self.names[before:]


def nothing() -> None:
    """Waits, and is nobody in particular."""


def test_in_all() -> None:
    places = Concurrency(2, 0)
    assert places.enter(A)
    assert places.enter(None)
    assert not places.enter(B)
    assert places.leave(None) == []
    assert places.enter(B)
    assert places.running == 2


def test_by_tenant() -> None:
    places = Concurrency(0, 1)
    assert places.enter(A)
    assert not places.enter(A)
    assert places.enter(B)
    assert places.enter(None)
    assert not places.enter(None)
    places.leave(A)
    assert places.enter(A)


def test_no_limit() -> None:
    places = Concurrency(0, 0)
    assert all(places.enter(A) for _ in range(1000))
    for _ in range(1000):
        places.leave(A)
    assert places.by_tenant == {}


def test_a_place_goes_to_whoever_waits() -> None:
    places, calls = Concurrency(1, 0), Calls()
    assert places.enter(A)
    for name in ("first", "second"):
        assert places.wait(A, calls.waiter(name))
    assert calls.call(places.leave(A)) == ["first"]
    assert not places.enter(A), "nobody overtakes"
    assert calls.call(places.leave(A)) == ["second"]
    assert places.leave(A) == []
    assert (places.running, places.waiting) == (0, 0)


def test_tenants_take_turns() -> None:
    places, calls = Concurrency(1, 0), Calls()
    assert places.enter(C)
    for name, tenant in (("a1", A), ("a2", A), ("a3", A), ("b1", B), ("b2", B)):
        assert places.wait(tenant, calls.waiter(name))
    order = []
    tenant = C
    for _ in range(5):
        order += calls.call(places.leave(tenant))
        tenant = A if order[-1].startswith("a") else B
    assert order == ["a1", "b1", "a2", "b2", "a3"]


def test_a_tenant_at_its_limit_does_not_stop_the_others() -> None:
    places, calls = Concurrency(3, 2), Calls()
    for tenant in (A, A, B):
        assert places.enter(tenant)
    assert places.wait(A, calls.waiter("a"))
    assert places.wait(C, calls.waiter("c"))
    assert calls.call(places.leave(B)) == ["c"]
    assert calls.call(places.leave(A)) == ["a"]


def test_giving_up() -> None:
    places, calls = Concurrency(1, 0), Calls()
    assert places.enter(A)
    first, second = calls.waiter("first"), calls.waiter("second")
    assert places.wait(A, first)
    assert places.wait(A, second)
    places.give_up(A, first)
    places.give_up(A, first)
    places.give_up(B, second)
    assert places.waiting == 1
    assert calls.call(places.leave(A)) == ["second"]
    places.give_up(A, second)
    assert (places.running, places.waiting) == (1, 0)


def test_the_queue_is_bounded() -> None:
    places = Concurrency(1, 0)
    assert places.enter(A)
    assert all(places.wait(A, nothing) for _ in range(MAX_WAITING_OF_TENANT))
    assert not places.wait(A, nothing)
    others = MAX_WAITING - MAX_WAITING_OF_TENANT
    assert all(places.wait(TenantID(10 + number % 10), nothing) for number in range(others))
    assert not places.wait(B, nothing)
    assert places.waiting == MAX_WAITING
    places.leave(A)
    assert places.wait(B, nothing)


def test_other_limits() -> None:
    places, calls = Concurrency(1, 0), Calls()
    assert places.enter(A)
    for name in ("first", "second", "third"):
        assert places.wait(A, calls.waiter(name))
    assert calls.call(places.resize(2, 0)) == ["first"]
    assert calls.call(places.resize(0, 3)) == ["second"]
    assert calls.call(places.resize(1, 0)) == []
    assert places.leave(A) == [], "there are more than may be by now"
    assert calls.call(places.resize(0, 0)) == ["third"]


@given(
    st.integers(0, 3),
    st.integers(0, 2),
    st.lists(st.tuples(st.sampled_from(["enter", "leave", "give up"]), st.sampled_from([A, B, None])), max_size=60),
)
def test_no_limit_is_ever_exceeded_and_nobody_waits_beside_a_free_place(
    total: int, of_tenant: int, steps: list[tuple[str, TenantID | None]]
) -> None:
    places = Concurrency(total, of_tenant)
    running: Counter[TenantID | None] = Counter()
    waiting: dict[TenantID | None, list[Callable[[], None]]] = {A: [], B: [], None: []}

    def queue(tenant: TenantID | None) -> None:
        def waiter() -> None:
            running[tenant] += 1
            waiting[tenant].remove(waiter)

        assert places.wait(tenant, waiter)
        waiting[tenant].append(waiter)

    for step, tenant in steps:
        if step == "enter":
            if places.enter(tenant):
                running[tenant] += 1
            else:
                queue(tenant)
        elif step == "leave" and running[tenant]:
            running[tenant] -= 1
            for waiter in places.leave(tenant):
                waiter()
        elif step == "give up" and waiting[tenant]:
            places.give_up(tenant, waiting[tenant].pop())
        assert places.running == running.total()
        assert places.waiting == sum(map(len, waiting.values()))
        assert not total or running.total() <= total
        assert not of_tenant or max(running.values(), default=0) <= of_tenant
        for each, queued in waiting.items():
            if queued:
                assert (total and running.total() == total) or (of_tenant and running[each] == of_tenant)


def test_it_names_the_limit_that_is_reached() -> None:
    slots = Concurrency(2, 1)
    assert slots.enter(TenantID(1))
    assert not slots.enter(TenantID(1))
    assert slots.reached(TenantID(1)) == (
        "the tenant is at its limit of 1 concurrent requests (-maxConcurrentPerTenant)"
    )
    assert slots.enter(TenantID(2))
    assert slots.reached(TenantID(1)) == (
        "the gateway is at its limit of 2 concurrent requests (-maxConcurrentRequests)"
    )
