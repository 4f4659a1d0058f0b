"""Which hours a question is about."""

from __future__ import annotations

import pytest

from tests.support.each import each
from vmgw_core.usage import Period, Question, moment_of, start_of

NOW = 1_795_861_815.0  # 2026-11-28T10:30:15Z


def hours(**arguments: str) -> tuple[str, str]:
    question = Question.read({name.rstrip("_"): value for name, value in arguments.items()}, NOW)
    return moment_of(question.first), moment_of(question.end)


@each(
    ("arguments", "first", "end"),
    [
        ({}, "2026-10-28T00:00:00Z", "2026-11-28T11:00:00Z"),
        ({"by": "hour"}, "2026-11-27T10:00:00Z", "2026-11-28T11:00:00Z"),
        ({"by": "month"}, "2025-11-01T00:00:00Z", "2026-11-28T11:00:00Z"),
        ({"from_": "2026-11"}, "2026-11-01T00:00:00Z", "2026-11-28T11:00:00Z"),
        ({"from_": "2026-10", "to": "2026-11"}, "2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"),
        ({"from_": "2026-01-31", "to": "2026-02-01"}, "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"),
        (
            {"from_": "2026-01-31T12:30:00Z", "to": "2026-01-31T13:00:01Z"},
            "2026-01-31T12:00:00Z",
            "2026-01-31T14:00:00Z",
        ),
        ({"from_": "2026-01-31T12:00", "to": "2026-01-31T14:00+01:00"}, "2026-01-31T12:00:00Z", "2026-01-31T13:00:00Z"),
        ({"to": "1970-01-01T01:00:00Z"}, "1970-01-01T00:00:00Z", "1970-01-01T01:00:00Z"),
    ],
)
def test_the_hours(arguments: dict[str, str], first: str, end: str) -> None:
    assert hours(**arguments) == (first, end)


def test_the_rest() -> None:
    question = Question.read({"by": "month", "tenant": "1:5", "subject": ""}, NOW)
    assert (question.by, question.tenant, question.subject) == (Period.MONTH, "1:5", "")
    question = Question.read({}, NOW)
    assert (question.by, question.tenant, question.subject) == (Period.DAY, None, None)


@each(
    ("arguments", "reason"),
    [
        ({"by": "week"}, 'by: expected hour, day or month, got "week"'),
        ({"from_": "yesterday"}, "from: expected a date such as 2026-01-31, a month .* got .*yesterday"),
        ({"from_": "2026-13"}, "from: expected a date"),
        ({"to": ""}, "to: expected a date"),
        ({"to": "1969-12-31"}, "to: expected a date"),
        ({"to": "9999-12-31"}, "to: expected a date"),
        ({"to": "0001-01-01T00:00+23:59"}, "to: expected a date"),
        ({"from_": "2026-02", "to": "2026-02"}, "from: it must be before to"),
        ({"from_": "2027-02"}, "from: it must be before to"),
    ],
)
def test_what_is_refused(arguments: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        hours(**arguments)


def test_periods_begin_in_utc() -> None:
    hour = Question.read({"to": "2028-02-29T23:59:59Z"}, NOW).end - 1
    assert [moment_of(start_of(hour, by)) for by in Period] == [
        "2028-02-29T23:00:00Z",
        "2028-02-29T00:00:00Z",
        "2028-02-01T00:00:00Z",
    ]
