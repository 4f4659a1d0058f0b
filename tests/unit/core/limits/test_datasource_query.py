"""usage: the query to the datasource, and what its answers come to."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.limiters import WINDOWED
from tests.support.each import each
from vmgw_core.base.strict_json import FieldError
from vmgw_core.base.tenants import TenantID
from vmgw_core.limits.measured import datasource_query as module
from vmgw_core.limits.measured.datasource_query import MARK, PAGE_AGE, Role, Snapshot, UsagePlan, parse_labels
from vmgw_core.limits.measured.own_requests import OwnRequests
from vmgw_core.limits.model import Limit, LimitType, Resolution

QUERIES, ROWS, NEW, ACTIVE = (
    LimitType.QUERIES,
    LimitType.ROWS_INSERTED,
    LimitType.NEW_SERIES,
    LimitType.ACTIVE_SERIES,
)
MINUTE, HOUR = Resolution.MINUTE, Resolution.HOUR
NOW = 1_700_000_000.0


def limit(
    limit_type: LimitType,
    resolution: Resolution = MINUTE,
    *,
    total: bool = False,
    tenant: TenantID | None = None,
    labels: tuple[tuple[str, str], ...] = (),
) -> Limit:
    return Limit(type=limit_type, resolution=resolution, value=10, tenant=tenant, total=total, labels=labels)


def answer(items: Iterable[tuple[str, dict[str, str], str]], **fields: object) -> bytes:
    """An instant vector: items of part, further labels, and value."""
    result = [{"metric": {MARK: part} | labels, "value": [NOW, value]} for part, labels, value in items]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}, **fields}).encode()


def tenant(account: str, project: str = "0") -> dict[str, str]:
    return {"accountID": account, "projectID": project}


def read(plan: UsagePlan, *items: tuple[str, dict[str, str], str], own: OwnRequests | None = None) -> Snapshot:
    return plan.read(answer(items), own or OwnRequests())


# --- the query -----------------------------------------------------------------------------------------------------


def test_without_limits_nothing_is_asked() -> None:
    assert UsagePlan([], cluster=True).expression == ""
    assert UsagePlan([limit(QUERIES, labels=(("team", "dev"),))], cluster=True).expression == ""


def test_the_query_of_a_cluster() -> None:
    tenants = "vm_tenant_select_requests_total{}"
    idle = 'vm_http_requests_total{path=~"/select/.+"}'
    assert UsagePlan([limit(QUERIES)], cluster=True).expression == (
        f'label_replace(min(timestamp({tenants}) and {tenants}), "{MARK}", "queries/tenants/time", "", "") or '
        f"label_replace(sum(increase({tenants}[1m])) by (accountID, projectID), "
        f'"{MARK}", "queries/tenants/minute", "", "") or '
        f'label_replace(min(timestamp({idle}) and {idle}), "{MARK}", "queries/idle/time", "", "")'
    )


def test_only_the_windows_that_are_limited_are_asked_for() -> None:
    both = UsagePlan([limit(ROWS, HOUR), limit(ROWS, MINUTE), limit(ROWS, MINUTE, total=True)], cluster=False)
    assert both.expression.count("[1m]") == both.expression.count("[1h]") == 2
    hour = UsagePlan([limit(ROWS, HOUR)], cluster=False)
    assert "[1m]" not in hour.expression
    assert "vm_tenant_select" not in hour.expression


def test_active_series_are_a_gauge() -> None:
    expression = UsagePlan([limit(ACTIVE)], cluster=False).expression
    assert "increase" not in expression
    assert "sum(vm_tenant_active_timeseries{}) by (accountID, projectID)" in expression
    assert 'sum(vm_cache_entries{type="storage/hour_metric_ids"})' in expression


def test_extra_labels_narrow_every_metric() -> None:
    every = [limit(each) for each in WINDOWED]
    for cluster in (True, False):
        plan = UsagePlan(every, cluster=cluster, labels=(("cluster", 'a"b\\c\n'), ("dc", "x")))
        matchers = r'cluster="a\"b\\c\n",dc="x"}'
        # Each metric's name is followed by a selector; those that aggregate are no metric.
        assert plan.expression.count("{") == plan.expression.count(matchers) > 0
        assert "vm_tenant_inserted_rows_total{" + matchers in plan.expression


@pytest.mark.parametrize(
    ("limits", "cluster", "asked"),
    [
        pytest.param([limit(NEW)], True, True, id="new series of tenants"),
        pytest.param([limit(ACTIVE, tenant=TenantID(1))], True, True, id="active series of one tenant"),
        pytest.param([limit(ACTIVE, total=True)], True, False, id="a total"),
        pytest.param([limit(ROWS)], True, False, id="a metric tells"),
        pytest.param([limit(NEW)], False, False, id="no cluster"),
    ],
)
def test_writers_are_asked_for_where_tenants_may_have_to_be(limits: list[Limit], cluster: bool, asked: bool) -> None:
    plan = UsagePlan(limits, cluster=cluster)
    assert (f'"{MARK}", "writers"' in plan.expression) is asked


# --- answers -------------------------------------------------------------------------------------------------------


def test_usage_by_tenant() -> None:
    plan = UsagePlan([limit(QUERIES), limit(QUERIES, HOUR)], cluster=True)
    snapshot = read(
        plan,
        ("queries/tenants/time", {}, "1700000000.5"),
        ("queries/tenants/minute", tenant("1", "5"), "600"),
        ("queries/tenants/minute", tenant("0"), "1.5e+2"),
        ("queries/tenants/minute", tenant("multitenant", "multitenant"), "7"),
        ("queries/tenants/hour", tenant("1", "5"), "601"),
        ("queries/idle/time", {}, "1700000000.5"),
    )
    (found,) = snapshot.usages
    assert (found.type, found.source, found.role) == (QUERIES, "vm_tenant_select_requests_total", Role.TENANTS)
    assert found.as_of == 1700000000.5 - PAGE_AGE
    assert found.values == {
        (QUERIES, MINUTE, TenantID(1, 5)): 600,
        (QUERIES, MINUTE, TenantID()): 150,
        (QUERIES, MINUTE, None): 757,
        (QUERIES, HOUR, TenantID(1, 5)): 601,
        (QUERIES, HOUR, None): 601,
    }
    assert (snapshot.unmeasured, snapshot.to_ask, snapshot.writers) == ((), (), ())


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({}, id="none"),
        pytest.param({"accountID": "1"}, id="half of it"),
        pytest.param(tenant("x"), id="text"),
        pytest.param(tenant("4294967296"), id="beyond 32 bits"),
        pytest.param(tenant("-1"), id="negative"),
    ],
)
def test_what_is_no_tenant_counts_for_the_total_alone(labels: dict[str, str]) -> None:
    plan = UsagePlan([limit(ROWS)], cluster=True)
    snapshot = read(plan, ("rows_inserted/tenants/time", {}, "1"), ("rows_inserted/tenants/minute", labels, "9"))
    assert snapshot.usages[0].values == {(ROWS, MINUTE, None): 9}


def test_a_tenant_that_occurs_twice_is_added_up() -> None:
    plan = UsagePlan([limit(ROWS)], cluster=True)
    part = "rows_inserted/tenants/minute"
    snapshot = read(plan, ("rows_inserted/tenants/time", {}, "1"), (part, tenant("1"), "2"), (part, tenant("1"), "3"))
    assert snapshot.usages[0].values[ROWS, MINUTE, TenantID(1)] == 5


def test_a_process_counts_for_tenant_0_and_for_all() -> None:
    plan = UsagePlan([limit(QUERIES)], cluster=False)
    snapshot = read(plan, ("queries/process/time", {}, "5"), ("queries/process/minute", {}, "600"))
    assert snapshot.usages[0].values == {(QUERIES, MINUTE, TenantID()): 600, (QUERIES, MINUTE, None): 600}
    assert snapshot.usages[0].source == "vm_http_requests_total"


def test_the_metric_of_tenants_goes_before_that_of_the_process() -> None:
    plan = UsagePlan([limit(NEW)], cluster=False)
    snapshot = read(
        plan,
        ("new_series/process/time", {}, "5"),
        ("new_series/process/minute", {}, "600"),
        ("new_series/tenants/time", {}, "4"),
        ("new_series/tenants/minute", tenant("0"), "3"),
    )
    assert snapshot.usages[0].values == {(NEW, MINUTE, TenantID()): 3, (NEW, MINUTE, None): 3}
    assert snapshot.usages[0].as_of == 4 - PAGE_AGE


def test_a_cluster_that_nobody_has_used_yet_is_measured() -> None:
    plan = UsagePlan([limit(QUERIES)], cluster=True)
    (found,) = read(plan, ("queries/idle/time", {}, "5")).usages
    assert found.role is Role.IDLE
    assert found.values == {(QUERIES, MINUTE, None): 0}


def test_a_cluster_as_a_whole_says_nothing_of_a_tenant() -> None:
    plan = UsagePlan([limit(ACTIVE), limit(NEW, total=True)], cluster=True)
    snapshot = read(
        plan,
        ("active_series/total/time", {}, "5"),
        ("active_series/total/minute", {}, "600"),
        ("new_series/total/time", {}, "5"),
        ("new_series/total/minute", {}, "60"),
        ("writers", tenant("1"), "5"),
        ("writers", tenant("multitenant", "multitenant"), "6"),
        ("writers", tenant("2"), "50"),
    )
    assert snapshot.usages[1].values == {(ACTIVE, MINUTE, None): 600}
    assert snapshot.usages[0].values == {(NEW, MINUTE, None): 60}
    assert snapshot.to_ask == (ACTIVE,), "new series are limited in total alone"
    assert snapshot.writers == (TenantID(2), TenantID(1)), "those with most rows first"


def test_tenants_are_asked_where_nothing_tells_at_all() -> None:
    snapshot = read(UsagePlan([limit(ACTIVE)], cluster=True))
    assert (snapshot.unmeasured, snapshot.to_ask) == ((ACTIVE,), (ACTIVE,))


def test_an_enterprise_storage_tells_of_tenants() -> None:
    plan = UsagePlan([limit(ACTIVE)], cluster=True)
    snapshot = read(plan, ("active_series/tenants/time", {}, "5"), ("active_series/tenants/minute", tenant("3"), "8"))
    assert snapshot.usages[0].values == {(ACTIVE, MINUTE, TenantID(3)): 8, (ACTIVE, MINUTE, None): 8}
    assert snapshot.to_ask == ()


def test_what_no_source_measures_is_said() -> None:
    snapshot = read(UsagePlan([limit(each) for each in WINDOWED], cluster=False))
    assert snapshot.usages == ()
    assert snapshot.unmeasured == (QUERIES, ROWS, NEW, ACTIVE), "the others are counted here only"
    assert snapshot.to_ask == ()


def test_own_requests_are_taken_off() -> None:
    own = OwnRequests()
    for second in (-61.0, -60.0, -30.0, 0.0, 1.0):  # the window is (as_of - 60, as_of]
        own.note(TenantID(), NOW - PAGE_AGE + second)
    plan = UsagePlan([limit(QUERIES), limit(ROWS)], cluster=False)
    values: dict[tuple[LimitType, Resolution, TenantID | None], float] = {}
    for found in read(
        plan,
        ("queries/process/time", {}, str(NOW)),
        ("queries/process/minute", {}, "10"),
        ("rows_inserted/process/time", {}, str(NOW)),
        ("rows_inserted/process/minute", {}, "10"),
        own=own,
    ).usages:
        values |= found.values
    assert values[QUERIES, MINUTE, TenantID()] == 8
    assert values[QUERIES, MINUTE, None] == 8
    assert values[ROWS, MINUTE, TenantID()] == 10
    few = read(plan, ("queries/process/time", {}, str(NOW)), ("queries/process/minute", {}, "1"), own=own)
    assert few.usages[0].values[QUERIES, MINUTE, TenantID()] == 0


# --- answers that are none -----------------------------------------------------------------------------------------

SERIES = {"metric": {MARK: "queries/tenants/time"}, "value": [1, "2"]}


def vector(*result: object, **fields: object) -> object:
    return {"status": "success", "data": {"resultType": "vector", "result": list(result)}, **fields}


@each(
    ("document", "reason"),
    [
        pytest.param([], "expected an object", id="a list"),
        pytest.param({}, "status: missing", id="empty"),
        pytest.param({"status": "error", "error": "secret"}, "status: expected success, got another", id="an error"),
        pytest.param({"status": 1}, "status: expected a string", id="a status that is none"),
        pytest.param({"status": "success"}, "data: missing", id="no data"),
        pytest.param({"status": "success", "data": []}, "data: expected an object", id="data that is none"),
        pytest.param({"status": "success", "data": {}}, "resultType: missing", id="no type"),
        pytest.param(
            {"status": "success", "data": {"resultType": "matrix", "result": []}}, "expected vector", id="a matrix"
        ),
        pytest.param({"status": "success", "data": {"resultType": "vector"}}, "result: missing", id="no result"),
        pytest.param(vector(SERIES, isPartial=True), "partial", id="partial"),
        pytest.param(vector(SERIES, isPartial=1), "partial", id="partial, strangely"),
        pytest.param(vector(1), r"^answer\.data\.result\[0\]: expected an object", id="no series"),
        pytest.param(
            vector(SERIES, {"value": [1, "2"]}),
            r"^answer\.data\.result\[1\]\.metric: expected an object, got null",
            id="no labels",
        ),
        pytest.param(
            vector({"metric": {}, "value": [1, "2"]}),
            f"{MARK}: expected a string, got null",
            id="a part that was not asked for",
        ),
        pytest.param(vector({"metric": {MARK: 1}, "value": [1, "2"]}), "expected a string", id="no part"),
        pytest.param(vector({**SERIES, "value": "2"}), "value: expected a list", id="no pair"),
        pytest.param(vector({**SERIES, "value": ["2"]}), "expected a time and a value", id="one value"),
        pytest.param(vector({"metric": {MARK: "x"}}), "value: expected a list, got null", id="no value"),
        *(
            pytest.param(vector({**SERIES, "value": [1, value]}), "value: expected a", id=f"value {value!r:.20}")
            for value in (1, None, True, "", "NaN", "+Inf", "-1", "1e999", "0x1", " 1", "1_000", "9" * 1000)
        ),
    ],
)
def test_an_answer_is_refused(document: object, reason: str) -> None:
    plan = UsagePlan([limit(QUERIES)], cluster=True)
    with pytest.raises(FieldError, match=reason) as caught:
        plan.read(json.dumps(document).encode(), OwnRequests())
    assert "secret" not in str(caught.value)


def test_the_number_of_series_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ITEMS", 2)
    plan = UsagePlan([limit(QUERIES)], cluster=True)
    item = ("queries/tenants/minute", tenant("1"), "1")
    assert read(plan, item, ("queries/tenants/time", {}, "1")).usages
    with pytest.raises(FieldError, match="more than 2 series"):
        read(plan, item, item, item)


@given(
    st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_any_bytes_are_an_answer_or_an_error_of_ours(document: bytes) -> None:
    plan = UsagePlan([limit(QUERIES)], cluster=True)
    with pytest.raises(FieldError):
        plan.read(document, OwnRequests())


# --- -ratelimit.extraLabels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        pytest.param([], (), id="none"),
        pytest.param(["a=b"], (("a", "b"),), id="one"),
        pytest.param(["a=b", "_c1=d=e"], (("a", "b"), ("_c1", "d=e")), id="an equals sign in the value"),
        pytest.param(["a="], (("a", ""),), id="an empty value: the label is absent"),
    ],
)
def test_extra_labels_are_accepted(texts: list[str], labels: tuple[tuple[str, str], ...]) -> None:
    assert parse_labels(texts) == labels


@each("text", ["", "a", "=b", "1a=b", "a-b=c", 'a{b="c"}=d', "ä=b", "a =b"])
def test_extra_labels_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected name=value"):
        parse_labels([text])
