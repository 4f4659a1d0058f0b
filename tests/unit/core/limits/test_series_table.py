"""The table of series: exact up to its size, within its error beyond, and as long as the window."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.limits.windows.label_hashes import LabelHashes
from vmgw_core.limits.windows.series_table import KEY_BITS, MAX_SERIES, SeriesTable

KEYS = st.sets(st.integers(1, 2**KEY_BITS - 1), max_size=1000)


def keys(number: int, seed: int = 0) -> set[int]:
    numbers = random.Random(seed)  # noqa: S311
    found: set[int] = set()
    while len(found) < number:
        found.add(numbers.getrandbits(KEY_BITS) or 1)
    return found


@given(KEYS, KEYS)
def test_it_is_exact(first: set[int], second: set[int]) -> None:
    table = SeriesTable(60, 12)
    assert table.unknown(first, 0) == len(first)
    assert set(table.note(first, 0)) == first
    assert (table.count(0), table.unknown(first, 0)) == (len(first), 0)
    assert table.unknown(second, 1) == len(second - first)
    assert set(table.note(second, 1)) == second - first
    assert (table.count(1), table.exact) == (len(first | second), True)


STEPS = st.lists(st.tuples(st.integers(0, 40), st.sets(st.integers(1, 60), max_size=20)), max_size=40)


@given(STEPS)
def test_a_series_counts_for_the_window_and_at_most_one_part_longer(steps: list[tuple[int, set[int]]]) -> None:
    table, now, last = SeriesTable(60, 12), 0, dict[int, int]()
    for gap, written in steps:
        now += gap
        must = {key for key, at in last.items() if now - at <= 60}
        may = {key for key, at in last.items() if now - at < 65}
        assert len(must) <= table.count(now) <= len(may)
        assert table.unknown(must, now) == 0
        assert table.unknown(set(range(1, 61)) - may, now) == 60 - len(may)
        table.note(written, now)
        last |= dict.fromkeys(written, now)


@pytest.mark.parametrize("number", [MAX_SERIES - 1, MAX_SERIES])
def test_it_is_exact_up_to_its_size(number: int) -> None:
    table, written = SeriesTable(3600, 12), keys(number)
    table.note(written, 0)
    assert (table.count(0), table.exact, table.unknown(written, 0)) == (number, True, 0)
    assert table.memory == 2 << 20


@pytest.mark.parametrize(("number", "memory"), [(0, 8 << 10), (700, 8 << 10), (1000, 16 << 10), (6000, 64 << 10)])
def test_its_memory_grows_with_the_series(number: int, memory: int) -> None:
    table = SeriesTable(3600, 12)
    table.note(keys(number), 0)
    assert table.memory <= memory


@pytest.mark.parametrize(("number", "seed"), [(MAX_SERIES + 1, 1), (150_000, 2), (420_000, 3)])
def test_beyond_its_size_it_keeps_to_its_error(number: int, seed: int) -> None:
    table = SeriesTable(3600, 12)
    written = keys(number, seed)
    table.note(written, 0)
    assert not table.exact
    assert table.memory <= 2 << 20
    standard_error = 1 / math.sqrt(MAX_SERIES / 2)
    assert abs(table.count(0) / number - 1) < 6 * standard_error
    assert table.unknown(written, 0) == 0
    others = keys(number, seed + 10)
    assert abs(table.unknown(others, 0) / number - 1) < 6 * standard_error


def test_it_is_exact_again_once_it_was_empty() -> None:
    table = SeriesTable(3600, 12)
    table.note(keys(MAX_SERIES + 1), 0)
    assert table.count(3900) == 0
    assert (table.exact, table.memory) == (True, 8 << 10)


def test_series_that_come_and_go_take_no_more_memory() -> None:
    table = SeriesTable(60, 12)
    for moment in range(300):
        table.note(keys(20, moment), moment)
        assert table.count(moment) <= 20 * 65
        assert table.memory <= 32 << 10


def test_the_number_of_a_part_may_be_used_again() -> None:
    table, old = SeriesTable(60, 12), keys(10)
    table.note(old, 0)
    for part in range(0, 70_000, 10):  # a part has 16 bits
        table.note({1}, part * 5.0)
        assert table.count(part * 5.0) == 1 + 10 * (part < 13)
    assert table.unknown(old, part * 5.0) == 10


def test_news_of_an_earlier_moment_count_from_then_on() -> None:
    table = SeriesTable(60, 12)
    table.note({1}, 50)
    assert table.note({1, 2}, 50, at=20) == [2]
    assert [table.count(now) for now in (84, 85, 100)] == [2, 1, 1]
    assert table.note({3}, 100, at=20) == []
    assert table.note({4}, 100, at=200) == [4]
    assert [table.count(now) for now in (114, 115, 164, 165)] == [2, 1, 1, 0]


def test_the_hash_of_a_label_has_a_key() -> None:
    one, same, other = LabelHashes(b"one"), LabelHashes(b"one"), LabelHashes(b"other")
    assert one.hash(b"a", b"b") == same.hash(b"a", b"b") != other.hash(b"a", b"b")
    assert len({one.hash(*pair) for pair in ((b"a", b"b"), (b"ab", b""), (b"b", b"a"), (b"1 a", b"b"))}) == 4


def test_series_that_somebody_chose_do_not_belong_to_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place is found in some steps: without the secret number it is not known which series it belongs to."""
    monkeypatch.setattr("vmgw_core.limits.windows.series_table._MIX", 0xB7E151628AED)
    for step in (1, 2**10, 2**24, 2**30):
        table = SeriesTable(60, 12)
        table.note(range(step, 10_000 * step, step), 0)
        taken = "".join("x" if cell else " " for cell in table._cells)
        assert max(map(len, taken.split())) < 200
