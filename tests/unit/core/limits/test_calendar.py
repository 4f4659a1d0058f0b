"""Days and months: when they end in every zone, and the counts in them."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.limits.model import Resolution
from vmgw_core.limits.windows.calendar import LONGEST, Calendar, CalendarWindow, holds, next_begin

DAY, MONTH = Resolution.DAY, Resolution.MONTH
HOUR = 3600


def unix(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@each(
    ("zone", "resolution", "moment", "end"),
    [
        ("UTC", DAY, "2026-11-28T10:00+00:00", "2026-11-29T00:00+00:00"),
        ("UTC", DAY, "2026-11-28T00:00+00:00", "2026-11-29T00:00+00:00"),
        ("UTC", DAY, "2026-12-31T23:59:59+00:00", "2027-01-01T00:00+00:00"),
        ("UTC", MONTH, "2026-11-01T00:00+00:00", "2026-12-01T00:00+00:00"),
        ("UTC", MONTH, "2026-12-31T23:59:59+00:00", "2027-01-01T00:00+00:00"),
        ("UTC", MONTH, "2028-02-29T12:00+00:00", "2028-03-01T00:00+00:00"),
        ("Europe/Berlin", DAY, "2026-11-27T23:00+00:00", "2026-11-28T23:00+00:00"),
        pytest.param("Europe/Berlin", DAY, "2026-03-28T23:00+00:00", "2026-03-29T22:00+00:00", id="23 hours"),
        pytest.param("Europe/Berlin", DAY, "2026-10-24T22:00+00:00", "2026-10-25T23:00+00:00", id="25 hours"),
        pytest.param("Europe/Berlin", MONTH, "2026-03-01T00:00+01:00", "2026-04-01T00:00+02:00", id="summer comes"),
        pytest.param("Asia/Beirut", DAY, "2026-03-28T12:00+02:00", "2026-03-29T01:00+03:00", id="no midnight"),
        pytest.param("Asia/Beirut", DAY, "2026-03-29T01:00+03:00", "2026-03-30T00:00+03:00", id="after no midnight"),
        pytest.param("America/Havana", DAY, "2026-10-31T12:00-04:00", "2026-11-01T00:00-04:00", id="two midnights"),
        pytest.param("America/Havana", DAY, "2026-11-01T00:30-05:00", "2026-11-02T00:00-05:00", id="the second one"),
        pytest.param("Pacific/Apia", DAY, "2011-12-29T12:00-10:00", "2011-12-31T00:00+14:00", id="a day left out"),
    ],
)
def test_when_a_window_ends(zone: str, resolution: Resolution, moment: str, end: str) -> None:
    assert next_begin(zone, resolution, unix(moment)) == unix(end)


ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Havana",
        "Asia/Beirut",
        "Asia/Kathmandu",
        "Africa/Cairo",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kiritimati",
        "America/Sao_Paulo",
        "America/Asuncion",
        "Atlantic/Azores",
    ]
)
MOMENTS = st.floats(unix("2000-01-01T00:00+00:00"), unix("2037-12-31T00:00+00:00"))


@given(ZONES, st.sampled_from([DAY, MONTH]), MOMENTS, st.floats(0, 1))
def test_windows_are_the_days_and_months_of_the_zone_without_gaps(
    zone: str, resolution: Resolution, moment: float, part: float
) -> None:
    def name(at: float) -> tuple[int, ...]:
        local = datetime.fromtimestamp(at, ZoneInfo(zone))
        return (local.year, local.month, local.day if resolution is DAY else 1)

    end = next_begin(zone, resolution, moment)
    assert holds(end, moment, LONGEST[resolution] - HOUR)
    assert name(end - 1) == name(moment) < name(end)
    between = moment + part * (end - 1 - moment)
    assert next_begin(zone, resolution, between) == end


@given(st.floats(allow_nan=False), st.sampled_from([DAY, MONTH]))
def test_any_moment_has_a_window(moment: float, resolution: Resolution) -> None:
    assert next_begin("Europe/Berlin", resolution, moment) > 0


def window(offset: float = 0.0, resolution: Resolution = DAY, key: str = "k") -> CalendarWindow:
    calendar = Calendar()
    calendar.offset, calendar.changed = offset, {}
    return CalendarWindow(calendar, resolution, "UTC", key)


@given(
    st.lists(st.tuples(st.floats(0, 40 * HOUR), st.integers(1, 9)), max_size=30),
    st.floats(0, 1e9),
    st.sampled_from([DAY, MONTH]),
)
def test_a_window_has_what_was_counted_on_its_day(
    events: list[tuple[float, int]], offset: float, resolution: Resolution
) -> None:
    counted, now = window(offset, resolution), 0.0
    sums: dict[object, int] = {}
    for gap, count in events:
        now += gap
        day = datetime.fromtimestamp(now + offset, ZoneInfo("UTC"))
        name = (day.year, day.month, day.day if resolution is DAY else 1)
        assert counted.count(now) == sums.get(name, 0)
        counted.add(count, now)
        sums[name] = sums.get(name, 0) + count
        assert counted.count(now) == sums[name]
        end = datetime.fromtimestamp(now + offset + counted.wait(1, now), ZoneInfo("UTC")) + timedelta(seconds=0.1)
        assert (end.hour, end.minute) == (0, 0), "all of it leaves at midnight"


def test_nothing_is_to_wait_for_where_nothing_is_too_much() -> None:
    assert window().wait(0, 5) == 0


@each(("back", "left"), [(30.0, 5), (2.0 * HOUR, 5), (2.1 * HOUR, 0), (1e9, 0)])
def test_a_clock_that_is_set_back_does_not_begin_a_window_anew_nor_keep_it_for_long(back: float, left: int) -> None:
    counted = window(20_000 * 86400 + 10)
    counted.add(5, 0)
    counted._calendar.offset -= back
    assert counted.count(0) == left


def test_runs_are_the_last_count_alone() -> None:
    counted = window()
    assert list(counted.runs()) == []
    assert counted.spent(5) == ()
    counted.add(2, 3)
    counted.add(4, 5)
    assert list(counted.runs()) == [(5, 6)]
    assert counted.spent(5) == ((86400, 6),)
    assert counted.spent(86400) == ()


def test_only_a_window_with_a_key_is_for_the_state_file() -> None:
    counted = window()
    counted.fresh().add(1, 0)
    assert counted._calendar.changed == {}
    counted.add(1, 0)
    assert counted._calendar.changed == {counted: None}


@each(
    ("until", "total", "kept"),
    [
        pytest.param(86400, 12, 7, id="the same day"),
        pytest.param(2 * 86400, 5, 0, id="another one"),
    ],
)
def test_what_is_restored_adds_to_what_was_counted(until: int, total: int, kept: int) -> None:
    counted = window()
    counted.add(5, 0)
    counted.restore(until, 7)
    assert (counted.count(1), counted.kept) == (total, kept)


@each(("until", "total"), [(86400, 7), (86400 + 3600, 7), (0, 0), (-5, 0), (86400 * 9, 0)])
def test_what_is_restored_counts_if_its_window_has_not_ended(until: int, total: int) -> None:
    counted = window()
    counted.restore(until, 7)
    assert (counted.count(1), counted.kept) == (total, total)
