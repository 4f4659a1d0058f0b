from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping

import pytest

from tests.support.each import each
from vmgw_addons.support.log_format import LineFormatter, LogStyle, PerSecond, one_line, shortened
from vmgw_core.configuration.command_line import parse
from vmgw_core.errors import ConfigurationError


def style(*flags: str) -> LogStyle:
    return LogStyle.from_settings(parse(flags, {}).settings)


def record(message: str, level: int = logging.WARNING, *, line: int = 7) -> logging.LogRecord:
    made = logging.LogRecord("vmgw_addons.x", level, "/a/b/x.py", line, message, (), None)
    made.created = 1_700_000_000.5
    return made


def line(message: str, *flags: str, error: bool = False, level: int = logging.WARNING) -> str:
    made = record(message, level)
    if error:
        try:
            raise ValueError("line one\nline two")
        except ValueError:
            made.exc_info = sys.exc_info()
    return LineFormatter(style(*flags)).format(made)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), "2023-11-14T22:13:20.500Z\twarn\tx.py:7\thello"),
        (("-loggerTimezone=Europe/Berlin",), "2023-11-14T23:13:20.500+0100\twarn\tx.py:7\thello"),
        (("-loggerTimezone=Etc/GMT+3",), "2023-11-14T19:13:20.500-0300\twarn\tx.py:7\thello"),
        (("-loggerDisableTimestamps",), "warn\tx.py:7\thello"),
    ],
)
def test_a_line_has_time_level_place_and_message(flags: tuple[str, ...], expected: str) -> None:
    assert line("hello", *flags) == expected


def test_the_local_time_zone_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert line("hello", "-loggerTimezone=Local").startswith("2023-11-15T03:43:20.500+0530\t")
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(("level", "word"), [(20, "info"), (30, "warn"), (40, "error"), (50, "fatal"), (10, "debug")])
def test_levels_are_called_as_in_victoria_metrics(level: int, word: str) -> None:
    assert line("hello", level=level).split("\t")[1] == word


JSON: Mapping[str, object] = {"ts": "2023-11-14T22:13:20.500Z", "level": "warn", "caller": "x.py:7", "msg": "hello"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), JSON),
        (("-loggerDisableTimestamps",), {name: value for name, value in JSON.items() if name != "ts"}),
        (
            ("-loggerJSONFields=ts:timestamp,msg:message",),
            {"timestamp": JSON["ts"], "level": "warn", "caller": "x.py:7", "message": "hello"},
        ),
    ],
)
def test_json(flags: tuple[str, ...], expected: Mapping[str, object]) -> None:
    text = line("hello", "-loggerFormat=json", *flags)
    assert json.loads(text) == expected
    assert list(json.loads(text)) == list(expected)


@each("flags", [(), ("-loggerFormat=json",)], ids=["default", "json"])
@each("end", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x1b[2K", "\x00"])
def test_a_message_cannot_begin_a_line_of_its_own(flags: tuple[str, ...], end: str) -> None:
    text = line(f"hello{end}2026-01-01T00:00:00.000Z\tinfo\tx.py:1\tforged", *flags)
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    assert "\x00" not in text


@pytest.mark.parametrize("flags", [(), ("-loggerFormat=json",)], ids=["default", "json"])
def test_an_exception_stays_on_its_line(flags: tuple[str, ...]) -> None:
    text = line("failed", *flags, error=True)
    assert "\n" not in text
    assert "ValueError: line one\\nline two" in text


def test_one_line_leaves_text_alone() -> None:
    assert one_line("tab\tand umlaut ü") == "tab\tand umlaut ü"


@pytest.mark.parametrize(
    ("text", "longest", "expected"),
    [("a" * 10, 10, "a" * 10), ("a" * 5 + "b" * 6, 10, "aaaa..bbbb"), ("abcdefghijkl", 11, "abcd..ijkl")],
)
def test_a_long_message_keeps_its_ends(text: str, longest: int, expected: str) -> None:
    assert shortened(text, longest) == expected
    assert line(text, f"-loggerMaxArgLen={longest}").endswith(f"\t{expected}")


def test_each_place_may_log_so_much_a_second() -> None:
    limits = PerSecond(style("-loggerErrorsPerSecondLimit=2", "-loggerWarnsPerSecondLimit=1"))

    def passed(made: logging.LogRecord, *, at: float = 0.0) -> str | None:
        made.created += at
        return made.getMessage() if limits.filter(made) else None

    assert passed(record("first", logging.ERROR)) == "first"
    assert passed(record("second", logging.ERROR)) == "(limit of 2 a second reached, suppressing further ones) second"
    assert passed(record("third", logging.ERROR)) is None
    assert passed(record("elsewhere", logging.ERROR, line=8)) == "elsewhere"
    assert passed(record("warned", logging.WARNING)) is not None
    assert passed(record("warned", logging.WARNING)) is None
    assert [passed(record("told", logging.INFO)) for _ in range(9)] == ["told"] * 9
    assert passed(record("a second later", logging.ERROR), at=1) == "a second later"


def test_without_a_limit_everything_passes() -> None:
    limits = PerSecond(style())
    assert all(limits.filter(record("x", logging.ERROR)) for _ in range(100))


@each(
    ("flag", "reason"),
    [
        ("-loggerFormat=xml", '-loggerFormat: expected default or json, got "xml"'),
        ("-loggerLevel=info", '-loggerLevel: expected INFO, WARN, ERROR, FATAL or PANIC, got "info"'),
        ("-loggerOutput=/tmp/x", '-loggerOutput: expected stderr or stdout, got "/tmp/x"'),
        ("-loggerTimezone=../../etc/passwd", "-loggerTimezone: expected an IANA time zone"),
        ("-loggerTimezone=Nowhere/City", "-loggerTimezone: expected an IANA time zone"),
        ("-loggerTimezone=", "-loggerTimezone: expected an IANA time zone"),
        ("-loggerJSONFields=ts", "-loggerJSONFields: expected old:new"),
        ("-loggerJSONFields=ts:", "-loggerJSONFields: expected old:new"),
        ("-loggerJSONFields=time:ts", "-loggerJSONFields: expected old:new"),
        ("-loggerJSONFields=ts:msg", "-loggerJSONFields: two fields have the same name"),
    ],
)
def test_a_bad_flag_is_named(flag: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        style(flag)
    assert str(refusal.value).startswith(reason)
