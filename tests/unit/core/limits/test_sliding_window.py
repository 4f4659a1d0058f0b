"""windows: never more in any window than was let through; exact up to a thousand events; bounded beyond."""

from __future__ import annotations

from bisect import bisect_right
from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.limits.windows.sliding_window import EXACT, SlidingWindow

# Multiples of 1/1024 second, so that no sum of them is rounded.
_STEPS = st.lists(st.integers(0, 40 * 1024), max_size=300)


def _filled(*moments: float, seconds: float = 60) -> SlidingWindow:
    window = SlidingWindow(seconds)
    for moment in moments:
        window.count(moment)
        window.add(1, moment)
    return window


def test_an_empty_window_holds_nothing() -> None:
    window = SlidingWindow(60)
    assert (window.count(0), window.since(0), window.wait(5, 0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("now", "count"),
    [
        pytest.param(10, 2, id="at once"),
        pytest.param(59.999, 2, id="just before the first is as old as the window"),
        pytest.param(60, 1, id="the first is exactly as old as the window"),
        pytest.param(69.999, 1, id="just before the second is"),
        pytest.param(70, 0, id="both are"),
        pytest.param(1e9, 0, id="much later"),
    ],
)
def test_an_event_leaves_when_it_is_as_old_as_the_window(now: float, count: int) -> None:
    assert _filled(0, 10).count(now) == count


def test_events_of_one_moment_leave_together() -> None:
    window = SlidingWindow(60)
    window.add(3, 1)
    window.add(4, 1)
    assert window.count(60.5) == 7
    assert window.count(61) == 0


def test_it_can_be_filled_again() -> None:
    window = _filled(0, 1, 2)
    assert window.count(100) == 0
    window.add(2, 100)
    assert window.count(159) == 2


@pytest.mark.parametrize(
    ("excess", "wait"),
    [(-1, 0), (0, 0), (1, 50), (2, 55), (3, 60), (4, 60)],
    ids=["less than nothing", "nothing", "the first", "two", "all", "more than there is"],
)
def test_wait_is_until_enough_has_left(excess: int, wait: float) -> None:
    assert _filled(0, 5, 10).wait(excess, 10) == wait


@pytest.mark.parametrize(("moment", "count"), [(-1, 3), (0, 3), (0.5, 2), (5, 2), (6, 1), (10, 1), (10.5, 0)])
def test_since_counts_from_a_moment_on(moment: float, count: int) -> None:
    assert _filled(0, 5, 10).since(moment) == count


def test_since_does_not_count_what_has_left() -> None:
    window = _filled(0, 5, 10)
    window.count(61)
    assert window.since(-1) == 2


@given(_STEPS)
def test_up_to_a_thousand_events_it_is_exact(steps: list[int]) -> None:
    window, now = SlidingWindow(60), 0.0
    moments: list[float] = []
    for step in steps:
        now += step / 1024
        assert window.count(now) == sum(now - moment < 60 for moment in moments)
        window.add(1, now)
        moments.append(now)


@given(st.lists(st.sampled_from([0, 1, 2, 5, 60, 500, 10_000]), min_size=1, max_size=20))
def test_beyond_it_events_leave_late_by_a_thousandth_at_most(pattern: list[int]) -> None:
    window, now = SlidingWindow(60), 0.0
    moments: list[float] = []
    for step in islice(cycle(pattern), 2000):
        now += step / 1024
        counted = window.count(now)
        assert len(moments) - bisect_right(moments, now - 60) <= counted
        assert counted <= len(moments) - bisect_right(moments, now - 60 * 1.001)
        window.add(1, now)
        moments.append(now)


def test_its_memory_is_bounded_whatever_comes() -> None:
    window = SlidingWindow(60)
    for number in range(100_000):
        now = number / 1000
        window.count(now)
        window.add(1, now)
    assert len(window._moments) <= 3 * EXACT + 2
    assert len(window._counts) == len(window._moments)
    assert 60_000 <= window.count(100) <= 60_060
