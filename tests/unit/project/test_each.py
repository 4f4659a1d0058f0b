"""The decorator that runs a test for all rows of a table: it can fail, and says of which row."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.each import each


def raises(number: int) -> None:
    if number:
        raise ValueError(number)


def does_not_raise(number: int) -> None:
    with pytest.raises(ValueError):
        raises(1 - number)


@pytest.mark.parametrize(("work", "failure"), [(raises, ValueError), (does_not_raise, pytest.fail.Exception)])
def test_all_cases_run_and_the_failed_are_named(work: Callable[[int], None], failure: type[BaseException]) -> None:
    ran: list[tuple[int, str]] = []

    @each("number", (0, 1, 1), ids="number {}".format)
    def test(number: int, word: str) -> None:
        ran.append((number, word))
        work(number)

    with pytest.raises(failure) as raised:
        test(word="a")
    assert ran == [(0, "a"), (1, "a"), (1, "a")]
    assert raised.value.__notes__ == ["number: number 1"]


def test_more_than_one_may_fail() -> None:
    with pytest.raises(ValueError, match=r"^1\n") as raised:
        each("number", range(4))(raises)()
    assert raised.value.__notes__ == ["number: 1", "2 more failed: 2, 3"]


def test_a_table_may_not_be_empty() -> None:
    with pytest.raises(AssertionError, match="cannot fail"):
        each("number", [])
