"""Limits of days and months in one process; test_sharing_calendar.py has several."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.core.limiters import A, B, C, admitted, limit, refused, rows_refused
from vmgw_core.base.tenants import Access, Labels, Subject, TenantID
from vmgw_core.errors import RateLimited
from vmgw_core.limits.headers import rate_limit_headers
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.model import Limit

DAY = 86400
KEY = "queries/day/1:0"
NOON = 20_000 * DAY + DAY // 2


def daily(value: int = 10, zone: str = "UTC", resolution: str = "day") -> Limit:
    return limit(value=value, resolution=resolution, zone=zone)


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("zone", "resolution", "moment", "retry_after"),
    [
        ("UTC", "day", "2026-11-28T23:00:00+00:00", 3600),
        ("Europe/Berlin", "day", "2026-11-28T22:59:00+00:00", 60),
        ("Europe/Berlin", "day", "2026-10-25T00:00:00+02:00", 25 * 3600),
        ("UTC", "month", "2026-11-01T00:00:00+00:00", 30 * DAY),
        ("Europe/Berlin", "month", "2026-03-31T23:59:59+02:00", 1),
    ],
)
def test_a_limit_is_used_up_until_the_window_ends(zone: str, resolution: str, moment: str, retry_after: int) -> None:
    limiter, now = Limiter([daily(zone=zone, resolution=resolution)]), 77.0
    limiter.calendar.tell_time(at(moment), now)
    assert admitted(limiter, 100, now) == 10
    refusal = refused(limiter, now)
    assert refusal is not None
    assert str(refusal) == f"request was rate limited: tenant 1:0 has used 10 of 10 queries per {resolution}"
    assert retry_after <= refusal.retry_after <= retry_after + 1
    assert refused(limiter, now + retry_after - 0.5) is not None
    assert admitted(limiter, 100, now + retry_after) == 10


def test_nothing_leaves_before_the_window_ends_and_nobody_waits_in_turn() -> None:
    limiter = Limiter([limit("rows_inserted", 1000, "day")])
    assert rows_refused(limiter, 300, NOON) is None
    assert rows_refused(limiter, 800, NOON + 1) is not None
    assert rows_refused(limiter, 700, NOON + 2) is None
    refusal = rows_refused(limiter, 1, NOON + 3)
    assert isinstance(refusal, RateLimited)
    assert refusal.retry_after == DAY // 2 - 2


def test_a_day_holds_beside_a_minute_and_the_longer_wait_is_told() -> None:
    limiter = Limiter([limit(value=5), daily(8)])
    assert admitted(limiter, 10, NOON) == 5
    refusal = refused(limiter, NOON + 1)
    assert refusal is not None
    assert refusal.retry_after == 60
    assert admitted(limiter, 10, NOON + 60) == 3
    refusal = refused(limiter, NOON + 61)
    assert refusal is not None
    assert refusal.retry_after == DAY // 2 - 60
    assert "queries per day" in str(refusal)


def test_the_clock_of_the_calendar_may_be_set() -> None:
    limiter = Limiter([daily()])
    limiter.calendar.tell_time(NOON, 0)
    assert admitted(limiter, 100, 1) == 10
    limiter.calendar.tell_time(NOON - 30, 2)  # back by half a minute
    assert admitted(limiter, 100, 3) == 0
    limiter.calendar.tell_time(NOON + DAY, 4)  # a machine that slept
    assert admitted(limiter, 100, 5) == 10


def test_each_day_has_its_warning() -> None:
    limiter = Limiter([daily(10)])
    for day in range(3):
        admitted(limiter, 20, NOON + day * (DAY + 3600))
        admitted(limiter, 20, NOON + day * (DAY + 3600) + 600)
    assert [usage.usage for usage in limiter.warnings] == [8, 8, 8]


def test_a_limit_that_observes_tells_once_a_day() -> None:
    limiter = Limiter([limit(value=2, resolution="day", observe=True)])
    for day in range(2):
        for minute in range(5):
            assert refused(limiter, NOON + day * DAY + 90 * minute) is None
    assert list(limiter.observed.values()) == [6]
    assert [usage.over for usage in limiter.warnings if usage.over] == [True, True]


def test_limits_headers_and_pages_tell_of_the_day() -> None:
    limiter = Limiter([daily(10, resolution="month"), daily(10)])
    limiter.calendar.tell_time(at("2026-11-28T12:00:00+00:00"), 0)
    admitted(limiter, 10, 1)
    assert rate_limit_headers(limiter.quotas(A, Access.READ, 1)) == (
        (b"RateLimit-Policy", b'"queries/month";q=10;w=2678400, "queries/day";q=10;w=86400'),
        (b"RateLimit", b'"queries/month";r=0;t=216000, "queries/day";r=0;t=43200'),
    )
    assert [usage.as_json() for usage in limiter.status_of(A, 1)] == [
        {"type": "queries", "resolution": name, "scope": "1:0", "value": 10, "used": 10} for name in ("month", "day")
    ]
    assert limiter.judge(A, Access.READ, 1) is not None


def test_a_zone_that_changes_is_in_force_when_the_present_day_has_ended() -> None:
    limiter = Limiter([daily(10)])
    assert admitted(limiter, 100, NOON) == 10
    limiter.replace([daily(10, "Europe/Berlin")])
    assert admitted(limiter, 100, NOON + DAY // 2 - 1) == 0
    assert admitted(limiter, 100, NOON + DAY // 2) == 10
    assert admitted(limiter, 100, NOON + DAY // 2 + 22 * 3600 - 1) == 0
    assert admitted(limiter, 100, NOON + DAY // 2 + 23 * 3600) == 10


def test_a_value_that_changes_keeps_the_count() -> None:
    limiter = Limiter([daily(10)])
    assert admitted(limiter, 100, NOON) == 10
    limiter.replace([daily(15)])
    assert admitted(limiter, 100, NOON) == 5


def test_a_limit_that_is_taken_out_and_put_back_keeps_the_count() -> None:
    total = limit(value=12, resolution="day", total=True)
    limiter = Limiter([daily(10), total])
    assert admitted(limiter, 100, NOON) == 10
    limiter.replace([])
    assert admitted(limiter, 3, NOON) == 3
    limiter.replace([daily(20), total])
    assert admitted(limiter, 100, NOON) == 2
    limiter.replace([limit(value=5)])
    limiter.replace([daily(20)])
    assert admitted(limiter, 100, NOON) == 8


# --- tenants ---------------------------------------------------------------------------------------------------------


def test_a_tenant_is_not_forgotten_before_its_day_has_ended() -> None:
    limiter = Limiter([daily(3)], max_tenants=2)
    assert admitted(limiter, 9, NOON, A) == 3
    assert admitted(limiter, 1, NOON + 5, B) == 1
    refusal = refused(limiter, NOON + 7200, C)
    assert refusal is not None
    assert "the gateway tracks 2 tenants" in str(refusal)
    assert refusal.retry_after == DAY // 2 - 7200 + 1
    assert admitted(limiter, 9, NOON + 7200, A) == 0
    assert admitted(limiter, 9, NOON + 7200, B) == 2
    assert admitted(limiter, 9, NOON + DAY // 2, C) == 3
    assert limiter.tenants == 1


def test_an_idle_tenant_without_a_day_is_forgotten_though_others_before_it_have_one() -> None:
    own = [limit(value=9, resolution="day", tenant=TenantID(number, 0)) for number in range(100, 110)]
    limiter = Limiter([limit(value=9), *own], max_tenants=12)
    for number in (*range(100, 110), 1, 2):
        assert refused(limiter, NOON, Subject(TenantID(number, 0))) is None
    assert refused(limiter, NOON + 60, C) is not None, "eight are passed over at once"
    assert refused(limiter, NOON + 60, C) is None
    assert limiter.tenants == 11
    for number in range(100, 110):
        assert admitted(limiter, 9, NOON + 60, Subject(TenantID(number, 0))) == 8


# --- the state file --------------------------------------------------------------------------------------------------


def saved(limiter: Limiter, now: float = NOON) -> list[tuple[str, int, int]]:
    return [(each.window.key, each.until, each.count) for each in limiter.calendar.unsaved(now)]


END = 20_001 * DAY


def test_what_was_counted_is_told_once() -> None:
    limiter = Limiter([daily(), limit(value=100), limit(value=100, resolution="day", total=True)])
    limiter.restore([])
    assert saved(limiter) == []
    admitted(limiter, 3, NOON)
    assert sorted(saved(limiter)) == [(KEY, END, 3), ("queries/day/total", END, 3)]
    admitted(limiter, 2, NOON + 1)
    assert sorted(saved(limiter)) == [(KEY, END, 2), ("queries/day/total", END, 2)]
    assert saved(limiter) == []


def test_what_could_not_be_written_is_told_again_unless_its_day_has_ended() -> None:
    limiter = Limiter([daily()])
    limiter.restore([])
    admitted(limiter, 3, NOON)
    limiter.calendar.not_saved(limiter.calendar.unsaved(NOON))
    admitted(limiter, 1, NOON + 1)
    counts = limiter.calendar.unsaved(NOON + 1)
    assert [(each.until, each.count) for each in counts] == [(END, 4)]
    admitted(limiter, 1, NOON + DAY)
    limiter.calendar.not_saved(counts)
    assert saved(limiter) == [(KEY, END + DAY, 1)]
    limiter.calendar.not_saved(counts)
    admitted(limiter, 1, NOON + DAY)
    assert saved(limiter, NOON + 2 * DAY) == []


def test_nothing_is_told_without_a_state_file() -> None:
    limiter = Limiter([daily()])
    admitted(limiter, 3, NOON)
    assert saved(limiter) == []
    limiter.restore([(KEY, END, 4)])  # one that is there later
    assert saved(limiter) == [(KEY, END, 3)]
    assert admitted(limiter, 9, NOON) == 3


def test_what_the_file_has_counts_from_the_first_request_on() -> None:
    limiter = Limiter([daily(), limit(value=100, resolution="day", total=True)])
    limiter.restore(
        [
            (KEY, END - DAY, 10),
            (KEY, END, 8),
            ("queries/day/total", END, 99),
            ("queries/day/2:0", END, 3),
            ("queries/day/2:0", END - DAY, 9),
        ]
    )
    assert admitted(limiter, 9, NOON) == 1
    assert refused(limiter, NOON, B) is not None
    assert [(usage.key, usage.usage) for usage in limiter.status(NOON)] == [("queries/day/total", 100), (KEY, 9)]
    assert [usage.usage for usage in limiter.status_of(B, NOON)] == [3, 100]
    assert sorted(saved(limiter)) == [(KEY, END, 1), ("queries/day/total", END, 1)]
    assert admitted(limiter, 20, NOON + DAY, B) == 10


@pytest.mark.parametrize("labels", [(), (("team", "d@v"),)])
def test_counts_are_restored_for_each_limit_of_a_token(labels: Labels) -> None:
    limits = [limit(value=5, resolution="day", labels=labels, limit_class="bronze")]
    subject = Subject(TenantID(1, 0), labels, frozenset({"bronze"}))
    limiter = Limiter(limits)
    limiter.restore([])
    assert admitted(limiter, 3, NOON, subject) == 3
    again = Limiter(limits)
    again.restore(saved(limiter))
    assert admitted(again, 9, NOON, subject) == 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["admit", "admit", "save", "fail", "crash", "stop", "reload"]),
            st.integers(1, 6),
            st.sampled_from([0.0, 1.0, DAY / 3]),
        ),
        max_size=40,
    )
)
def test_only_what_was_not_saved_is_lost(steps: list[tuple[str, int, float]]) -> None:
    file: Counter[tuple[str, int]] = Counter()
    passed: Counter[int] = Counter()
    lost: Counter[int] = Counter()
    now, limiter = float(NOON), Limiter([daily(10)])
    limiter.restore([])

    def save() -> None:
        for each in limiter.calendar.unsaved(now):
            file[each.window.key, each.until] += each.count

    for what, number, gap in steps:
        now += gap
        end = (int(now // DAY) + 1) * DAY
        if what == "admit":
            passed[end] += admitted(limiter, number, now)
        elif what == "save":
            save()
        elif what == "fail":
            limiter.calendar.not_saved(limiter.calendar.unsaved(now))
        elif what == "reload":
            limiter.replace([])
            limiter.replace([daily(10)])
        else:
            if what == "stop":
                save()
            lost[end] = passed[end] - file[KEY, end]
            limiter = Limiter([daily(10)])
            limiter.restore([(key, until, count) for (key, until), count in file.items() if until > now])
        assert passed[end] <= 10 + lost[end]
    save()
    assert file[KEY, end] == passed[end] - lost[end] if steps else not file
