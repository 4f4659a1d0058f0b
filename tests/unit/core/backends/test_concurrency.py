"""How many requests are under way at once, and who is next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.limiters import A as A_SUBJECT
from tests.support.core.limiters import limit
from tests.support.each import each
from vmgw_core.backends.concurrency import MAX_WAITING, MAX_WAITING_OF_TENANT, Concurrency, Seat
from vmgw_core.base.tenants import Labels, Subject, TenantID
from vmgw_core.limits.model import Limit

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


def seat(tenant: TenantID | None, labels: Labels = (), *classes: str) -> Seat:
    return Seat(Subject(tenant, labels, frozenset(classes)))


def nothing() -> None:
    """Waits, and is nobody in particular."""


def test_in_all() -> None:
    places = Concurrency(2, 0)
    assert places.enter(seat(A))
    assert places.enter(seat(None))
    assert not places.enter(seat(B))
    assert places.leave(seat(None)) == []
    assert places.enter(seat(B))
    assert places.running == 2


def test_by_tenant() -> None:
    places = Concurrency(0, 1)
    assert places.enter(seat(A))
    assert not places.enter(seat(A))
    assert places.enter(seat(B))
    assert places.enter(seat(None))
    assert not places.enter(seat(None))
    places.leave(seat(A))
    assert places.enter(seat(A))


def test_no_limit() -> None:
    places = Concurrency(0, 0)
    assert all(places.enter(seat(A)) for _ in range(1000))
    for _ in range(1000):
        places.leave(seat(A))
    assert places.by_tenant == {}


def test_a_place_goes_to_whoever_waits() -> None:
    places, calls = Concurrency(1, 0), Calls()
    assert places.enter(seat(A))
    for name in ("first", "second"):
        assert places.wait(seat(A), calls.waiter(name))
    assert calls.call(places.leave(seat(A))) == ["first"]
    assert not places.enter(seat(A)), "nobody overtakes"
    assert calls.call(places.leave(seat(A))) == ["second"]
    assert places.leave(seat(A)) == []
    assert (places.running, places.waiting) == (0, 0)


def test_tenants_take_turns() -> None:
    places, calls = Concurrency(1, 0), Calls()
    assert places.enter(seat(C))
    for name, tenant in (("a1", A), ("a2", A), ("a3", A), ("b1", B), ("b2", B)):
        assert places.wait(seat(tenant), calls.waiter(name))
    order = []
    tenant = C
    for _ in range(5):
        order += calls.call(places.leave(seat(tenant)))
        tenant = A if order[-1].startswith("a") else B
    assert order == ["a1", "b1", "a2", "b2", "a3"]


def test_a_tenant_at_its_limit_does_not_stop_the_others() -> None:
    places, calls = Concurrency(3, 2), Calls()
    for tenant in (A, A, B):
        assert places.enter(seat(tenant))
    assert places.wait(seat(A), calls.waiter("a"))
    assert places.wait(seat(C), calls.waiter("c"))
    assert calls.call(places.leave(seat(B))) == ["c"]
    assert calls.call(places.leave(seat(A))) == ["a"]


def test_giving_up() -> None:
    places, calls = Concurrency(1, 0), Calls()
    assert places.enter(seat(A))
    first, second = seat(A), seat(A)
    assert places.wait(first, calls.waiter("first"))
    assert places.wait(second, calls.waiter("second"))
    places.give_up(first)
    places.give_up(first)
    places.give_up(seat(B))
    assert places.waiting == 1
    assert calls.call(places.leave(seat(A))) == ["second"]
    places.give_up(second)
    assert (places.running, places.waiting) == (1, 0)


def test_the_queue_is_bounded() -> None:
    places = Concurrency(1, 0)
    assert places.enter(seat(A))
    assert all(places.wait(seat(A), nothing) for _ in range(MAX_WAITING_OF_TENANT))
    assert not places.wait(seat(A), nothing)
    others = MAX_WAITING - MAX_WAITING_OF_TENANT
    assert all(places.wait(seat(TenantID(10 + number % 10)), nothing) for number in range(others))
    assert not places.wait(seat(B), nothing)
    assert places.waiting == MAX_WAITING
    places.leave(seat(A))
    assert places.wait(seat(B), nothing)


def test_other_limits() -> None:
    places, calls = Concurrency(1, 0), Calls()
    assert places.enter(seat(A))
    for name in ("first", "second", "third"):
        assert places.wait(seat(A), calls.waiter(name))
    assert calls.call(places.resize(2, 0)) == ["first"]
    assert calls.call(places.resize(0, 3)) == ["second"]
    assert calls.call(places.resize(1, 0)) == []
    assert places.leave(seat(A)) == [], "there are more than may be by now"
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
    waiting: dict[TenantID | None, list[Seat]] = {A: [], B: [], None: []}

    def queue(tenant: TenantID | None) -> None:
        def waiter() -> None:
            running[tenant] += 1
            waiting[tenant].remove(waits)

        waits = seat(tenant)
        assert places.wait(waits, waiter)
        waiting[tenant].append(waits)

    for step, tenant in steps:
        if step == "enter":
            if places.enter(seat(tenant)):
                running[tenant] += 1
            else:
                queue(tenant)
        elif step == "leave" and running[tenant]:
            running[tenant] -= 1
            for waiter in places.leave(seat(tenant)):
                waiter()
        elif step == "give up" and waiting[tenant]:
            places.give_up(waiting[tenant].pop())
        assert places.running == running.total()
        assert places.waiting == sum(map(len, waiting.values()))
        assert not total or running.total() <= total
        assert not of_tenant or max(running.values(), default=0) <= of_tenant
        for waits, queued in waiting.items():
            if queued:
                assert (total and running.total() == total) or (of_tenant and running[waits] == of_tenant)


def test_it_names_the_limit_that_is_reached() -> None:
    slots = Concurrency(2, 1)
    assert slots.enter(seat(TenantID(1)))
    assert not slots.enter(seat(TenantID(1)))
    assert slots.reached(Subject(TenantID(1))) == (
        "the tenant is at its limit of 1 concurrent requests (-maxConcurrentPerTenant)"
    )
    assert slots.enter(seat(TenantID(2)))
    assert slots.reached(Subject(TenantID(1))) == (
        "the gateway is at its limit of 2 concurrent requests (-maxConcurrentRequests)"
    )


# --- limits of a file ----------------------------------------------------------------------------------------------

DEV = (("team", "dev"),)


def at_once(value: int, **scope: Any) -> Limit:  # noqa: ANN401
    return limit("concurrency", value, "", **scope)


@each(
    ("limits", "enters", "stays"),
    [
        pytest.param([at_once(1)], [seat(A), seat(B)], seat(A, DEV, "bronze"), id="each tenant has the default"),
        pytest.param([at_once(1), at_once(2, tenant=A)], [seat(A), seat(A), seat(B)], seat(A), id="a tenant's own"),
        pytest.param([at_once(2), at_once(1, tenant=A)], [seat(B), seat(B), seat(A)], seat(A), id="a smaller one"),
        pytest.param([at_once(2, total=True)], [seat(A), seat(None)], seat(B), id="all tenants together"),
        pytest.param([at_once(1, labels=DEV)], [seat(A), seat(A), seat(A, DEV), seat(B, DEV)],
                     seat(A, (("env", "x"), *DEV)), id="tokens with labels"),
        pytest.param([at_once(1, limit_class="bronze")], [seat(A), seat(A, (), "gold"), seat(A, (), "bronze")],
                     seat(A, DEV, "bronze", "gold"), id="a class"),
        pytest.param([at_once(3), at_once(1, limit_class="bronze")], [seat(A, (), "bronze"), seat(A), seat(A)],
                     seat(A), id="what a class uses counts for its tenant"),
    ],
)  # fmt: skip
def test_a_file_limits_whom_it_names(limits: list[Limit], enters: list[Seat], stays: Seat) -> None:
    slots = Concurrency(0, 0, limits)
    for each_seat in enters:
        assert slots.enter(each_seat)
    assert not slots.enter(stays)
    assert slots.is_at_limit(stays.subject)
    for each_seat in enters:
        slots.leave(each_seat)
    assert slots.in_use() == ()
    assert (slots.running, slots.by_tenant) == (0, {})
    assert slots.enter(stays)


def test_it_says_which_limit_of_the_file_is_reached() -> None:
    slots = Concurrency(9, 9, [at_once(2, limit_class="bronze")])
    for _ in range(2):
        slots.enter(seat(A, (), "bronze"))
    told = "request was rate limited: tenant 1:0, tokens of class bronze, have used 2 of 2 concurrent requests"
    assert slots.reached(seat(A, (), "bronze").subject) == told.replace("have used", "have")


def test_observing_refuses_nobody_and_says_what_would_have_been() -> None:
    slots = Concurrency(0, 0, [at_once(1, observe=True)])
    first, second = seat(A), seat(A)
    assert slots.enter(first)
    assert slots.enter(second)
    assert first.exceeded == ()
    assert [str(use) for use in second.exceeded] == ["tenant 1:0 has 2 of 1 concurrent requests (mode: observe)"]
    assert not slots.is_at_limit(A_SUBJECT)


def test_one_that_waits_for_its_class_holds_up_nobody_of_its_tenant() -> None:
    slots, calls = Concurrency(2, 0, [at_once(1, limit_class="bronze")]), Calls()
    bronze, plain = seat(A, (), "bronze"), seat(A)
    assert slots.enter(bronze)
    assert slots.enter(plain)
    slots.wait(seat(A, (), "bronze"), calls.waiter("bronze"))
    slots.wait(seat(A, (), "bronze"), calls.waiter("another"))
    slots.wait(seat(A), calls.waiter("plain"))
    assert calls.call(slots.leave(plain)) == ["plain"]
    assert calls.call(slots.leave(bronze)) == ["bronze"]


def test_a_tenant_whose_requests_all_wait_for_their_class_holds_up_no_other() -> None:
    slots, calls = Concurrency(2, 0, [at_once(1, limit_class="bronze")]), Calls()
    plain = seat(A)
    assert slots.enter(seat(A, (), "bronze"))
    assert slots.enter(plain)
    slots.wait(seat(A, (), "bronze"), calls.waiter("bronze"))
    slots.wait(seat(B), calls.waiter("B"))
    assert calls.call(slots.leave(plain)) == ["B"]


@each("full", [limit("concurrency", 1, total=True), limit("concurrency", 1)])
def test_a_long_queue_of_a_full_limit_is_not_searched(full: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token may be of its own kind, and whoever waits is looked at whenever a request ends."""
    calls = Counter[TenantID | None]()
    uses = Concurrency.uses

    def counting(places: Concurrency, subject: Subject) -> object:
        calls[subject.tenant] += 1
        return uses(places, subject)

    places = Concurrency(0, 0, [full, limit("concurrency", 1000, labels=(("team", "dev"),))])
    first = seat(A)
    assert places.enter(first)
    for number in range(MAX_WAITING_OF_TENANT):
        one = seat(A, (("team", "dev"), ("user", str(number))))
        assert not places.enter(one)
        assert places.wait(one, nothing)
    monkeypatch.setattr(Concurrency, "uses", counting)
    assert len(places.leave(first)) == 1
    assert calls.total() < 10


