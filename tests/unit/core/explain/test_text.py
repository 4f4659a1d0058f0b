"""narration: bounds and times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vmgw_core.explain.model import ArgumentsReport
from vmgw_core.explain.request import own_page
from vmgw_core.explain.text import explanation_text, moment, times
from vmgw_core.http.head import RequestHead

STORY = own_page(RequestHead(method="GET", target="/health", headers=(), client="192.0.2.1"), 0.0)
NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("claims", "lines"),
    [
        ({"exp": 1_700_000_001}, ["exp: 2023-11-14T22:13:21Z, expires in 1 seconds"]),
        ({"exp": 1_700_000_000}, ["exp: 2023-11-14T22:13:20Z, expired 0 seconds ago"]),
        ({"exp": 1_699_999_700}, ["exp: 2023-11-14T22:08:20Z, expired 5 minutes ago"]),
        ({"nbf": 1_700_010_800}, ["nbf: 2023-11-15T01:13:20Z, valid in 3 hours"]),
        ({"nbf": 1_699_000_000}, ["nbf: 2023-11-03T08:26:40Z, valid for 11 days"]),
        ({"exp": True, "nbf": "x"}, []),
        ({"exp": 10**400}, [f"exp: {'1' + '0' * 19} s, expires in {((1 << 53) - 1_700_000_000) // 86400} days"]),
        ({}, []),
    ],
)  # fmt: skip
def test_times(claims: dict[str, object], lines: list[str]) -> None:
    assert list(times(claims, NOW)) == lines


def test_times_without_a_clock() -> None:
    assert list(times({"exp": 1_700_000_000}, None)) == ["exp: 2023-11-14T22:13:20Z"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "1970-01-01T00:00:00Z"), (1e300, f"{1e300:.0f} s"), (10**20, f"{10**20} s"[:20] + " s")]
)
def test_moments_that_no_calendar_has(seconds: float, text: str) -> None:
    assert moment(seconds) == text


def test_long_lists_of_arguments_are_cut() -> None:
    many = tuple((f"name{index}", "x") for index in range(45))
    twice = (("a", "b"), ("a", "b"))
    lines = explanation_text(
        replace(
            STORY,
            url_arguments=ArgumentsReport(before=many, after=many, removed=(), added=many),
            form_arguments=ArgumentsReport(before=twice, after=twice[:1], removed=twice[:1], added=()),
        )
    ).splitlines()
    assert lines.count("    … and 5 more") == 1
    assert lines.count("  + … and 5 more") == 1
    assert lines[-2:] == ["  - a=b", "    a=b"]


def test_an_empty_place_is_left_out() -> None:
    nothing = ArgumentsReport(before=(), after=(), removed=(), added=())
    assert "Arguments" not in explanation_text(replace(STORY, url_arguments=nothing))
