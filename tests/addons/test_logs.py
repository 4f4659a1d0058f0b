from __future__ import annotations

import logging
import sys

from vmgw_addons.logs import LineFormatter


def line(message: str, *, error: bool = False) -> str:
    record = logging.LogRecord("vmgw_addons.x", logging.WARNING, "/a/b/x.py", 7, message, (), None)
    record.created = 1_700_000_000.5
    if error:
        try:
            raise ValueError("line one\nline two")
        except ValueError:
            record.exc_info = sys.exc_info()
    return LineFormatter().format(record)


def test_a_line_has_time_level_place_and_message() -> None:
    assert line("hello") == "2023-11-14T22:13:20.500Z\twarn\tx.py:7\thello"


def test_a_message_cannot_begin_a_line_of_its_own() -> None:
    assert "\n" not in line("hello\r\n2026-01-01T00:00:00.000Z\tinfo\tx.py:1\tforged")


def test_an_exception_stays_on_its_line() -> None:
    text = line("failed", error=True)
    assert "\n" not in text
    assert "ValueError: line one\\nline two" in text
