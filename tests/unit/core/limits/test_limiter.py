"""limits: who is held by what, what a refusal says, and that nobody is forgotten."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.core.limiters import MULTITENANT, A, B, C, admitted, limit, refused, rows_refused
from vmgw_core.base.tenants import Access, Subject, TenantID
from vmgw_core.errors import RateLimited, TooManyRows, UsageUnknown
from vmgw_core.limits.counters import MAX_PLANS
from vmgw_core.limits.limit_set import MAX_MATCHES, LimitSet
from vmgw_core.limits.limiter import OTHER, Limiter
from vmgw_core.limits.model import LimitType, Resolution

READ, WRITE, DELETE = Access.READ, Access.WRITE, Access.DELETE

# --- whom a limit holds --------------------------------------------------------------------------------------------


def test_a_limit_for_all_holds_each_tenant_on_its_own() -> None:
    limiter = Limiter([limit(value=10)])
    assert [admitted(limiter, 12, 0, subject) for subject in (A, B, A)] == [10, 10, 0]
    assert admitted(limiter, 12, 60, A) == 10


def test_a_tenants_own_limit_replaces_the_one_for_all_of_the_same_type_and_resolution() -> None:
    own = limit(value=20, tenant=A.tenant)
    limiter = Limiter([limit(value=10), limit(value=15, resolution="hour"), own])
    assert admitted(limiter, 30, 0, A) == 15  # the hour's limit is another one
    assert admitted(limiter, 30, 0, B) == 10
    assert admitted(Limiter([limit(value=10), own]), 30, 0, A) == 20


def test_a_limit_of_one_tenant_leaves_the_others_alone() -> None:
    limiter = Limiter([limit(value=1, tenant=A.tenant)])
    assert [admitted(limiter, 100, 0, subject) for subject in (A, B)] == [1, 100]
    assert limiter.tenants == 1  # nothing is kept for a tenant without a limit


def test_a_total_is_for_all_tenants_together_and_beside_their_own() -> None:
    limiter = Limiter([limit(value=10), limit(value=15, total=True)])
    assert [admitted(limiter, 12, 0, subject) for subject in (A, B, C)] == [10, 5, 0]


def test_labels_hold_only_tokens_that_carry_them() -> None:
    team = limit(value=3, labels=(("team", "dev"),))
    both = limit(value=2, labels=(("env", "prod"), ("team", "dev")))
    limiter = Limiter([limit(value=10), team, both])
    plain = Subject(A.tenant, (("team", "ops"), ("env", "prod")))
    dev = Subject(A.tenant, (("team", "dev"), ("x", "y")))
    dev_prod = Subject(A.tenant, (("x", "y"), ("team", "dev"), ("env", "prod")))
    assert admitted(limiter, 5, 0, dev_prod) == 2
    assert admitted(limiter, 5, 0, dev) == 1  # two of the team's three are used
    assert admitted(limiter, 20, 0, plain) == 7  # what the team used counts for the tenant
    assert admitted(limiter, 20, 0, A) == 0
    other = Subject(B.tenant, (("team", "dev"),))
    assert admitted(limiter, 5, 0, other) == 3  # each tenant's team on its own


def test_a_burst_holds_beside_its_limit_and_keeps_nobody_waiting() -> None:
    limiter = Limiter([limit(value=5), limit(value=2, resolution="second")])
    assert admitted(limiter, 3, 0) == 2
    refusal = refused(limiter, 0.5)
    assert refusal is not None
    assert (refusal.retry_after, refusal.message) == (
        1,
        "request was rate limited: tenant 1:0 has used 2 of 2 queries per second",
    )
    for number in range(20):  # none of these comes back
        with pytest.raises(RateLimited):
            limiter.admit(A, Access.READ, 0.5, f"192.0.2.{number}")
    assert [admitted(limiter, 3, now) for now in (1.0, 1.9, 2.0, 3.0)] == [2, 0, 1, 0]


def test_a_burst_warns_once_a_minute() -> None:
    limiter = Limiter([limit(value=2, resolution="second")])
    for number in range(50):
        assert admitted(limiter, 2, number * 1.3) == 2
    assert len(limiter.warnings) == 2
    watching = Limiter([limit(value=1, resolution="second", observe=True)])
    for number in range(100):
        assert refused(watching, number * 0.65) is None
    assert [usage.over for usage in watching.warnings].count(True) == 2


def test_each_process_holds_a_burst_by_itself_and_nothing_measures_it() -> None:
    burst = limit(value=2, resolution="second")
    limiter = Limiter([limit(value=5), burst], measured=True)
    limiter.learn_peers({}, 1, 0.0)
    limiter.accounts_found()
    question = limiter.admit(A, Access.READ, 0.0)
    assert question is not None
    assert [want.key for want in question.wants] == ["queries/minute/1:0"]
    limiter.answer(question, None, 0.0)
    assert limiter.local_counts(0.0) == {"queries/minute/1:0": 1}
    assert LimitSet([burst]).measurable == set()


def test_a_class_holds_tokens_whose_grant_names_it_beside_the_limits_of_the_tenant() -> None:
    bronze, gold = Subject(A.tenant, (), frozenset({"bronze"})), Subject(A.tenant, (), frozenset({"gold"}))
    limiter = Limiter([limit(value=5), limit(value=2, limit_class="bronze"), limit(value=9, limit_class="gold")])
    assert admitted(limiter, 9, 0, bronze) == 2
    assert admitted(limiter, 9, 0, gold) == 3  # a class gives nothing that the tenant does not have
    assert admitted(limiter, 9, 0, A) == 0
    elsewhere = Subject(B.tenant, (), bronze.classes)
    assert admitted(limiter, 9, 0, elsewhere) == 2  # each tenant on its own
    assert str(refused(limiter, 0, elsewhere)) == (
        "request was rate limited: tenant 2:0, tokens of class bronze, have used 2 of 2 queries per minute"
    )
    assert [usage.key for usage in limiter.status_of(elsewhere, 0)] == [
        "queries/minute/2:0",
        "queries/minute/2:0/class=bronze",
    ]


def test_all_classes_of_a_token_hold_and_a_limit_may_need_labels_too() -> None:
    dev = (("team", "dev"),)
    limiter = Limiter(
        [
            limit(value=3, limit_class="a"),
            limit(value=2, limit_class="b"),
            limit(value=1, limit_class="a", labels=dev),
        ]
    )
    assert admitted(limiter, 9, 0, Subject(A.tenant, dev, frozenset({"a"}))) == 1
    assert admitted(limiter, 9, 0, Subject(A.tenant, (), frozenset({"a", "b"}))) == 2
    assert admitted(limiter, 9, 0, Subject(A.tenant, (), frozenset({"a"}))) == 0  # three are used
    assert admitted(limiter, 9, 0, Subject(A.tenant, dev, frozenset({"c"}))) == 9
    both = Subject(B.tenant, dev, frozenset({"a"}))
    refusal = 'tenant 2:0, tokens of class a with {team="dev"}, have used 1 of 1 queries per minute'
    assert admitted(limiter, 2, 0, both) == 1
    assert refusal in str(refused(limiter, 0, both))


def test_a_datasource_does_not_measure_classes() -> None:
    limiter = Limiter([limit(value=5, limit_class="a")], measured=True)
    assert limiter.age(0) is None


def test_a_total_with_labels_is_over_all_tenants() -> None:
    limiter = Limiter([limit(value=3, labels=(("team", "dev"),), total=True)])
    dev = [Subject(subject.tenant, (("team", "dev"),)) for subject in (A, B)]
    assert [admitted(limiter, 2, 0, subject) for subject in dev] == [2, 1]
    assert admitted(limiter, 100, 0, A) == 100


def test_limits_of_a_resolution_each_hold_on_their_own() -> None:
    limiter = Limiter([limit(value=10), limit(value=15, resolution="hour")])
    assert [admitted(limiter, 20, now) for now in (0, 59.9, 60, 3599.9, 3600)] == [10, 0, 5, 0, 10]


def test_read_limits_reject_reads_and_write_limits_writes_and_none_rejects_deletes() -> None:
    types = ("queries", "rows_inserted", "new_series", "active_series")
    limiter = Limiter([limit(name, 1) for name in types], measured=True)
    learn = {(LimitType(name), Resolution.MINUTE, A.tenant): 1.0 for name in types[2:]}
    assert refused(limiter, 0, A, READ) is None
    assert rows_refused(limiter, 1, 0) is None
    assert refused(limiter, 0, A, READ) is not None
    assert "rows inserted" in str(refused(limiter, 0, A, WRITE))
    assert refused(limiter, 0, A, DELETE) is None
    later = Limiter([limit(name, 1) for name in types], measured=True)
    later.learn(learn, 0, 0)
    assert "series" in str(refused(later, 0, A, WRITE))
    assert refused(later, 0, A, READ) is None
    assert refused(later, 0, B, WRITE) is None


def test_rows_are_counted_only_where_some_limit_needs_them() -> None:
    assert not Limiter([limit("queries"), limit("new_series")]).counts_rows
    assert Limiter([limit("rows_inserted", total=True)]).counts_rows


def test_a_multitenant_request_is_held_by_the_limits_for_all_on_queries_and_by_totals() -> None:
    own = limit(value=1, tenant=A.tenant)
    limiter = Limiter([limit(value=3), own, limit("rows_inserted", 5), limit("active_series", 1)], measured=True)
    assert admitted(limiter, 5, 0, MULTITENANT) == 3
    assert refused(limiter, 0, MULTITENANT, WRITE) is None
    assert rows_refused(limiter, 100, 0, MULTITENANT) is None
    assert admitted(limiter, 5, 0, B) == 3
    limiter = Limiter([limit(value=4, total=True), limit("rows_inserted", 10, total=True)])
    assert [admitted(limiter, 3, 0, subject) for subject in (MULTITENANT, A)] == [3, 1]
    assert rows_refused(limiter, 8, 0, MULTITENANT) is None
    assert rows_refused(limiter, 8, 0, A) is not None


def test_the_limits_in_force_can_be_asked_for() -> None:
    limits = (limit(value=1), limit(value=2, total=True))
    assert Limiter(limits).limits == limits


# --- rows ----------------------------------------------------------------------------------------------------------


def test_rows_count_all_or_nothing() -> None:
    limiter = Limiter([limit("rows_inserted", 100), limit("rows_inserted", 150, "hour"), limit("queries", 1)])
    assert rows_refused(limiter, 60, 0) is None
    assert rows_refused(limiter, 41, 0) is not None
    assert rows_refused(limiter, 40, 0) is None
    assert rows_refused(limiter, 60, 60) is not None  # the hour's: 100 + 60, and the minute did not count them
    assert rows_refused(limiter, 50, 60) is None
    assert rows_refused(limiter, 0, 60) is None
    assert admitted(limiter, 1, 60) == 1  # rows are no queries


def test_more_rows_than_a_whole_limit_pass_if_nothing_else_is_counted() -> None:
    limiter = Limiter([limit("rows_inserted", 100), limit("rows_inserted", 500, "hour")])
    assert rows_refused(limiter, 10, 0) is None
    refusal = rows_refused(limiter, 250, 1)
    assert isinstance(refusal, RateLimited)
    assert refusal.retry_after == 60
    assert rows_refused(limiter, 250, 60) is None
    next_one = rows_refused(limiter, 1, 61)
    assert isinstance(next_one, RateLimited)
    assert str(next_one).endswith("has used 250 of 100 rows inserted per minute")
    assert next_one.retry_after == 60
    assert rows_refused(limiter, 250, 120) is not None, "the hour has 260 of its 500"
    assert rows_refused(limiter, 240, 120) is None


def test_more_rows_than_a_whole_limit_are_refused_if_the_flag_says_so() -> None:
    limiter = Limiter([limit("rows_inserted", 100, "hour")], refuse_oversized=True)
    refusal = rows_refused(limiter, 101, 0)
    assert isinstance(refusal, TooManyRows)
    assert (refusal.status, str(refusal)) == (
        400,
        "the body has 101 rows and the limit is 100 per hour: send smaller bodies",
    )
    assert rows_refused(limiter, 100, 0) is None


def test_a_write_is_refused_on_its_head_where_no_row_fits() -> None:
    limiter = Limiter([limit("rows_inserted", 100)])
    assert rows_refused(limiter, 99, 0) is None
    assert refused(limiter, 1, A, WRITE) is None
    assert rows_refused(limiter, 1, 30) is None
    refusal = refused(limiter, 31, A, WRITE)
    assert refusal is not None
    assert refusal.retry_after == 30  # a row fits when the first 99 leave


def test_a_write_is_told_to_wait_for_as_many_rows_as_it_last_brought() -> None:
    limiter = Limiter([limit("rows_inserted", 100)])
    for now in range(10):
        assert rows_refused(limiter, 10, now) is None
    assert rows_refused(limiter, 30, 10) is not None
    refusal = refused(limiter, 10, A, WRITE)
    assert refusal is not None
    assert refusal.retry_after == 53  # 30 fit when those of seconds 0, 1 and 2 have left
    assert rows_refused(limiter, 30, 10 + 53) is None


# --- what a refusal says -------------------------------------------------------------------------------------------

_DEV = (("team", 'd"v'),)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        pytest.param(
            lambda: limit(value=2), "tenant 1:0 has used 2 of 2 queries per minute", id="a limit for all"
        ),
        pytest.param(
            lambda: limit(value=2, resolution="hour", tenant=A.tenant),
            "tenant 1:0 has used 2 of 2 queries per hour",
            id="its own limit",
        ),
        pytest.param(
            lambda: limit(value=2, total=True), "all tenants together have used 2 of 2 queries per minute", id="a total"
        ),
        pytest.param(
            lambda: limit(value=2, labels=_DEV),
            r'tenant 1:0, tokens with {team="d\"v"}, have used 2 of 2 queries per minute',
            id="labels",
        ),
    ],
)  # fmt: skip
def test_a_refusal_says_which_limit_its_value_the_usage_and_the_tenant(make: Callable[[], object], text: str) -> None:
    limiter = Limiter([make()])  # type: ignore[list-item]
    subject = Subject(A.tenant, _DEV)
    assert admitted(limiter, 2, 0, subject) == 2
    refusal = refused(limiter, 1, subject)
    assert str(refusal) == f"request was rate limited: {text}"


def test_a_refusal_of_a_multitenant_request_and_of_rows() -> None:
    limiter = Limiter([limit(value=1), limit("rows_inserted", 10)])
    assert admitted(limiter, 1, 0, MULTITENANT) == 1
    said = str(refused(limiter, 0, MULTITENANT))
    assert said == "request was rate limited: multitenant has used 1 of 1 queries per minute"
    assert rows_refused(limiter, 8, 0) is None
    said = str(rows_refused(limiter, 3, 0))
    assert said == "request was rate limited: tenant 1:0 has used 8 of 10 rows inserted per minute"


def test_the_limit_that_holds_longest_is_the_one_that_is_named() -> None:
    limiter = Limiter([limit(value=5), limit(value=5, resolution="hour")])
    assert admitted(limiter, 5, 0) == 5
    refusal = refused(limiter, 10)
    assert refusal is not None
    assert "per hour" in str(refusal)
    assert refusal.retry_after == 3591


def test_refusals_are_counted_by_limit_and_tenant() -> None:
    limiter = Limiter([limit(value=1), limit("rows_inserted", 1, "hour", total=True)], max_tenants=2)
    for subject in (A, A, A, B, B, MULTITENANT):
        refused(limiter, 0, subject)
    for _ in range(3):
        rows_refused(limiter, 1, 0)
    queries, rows = (LimitType.QUERIES, Resolution.MINUTE), (LimitType.ROWS_INSERTED, Resolution.HOUR)
    assert limiter.rejects == {(*queries, "1:0"): 2, (*queries, "2:0"): 1, (None, None, OTHER): 1, (*rows, "1:0"): 2}


# --- tenants that are kept -----------------------------------------------------------------------------------------


def test_at_the_bound_a_new_tenant_is_refused_and_an_active_one_is_not_forgotten() -> None:
    limiter = Limiter([limit(value=2)], max_tenants=2)
    assert [admitted(limiter, 2, now, subject) for now, subject in enumerate((A, B))] == [2, 2]
    refusal = refused(limiter, 10, C)
    assert refusal is not None
    assert str(refusal) == (
        "request was rate limited: the gateway tracks 2 tenants (-ratelimit.maxTenants), and all of them are active, "
        "so it cannot track tenant 3:0"
    )
    assert refusal.retry_after == 51  # A has been idle for a minute then
    limiter.replace([limit(value=2), limit("rows_inserted", 5, "hour")])
    refusal = refused(limiter, 10, C)
    assert refusal is not None
    assert refusal.retry_after == 3591  # or for an hour, where a limit is by the hour
    assert admitted(limiter, 1, 70, A) == 1
    assert refused(limiter, 10 + 3591, C) is None  # in B's place
    assert admitted(limiter, 1, 10 + 3591, A) == 1
    assert refused(limiter, 10 + 3591, B) is not None
    assert limiter.tenants == 2


def test_rows_of_a_new_tenant_find_no_room_either() -> None:
    limiter = Limiter([limit("rows_inserted", 2)], max_tenants=1)
    assert rows_refused(limiter, 1, 0) is None
    assert refused(limiter, 0, B, WRITE) is not None
    assert rows_refused(limiter, 1, 0, B) is not None
    assert rows_refused(limiter, 1, 0) is None


def test_a_refused_tenant_takes_no_room() -> None:
    limiter = Limiter([limit(value=1, total=True), limit(value=5)], max_tenants=2)
    assert admitted(limiter, 1, 0, A) == 1
    for number in range(100, 200):
        assert "all tenants together" in str(refused(limiter, 1, Subject(TenantID(number))))
    assert limiter.tenants == 1


def test_the_number_of_tenants_can_be_changed() -> None:
    limiter = Limiter([limit(value=1)], max_tenants=1)
    assert refused(limiter, 0, A) is None
    assert isinstance(refused(limiter, 0, B), RateLimited)
    limiter.max_tenants = 2
    assert refused(limiter, 0, B) is None
    assert isinstance(refused(limiter, 0, C), RateLimited)


def test_many_tenants_come_and_go() -> None:
    limiter = Limiter([limit(value=1)], max_tenants=10)
    for number in range(1000):
        assert refused(limiter, number * 400, Subject(TenantID(number))) is None
        assert limiter.tenants <= 10


def test_many_sets_of_labels_are_told_apart_with_bounded_memory() -> None:
    limits = [limit(value=1, labels=((f"l{number}", "v"),)) for number in range(8)]
    limiter = Limiter(limits)
    for chosen in range(2**8):
        labels = tuple((f"l{number}", "v") for number in range(8) if chosen & 1 << number)
        refused(limiter, chosen * 100, Subject(A.tenant, labels))
    assert len(limiter._counters.tenants[A.tenant].plans) <= MAX_PLANS
    assert admitted(limiter, 5, 10**6, Subject(A.tenant, (("l3", "v"),))) == 1


def test_what_is_remembered_of_label_sets_is_bounded() -> None:
    dev = limit(labels=(("team", "dev"),))
    limits = LimitSet([dev])
    for number in range(MAX_MATCHES + 10):
        assert limits.slots((("n", str(number)), ("team", "dev"))) == (dev.slot,)
        assert limits.slots((("n", str(number)),)) == ()
    assert len(limits._matches) <= MAX_MATCHES


# --- reload --------------------------------------------------------------------------------------------------------


def test_usage_is_kept_over_a_reload_for_limits_that_stay_or_change_their_value() -> None:
    hour = limit(value=100, resolution="hour")
    limiter = Limiter([limit(value=10), hour, limit(value=50, total=True), limit("rows_inserted", 7)])
    assert admitted(limiter, 10, 0) == 10
    assert rows_refused(limiter, 7, 0) is None
    limiter.replace([limit(value=12), hour, limit(value=55, total=True)])
    assert admitted(limiter, 10, 1) == 2
    limiter.replace([limit(value=12), limit(value=14, tenant=A.tenant), limit(value=13, total=True)])
    assert [admitted(limiter, 10, 2, subject) for subject in (A, B)] == [1, 0]
    limiter.replace([limit(value=5)])
    assert [admitted(limiter, 10, 3, subject) for subject in (A, B)] == [0, 5]
    limiter.replace([])
    assert admitted(limiter, 100, 4) == 100
    assert not limiter.counts_rows


# --- time ----------------------------------------------------------------------------------------------------------


def test_a_clock_that_goes_back_a_little_stands_still() -> None:
    limiter = Limiter([limit(value=2)])
    assert admitted(limiter, 1, 100) == 1
    assert admitted(limiter, 1, 50) == 1
    assert admitted(limiter, 1, 159) == 0
    refusal = refused(limiter, 155)
    assert refusal is not None
    assert refusal.retry_after == 2
    assert admitted(limiter, 2, 160) == 2


def test_a_clock_that_goes_back_by_days_goes_on_from_there() -> None:
    limiter = Limiter([limit(value=2)])
    assert admitted(limiter, 3, 1e6) == 2
    assert admitted(limiter, 3, 1000) == 0
    assert admitted(limiter, 3, 1059) == 0
    assert admitted(limiter, 3, 1060) == 2


# --- for people ----------------------------------------------------------------------------------------------------


def test_status_lists_totals_and_the_tenants_last_admitted_first() -> None:
    limiter = Limiter([limit(value=10), limit("rows_inserted", 9, total=True), limit(value=5, labels=_DEV)])
    admitted(limiter, 1, 0, A)
    admitted(limiter, 2, 0, Subject(B.tenant, _DEV))
    admitted(limiter, 3, 0, MULTITENANT)
    rows_refused(limiter, 4, 2, A)
    assert [(usage.key, usage.usage, usage.limit.value) for usage in limiter.status(3)] == [
        ("rows_inserted/minute/total", 4, 9),
        ("queries/minute/1:0", 1, 10),
        ("queries/minute/multitenant", 3, 10),
        ("queries/minute/2:0", 2, 10),
        (r'queries/minute/2:0/{team="d\"v"}', 2, 5),
    ]
    assert [usage.usage for usage in limiter.status(62)] == [0, 0, 0, 0, 0]


def test_status_of_a_subject_is_what_holds_it() -> None:
    limiter = Limiter([limit(value=10), limit("rows_inserted", 9, total=True), limit("new_series", 3)])
    admitted(limiter, 2, 0, A)
    said = [(usage.limit.type.value, usage.tenant, usage.usage) for usage in limiter.status_of(A, 1)]
    assert said == [("queries", A.tenant, 2), ("rows_inserted", None, 0), ("new_series", A.tenant, 0)]
    assert [usage.usage for usage in limiter.status_of(C, 1)] == [0, 0, 0]
    assert limiter.tenants == 1


def test_a_warning_comes_once_for_each_time_a_limit_is_nearly_reached() -> None:
    limiter = Limiter([limit(value=10)])
    assert admitted(limiter, 7, 0) == 7
    assert not limiter.warnings
    assert admitted(limiter, 3, 30) == 3
    (warning,) = limiter.warnings
    assert (warning.key, warning.usage, warning.limit.value) == ("queries/minute/1:0", 8, 10)
    limiter.warnings.clear()
    assert admitted(limiter, 4, 70) == 4  # 7 of 10, so it is over
    assert admitted(limiter, 3, 75) == 3  # near again, but within the window of the last warning
    assert not limiter.warnings
    assert admitted(limiter, 1, 200) == 1
    assert admitted(limiter, 8, 201) == 8
    assert [warning.usage for warning in limiter.warnings] == [8]


def test_nobody_has_to_read_the_warnings() -> None:
    limiter = Limiter([limit(value=1)])
    for number in range(2000):
        admitted(limiter, 1, 0, Subject(TenantID(number)))
    assert len(limiter.warnings) == 1000


def test_a_refused_request_counts_nowhere() -> None:
    limiter = Limiter([limit(value=5, resolution="hour"), limit(value=3)])
    assert admitted(limiter, 1000, 0) == 3
    assert [usage.usage for usage in limiter.status(0)] == [3, 3]
    with pytest.raises(RateLimited):
        limiter.admit(A, READ, 0)


# --- mode: observe ---------------------------------------------------------------------------------------------------


def test_a_limit_that_observes_refuses_nothing_and_tells_once_a_window() -> None:
    limiter = Limiter([limit(value=3, observe=True), limit(value=100, resolution="hour")])
    assert admitted(limiter, 8, 0) == 8
    assert limiter.observed == {(LimitType.QUERIES, Resolution.MINUTE, "1:0"): 5}
    assert limiter.rejects == {}
    told = [(usage.over, usage.limit.described(usage.usage, usage.tenant)) for usage in limiter.warnings]
    assert told == [
        (False, "tenant 1:0 has used 3 of 3 queries per minute (mode: observe)"),
        (True, "tenant 1:0 has used 3 of 3 queries per minute (mode: observe)"),
    ]
    limiter.warnings.clear()
    assert admitted(limiter, 5, 70) == 5
    assert [usage.over for usage in limiter.warnings] == [False, True]


def test_a_limit_that_enforces_is_named_in_the_refusal_though_another_observes() -> None:
    limiter = Limiter([limit(value=1, observe=True, resolution="hour"), limit(value=2)])
    assert admitted(limiter, 5, 0) == 2
    refusal = refused(limiter, 1)
    assert str(refusal) == "request was rate limited: tenant 1:0 has used 2 of 2 queries per minute"
    assert refusal is not None
    assert refusal.retry_after == 60


def test_rows_and_series_are_observed_too() -> None:
    rows = limit("rows_inserted", 10, observe=True)
    limiter = Limiter([rows, limit("active_series", 5, observe=True)], measured=True, stale_after=30)
    limiter.refuse_oversized = True
    assert refused(limiter, 0, A, WRITE) is None, "though nothing is known of series"
    limiter.learn({(LimitType.ACTIVE_SERIES, Resolution.MINUTE, A.tenant): 5}, 0, 0)
    assert refused(limiter, 1, A, WRITE) is None
    assert rows_refused(limiter, 50, 1) is None
    assert limiter.observed == {
        (LimitType.ACTIVE_SERIES, Resolution.MINUTE, "1:0"): 1,
        (LimitType.ROWS_INSERTED, Resolution.MINUTE, "1:0"): 1,
    }


# --- a judgement without a count -----------------------------------------------------------------------------------


def test_a_judgement_says_what_the_next_request_would_be_told_and_counts_nothing() -> None:
    limiter = Limiter([limit(value=2), limit("rows_inserted", 10)])
    for _ in range(5):
        assert limiter.judge(A, READ, 0) is None
    assert limiter.tenants == 0
    assert admitted(limiter, 5, 0, A) == 2
    judged = limiter.judge(A, READ, 0)
    rejects = dict(limiter.rejects)
    with pytest.raises(RateLimited) as told:
        limiter.admit(A, READ, 0)
    assert isinstance(judged, RateLimited)
    assert (str(judged), judged.retry_after) == (str(told.value), told.value.retry_after)
    assert sum(limiter.rejects.values()) == sum(rejects.values()) + 1, "the judgement is no refusal"
    assert limiter.judge(A, WRITE, 0) is None
    assert limiter.judge(A, DELETE, 0) is None
    assert limiter.judge(A, READ, 60) is None


def test_a_judgement_without_known_usage() -> None:
    limiter = Limiter([limit(value=2)], measured=True, stale_after=10)
    assert isinstance(limiter.judge(A, READ, 0), UsageUnknown)
