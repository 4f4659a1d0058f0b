"""Amounts by hour, tenant and subject: nothing is lost, whatever the bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.usage import OTHER, Accounting, Amounts, Key

HOUR = 3600.0


def counted(accounting: Accounting, *requests: tuple[str, str | None, float]) -> dict[tuple[int, str, str], int]:
    for tenant, subject, now in requests:
        accounting.of(tenant, subject, now).queries += 1
    return {key: amounts.queries for key, amounts in accounting.take().items()}


def test_each_subject_of_each_tenant_is_counted_by_the_hour() -> None:
    accounting = Accounting(10)
    assert counted(accounting, ("1:0", "a", 0), ("1:0", "a", HOUR - 1), ("1:0", "a", HOUR), ("2:0", "a", HOUR)) == {
        (0, "1:0", "a"): 2,
        (1, "1:0", "a"): 1,
        (1, "2:0", "a"): 1,
    }
    assert counted(accounting, ("1:0", None, HOUR), ("1:0", "", HOUR)) == {(1, "1:0", ""): 2}
    assert accounting.take() == {}


def test_further_subjects_are_counted_together_by_tenant_and_then_at_all() -> None:
    accounting = Accounting(2)
    requests = [(f"{number}:0", "a", 0.0) for number in range(6)]
    assert counted(accounting, *requests, ("0:0", "b", 0), *requests) == {
        (0, "0:0", "a"): 2,
        (0, "1:0", "a"): 2,
        (0, "2:0", OTHER): 2,
        (0, "3:0", OTHER): 2,
        (0, OTHER, OTHER): 5,
    }
    assert counted(accounting, ("5:0", "b", HOUR)) == {(1, "5:0", "b"): 1}, "each hour begins anew"


def test_a_subject_is_cut_and_can_be_written() -> None:
    accounting = Accounting(9)
    assert counted(accounting, ("1:0", "x" * 999, 0), ("1:0", "\ud800", 0)) == {
        (0, "1:0", "x" * 200): 1,
        (0, "1:0", "?"): 1,
    }


def test_long_subjects_that_are_one_when_cut_take_one_place() -> None:
    """A place keeps no more of a subject than is written."""
    requests = [("1:0", "x" * 200 + str(number), 0.0) for number in range(9)]
    assert counted(Accounting(2), *requests, ("1:0", "y", 0)) == {(0, "1:0", "x" * 200): 9, (0, "1:0", "y"): 1}


def test_what_was_not_kept_is_counted_again() -> None:
    accounting = Accounting(9)
    every = Amounts(queries=1, rows=2, bytes_in=3, bytes_out=4, seconds=0.5, series_fetched=6, refusals=7)
    accounting.of("1:0", "a", 0).add(every)
    taken = accounting.take()
    accounting.of("1:0", "a", 0).add(every)
    accounting.give_back(taken)
    accounting.give_back({Key(0, "1:0", "b"): every})
    twice = Amounts(queries=2, rows=4, bytes_in=6, bytes_out=8, seconds=1.0, series_fetched=12, refusals=14)
    assert accounting.take() == {(0, "1:0", "a"): twice, (0, "1:0", "b"): every}


def test_what_waits_in_a_long_outage_is_bounded() -> None:
    accounting = Accounting(2)
    for hour in range(100):
        for subject in "abcd":
            accounting.of("1:0", subject, hour * HOUR).queries += 1
        taken = accounting.take()
        accounting.give_back(taken)
    assert len(taken) <= 24 * 2 + 100
    assert sum(amounts.queries for amounts in taken.values()) == 400
    assert taken[Key(0, "1:0", "a")].queries == 1
    assert taken[Key(98, OTHER, OTHER)].queries == 4


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("vwxyz"), st.integers(0, 9000)), max_size=60),
    st.integers(0, 4),
)
def test_the_sum_is_what_was_counted_and_pairs_are_bounded(requests: list[tuple[str, str, int]], most: int) -> None:
    requests.sort(key=lambda request: request[2])
    found = counted(Accounting(most), *requests)
    assert sum(found.values()) == len(requests)
    for hour in range(3):
        assert sum(key[0] == hour for key in found) <= 2 * most + 1
        assert sum(number for key, number in found.items() if key[0] == hour) == sum(
            now // 3600 == hour for _, _, now in requests
        )