def test_requests_for_several_tenants_at_their_limit_hold_up_nobody_else() -> None:
    called = Calls()
    places = Concurrency(0, 0, [limit("concurrency", 1)])
    running = seat(B)
    assert places.enter(seat(None))
    assert places.enter(running)
    for name, one in (("several", seat(None)), ("B", seat(B))):
        assert not places.enter(one)
        assert places.wait(one, called.waiter(name))
    assert called.call(places.leave(running)) == ["B"]


def test_a_reload_keeps_the_count_of_a_limit_that_stays() -> None:
    slots, calls = Concurrency(0, 0, [at_once(1), at_once(1, labels=DEV)]), Calls()
    running = seat(A, DEV)
    assert slots.enter(running)
    slots.wait(seat(A, DEV), calls.waiter("one"))
    slots.wait(seat(A, DEV), calls.waiter("two"))
    assert calls.call(slots.resize(0, 0, [at_once(2)])) == ["one"]
    assert [(use.limit.value, use.running) for use in slots.in_use()] == [(2, 2)]
    assert calls.call(slots.resize(0, 0, [at_once(9), at_once(1, total=True)])) == ["two"]
    assert calls.call(slots.leave(running)) == []
    assert {(use.limit.value, use.running) for use in slots.in_use()} == {(9, 2), (1, 1)}


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "give up", "reload"]), st.integers(0, 5)), max_size=60))
def test_whatever_happens_no_limit_of_a_file_is_exceeded_and_all_slots_come_back(steps: list[tuple[str, int]]) -> None:
    subjects = [seat(tenant, labels, *classes).subject
                for tenant in (A, B) for labels, classes in (((), ()), (DEV, ()), ((), ("bronze",)))]  # fmt: skip
    files = [
        [at_once(2), at_once(1, labels=DEV), at_once(3, total=True)],
        [at_once(2), at_once(1, limit_class="bronze"), at_once(1, tenant=B)],
        [],
    ]
    slots, running, waiting = Concurrency(4, 0, files[0]), list[Seat](), list[Seat]()

    def queue(waits: Seat) -> None:
        def granted() -> None:
            waiting.remove(waits)
            running.append(waits)

        assert slots.wait(waits, granted)
        waiting.append(waits)

    limits, since = files[0], list[Seat]()
    for step, number in steps:
        if step == "enter":
            new = Seat(subjects[number])
            if slots.enter(new):
                running.append(new)
            else:
                queue(new)
        elif step == "leave" and running:
            for waiter in slots.leave(running.pop(number % len(running))):
                waiter()
        elif step == "give up" and waiting:
            slots.give_up(waiting.pop(number % len(waiting)))
        elif step == "reload":
            limits, since = files[number % 3], list(running)
            for waiter in slots.resize(4, 0, limits):
                waiter()
        counted = [each_seat for each_seat in running if each_seat not in since]
        for rule in limits:
            by_tenant = Counter(
                None if rule.total else each_seat.subject.tenant
                for each_seat in counted
                if rule in slots.limits.of(each_seat.subject)
            )
            assert max(by_tenant.values(), default=0) <= rule.value
        assert slots.running == len(running) <= 4
        assert slots.waiting == len(waiting)
        for waits in waiting:
            assert slots.running == 4 or slots.is_at_limit(waits.subject), "nobody waits beside a free slot"
    for each_seat in waiting:
        slots.give_up(each_seat)
    for each_seat in running:
        assert slots.leave(each_seat) == []
    assert (slots.running, slots.waiting, slots.in_use(), slots.by_tenant) == (0, 0, (), {})
