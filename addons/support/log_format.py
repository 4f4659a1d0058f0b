"""Log lines in VictoriaMetrics' format, and the ``-logger*`` flags that set it.

``2026-01-02T03:04:05.678Z<TAB>info<TAB>keys.py:42<TAB>message``, or with ``-loggerFormat=json``
``{"ts":"…","level":"info","caller":"keys.py:42","msg":"message"}``.

A message may quote what a client or a backend sent, so a record is always one line: nothing sent can forge another
record.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final, Self, TextIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from vmgw_core.base import quoted
from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError

from .thread_writer import ThreadWriter

_MAX_WAITING: Final = 8 << 20  # characters of queued lines
_LEVELS: Final = {"INFO": 20, "WARN": 30, "ERROR": 40, "FATAL": 50, "PANIC": 60}
_WORDS: Final = {"WARNING": "warn", "CRITICAL": "fatal"}
_FIELDS: Final = ("ts", "level", "caller", "msg")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/<>*+@-]+")
_json_of: Final = json.JSONEncoder(separators=(",", ":")).encode  # ASCII: no character in it ends a line
# Characters that end a line or control a terminal.
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStyle:
    """The flags ``-logger*``, parsed."""

    as_json: bool = False
    level: int = logging.INFO
    output: str = "stderr"
    timezone: tzinfo | None = UTC
    """None: the machine's own."""
    names: Mapping[str, str] = field(default_factory=lambda: dict(zip(_FIELDS, _FIELDS, strict=True)))
    """The names of the JSON fields."""
    timestamps: bool = True
    errors_per_second: int = 0
    warnings_per_second: int = 0
    longest: int = 5000
    """Characters of a message; a longer one loses its middle."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read the flags. Raises ``ConfigurationError``, which names the flag."""
        return cls(
            as_json=_one_of("loggerFormat", settings.logger_format, ("default", "json")) == "json",
            level=_LEVELS[_one_of("loggerLevel", settings.logger_level, tuple(_LEVELS))],
            output=_one_of("loggerOutput", settings.logger_output, ("stderr", "stdout")),
            timezone=_timezone(settings.logger_timezone),
            names=_field_names(settings.logger_json_fields),
            timestamps=not settings.logger_disable_timestamps,
            errors_per_second=settings.logger_errors_per_second_limit,
            warnings_per_second=settings.logger_warns_per_second_limit,
            longest=settings.logger_max_arg_len,
        )

    @property
    def stream(self) -> TextIO:
        """The stream of ``-loggerOutput``."""
        return sys.stdout if self.output == "stdout" else sys.stderr

    def line(self, created: float, level: str, caller: str, message: str, fields: Mapping[str, object]) -> str:
        """Format one record, without the newline.

        Args:
            created: Unix time in seconds.
            fields: further fields; the default format appends them to the message as ``name=value``.
        """
        if self.as_json:
            return self._json(created, level, caller, message, fields)
        if fields:
            message = " ".join(filter(None, (message, *(f"{name}={_shown(fields[name])}" for name in fields))))
        # Without timestamps VictoriaMetrics leaves the column out.
        head = f"{self.moment(created)}\t{level}" if self.timestamps else level
        return f"{head}\t{caller}\t{one_line(message)}"

    def _json(self, created: float, level: str, caller: str, message: str, fields: Mapping[str, object]) -> str:
        document: dict[str, object] = {}
        if self.timestamps:
            document[self.names["ts"]] = self.moment(created)
        document |= {self.names["level"]: level, self.names["caller"]: caller, self.names["msg"]: message}
        document |= {name: value for name, value in fields.items() if name not in document}
        return _json_of(document)

    def moment(self, created: float) -> str:
        """Format a timestamp in ``timezone``."""
        second = math.floor(created)
        text, zone = _second(second, self.timezone)
        return f"{text}.{int((created - second) * 1000):03d}{zone}"


@lru_cache(maxsize=8)
def _second(second: int, timezone: tzinfo | None) -> tuple[str, str]:
    """Format a timestamp down to the second. Cached: a busy access log has thousands of lines a second."""
    moment = datetime.fromtimestamp(second, UTC).astimezone(timezone)
    return f"{moment:%Y-%m-%dT%H:%M:%S}", "Z" if timezone is UTC else moment.strftime("%z")


