"""The account of a limit that processes share; test_sharing.py has the processes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.limits.test_limiter_windows import most_in_any_window
from vmgw_core.limits.sharing.account import LEASE_SECONDS, UNKNOWN_SECONDS, Account, Want
from vmgw_core.limits.sharing.lease import PARTS, Lease
from vmgw_core.limits.sharing.queue import GRACE_SECONDS, Queue


def want(
    need: int = 1,
    client: str = "me",
    *,
    extra: int = 0,
    limit: int = 10,
    returned: tuple[tuple[int, int], ...] = (),
    spent: tuple[tuple[float, int], ...] = (),
) -> Want:
    return Want(key="k", seconds=60, limit=limit, need=need, extra=extra, client=client, returned=returned, spent=spent)


def test_what_is_taken_counts_for_a_window_and_for_as_long_as_it_may_be_used() -> None:
    account = Account()
    assert account.take(want(10), 100.0).granted
    assert not account.take(want(), 100.0 + 60 + LEASE_SECONDS).granted
    assert account.take(want(), 100.0 + 60 + LEASE_SECONDS + 0.06).granted


def test_the_extra_is_what_is_left_at_most() -> None:
    account = Account()
    reply = account.take(want(4, extra=100), 100.0)
    assert (reply.granted, reply.extra, reply.used) == (True, 6, 10)


def test_the_extra_leaves_room_for_those_who_wait() -> None:
    account = Account()
    account.take(want(8), 100.0)
    assert not account.take(want(4, "other"), 100.0).granted
    account = Account(account.parts, Queue({"other": (1, 200.0)}))
    assert account.take(want(0, "", extra=100), 101.0).extra == 1


def test_what_is_given_back_is_free_at_once() -> None:
    account = Account()
    first = account.take(want(5, extra=5), 100.0)
    reply = account.take(want(5, returned=((first.part, 5), (7, 3))), 100.0)
    assert (reply.granted, reply.used) == (True, 10)
    assert account.take(want(0, "", returned=((first.part, 10),)), 100.0).used == 0
    assert account.take(want(0, "", returned=((first.part, 1),)), 100.0).used == 0


def test_what_was_used_without_asking_counts_from_then() -> None:
    account = Account()
    assert account.take(want(0, "", spent=((50.0, 3), (10.0, 4), (61.0, 9))), 100.0).used == 7
    reply = account.take(want(5), 101.0)
    assert (reply.granted, round(reply.wait, 1)) == (False, 9.5)
    assert account.take(want(0, ""), 111.0).used == 4


def test_more_than_the_limit_may_have_been_used() -> None:
    account = Account()
    reply = account.take(want(0, "", extra=5, spent=((0.0, 15),)), 100.0)
    assert (reply.granted, reply.extra, reply.used) == (False, 0, 15)
    assert account.queue.claims == {}


def test_a_place_is_kept_until_its_client_may_come_and_a_little_longer() -> None:
    account = Account()
    account.take(want(10, "first"), 100.0)
    refused = account.take(want(2, "second"), 101.0)
    assert not refused.granted
    due = 101.0 + refused.wait
    account.take(want(3, "first"), due)
    assert not account.take(want(6, "third"), due).granted
    assert not account.take(want(2, "fourth"), due).granted, "the third was refused before"
    assert account.take(want(2, "second"), due + GRACE_SECONDS - 0.1).granted
    assert account.take(want(5, "third"), due + GRACE_SECONDS).granted


def test_a_place_ends_if_it_is_not_used() -> None:
    account = Account()
    account.take(want(10, "first"), 100.0)
    due = 101.0 + account.take(want(2, "second"), 101.0).wait
    assert account.take(want(9, "third"), due + GRACE_SECONDS).granted


def test_the_queue_is_at_most_as_long_as_the_limit() -> None:
    account = Account()
    account.take(want(10, "first"), 100.0)
    assert not account.take(want(10, "second"), 100.0).granted
    reply = account.take(want(1, "third"), 100.0)
    assert not reply.granted
    assert 60 + LEASE_SECONDS + GRACE_SECONDS < reply.wait < 60.1 + LEASE_SECONDS + GRACE_SECONDS, "if nobody comes"
    assert list(account.queue.claims) == ["second"]


def test_a_clock_that_is_set_back_keeps_nothing_for_longer_than_a_window() -> None:
    account = Account()
    account.take(want(10), 10_000.0)
    assert not account.take(want(), 100.0).granted
    assert account.take(want(), 161.0).granted


def test_a_clock_that_is_set_back_keeps_no_place_for_longer_than_a_window() -> None:
    account = Account()
    account.take(want(10), 100_000.0)
    assert not account.take(want(10, "gone"), 100_000.0).granted
    assert not account.take(want(), 100.0).granted
    assert not account.take(want(), 161.0).granted
    assert account.take(want(), 164.0).granted


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.01, 1.0, 20.0]), st.integers(0, 12), st.integers(0, 5), st.sampled_from("abc")
        )
    )
)
def test_an_account_is_the_same_after_it_was_written_and_read(steps: list[tuple[float, int, int, str]]) -> None:
    account, now, granted = Account(), 0.0, []
    for gap, need, extra, client in steps:
        now += gap
        copy = Account.load(account.dump())
        asked = want(min(need, 10), client if need else "", extra=extra)
        reply = account.take(asked, now)
        assert copy.take(asked, now) == reply
        assert copy == account
        if reply.granted:
            granted += [now] * (asked.need + reply.extra)
    assert most_in_any_window(granted, 60) <= 10


def test_more_than_the_whole_limit_passes_if_nothing_else_is_counted() -> None:
    account = Account()
    assert account.take(want(1), 100.0).granted
    refused = account.take(want(25, "large"), 101.0)
    assert not refused.granted
    assert not account.take(want(1), 102.0).granted, "the room is kept for the large one"
    reply = account.take(want(25, "large", extra=5), 101.0 + refused.wait)
    assert (reply.granted, reply.extra, reply.used) == (True, 0, 25)
    assert not account.take(want(1), 170.0).granted


# --- days and months -----------------------------------------------------------------------------------------------

DAY = 86400
ENDS = (20 * DAY, 21 * DAY)


def day(
    need: int = 1,
    *,
    extra: int = 0,
    returned: tuple[tuple[int, int], ...] = (),
    spent: tuple[tuple[float, int], ...] = (),
    ends: tuple[int, ...] = ENDS,
) -> Want:
    return Want(
        key="k",
        seconds=26 * 3600,
        limit=10,
        need=need,
        extra=extra,
        client="me",
        returned=returned,
        spent=spent,
        ends=ends,
    )


def test_what_is_taken_of_a_day_counts_until_it_ends() -> None:
    account, now = Account(), 20 * DAY - 100.0
    assert account.take(day(10), now).part == 20 * DAY
    reply = account.take(day(), 20 * DAY - 1)
    assert (reply.granted, reply.wait, reply.used, reply.part) == (False, 1.0, 10, 20 * DAY)
    assert account.queue.claims == {}, "nobody is kept a place"
    reply = account.take(day(10), 20 * DAY)
    assert (reply.granted, reply.part, reply.used) == (True, 21 * DAY, 10), "its clock decides which day it is"


def test_a_process_whose_clock_is_ahead_takes_from_both_days() -> None:
    account = Account()
    assert account.take(day(4), 20 * DAY - 1.0).granted
    assert account.take(day(4, ends=(21 * DAY, 22 * DAY)), 20 * DAY - 0.5).part == 21 * DAY
    reply = account.take(day(3), 20 * DAY - 0.4)
    assert (reply.granted, reply.used) == (False, 8)
    assert round(reply.wait, 1) == DAY + 0.4, "until all has left"
    assert account.take(day(0), 20.0 * DAY).used == 4


def test_the_extra_of_a_day_is_what_is_left_at_most_and_is_given_back() -> None:
    account, now = Account(), 19.5 * DAY
    reply = account.take(day(4, extra=100), now)
    assert (reply.granted, reply.extra, reply.used) == (True, 6, 10)
    assert account.take(day(0, returned=((20 * DAY, 6),)), now).used == 4
    assert account.take(day(25), now).granted is False
    assert account.take(day(0, returned=((20 * DAY, 4),)), now).used == 0
    reply = account.take(day(25, extra=5), now)
    assert (reply.granted, reply.extra, reply.used) == (True, 0, 25), "more than the limit fits if nothing is counted"


def test_what_was_used_of_a_day_without_asking_counts_if_it_has_not_ended() -> None:
    account = Account()
    spent = ((19.0 * DAY, 1), (20.0 * DAY, 2), (400.0 * DAY, 4))
    assert account.take(day(0, spent=spent), 19.5 * DAY).used == 2
    assert account.take(day(0, spent=((20.0 * DAY, 20),)), 19.5 * DAY).granted is False


def test_a_process_with_a_wrong_clock_gets_nothing_and_takes_nothing() -> None:
    account = Account()
    for ends in ((10 * DAY, 11 * DAY), (400 * DAY, 401 * DAY)):
        reply = account.take(day(ends=ends), 19.5 * DAY)
        assert (reply.granted, reply.part, reply.wait, reply.used) == (False, 0, UNKNOWN_SECONDS, 0)
    assert account.parts == {}


# --- the lease -----------------------------------------------------------------------------------------------------


def test_a_lease_grows_while_it_is_used_and_only_to_its_part_of_the_limit() -> None:
    lease, sizes = Lease(), []
    for _ in range(8):
        extra, _ = lease.ask(10_000, 2)
        sizes.append(extra)
        lease.asking -= 1
        lease.units = extra
        lease.use(extra)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 125]
    assert sizes[-1] == 10_000 // (PARTS * 2)


def test_only_one_of_several_questions_asks_for_more() -> None:
    lease = Lease()
    assert [lease.ask(10_000, 1)[0] for _ in range(3)] == [1, 0, 0]
