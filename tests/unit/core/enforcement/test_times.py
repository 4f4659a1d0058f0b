"""times: what v1.150 makes of each spelling, measured there, and any text at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.enforcement.guards.times import (
    NoZone,
    duration,
    duration_argument,
    graphite_interval,
    graphite_time,
    time_argument,
)

NOW = 1_800_000_000.5
LATEST = 9_223_372_036.854


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


@each(
    ("text", "seconds"),
    [
        ("now", NOW), ("now-1h", NOW - 3600), ("now-1h30m", NOW - 5400), ("-1h", NOW - 3600), ("1h", NOW - 3600),
        ("2h-5m", NOW - 6900), ("1h+02:00", NOW - 3600), ("5ms", NOW - 0.005), ("1y", NOW - 31_536_000),
        ("now-1i", NOW), ("nowZ", None), ("now+1h", None), ("5M", None), ("1Mi", None), ("1h5", None), ("Z", None),
        ("2024Z", at(2024, 1, 1)), ("2024+02:00", at(2024, 1, 1) - 7200), ("2024-02Z", at(2024, 2, 1)),
        ("2024-02-03Z", at(2024, 2, 3)), ("2024-02-03T04Z", at(2024, 2, 3, 4)),
        ("2024-02-03T04:05Z", at(2024, 2, 3, 4, 5)), ("2024-02-03T04:05:06Z", at(2024, 2, 3, 4, 5, 6)),
        ("2024-02-03T04:05:06.5Z", at(2024, 2, 3, 4, 5, 6) + 0.5),
        ("2024-02-03T04:05:06.5-02:30", at(2024, 2, 3, 6, 35, 6) + 0.5), ("2024-13-01Z", None), ("2024-02-30Z", None),
        ("1700000000", 1.7e9), ("1700000000.123", 1_700_000_000.123), ("1.7e9", 1.7e9), ("+1700000000", 1.7e9),
        ("1700000000123", 1_700_000_000.123), ("1700000000123456", 1_700_000_000.123456), ("1.7e12", 1.7e9),
        ("0", 0.0), ("100", 100.0), ("9223372036", 9_223_372_036.0), ("9223372037", 9_223_372.037),
        ("-292273086-05-16T16:47:06Z", 0.0), ("292277025-08-18T07:12:54.999999999Z", LATEST), ("1900-01-01Z", 0.0),
        ("9999-01-01Z", LATEST),
        ("1700000000123456789", None), ("99999999999999999999", None), ("1e99", None), ("-3600", None), ("-1.5", None),
        ("0x10", None), ("1_0", None), ("junk", None), ("inf", None), ("1" * 101, None), ("1h" * 51, None),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_times(text: str, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(ValueError):
            time_argument(text, NOW)
    else:
        assert time_argument(text, NOW) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("text", ["2024", "2024-02", "2024-02-03", "2024-02-03T04:05:06"])
def test_a_time_needs_a_zone(text: str) -> None:
    with pytest.raises(NoZone):
        time_argument(text, NOW)


@each(
    ("text", "seconds"),
    [
        ("", None), ("undefined", None), ("15", 15.0), ("15s", 15.0), ("1.5m", 90.0), ("1h30m", 5400.0), ("0.5", 0.5),
        ("1e2", 100.0), ("5.", 5.0), ("15S", 15.0), ("15MS", 0.015), ("100y", 3_153_600_000.0), ("1w", 604_800.0),
        ("0", ...), ("0.0001", ...), ("-5", ...), ("-5m", ...), ("5i", ...), ("101y", ...), ("inf", ...), ("nan", ...),
        ("1e999", ...), ("0x10", ...), ("5M", ...), ("x", ...), ("1" * 101, ...),
    ],
)  # fmt: skip
def test_durations_of_arguments(text: str, seconds: object) -> None:
    if seconds is ...:
        with pytest.raises(ValueError):
            duration_argument(text)
    else:
        assert duration_argument(text) == seconds


def test_steps_of_the_query_in_a_duration() -> None:
    assert duration("5i", 60) == 300
    assert duration("1h-2i", 60) == 3480
    assert duration("-1h30m") == -5400


@each(
    ("text", "seconds"),
    [
        ("now", NOW), ("today", NOW // 86400 * 86400), ("yesterday", (NOW // 86400 - 1) * 86400), ("-1h", NOW - 3600),
        ("-30min", NOW - 1800), ("1mon", NOW + 2_592_000), (" -1d", NOW - 86400), ("1700000000", 1.7e9),
        ("-3600", -3600.0), ("20240203", at(2024, 2, 3)), ("04:05_20240203", at(2024, 2, 3, 4, 5)),
        ("04:0520240203", at(2024, 2, 3, 4, 5)), ("04:05 20240203", at(2024, 2, 3, 4, 5)),
        ("2024-02-03", at(2024, 2, 3)), ("02/03/24", at(2024, 2, 3)), ("2024-02-03T04:05:06Z", at(2024, 2, 3, 4, 5, 6)),
        ("99999999", None), ("1h" * 60, None), ("x", None), ("-h", None), ("2024-02-03T04:05:06", None),
    ],
)  # fmt: skip
def test_times_of_graphite(text: str, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(ValueError):
            graphite_time(text, NOW)
    else:
        assert graphite_time(text, NOW) == seconds


def test_a_long_interval() -> None:
    with pytest.raises(ValueError, match="no interval"):
        graphite_interval("1h" + " " * 100)


@given(st.text() | st.text("0123456789.-+:TZehmsdwyinow", max_size=30))
def test_any_text_gives_a_number_or_an_error(text: str) -> None:
    readers: list[Callable[[], float | None]] = [
        partial(time_argument, text, NOW),
        partial(graphite_time, text, NOW),
        partial(duration_argument, text),
    ]
    for read in readers:
        try:
            found = read()
        except ValueError:
            continue
        assert found is None or math.isfinite(found)