def one_line(text: str) -> str:
    """Escape every character in ``text`` that ends a line or controls a terminal."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def shortened(text: str, longest: int) -> str:
    """Cut the middle out of ``text`` if it has more than ``longest`` characters."""
    if len(text) <= longest:
        return text
    half = max(1, (longest - 2) // 2)
    return f"{text[:half]}..{text[-half:]}"


class LineFormatter(logging.Formatter):
    """Formats records in a style."""

    def __init__(self, style: LogStyle | None = None) -> None:
        super().__init__()
        self.style = style or LogStyle()

    def format(self, record: logging.LogRecord) -> str:
        message = shortened(record.getMessage(), self.style.longest)
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        level = _WORDS.get(record.levelname, record.levelname.lower())
        return self.style.line(record.created, level, f"{record.filename}:{record.lineno}", message, {})


class PerSecond(logging.Filter):
    """Limits the warnings and errors of each log statement per second; the last one allowed says so."""

    def __init__(self, style: LogStyle) -> None:
        super().__init__()
        self.limits = {logging.WARNING: style.warnings_per_second, logging.ERROR: style.errors_per_second}
        self.second = 0
        self.lock = threading.RLock()  # filters run in any thread, before the handler takes its lock
        self.logged: Counter[tuple[str, int, int]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        limit = self.limits.get(record.levelno, 0)
        if not limit:
            return True
        place = (record.pathname, record.lineno, record.levelno)
        with self.lock:
            if int(record.created) != self.second:
                self.second = int(record.created)
                self.logged.clear()
            self.logged[place] += 1
            logged = self.logged[place]
        if logged == limit:
            record.msg = f"(limit of {limit} a second reached, suppressing further ones) {record.getMessage()}"
            record.args = ()
        return logged <= limit


def set_up_logging(style: LogStyle | None = None) -> None:
    """Log the gateway's records from the style's level up, those of mitmproxy and libraries from warnings up."""
    style = style or LogStyle()
    root = logging.getLogger()
    root.handlers[:] = [_styled(logging.StreamHandler(style.stream), style)]
    root.setLevel(max(logging.WARNING, style.level))
    logging.getLogger("vmgw_addons").setLevel(style.level)


@contextmanager
def logging_in_thread(style: LogStyle) -> Iterator[ThreadWriter[str]]:
    """Write log lines in a thread, so that a stalled log delays no request. Call it after any fork."""

    def write(line: str) -> None:
        style.stream.write(line)
        style.stream.flush()

    writer = ThreadWriter(write, "log", _MAX_WAITING)
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [_styled(_ThreadHandler(writer), style)]
    try:
        yield writer
    finally:
        root.handlers[:] = before
        writer.close()


class _ThreadHandler(logging.Handler):
    """Formats records and queues them for a thread. Records that do not fit into the queue are lost."""

    def __init__(self, writer: ThreadWriter[str]) -> None:
        super().__init__()
        self.writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
        else:
            self.writer.put(line, len(line), lambda: None)


def set_up_logging_beside(style: LogStyle) -> None:
    """Log in a mitmproxy tool: the gateway's records go to the stream of the flags instead of the tool's own log."""
    ours = logging.getLogger("vmgw_addons")
    for handler in logging.getLogger().handlers:
        if type(handler).__name__ == "TermLogHandler" and _not_ours not in handler.filters:
            handler.addFilter(_not_ours)
    ours.handlers[:] = [_styled(logging.StreamHandler(style.stream), style)]
    ours.setLevel(style.level)


def _styled(handler: logging.Handler, style: LogStyle) -> logging.Handler:
    handler.setFormatter(LineFormatter(style))
    handler.addFilter(PerSecond(style))
    return handler


def _not_ours(record: logging.LogRecord) -> bool:
    return not record.name.startswith("vmgw_addons")


def _shown(value: object) -> str:
    """Format a field's value: quoted unless it is a plain word, so that no value looks like another field."""
    text = "-" if value is None else str(value)
    return text if _PLAIN.fullmatch(text) and (value is None or text != "-") else _json_of(text)


def _one_of(flag: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        expected = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
        raise ConfigurationError(f"-{flag}: expected {expected}, got {quoted(value)}")
    return value


def _timezone(name: str) -> tzinfo | None:
    if name == "Local":
        return None
    if name == "UTC":
        return UTC  # works without a time zone database
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(
            f"-loggerTimezone: expected an IANA time zone such as Europe/Berlin, or Local, got {quoted(name)}"
        ) from None


def _field_names(text: str) -> dict[str, str]:
    names = dict(zip(_FIELDS, _FIELDS, strict=True))
    for part in filter(None, text.split(",")):
        old, colon, new = (piece.strip() for piece in part.partition(":"))
        if old not in names or not colon or not new:
            raise ConfigurationError(
                f"-loggerJSONFields: expected old:new, where old is ts, level, caller or msg, got {quoted(part)}"
            )
        names[old] = new
    if len(set(names.values())) < len(names):
        raise ConfigurationError("-loggerJSONFields: two fields have the same name")
    return names
