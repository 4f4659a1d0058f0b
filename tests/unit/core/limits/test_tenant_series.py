"""tenant_series: tenants of an open-source cluster, asked one by one."""

from __future__ import annotations

import json

import pytest

from tests.support.each import each
from vmgw_core.base.strict_json import FieldError
from vmgw_core.base.tenants import TenantID
from vmgw_core.limits.measured import tenant_series as module
from vmgw_core.limits.measured.tenant_series import Ask, TenantSeries
from vmgw_core.limits.model import LimitType, Resolution

ACTIVE, NEW = LimitType.ACTIVE_SERIES, LimitType.NEW_SERIES
MINUTE, HOUR = Resolution.MINUTE, Resolution.HOUR
A, B = TenantID(1, 5), TenantID(2)
BOTH = (ACTIVE, NEW)


def ask(limit_type: LimitType, tenant: TenantID = A) -> Ask:
    return Ask(type=limit_type, tenant=tenant)


def active(number: object) -> bytes:
    return json.dumps({"status": "success", "data": {"totalSeries": number}}).encode()


def count(number: object) -> bytes:
    return json.dumps({"status": "success", "data": [number]}).encode()


def asked(*tenants: TenantID, now: float = 0.0) -> TenantSeries:
    series = TenantSeries(interval=30)
    series.due(BOTH, tenants, now)
    return series


def test_the_targets() -> None:
    assert ask(ACTIVE).target == "/select/1:5/prometheus/api/v1/status/tsdb?topN=1"
    assert ask(NEW).target == "/select/1:5/prometheus/api/v1/series/count"


def test_each_tenant_is_asked_once_in_an_interval() -> None:
    series = TenantSeries(interval=30)
    assert series.due([ACTIVE], [A, A], 0) == (ask(ACTIVE),)
    assert series.due([ACTIVE], [A, B], 29.9) == (ask(ACTIVE, B),)
    assert series.due([NEW, ACTIVE], [A, B], 30) == (ask(NEW), ask(ACTIVE))
    assert series.due([ACTIVE], [A], 20) == (ask(ACTIVE),), "the clock was set back"
    assert series.due([], [B], 100) == ()


def test_a_tenant_that_is_not_named_any_more_is_forgotten() -> None:
    series = asked(A, B)
    series.received(ask(ACTIVE), active(3), 0)
    series.due(BOTH, [B], 1)
    assert series.values(ACTIVE) == {}
    series.received(ask(ACTIVE), active(3), 0)
    series.failed(ask(ACTIVE))
    assert series.values(ACTIVE) == {}


def test_the_number_of_tenants_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TENANTS", 2)
    series = TenantSeries(interval=30)
    tenants = [TenantID(number) for number in range(5)]
    assert [each.tenant for each in series.due([NEW], tenants, 0)] == tenants[:2]
    assert series.left_out == 3
    series.due([NEW], tenants[:2], 0)
    assert series.left_out == 0


def test_active_series() -> None:
    series = asked(A, B)
    series.received(ask(ACTIVE), active(30), 1)
    series.received(ask(ACTIVE, B), active(0), 2)
    values = series.values(ACTIVE)
    assert values == {
        (ACTIVE, window, tenant): number for window in (MINUTE, HOUR) for tenant, number in ((A, 30), (B, 0))
    }
    assert series.values(NEW) == {}
    assert series.as_of(ACTIVE) == 1
    assert series.as_of(NEW) is None


def test_new_series_are_the_growth_within_the_window() -> None:
    series = asked(A)
    found = []
    for now, number in ((0, 100), (30, 110), (60, 115), (90, 115), (120, 116), (3600, 200), (3700, 200)):
        series.received(ask(NEW), count(number), now)
        values = series.values(NEW)
        found.append((values[NEW, MINUTE, A], values[NEW, HOUR, A]))
    # From 60 on the minute no longer begins with the first answer; the hour does until 3600.
    assert found == [(0, 0), (10, 10), (15, 15), (5, 15), (1, 16), (84, 100), (0, 85)]
    assert series.values(ACTIVE) == {}


def test_a_number_of_series_that_shrinks_makes_room_for_nothing() -> None:
    series = asked(A)
    series.received(ask(NEW), count(100), 0)
    series.received(ask(NEW), count(40), 30)
    assert series.values(NEW)[NEW, MINUTE, A] == 0


def test_the_points_of_growth_are_bounded() -> None:
    series = asked(A)
    for second in range(10_000):
        series.received(ask(NEW), count(second), second)
    values = series.values(NEW)
    assert values[NEW, MINUTE, A] == 60
    assert 3600 <= values[NEW, HOUR, A] <= 3660
    state = series._tenants[A]
    assert all(len(growth.points) <= 62 for growth in state.growth.values())


def test_what_failed_is_not_new_and_not_lost() -> None:
    series = asked(A, B)
    series.received(ask(ACTIVE), active(30), 1)
    series.received(ask(ACTIVE, B), active(40), 31)
    series.failed(ask(ACTIVE))
    assert series.values(ACTIVE)[ACTIVE, MINUTE, A] == 30
    assert series.as_of(ACTIVE) == 31
    series.failed(ask(ACTIVE, B))
    assert series.as_of(ACTIVE) is None


@each(
    ("limit_type", "document", "reason"),
    [
        pytest.param(ACTIVE, b"<html>", "not valid JSON", id="no JSON"),
        pytest.param(ACTIVE, b"{}", "data: missing", id="no data"),
        pytest.param(ACTIVE, count(1), "data: expected an object", id="the other answer"),
        pytest.param(ACTIVE, b'{"data":{}}', "totalSeries: missing", id="no number"),
        pytest.param(ACTIVE, active("1"), "totalSeries: expected an integer", id="text"),
        pytest.param(ACTIVE, active(-1), "out of range", id="negative"),
        pytest.param(NEW, active(1), "data: expected a list", id="the other answer, too"),
        pytest.param(NEW, b'{"data":[]}', "expected one number", id="none"),
        pytest.param(NEW, b'{"data":[1,2]}', "expected one number", id="two"),
        pytest.param(NEW, count(1.5), "expected an integer", id="a fraction"),
    ],
)
def test_an_answer_is_refused(limit_type: LimitType, document: bytes, reason: str) -> None:
    series = asked(A)
    with pytest.raises(FieldError, match=reason):
        series.received(ask(limit_type), document, 0)
    assert series.as_of(limit_type) is None
