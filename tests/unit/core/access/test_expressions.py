"""expressions: what the expressions of one request may take."""

from __future__ import annotations

import pytest

from vmgw_core.access import Steps
from vmgw_core.errors import BadRequest

COSTLY = ".*a(.{0,30}){30}c"  # 8,000 instructions


def test_an_expression_matches_the_whole_text() -> None:
    steps = Steps()
    expression = steps.compile("we(b|x).*")
    assert [steps.matches(expression, text) for text in ("web", "webx", "aweb", "")] == [True, True, False, False]


def test_a_usual_expression_takes_little() -> None:
    steps = Steps()
    expression = steps.compile("(web|db)-[0-9]+\\.example\\.com")
    assert sum(steps.matches(expression, f"web-{number}.example.com") for number in range(10_000)) == 10_000


def test_the_steps_of_matches_are_bounded_together() -> None:
    steps = Steps()
    expression = steps.compile(COSTLY)
    assert not steps.matches(expression, "ab" * 5000)
    with pytest.raises(BadRequest, match="take too long"):
        steps.matches(expression, "ab" * 5000)


def test_compiling_takes_steps_too() -> None:
    steps = Steps()
    with pytest.raises(BadRequest, match="take too long"):
        [steps.compile(COSTLY) for _ in range(100)]


def test_what_re2_cannot_compile_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no argument"):
        Steps().compile("*")
    with pytest.raises(ValueError, match="longer than 3 bytes"):
        Steps().compile("abcd", max_bytes=3)
