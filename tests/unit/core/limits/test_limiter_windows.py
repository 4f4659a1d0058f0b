"""limits, as laws: never more than the limit in any window, and a Retry-After that is true."""

from __future__ import annotations

from bisect import bisect_left
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmgw_core
from tests.support.core.limiters import A, B, limit, refused, rows_refused
from vmgw_core.base.tenants import Access, Subject
from vmgw_core.errors import TooManyRows
from vmgw_core.limits.limiter import Limiter

LIMITS = (limit(value=5), limit(value=9, resolution="hour"), limit(value=7, total=True))
SUBJECTS = st.sampled_from([A, B])
# Multiples of 1/1024 second, so that no sum of them is rounded: from a burst to a pause longer than a window.
GAPS = st.one_of(st.just(0), st.integers(0, 2048), st.integers(0, 70 * 1024), st.integers(0, 3700 * 1024))
COPIES = pytest.mark.skipif(vmgw_core.BUILD == "compiled", reason="a compiled limiter cannot be copied")
ARRIVALS = st.lists(st.tuples(GAPS, SUBJECTS), max_size=60)


def most_in_any_window(moments: list[float], seconds: float) -> int:
    """The largest number of moments in any half-open interval of that length."""
    return max((bisect_left(moments, moment + seconds) - index for index, moment in enumerate(moments)), default=0)


@given(ARRIVALS)
def test_never_more_than_the_limit_is_in_any_window(arrivals: list[tuple[int, Subject]]) -> None:
    limiter, now = Limiter(LIMITS), 0.0
    passed: dict[Subject, list[float]] = {A: [], B: []}
    for gap, subject in arrivals:
        now += gap / 1024
        if refused(limiter, now, subject) is None:
            passed[subject].append(now)
    for moments in passed.values():
        assert most_in_any_window(moments, 60) <= 5
        assert most_in_any_window(moments, 3600) <= 9
    assert most_in_any_window(sorted(passed[A] + passed[B]), 60) <= 7


@given(ARRIVALS)
def test_a_request_that_fits_is_not_refused(arrivals: list[tuple[int, Subject]]) -> None:
    """The other half of exactness: refused only where the windows before it are full."""
    limiter, now = Limiter(LIMITS), 0.0
    passed: list[tuple[float, Subject]] = []
    for gap, subject in arrivals:
        now += gap / 1024
        own = [moment for moment, whose in passed if whose == subject]
        full = (
            sum(now - moment < 60 for moment in own) == 5
            or sum(now - moment < 3600 for moment in own) == 9
            or sum(now - moment < 60 for moment, _ in passed) == 7
        )
        assert (refused(limiter, now, subject) is not None) == full
        if not full:
            passed.append((now, subject))


@given(st.lists(st.tuples(GAPS, st.booleans()), max_size=60))
def test_a_clock_that_jumps_back_lets_no_more_through(arrivals: list[tuple[int, bool]]) -> None:
    limiter, now, latest = Limiter([limit(value=5)]), 0.0, float("-inf")
    passed: list[float] = []
    jumped = False
    for gap, back in arrivals:
        now += (-gap if back else gap) / 1024
        latest = max(latest, now)
        jumped |= latest - now > 3600
        if refused(limiter, now) is None:
            passed.append(latest)
    # Where it went back by more than an hour, time goes on from the latest moment, so that moments seem to come
    # closer together than they did, never further apart.
    if not jumped:
        assert most_in_any_window(passed, 60) <= 5


@COPIES
@given(ARRIVALS)
def test_who_waits_as_long_as_told_gets_through_and_not_much_later_than_needed(
    arrivals: list[tuple[int, Subject]],
) -> None:
    limiter, now = Limiter(LIMITS), 0.0
    for gap, subject in arrivals:
        now += gap / 1024
        before = deepcopy(limiter)
        refusal = refused(limiter, now, subject)
        if refusal is not None:
            assert refused(deepcopy(limiter), now + refusal.retry_after, subject) is None
            if refusal.retry_after > 1:
                assert refused(before, now + refusal.retry_after - 1.01, subject) is not None


@COPIES
@given(st.lists(st.tuples(GAPS, st.integers(1, 120)), max_size=60))
def test_rows_keep_to_their_limits_and_wait_as_long_as_they_are_told(writes: list[tuple[int, int]]) -> None:
    limiter, now = (
        Limiter([limit("rows_inserted", 100), limit("rows_inserted", 150, "hour")], refuse_oversized=True),
        0.0,
    )
    passed: list[tuple[float, int]] = []
    for gap, rows in writes:
        now += gap / 1024
        refusal = rows_refused(limiter, rows, now)
        if refusal is None:
            passed.append((now, rows))
        elif isinstance(refusal, TooManyRows):
            assert rows > 100
        else:
            later = now + refusal.retry_after
            assert rows_refused(deepcopy(limiter), rows, later) is None
            refusal = refused(deepcopy(limiter), now, A, Access.WRITE)
            if refusal is not None:  # on the head, for as many rows as were just asked for
                assert rows_refused(deepcopy(limiter), rows, now + refusal.retry_after) is None
    for moment, _ in passed:
        assert sum(rows for other, rows in passed if moment <= other < moment + 60) <= 100
        assert sum(rows for other, rows in passed if moment <= other < moment + 3600) <= 150


@given(st.lists(st.integers(0, 200), min_size=1, max_size=10))
def test_a_large_limit_is_never_exceeded_and_nearly_used_up(pattern: list[int]) -> None:
    """Beyond a thousand events a window is coarser: late by a thousandth, never early."""
    limiter, now = Limiter([limit(value=2000)]), 0.0
    passed: list[float] = []
    for number in range(4000):
        now += pattern[number % len(pattern)] / 1024
        if refused(limiter, now) is None:
            passed.append(now)
        elif passed:
            assert len(passed) - bisect_left(passed, now - 60 * 1.001) >= 2000
    assert most_in_any_window(passed, 60) <= 2000


@COPIES
@pytest.mark.parametrize("start", [0.0, 1_700_000_000.123, 4e9])
def test_retry_after_survives_the_rounding_of_large_clocks(start: float) -> None:
    limiter = Limiter([limit(value=1)])
    for number in range(1000):
        now = start + number * 60.7
        assert refused(limiter, now) is None
        refusal = refused(limiter, now + 0.1 * (number % 7))
        assert refusal is not None
        assert refused(deepcopy(limiter), now + 0.1 * (number % 7) + refusal.retry_after) is None
