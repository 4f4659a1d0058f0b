"""Log lines as VictoriaMetrics components write them, and the flags ``-logger*`` that say how they look.

``2026-01-02T03:04:05.678Z<TAB>info<TAB>keys.py:42<TAB>message``, or with ``-loggerFormat=json``
``{"ts":"…","level":"info","caller":"keys.py:42","msg":"message"}``.

What a client or a backend sent may stand in a message. A record is one line whatever is in it, so that nothing sent
can begin a record of its own.
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
from typing import Any, Final, Self, TextIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from vmgw_core.configuration import Settings
from vmgw_core.errors import ConfigurationError

from .thread_writer import ThreadWriter

_MAX_WAITING: Final = 8 << 20  # characters of lines that have not been written yet
_LEVELS: Final = {"INFO": 20, "WARN": 30, "ERROR": 40, "FATAL": 50, "PANIC": 60}
_WORDS: Final = {"WARNING": "warn", "CRITICAL": "fatal"}
_FIELDS: Final = ("ts", "level", "caller", "msg")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/<>*+@-]+")
_json_of: Final = json.JSONEncoder(separators=(",", ":")).encode  # ASCII: no character in it ends a line
# What a terminal or a reader of logs takes for the end of a line, or acts on.
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
    """What the JSON fields are called."""
    timestamps: bool = True
    errors_per_second: int = 0
    warnings_per_second: int = 0
    longest: int = 5000
    """Characters of a message."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Raises ``ConfigurationError``, which names the flag."""
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
        """Where lines go."""
        return sys.stdout if self.output == "stdout" else sys.stderr

    def line(self, created: float, level: str, caller: str, message: str, fields: Mapping[str, object]) -> str:
        """One line without its end.

        Args:
            created: Unix time in seconds.
            fields: what JSON shows beside the four, and the default format behind the message as ``name=value``.
        """
        if self.as_json:
            return self._json(created, level, caller, message, fields)
        if fields:
            message = " ".join(filter(None, (message, *(f"{name}={_shown(fields[name])}" for name in fields))))
        # Without timestamps VictoriaMetrics leaves the column out.
        head = f"{self._moment(created)}\t{level}" if self.timestamps else level
        return f"{head}\t{caller}\t{one_line(message)}"

    def _json(self, created: float, level: str, caller: str, message: str, fields: Mapping[str, object]) -> str:
        document: dict[str, object] = {}
        if self.timestamps:
            document[self.names["ts"]] = self._moment(created)
        document |= {self.names["level"]: level, self.names["caller"]: caller, self.names["msg"]: message}
        document |= {name: value for name, value in fields.items() if name not in document}
        return _json_of(document)

    def _moment(self, created: float) -> str:
        second = math.floor(created)
        text, zone = _second(second, self.timezone)
        return f"{text}.{int((created - second) * 1000):03d}{zone}"


@lru_cache(maxsize=8)
def _second(second: int, timezone: tzinfo | None) -> tuple[str, str]:
    """The part of a timestamp that stays the same for a second: a busy access log has thousands of lines in it."""
    moment = datetime.fromtimestamp(second, UTC).astimezone(timezone)
    return f"{moment:%Y-%m-%dT%H:%M:%S}", "Z" if timezone is UTC else moment.strftime("%z")


def one_line(text: str) -> str:
    """``text`` with every character that could end a line, or steer a terminal, written out."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def shortened(text: str, longest: int) -> str:
    """``text``, or its beginning and its end where it is longer than that many characters."""
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
    """Lets each place in the code log so many warnings and errors a second; the last of them says so."""

    def __init__(self, style: LogStyle) -> None:
        super().__init__()
        self.limits = {logging.WARNING: style.warnings_per_second, logging.ERROR: style.errors_per_second}
        self.second = 0
        self.lock = threading.RLock()  # handlers call filters in any thread, before they take their own lock
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
            record.msg = f"(no more of these within this second, the limit is {limit}) {record.getMessage()}"
            record.args = ()
        return logged <= limit


def set_up_logging(style: LogStyle | None = None) -> None:
    """Log in this process: the gateway from the style's level on, mitmproxy and its libraries from warnings on."""
    style = style or LogStyle()
    root = logging.getLogger()
    root.handlers[:] = [log_handler(style)]
    root.setLevel(max(logging.WARNING, style.level))
    logging.getLogger("vmgw_addons").setLevel(style.level)


@contextmanager
def logging_in_thread(style: LogStyle) -> Iterator[ThreadWriter[str]]:
    """Write the lines of this process in a thread from here on, so that a log that stalls holds up no request.

    Not before a fork: the thread would stay behind.
    """

    def write(line: str) -> None:
        style.stream.write(line)
        style.stream.flush()

    writer = ThreadWriter(write, "log", _MAX_WAITING)
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = [_dressed(_Handler(writer), style)]
    try:
        yield writer
    finally:
        root.handlers[:] = before
        writer.close()


class _Handler(logging.Handler):
    """Formats records at once, and leaves writing to a thread. Records that find no room in the queue are lost."""

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
    """Log in a mitmproxy tool: the gateway's records leave the tool's own log and go where the flags say."""
    ours = logging.getLogger("vmgw_addons")
    for handler in logging.getLogger().handlers:
        if type(handler).__name__ == "TermLogHandler" and _not_ours not in handler.filters:
            handler.addFilter(_not_ours)
    ours.handlers[:] = [log_handler(style)]
    ours.setLevel(style.level)


def log_handler(style: LogStyle) -> logging.Handler:
    """A handler that writes in ``style``."""
    handler: logging.StreamHandler[Any] = logging.StreamHandler(style.stream)
    return _dressed(handler, style)


def _dressed(handler: logging.Handler, style: LogStyle) -> logging.Handler:
    handler.setFormatter(LineFormatter(style))
    handler.addFilter(PerSecond(style))
    return handler


def _not_ours(record: logging.LogRecord) -> bool:
    return not record.name.startswith("vmgw_addons")


def _shown(value: object) -> str:
    """A value of a field: bare where it is a plain word, else quoted, so that no value can pass for a field."""
    text = "-" if value is None else str(value)
    return text if _PLAIN.fullmatch(text) and (value is None or text != "-") else _json_of(text)


def _one_of(flag: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ConfigurationError(f"flag -{flag}: expected {' or '.join(known)}, got {value[:60]!r}")
    return value


def _timezone(name: str) -> tzinfo | None:
    if name == "Local":
        return None
    if name == "UTC":
        return UTC  # also where the machine has no time zone database
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(
            f"flag -loggerTimezone: expected an IANA time zone such as Europe/Berlin, or Local, got {name[:60]!r}"
        ) from None


def _field_names(text: str) -> dict[str, str]:
    names = dict(zip(_FIELDS, _FIELDS, strict=True))
    for part in filter(None, text.split(",")):
        old, colon, new = (piece.strip() for piece in part.partition(":"))
        if old not in names or not colon or not new:
            raise ConfigurationError(
                f"flag -loggerJSONFields: expected old:new with one of {', '.join(_FIELDS)}, got {part[:60]!r}"
            )
        names[old] = new
    if len(set(names.values())) < len(names):
        raise ConfigurationError("flag -loggerJSONFields: two fields have the same name")
    return names
