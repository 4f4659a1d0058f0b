"""own_requests: what asking itself costs the tenants' limits, which is nothing."""

from __future__ import annotations

from vmgw_core.base.tenants import TenantID
from vmgw_core.limits.measured.own_requests import KEPT_SECONDS, OwnRequests

A, B = TenantID(1), TenantID(2)


def test_they_are_counted_by_tenant_and_window() -> None:
    own = OwnRequests()
    for tenant, time in ((A, 10.0), (B, 11.0), (A, 20.0)):
        own.note(tenant, time)
    assert own.count(A, 0, 20) == 2
    assert own.count(A, 10, 20) == 1, "a window does not hold its begin"
    assert own.count(A, 0, 19.9) == 1
    assert own.count(B, 0, 20) == 1
    assert own.count(None, 0, 20) == 3
    assert own.count(TenantID(3), 0, 20) == 0


def test_those_of_a_past_window_are_forgotten() -> None:
    own = OwnRequests()
    own.note(A, 0.0)
    own.note(A, KEPT_SECONDS + 1)
    assert own.count(A, -1, KEPT_SECONDS + 1) == 1
    own.forget_idle(2 * KEPT_SECONDS + 1)
    assert own.count(A, -1, KEPT_SECONDS + 1) == 1
    own.forget_idle(2 * KEPT_SECONDS + 2)
    assert own.count(A, -1, KEPT_SECONDS + 1) == 0


def test_a_clock_that_is_set_back_does_no_harm() -> None:
    own = OwnRequests()
    for time in (100.0, 50.0, 101.0):
        own.note(A, time)
    assert own.count(A, 0, 100) == 2
    assert own.count(A, 0, 200) == 3


def test_a_copy_stays_as_it_is() -> None:
    own = OwnRequests()
    own.note(A, 10)
    copy = own.copy()
    own.note(A, 20)
    own.note(B, 20)
    assert (copy.count(A, 0, 100), copy.count(None, 0, 100)) == (1, 1)
    assert own.count(None, 0, 100) == 3
