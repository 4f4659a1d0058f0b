"""limits with what a datasource knows that answers late; test_sharing.py has replicas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.limiters import MULTITENANT, A, B, admitted, limit, refused
from tests.unit.core.limits.test_limiter_windows import GAPS
from vmgw_core.base.tenants import Access, Subject
from vmgw_core.errors import UsageUnknown
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.model import LimitType, Resolution

QUERIES = (LimitType.QUERIES, Resolution.MINUTE)
ROWS = (LimitType.ROWS_INSERTED, Resolution.MINUTE)
NEW = (LimitType.NEW_SERIES, Resolution.MINUTE)
ACTIVE = (LimitType.ACTIVE_SERIES, Resolution.MINUTE)
TENANT = A.tenant
WRITE = Access.WRITE


def measured(*limits: object, **options: float) -> Limiter:
    return Limiter(limits or (limit(value=10),), measured=True, **options)  # type: ignore[arg-type]


# --- a datasource --------------------------------------------------------------------------------------------------


def test_a_burst_between_two_answers_does_not_get_through() -> None:
    limiter = measured()
    limiter.learn({(*QUERIES, TENANT): 4}, 0, 1)
    assert admitted(limiter, 100, 2) == 6
    limiter.learn({(*QUERIES, TENANT): 10}, 5, 6)
    assert admitted(limiter, 100, 7) == 0


def test_what_was_admitted_since_the_scrape_counts_on_top_of_it() -> None:
    limiter = measured()
    assert admitted(limiter, 3, 1) == 3
    limiter.learn({(*QUERIES, TENANT): 5}, 2, 6)  # the three are in it, and two that came another way
    assert admitted(limiter, 3, 6) == 3
    limiter.learn({(*QUERIES, TENANT): 5}, 4, 7)  # scraped before the second three
    assert admitted(limiter, 100, 8) == 2


def test_an_event_at_the_moment_of_the_scrape_counts_as_not_in_it() -> None:
    limiter = measured()
    assert admitted(limiter, 3, 2) == 3
    limiter.learn({(*QUERIES, TENANT): 3}, 2, 2)
    assert admitted(limiter, 100, 3) == 4


def test_the_own_window_holds_though_the_datasource_knows_less() -> None:
    limiter = measured()
    assert admitted(limiter, 8, 0) == 8
    limiter.learn({(*QUERIES, TENANT): 1}, 10, 11)
    assert admitted(limiter, 100, 12) == 2


def test_an_answer_that_was_overtaken_is_dropped() -> None:
    limiter = measured()
    limiter.learn({(*QUERIES, TENANT): 9}, 10, 11)
    limiter.learn({(*QUERIES, TENANT): 0}, 5, 12)
    assert admitted(limiter, 100, 13) == 1


def test_a_moment_in_the_future_is_now() -> None:
    limiter = measured()
    limiter.learn({(*QUERIES, TENANT): 9}, 1000, 10)
    assert admitted(limiter, 100, 11) == 1
    assert admitted(limiter, 100, 69) == 0
    assert admitted(limiter, 100, 71) == 10


def test_tenants_that_an_answer_leaves_out_have_used_nothing_and_types_it_leaves_out_stay() -> None:
    limiter = measured(limit(value=10), limit("rows_inserted", 100))
    limiter.learn({(*QUERIES, TENANT): 10, (*ROWS, TENANT): 100}, 0, 0)
    assert refused(limiter, 1, B) is None
    limiter.learn({(*QUERIES, B.tenant): 10}, 5, 5)
    assert refused(limiter, 6, A) is None
    assert refused(limiter, 6, B) is not None
    assert refused(limiter, 6, A, WRITE) is not None


def test_a_number_that_is_none_is_an_error_and_one_below_zero_is_zero() -> None:
    limiter = measured()
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="queries per minute of 1:0 is not a finite number"):
            limiter.learn({(*QUERIES, TENANT): value}, 0, 0)
    limiter.learn({(*QUERIES, TENANT): -3.0, (*QUERIES, B.tenant): 8.2}, 0, 0)
    assert [admitted(limiter, 100, 1, subject) for subject in (A, B)] == [10, 1]


def test_what_no_limit_asks_for_is_not_kept() -> None:
    limiter = measured()
    limiter.learn({(*ROWS, TENANT): 1e9}, 0, 0)
    assert admitted(limiter, 1, 0) == 1
    assert limiter.age(0) == float("inf")
    assert Limiter([limit()]).age(0) is None


def test_a_total_is_held_by_the_number_of_all_together() -> None:
    limiter = measured(limit(value=10, total=True), limit("active_series", 5, total=True))
    limiter.learn({(*QUERIES, None): 8, (*QUERIES, TENANT): 1, (*ACTIVE, None): 4}, 0, 0)
    assert [admitted(limiter, 100, 1, subject) for subject in (A, B)] == [2, 0]
    assert refused(limiter, 1, B, WRITE) is None
    limiter.learn({(*ACTIVE, None): 5}, 1, 1)
    said = str(refused(limiter, 1, B, WRITE))
    assert said == "request was rate limited: all tenants together have 5 of 5 active series"


def test_multitenant_requests_and_labels_are_counted_here_alone() -> None:
    dev = Subject(A.tenant, (("team", "dev"),))
    limiter = measured(limit(value=10), limit(value=4, labels=dev.labels))
    limiter.learn({(*QUERIES, None): 100}, 0, 0)
    assert admitted(limiter, 100, 1, MULTITENANT) == 10
    assert admitted(limiter, 100, 1, dev) == 4


def test_new_series_are_known_from_the_datasource_alone() -> None:
    limiter = measured(limit("new_series", 100))
    assert refused(limiter, 0, A, WRITE) is None
    limiter.learn({(*NEW, TENANT): 100}, 0, 2)
    refusal = refused(limiter, 3, A, WRITE)
    assert str(refusal) == "request was rate limited: tenant 1:0 has used 100 of 100 new series per minute"
    limiter.learn({(*NEW, TENANT): 99}, 5, 7)
    assert refused(limiter, 8, A, WRITE) is None
    assert [usage.usage for usage in limiter.status(8)] == [99]


def test_active_series_are_a_level_and_not_a_window() -> None:
    limiter = measured(limit("active_series", 100))
    limiter.learn({(*ACTIVE, TENANT): 100}, 0, 2)
    refusal = refused(limiter, 1000, A, WRITE)
    assert refusal is not None
    assert refusal.retry_after == 61


def test_usage_of_a_window_ends_with_the_window_though_no_answer_comes() -> None:
    limiter = measured()
    limiter.learn({(*QUERIES, TENANT): 10}, 0, 2)
    refusal = refused(limiter, 30)
    assert refusal is not None
    assert refusal.retry_after == 33  # the window of the scrape, and the lag of the first answer
    assert admitted(limiter, 100, 59.9) == 0
    assert admitted(limiter, 100, 60) == 10
    assert admitted(limiter, 100, 61) == 0


def test_a_warning_comes_from_the_datasources_number_too() -> None:
    limiter = measured(limit("active_series", 10), limit(value=10))
    limiter.learn({(*ACTIVE, TENANT): 8, (*QUERIES, TENANT): 7}, 0, 0)
    for _ in range(3):
        assert refused(limiter, 1, A, WRITE) is None
    assert refused(limiter, 1) is None
    assert [(warning.key, warning.usage) for warning in limiter.warnings] == [
        ("active_series/minute/1:0", 8),
        ("queries/minute/1:0", 8),
    ]


def test_fail_closed_refuses_what_is_not_known_or_known_too_long_ago() -> None:
    limiter = measured(limit(value=10), limit("active_series", 5), stale_after=30)
    with pytest.raises(UsageUnknown, match=r"usage of queries .* for 30 seconds \(-ratelimit\.failClosed\)"):
        limiter.admit(A, Access.READ, 0)
    limiter.learn({(*QUERIES, None): 0}, 0, 1)
    assert refused(limiter, 30) is None
    with pytest.raises(UsageUnknown):
        limiter.admit(A, Access.READ, 30.1)
    with pytest.raises(UsageUnknown, match="usage of active series"):
        limiter.admit(A, WRITE, 30)
    assert refused(limiter, 31, A, Access.DELETE) is None
    limiter.learn({(*QUERIES, None): 0, (*ACTIVE, None): 0}, 32, 33)
    assert refused(limiter, 34) is None
    assert refused(limiter, 34, A, WRITE) is None
    assert limiter.age(34) == 2


def test_fail_closed_holds_only_what_a_datasource_is_asked_for() -> None:
    dev = limit(value=4, labels=(("team", "dev"),))
    limiter = measured(dev, stale_after=30)
    assert admitted(limiter, 10, 0, Subject(A.tenant, dev.labels)) == 4
    assert admitted(Limiter([limit(value=4)], stale_after=30), 10, 0) == 4


def test_a_reload_keeps_what_was_learnt() -> None:
    limiter = measured()
    limiter.learn({(*QUERIES, TENANT): 9}, 0, 0)
    limiter.replace([limit(value=12), limit("new_series", 3)])
    assert admitted(limiter, 100, 1) == 3
    assert limiter.age(1) == float("inf")  # nothing is known of new series yet


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("query"), GAPS),
            st.tuples(st.just("elsewhere"), GAPS),
            st.tuples(st.just("scrape"), GAPS),
            st.tuples(st.just("answer"), st.integers(0, 3)),
        ),
        max_size=80,
    )
)
def test_verdicts_are_those_of_the_newest_scrape_whatever_the_order_of_answers(steps: list[tuple[str, int]]) -> None:
    limiter, now = measured(limit(value=6)), 0.0
    own: list[float] = []
    everywhere: list[float] = []
    scrapes: list[tuple[float, int]] = []
    known = (-1e9, 0)
    for what, number in steps:
        if what == "answer":
            if scrapes:
                moment, value = scrapes.pop(number % len(scrapes))
                limiter.learn({(*QUERIES, TENANT): value}, moment, now)
                known = (moment, value) if moment >= known[0] else known
            continue
        now += number / 1024
        if what == "scrape":
            scrapes.append((now, sum(now - moment < 60 for moment in everywhere)))
        elif what == "elsewhere":
            everywhere.append(now)
        else:
            heard = known[1] + sum(moment >= known[0] for moment in own) if now - known[0] < 60 else 0
            full = max(heard, sum(now - moment < 60 for moment in own)) >= 6
            assert (refused(limiter, now) is not None) == full
            if not full:
                own.append(now)
                everywhere.append(now)


@given(st.integers(0, 20), st.integers(1, 30), st.lists(st.integers(0, 4000), max_size=30))
def test_retry_after_is_true_with_a_datasource(elsewhere: int, every: int, gaps: list[int]) -> None:
    """Answers come every few seconds, each as late as the one before, and nobody else uses anything any more."""
    limiter, now = measured(), 0.0
    events = [now] * elsewhere
    for gap in gaps:
        now += gap / 1024
        if refused(limiter, now) is None:
            events.append(now)
    for moment in (now + every, now + 2 * every):  # two answers, so that the lag is known
        limiter.learn(
            {(*QUERIES, TENANT): sum(moment - every - 60 < event for event in events)}, moment - every, moment
        )
    now += 2 * every
    refusal = refused(limiter, now)
    if refusal is not None:
        later, moment = now + refusal.retry_after, now
        while moment + every <= later:
            moment += every
            value = sum(moment - every - 60 < event for event in events)
            limiter.learn({(*QUERIES, TENANT): value}, moment - every, moment)
        assert refused(limiter, later) is None
