"""Days that processes share, simulated around midnight; test_sharing.py has windows that slide."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.core.happenings import CLOCKS, Step, alone, beyond_in_a_day, play, steps
from tests.support.core.limiters import A, limit
from tests.support.core.processes import DAY, World
from vmgw_core.base.tenants import Access
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.model import LimitType

KEY = "queries/day/1:0"


@example(1, 4000, 0, 1.0, [("burst", 0, DAY / 2), ("lower", 0, 0.0), ("burst", 0, 0.0)])
@given(
    st.sampled_from([1, 2, 4, 16]),
    st.integers(1, 120),
    st.integers(0, 100),
    st.sampled_from([0.3, 1.0, 20.0]),
    steps((0.0, 0.05, 0.4, 0.6, 7.0, DAY / 2), *CLOCKS),
)
def test_whatever_happens_no_day_has_more_than_the_limit(
    number: int, value: int, seed: int, before: float, happening: list[Step]
) -> None:
    """Only processes that must decide alone may admit one each beyond it."""
    choose = random.Random(seed)  # noqa: S311
    delay = lambda: choose.choice((0.0, 0.002, 0.04))  # noqa: E731
    world = World(number, limit(value=value, resolution="day"), delay=delay, begin=10_000 * DAY - before)
    play(world, happening)
    assert beyond_in_a_day(world) <= alone(world, happening)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_whole_limit_of_a_day_can_be_used_and_the_next_day_has_it_again(number: int) -> None:
    world = World(number, limit(value=100, resolution="day"), begin=10 * DAY - 5)
    for _ in range(2):
        for index in range(number):
            world.admitted(index, 100)
        world.run(1)
        for index in range(number):
            world.admitted(index, 100)
        refusal = world.refused(0)
        assert refusal is not None
        if world.now < 10 * DAY:
            assert refusal.retry_after in (4, 5)
            world.run(refusal.retry_after)
    assert Counter(each.day for each in world.admissions) == {(9, 0.0): 100, (10, 0.0): 100}


def test_a_process_that_starts_again_finds_what_it_has_used() -> None:
    world = World(1, limit(value=1000, resolution="month"), begin=10 * DAY)
    assert world.admitted(0, 600) == 600
    world.run(1)
    world.crash(0)
    assert world.admitted(0, 1000) == 400
    [usage] = world.processes[0].limiter.status(world.now)
    assert usage.usage == 1000


def test_units_of_yesterday_are_not_used_today() -> None:
    world = World(1, limit(value=4000, resolution="day"), begin=10 * DAY - 0.2)
    assert world.admitted(0, 200) == 200  # and it has taken more
    world.now = 10 * DAY + 0.1
    assert world.admitted(0, 5000) == 4000


def test_shares_begin_anew_at_midnight() -> None:
    world = World(2, limit(value=100, resolution="day"), begin=10 * DAY - 100)
    assert world.admitted(0, 60) == 60
    world.run(1)
    world.connect(False)
    assert [world.admitted(index, 100) for index in (0, 1)] == [20, 20]
    world.run(100)
    assert [world.admitted(index, 100) for index in (0, 1)] == [50, 50]


def test_a_refused_write_of_many_rows_does_not_hold_up_small_ones_until_midnight() -> None:
    world = World(2, limit("rows_inserted", 1000, "day"), begin=10 * DAY)
    assert world.refused(0, "small", rows=300) is None
    assert world.refused(1, "large", rows=800) is not None
    assert world.refused(0, "small", rows=300) is None


def test_what_was_used_while_the_accounts_were_away_is_told() -> None:
    world = World(2, limit(value=100, resolution="day"), begin=10 * DAY)
    world.connect(False)
    assert world.admitted(0, 30) == 30
    world.connect(True)
    world.run(0.3)
    assert sum(world.accounts[KEY].parts.values()) == 30
    world.crash(0)
    assert world.admitted(1, 100) == 70


def test_a_store_that_has_lost_everything_is_told_the_day_again() -> None:
    world = World(2, limit(value=100, resolution="day"), begin=10 * DAY)
    assert world.admitted(0, 60) == 60
    world.run(1)
    world.flush()
    assert world.admitted(0, 5) + world.admitted(1, 5) == 10
    world.run(0.3)
    assert world.admitted(0, 100) + world.admitted(1, 100) == 30


def spend(world: World, index: int, amount: int) -> None:
    world.processes[index].limiter.spend(A, {LimitType.BYTES_READ: amount}, world.now)


@pytest.mark.parametrize("resolution", ["minute", "day"])
def test_what_is_known_late_is_told_and_refuses_the_next_request_everywhere(resolution: str) -> None:
    world = World(2, limit("bytes_read", 1000, resolution), begin=10 * DAY)
    assert world.refused(0) is None
    spend(world, 0, 999)
    world.run(0.3)
    assert [world.refused(index) for index in (0, 1)] == [None, None], "one is left"
    spend(world, 1, 500)
    world.run(0.3)
    for index in (0, 1):
        refusal = world.refused(index)
        assert refusal is not None
        assert "tenant 1:0 has used 1499 of 1000 bytes read per" in str(refusal)
        assert 58 <= refusal.retry_after <= 60 or refusal.retry_after == DAY
    world.run(61 if resolution == "minute" else 1)
    assert (world.refused(0) is None) is (resolution == "minute")


def test_a_day_of_bytes_outlives_the_process_that_counted_them() -> None:
    world = World(2, limit("bytes_read", 1000, "day"), limit("queries", 5, "day", observe=True), begin=10 * DAY)
    for _ in range(5):
        assert world.refused(0) is None
    spend(world, 0, 2000)
    world.run(0.3)
    world.crash(0)
    world.crash(1)
    for index in (0, 1):
        world.refused(index)  # it has not heard of the account yet
    world.run(0.3)
    for process in world.processes:
        usages = {usage.limit.type: usage.usage for usage in process.limiter.status(world.now)}
        assert usages[LimitType.BYTES_READ] == 2000
        assert 6 <= usages[LimitType.QUERIES] <= 7, "the other's last query may be told a little later"
    assert world.refused(0) is not None


def test_a_process_whose_clock_is_a_day_off_is_refused_and_counts_nothing() -> None:
    world = World(1, limit(value=10, resolution="day"), begin=10 * DAY)
    world.processes[0].limiter.calendar.tell_time(20 * DAY, world.now)
    refusal = world.refused(0)
    assert refusal is not None
    assert refusal.retry_after in (1, 2)
    world.processes[0].limiter.calendar.tell_time(world.now, world.now)
    world.run(2)
    assert world.admitted(0, 20) == 10


def test_limits_that_were_not_shared_before_are_told_to_the_account() -> None:
    limiter = Limiter([limit(value=10, resolution="day")])
    for _ in range(4):
        assert limiter.admit(A, Access.READ, 0) is None
    limiter.local_counts(1)
    [want] = limiter.notice(1).wants
    assert (want.key, want.spent, want.ends) == (KEY, ((DAY, 4),), (DAY, 2 * DAY))


def test_a_notice_that_was_not_delivered_is_told_again() -> None:
    limiter = Limiter([limit(value=10, resolution="day")])
    assert limiter.admit(A, Access.READ, 0) is None
    limiter.local_counts(1)
    limiter.noticed(limiter.notice(1), None, 2)
    assert limiter.admit(A, Access.READ, 3) is None
    [want] = limiter.notice(4).wants
    assert want.spent == ((DAY, 2),)


def test_counts_are_published_with_their_window() -> None:
    limiter = Limiter([limit(value=10, resolution="day")])
    limiter.admit(A, Access.READ, 0)
    assert limiter.local_counts(1) == {"queries/day/1:0@86400": 1}
    limiter.learn_peers({"queries/day/1:0@86400": 5, "queries/day/1:0@172800": 3}, 1, 1)
    assert [usage.usage for usage in limiter.status(2)] == [6]
    assert [usage.usage for usage in limiter.status(DAY + 2)] == [3]
