"""Limits that processes share, simulated: delays, crashes, and stores that go away, on a clock of the test."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.core.happenings import Step, alone, beyond_in_a_minute, play, steps
from tests.support.core.limiters import A, B, admitted, limit
from tests.support.core.processes import DAY, World
from tests.unit.core.limits.test_limiter_windows import most_in_any_window
from vmgw_core.base.tenants import Access, Subject, TenantID
from vmgw_core.errors import RateLimited
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.sharing.lease import PARTS

NUMBERS = [1, 2, 4, 16]
LIMITS = [10, 64, 1000]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("value", LIMITS)
def test_a_lone_client_gets_its_whole_limit_at_once_at_one_process(number: int, value: int) -> None:
    world = World(number, limit(value=value))
    assert world.admitted(number - 1, 2 * value) == value


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("value", LIMITS)
def test_a_lone_client_gets_nearly_its_whole_limit_at_once_whichever_process_it_meets(number: int, value: int) -> None:
    world, choose = World(number, limit(value=value)), random.Random(value * number)  # noqa: S311
    passed = sum(world.refused(choose.randrange(number)) is None for _ in range(2 * value))
    assert value - value // 20 <= passed <= value
    world.run(1)  # what was not used comes back
    passed += sum(world.admitted(index, value) for index in range(number))
    assert passed == value


def test_processes_that_hold_a_lease_of_everything_left_keep_a_fortieth_from_the_others() -> None:
    world = World(16, limit(value=6400))
    for index in range(16):
        assert world.admitted(index, 100) == 100  # so each has a lease that has grown
    assert 6400 * 39 // 40 <= 1600 + world.admitted(0, 6400) <= 6400


@pytest.mark.parametrize("delay", [0.0, 0.03])
def test_all_processes_are_flooded_and_the_sum_stays_within_the_limit(delay: float) -> None:
    choose = random.Random(1)  # noqa: S311
    world = World(4, limit(value=100), delay=lambda: choose.random() * delay)
    outcomes: list[RateLimited | None] = []
    for _ in range(6 * 140):
        for index in range(4):
            world.request(index, outcomes.append, f"client {index}")
        world.run(0.143)
    assert most_in_any_window(world.passed, 60) <= 100
    assert len(world.passed) >= 2 * 95, "and it is used up in each window"


@pytest.mark.parametrize("number", NUMBERS)
def test_a_client_that_waits_as_it_was_told_gets_through_at_any_process(number: int) -> None:
    world = World(number, limit(value=10))
    for second in range(10):
        assert world.refused(second % number) is None
        world.run(1.7)
    for index in range(4):
        refusal = world.refused(index % number)
        assert refusal is not None
        world.run(refusal.retry_after)
        assert world.refused((index + 1) % number) is None
        assert refusal.retry_after <= 45, "it is true within a second, not a whole window"


def test_retry_after_is_true_within_a_second() -> None:
    world = World(2, limit(value=10))
    world.admitted(0, 5)
    world.run(20)
    world.admitted(1, 5)
    refusal = world.refused(0)
    assert refusal is not None
    assert refusal.retry_after in (40, 41)
    world.run(refusal.retry_after - 1.5)
    assert world.refused(0) is not None


@pytest.mark.parametrize("number", [1, 4])
def test_a_client_that_waits_is_not_starved_by_those_that_do_not(number: int) -> None:
    world = World(max(number, 2), limit(value=10))
    impatient: list[RateLimited | None] = []
    polite, due, waits = 0, 0.0, []
    for _ in range(10 * 130):
        for index in range(number):
            for each in range(3):
                world.request(index, impatient.append, f"impatient {each}")
        if world.now >= due:
            refusal = world.refused(0, "polite")
            polite += refusal is None
            due = world.now + (0.05 if refusal is None else refusal.retry_after)
            waits.append(refusal is None)
        world.run(0.1, ticking=False)
    assert most_in_any_window(world.passed, 60) <= 10
    assert polite >= 2, "once in each window that the others have used up"
    assert (False, False) not in list(pairwise(waits)), "each time that it has waited"


def test_a_place_in_the_queue_is_given_up_when_its_client_does_not_come() -> None:
    world = World(2, limit(value=10))
    world.admitted(0, 10)
    assert world.refused(0, "gone") is not None
    world.run(60.6)
    assert world.admitted(1, 10, "here") == 9
    world.run(3.1)
    assert world.refused(1, "here") is None


def test_a_process_that_dies_takes_nothing_back_and_nothing_away() -> None:
    world = World(2, limit(value=1000))
    assert world.admitted(0, 300) == 300
    world.crash(0)
    rest = world.admitted(1, 1000)
    assert 950 <= 300 + rest <= 1000
    world.run(61)
    assert world.admitted(0, 2000) >= 950


@given(
    st.sampled_from([1, 2, 4]),
    st.sampled_from([100, 1000, 4000]),
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(0, 3), st.sampled_from([0.0, 0.001, 0.05, 0.1, 0.3]), st.booleans()),
        min_size=5,
        max_size=40,
    ),
)
def test_a_process_that_dies_takes_at_most_its_part_of_a_fortieth_away(
    number: int, value: int, happening: list[tuple[int, int, float, bool]]
) -> None:
    world = World(number, limit(value=value, resolution="day"), begin=100 * DAY)
    crashes = 0
    for requests, which, gap, crash in happening:
        world.admitted(which % number, requests)
        world.run(gap)
        if crash:
            world.crash(which % number)
            crashes += 1
    world.run(1)
    [account] = world.accounts.values()
    assert 0 <= sum(account.parts.values()) - len(world.passed) <= crashes * (value // (PARTS * number))


def test_a_rolling_restart_refuses_nobody() -> None:
    world = World(4, limit(value=1000))
    passed = 0
    for index in range(4):
        passed += sum(world.admitted(each, 50) for each in range(4))
        world.crash(index)
        world.run(0.5)
    assert passed == 800
    assert 95 <= world.admitted(2, 500) <= 200


def test_processes_that_cannot_ask_keep_their_shares() -> None:
    world = World(2, limit(value=100))
    assert world.admitted(0, 60) == 60
    world.run(1)
    world.connect(False)
    passed = [world.admitted(index, 100) for index in (0, 1)]
    assert passed == [20, 20]
    world.run(90)
    passed = [world.admitted(index, 200) for index in (0, 1)]
    assert sum(passed) <= 100
    assert min(passed) >= 20
    assert most_in_any_window(world.passed, 60) <= 110


def test_shares_know_what_the_last_reply_has_told() -> None:
    world = World(2, limit(value=100))
    for _ in range(25):  # since the last exchange of counts
        assert world.admitted(0, 1) + world.admitted(1, 1) == 2
        world.now += 0.001
    for process in world.processes:
        process.connected = False
        process.limiter.accounts_lost()
    assert 40 <= world.admitted(0, 100) + world.admitted(1, 100) <= 55


def test_shares_end_as_soon_as_the_accounts_can_be_asked() -> None:
    world = World(2, limit(value=100))
    world.connect(False)
    assert world.admitted(0, 100) == 50
    world.connect(True)
    world.run(0.3)
    assert world.admitted(0, 100) + world.admitted(1, 100) == 50, "what was used meanwhile counts"
    world.run(61)
    assert world.admitted(0, 100) == 100


def test_a_question_without_an_answer_is_decided_by_the_share() -> None:
    world = World(2, limit(value=100))
    world.processes[0].connected = False
    assert world.refused(0) is None
    assert not world.processes[0].limiter.asks
    assert world.admitted(0, 100) == 49


def test_a_store_that_has_lost_everything_is_told_again() -> None:
    world = World(2, limit(value=100))
    assert world.admitted(0, 60) == 60
    world.run(1)
    world.flush()
    assert world.admitted(0, 5) + world.admitted(1, 5) == 10
    world.run(0.3)
    assert world.admitted(0, 100) + world.admitted(1, 100) == 30
    world.run(61)
    assert world.admitted(1, 200) == 100


def test_rows_wait_for_room_and_are_not_starved_by_smaller_bodies() -> None:
    world = World(2, limit("rows_inserted", 1000))
    assert world.refused(0, "small", rows=300) is None
    refusal = world.refused(1, "large", rows=800)
    assert refusal is not None
    assert world.refused(0, "small", rows=300) is not None, "the room is kept for who came first"
    world.run(refusal.retry_after)
    assert world.refused(0, "large", rows=800) is None
    assert world.refused(1, "small", rows=190) is None
    assert most_in_any_window(world.passed, 60) <= 1000


def test_a_need_that_is_more_than_the_lease_uses_and_renews_it() -> None:
    world = World(1, limit("rows_inserted", 100_000))
    for rows in (1, 10, 100, 3000, 1, 2000, 5000, 1, 1):
        assert world.refused(0, rows=rows) is None
    world.run(1)
    [account] = world.accounts.values()
    assert sum(account.parts.values()) == len(world.passed), "and what is not used is given back"


def test_a_lease_is_renewed_before_it_is_empty() -> None:
    world = World(1, limit(value=4000))
    world.admitted(0, 250)
    asked = []
    send = world._send
    world._send = lambda *args: (asked.append(args), send(*args))  # type: ignore[method-assign, assignment, func-returns-value]
    for _ in range(20):
        world.admitted(0, 40)
        world.tick(0)
    assert [wants for _, wants, _ in asked if any(want.need for want in wants)] == []
    assert asked


def test_two_limits_are_taken_together_or_not_at_all() -> None:
    world = World(2, limit(value=10), limit(value=15, total=True))
    assert world.admitted(0, 10) == 10
    assert sum(world.refused(1, subject=B) is None for _ in range(10)) == 5
    world.run(1)
    used = {key: sum(account.parts.values()) for key, account in world.accounts.items()}
    assert used == {"queries/minute/1:0": 10, "queries/minute/total": 15, "queries/minute/2:0": 5}


def test_a_refusal_tells_the_usage_of_all_processes() -> None:
    world = World(2, limit(value=10))
    world.admitted(0, 10)
    refusal = world.refused(1)
    assert str(refusal) == "request was rate limited: tenant 1:0 has used 10 of 10 queries per minute"


def test_usage_is_that_of_all_processes_without_their_leases() -> None:
    world = World(2, limit(value=100))
    world.admitted(0, 3)
    world.admitted(1, 4)
    world.run(0.5)
    for process in world.processes:
        assert [usage.usage for usage in process.limiter.status(world.now)] == [7]


def test_a_limit_that_is_raised_is_in_force_at_once() -> None:
    world = World(2, limit(value=10))
    world.admitted(0, 10)
    assert world.refused(1) is not None
    for process in world.processes:
        process.limiter.replace([limit(value=20)])
    assert world.admitted(1, 20) == 10


def test_what_was_counted_before_limits_are_shared_is_told() -> None:
    limiter = Limiter([limit(value=10)])
    for _ in range(4):
        assert limiter.admit(A, Access.READ, 0) is None
    assert limiter.local_counts(1) == {"queries/minute/1:0": 4}
    notice = limiter.notice(1)
    assert [want.spent for want in notice.wants] == [((1.0, 4),)]
    limiter.noticed(notice, None, 1)
    assert limiter.notice(2).wants[0].spent == ((2.0, 4),), "again, for it did not arrive"
    assert limiter.notice(3).wants == ()


def test_a_tenant_that_was_admitted_before_limits_are_shared_is_held_to_what_others_have_used() -> None:
    limiter = Limiter([limit(value=10)])
    assert admitted(limiter, 2, 0) == 2
    limiter.learn_peers({"queries/minute/1:0": 6}, 1, 1)
    assert admitted(limiter, 10, 1) == 1, "half of the two that are left"


def test_much_that_was_used_without_asking_is_told_in_parts() -> None:
    limiter = Limiter([limit(value=10_000)])
    subjects = [Subject(TenantID(number)) for number in range(10)]
    for number in range(1500):
        limiter.admit(subjects[number % 10], Access.READ, number / 100)
    limiter.local_counts(15)
    told, more = 0, True
    while more:
        notice = limiter.notice(15)
        parts = [len(want.spent) for want in notice.wants]
        assert sum(parts[:-1]) < 200
        told += sum(count for want in notice.wants for _, count in want.spent)
        more = notice.more
    assert told == 1500


def test_what_was_used_without_asking_is_forgotten_when_it_has_left_the_window() -> None:
    limiter = Limiter([limit(value=10)])
    limiter.admit(A, Access.READ, 0)
    limiter.local_counts(1)
    assert limiter.notice(62).wants == ()


def test_series_and_tenants_of_totals_have_no_account() -> None:
    limiter = Limiter([limit(value=2, total=True), limit("active_series", 5, total=True)], measured=True)
    limiter.learn_peers({}, 1, 0)
    limiter.accounts_found()
    limiter.accounts_lost(emptied=True)
    assert limiter.notice(0).wants == ()
    assert limiter.admit(A, Access.WRITE, 0) is None
    assert limiter.admit(A, Access.READ, 0) is None
    assert limiter.tenants == 0
    assert limiter.local_counts(2) == {"queries/minute/total": 1}


def test_many_clients_are_refused_in_bounded_memory() -> None:
    world = World(2, limit(value=10))
    world.admitted(0, 10)
    for number in range(200):
        assert world.refused(0, f"client {number}") is not None
    assert len(world.accounts["queries/minute/1:0"].queue.claims) == 10


def test_tenants_are_told_apart() -> None:
    world = World(2, limit(value=10, resolution="hour"))
    for number in (3, 4):
        for _ in range(number):
            assert world.refused(0, subject=Subject(TenantID(number, 7))) is None
    assert world.processes[0].limiter.local_counts(0) == {"queries/hour/3:7": 3, "queries/hour/4:7": 4}


@example(1, 36, 0, [("burst", 0, 0.6), ("crash", 0, 0.0), ("burst", 0, 0.6)])
@example(1, 4000, 0, [("burst", 0, 30.0), ("burst", 0, 59.0), ("lower", 0, 0.0), ("burst", 0, 0.0)])
@example(2, 64, 0, [("apart", 0, 0.0), ("burst", 0, 0.0), ("burst", 1, 0.0), ("keep", 0, 0.0), ("burst", 0, 0.0)])
@example(2, 10, 0, [("burst", 0, 7.0), ("flush", 0, 0.0), ("burst", 1, 0.0), ("burst", 1, 0.6)])
@given(st.sampled_from(NUMBERS), st.integers(1, 120), st.integers(0, 100), steps((0.0, 0.05, 0.6, 7.0, 30.0, 59.0)))
def test_whatever_happens_the_sum_stays_within_the_limit(
    number: int, value: int, seed: int, happening: list[Step]
) -> None:
    """Only processes that must decide alone may admit one each beyond it."""
    choose = random.Random(seed)  # noqa: S311
    world = World(number, limit(value=value), delay=lambda: choose.choice((0.0, 0.002, 0.04)))
    play(world, happening)
    assert beyond_in_a_minute(world) <= alone(world, happening)


@given(st.integers(1, 4), st.integers(1, 40), steps((0.0, 0.05, 0.6, 7.0, 30.0)))
def test_a_client_that_waits_always_gets_through(number: int, value: int, happening: list[Step]) -> None:
    world = World(number, limit(value=value))
    play(world, [step for step in happening if step[0] not in ("apart", "flush", "raise", "lower")])
    refusal = world.refused(0)
    if refusal is not None:
        world.run(refusal.retry_after)
        assert world.refused(len(world.processes) - 1) is None


def test_a_limit_that_observes_sees_what_other_processes_count_and_asks_nobody() -> None:
    world = World(2, limit(value=10, observe=True))
    assert world.admitted(0, 8) == 8
    world.run(0.3)
    assert world.admitted(1, 8) == 8
    assert world.accounts == {}
    assert list(world.processes[1].limiter.observed.values()) == [6]


def test_a_limit_that_is_lowered_is_in_force_at_once() -> None:
    world = World(1, limit(value=4000))
    assert world.admitted(0, 250) == 250  # and it has taken more
    world.reload(0, limit(value=300))
    assert world.admitted(0, 300) == 50


def test_what_is_on_its_way_when_a_limit_is_lowered_is_not_used_without_asking() -> None:
    world = World(1, limit(value=4000))
    assert world.admitted(0, 250) == 250
    world.run(1)
    outcomes: list[RateLimited | None] = []
    world.delay = lambda: 0.1
    world.request(0, outcomes.append)
    world.reload(0, limit(value=100))
    world.run(0.3)
    assert outcomes == [None], "the account had granted it"
    assert world.admitted(0, 100) == 0


def test_a_reload_while_the_accounts_are_away_does_not_make_a_share_larger() -> None:
    world = World(2, limit(value=100))
    world.connect(False)
    for _ in range(3):
        for index in (0, 1):
            world.admitted(index, 100)
            world.reload(index, limit(value=100))
    assert len(world.passed) == 100
    for index in (0, 1):
        world.reload(index, limit(value=200))
    assert [world.admitted(index, 100) for index in (0, 1)] == [50, 50]


def test_a_process_that_used_more_than_a_lowered_limit_keeps_to_it_when_the_accounts_are_away() -> None:
    world = World(1, limit(value=10))
    assert world.admitted(0, 10) == 10
    world.reload(0, limit(value=2))
    world.connect(False)
    assert world.admitted(0, 10) == 0
    world.skip(61)
    assert world.admitted(0, 10) == 2


def test_an_idle_process_tells_a_store_that_has_lost_everything_before_others_may_take() -> None:
    world = World(2, limit(value=100))
    assert world.admitted(0, 60) == 60
    world.run(1)
    world.flush()
    for _ in range(2):
        world.tick(1)  # it tells what it has used, and the other has not
    assert world.admitted(1, 100) == 20, "its share"
    world.run(1)
    assert world.admitted(1, 100) == 20, "and the rest"


def test_whoever_finds_all_that_leaves_promised_to_others_is_told_when_they_have_lost_it() -> None:
    world = World(2, limit(value=1))
    assert world.refused(0) is None
    assert world.refused(0, "gone") is not None
    refusal = world.refused(1)
    assert refusal is not None
    assert refusal.retry_after == 64
    world.run(refusal.retry_after - 1.5)
    assert world.refused(1) is not None
    world.run(1.5)
    assert world.refused(0) is None


# --- one process alone -----------------------------------------------------------------------------------------------


def refused_alone(limiter: Limiter, now: float, client: str) -> RateLimited | None:
    try:
        assert limiter.admit(A, Access.READ, now, client) is None
    except RateLimited as refusal:
        return refusal
    return None


def test_one_process_has_the_same_queue() -> None:
    limiter = Limiter([limit(value=2)])
    assert refused_alone(limiter, 0.0, "impatient") is None
    assert refused_alone(limiter, 30.0, "impatient") is None
    first, second = refused_alone(limiter, 31.0, "polite"), refused_alone(limiter, 31.0, "other")
    assert first is not None
    assert second is not None
    assert (first.retry_after, second.retry_after) == (30, 60), "each is told its own time"
    assert refused_alone(limiter, 60.0, "impatient") is not None
    assert refused_alone(limiter, 60.5, "impatient") is not None
    assert refused_alone(limiter, 61.0, "polite") is None
    assert refused_alone(limiter, 91.0, "impatient") is not None
    assert refused_alone(limiter, 91.0, "other") is None
    assert refused_alone(limiter, 130.0, "anybody") is None, "whoever has not come back has lost its place"


def test_one_process_keeps_its_queue_over_a_reload() -> None:
    limiter = Limiter([limit(value=1)])
    assert refused_alone(limiter, 0.0, "impatient") is None
    assert refused_alone(limiter, 1.0, "polite") is not None
    limiter.replace([limit(value=1)])
    assert refused_alone(limiter, 60.0, "impatient") is not None
    assert refused_alone(limiter, 60.0, "polite") is None


def test_a_queue_of_one_process_ends_when_its_limits_are_shared() -> None:
    limiter = Limiter([limit(value=1)])
    assert refused_alone(limiter, 0.0, "impatient") is None
    assert refused_alone(limiter, 1.0, "gone") is not None
    limiter.learn_peers({}, 1, 2.0)  # and the accounts cannot be asked
    refusal = refused_alone(limiter, 3.0, "me")
    assert refusal is not None
    assert refusal.retry_after == 58


def test_one_process_tells_whoever_has_no_place_when_the_others_have_lost_theirs() -> None:
    limiter = Limiter([limit(value=1)])
    assert refused_alone(limiter, 0.0, "first") is None
    assert refused_alone(limiter, 1.0, "gone") is not None
    refusal = refused_alone(limiter, 2.0, "me")
    assert refusal is not None
    assert refusal.retry_after == 62, "a place is kept for three seconds"
    assert refused_alone(limiter, 62.5, "me") is not None
    assert refused_alone(limiter, 64.0, "me") is None
