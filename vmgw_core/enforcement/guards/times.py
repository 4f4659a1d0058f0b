"""Times and durations in the arguments of VictoriaMetrics, as v1.150 reads them.

https://docs.victoriametrics.com/victoriametrics/single-server-victoriametrics/#timestamp-formats. The code is
``GetTime`` and ``GetDuration`` in ``lib/httputil``, ``ParseTimeAt`` in ``lib/timeutil`` and ``DurationValue`` in
``metricsql``. All results are in seconds. What is not read here raises ``ValueError``, though VictoriaMetrics may
read some of it: a time without a time zone, since nobody knows the zone of the backend, and numbers that older
releases read as the year 1970 (``-3600``, ``2024``, nanoseconds).
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

_LARGEST_TEXT: Final = 100
"""Characters of a time or a duration."""
_LATEST: Final = (2**63 - 1) // 10**6 / 1000
_LONGEST: Final = 100 * 365 * 86400.0

_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_PART: Final = re.compile(r"(-?[0-9]+(?:\.[0-9]*)?)([mM][sS]|m(?![iIbB])|[sShHdDwWyYiI])", re.ASCII)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604_800.0, "y": 31_536_000.0}
_UNIX: Final = re.compile(r"\+?[0-9]{1,19}(?:\.[0-9]*)?(?:[eE]\+?[0-9]{1,2})?", re.ASCII)
_ZONE: Final = re.compile(r"([-+])([0-9]{2}):([0-9]{2})\Z", re.ASCII)
_DATE: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})(?:-([0-9]{2})(?:T([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(\.[0-9]{1,9})?)?)?)?)?", re.ASCII
)
# Times of the Prometheus client that stand for the first and the last one.
_FIRST: Final = "-292273086-05-16T16:47:06Z"
_LAST: Final = "292277025-08-18T07:12:54.999999999Z"


class NoZone(ValueError):
    """A time without a time zone."""


def duration(text: str, step: float = 0.0) -> float:
    """Read a duration such as ``5m``, ``1h30m``, ``-2h``, ``300`` or ``5i``, where ``i`` is ``step`` seconds.

    It may be negative. Raises ``ValueError``.
    """
    if len(text) > _LARGEST_TEXT or not text:
        raise ValueError("no duration")
    if text[-1] in "0123456789." and _NUMBER.fullmatch(text):
        return _finite(text)
    total, position, negative = 0.0, 0, False
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            raise ValueError("no duration")
        unit = part[2].lower()
        value = float(part[1]) * (step if unit == "i" else _UNITS[unit])
        if negative and value > 0:
            value = -value
        negative = negative or value < 0
        total += value
        position = part.end()
    return total


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("out of range")
    return number


def duration_argument(text: str) -> float | None:
    """Read an argument such as ``step`` or ``timeout``; None if the default holds. Raises ``ValueError``."""
    if text in ("", "undefined"):
        return None
    seconds = duration(text)
    if not 0.001 <= seconds <= _LONGEST:
        raise ValueError("out of range")
    return math.trunc(seconds * 1000) / 1000


def time_argument(text: str, now: float) -> float:
    """Read an argument such as ``start`` that is not empty, as Unix time. Raises ``ValueError``."""
    if text == _FIRST:
        return 0.0
    if text == _LAST:
        return _LATEST
    if len(text) > _LARGEST_TEXT:
        raise ValueError("no time")
    return min(max(_time(text, now), 0.0), _LATEST)


def _time(text: str, now: float) -> float:
    if text == "now":
        return now
    zone = _ZONE.search(text) if len(text) > 6 else None
    if text[:1] == "-" and _NUMBER.fullmatch(text):
        raise ValueError("a negative number")
    bare = text[: zone.start()] if zone is not None else text.removesuffix("Z")
    if bare.startswith("now") or (bare and (bare[-1] > "9" or bare[0] == "-")):
        return now - abs(duration(bare.removeprefix("now")))
    if len(bare) == 4:
        return _date(f"{bare}-01", zone, text)
    return _date(bare, zone, text) if "-" in text else _unix(text)


def _date(bare: str, zone: re.Match[str] | None, text: str) -> float:
    match = _DATE.fullmatch(bare)
    if match is None:
        raise ValueError("no time")
    if zone is None and not text.endswith("Z"):
        raise NoZone("no time zone")
    numbers = match.groups("")[:6]
    year, month, day, hour, minute, second = (int(one or least) for one, least in zip(numbers, "111000", strict=True))
    seconds = datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp() + float(match[7] or 0)
    if zone is not None:
        offset = int(zone[2]) * 3600 + int(zone[3]) * 60
        seconds += -offset if zone[1] == "+" else offset
    return seconds


def below_seconds(text: str) -> bool:
    """Tell whether a time is a number that v1.150 reads as milliseconds or microseconds.

    Older releases read it as seconds, so as the latest time.
    """
    return bool(len(text) <= _LARGEST_TEXT and _UNIX.fullmatch(text)) and int(Decimal(text)) > (2**63 - 1) // 10**9


def _unix(text: str) -> float:
    """Read seconds, or if they are too many, milliseconds or microseconds."""
    if not _UNIX.fullmatch(text):
        raise ValueError("no time")
    number = Decimal(text)
    for factor in (10**9, 10**6, 10**3):
        if int(number) <= (2**63 - 1) // factor:
            return float(number * factor / 10**9)
    raise ValueError("out of range")


def graphite_time(text: str, now: float) -> float:
    """Read ``from`` or ``until`` of Graphite as Unix time, as ``parseTime`` in ``app/vmselect/graphite`` does.

    Raises ``ValueError``.
    """
    today = now // 86400 * 86400
    fixed = {"now": now, "today": today, "yesterday": today - 86400}
    if text in fixed:
        return fixed[text]
    if len(text) > _LARGEST_TEXT:
        raise ValueError("no time")
    for pattern, layout in _GRAPHITE:
        if pattern.fullmatch(text):
            return datetime.strptime(text, layout).replace(tzinfo=UTC).timestamp()
    zone = _ZONE.search(text)
    if (zone is not None or text.endswith("Z")) and "T" in text:
        return _time(text, now)
    if re.fullmatch(r"[-+]?[0-9]{1,18}", text, re.ASCII):
        return float(int(text))
    return now + graphite_interval(text)


_GRAPHITE: Final = tuple(
    (re.compile(pattern, re.ASCII), layout)
    for pattern, layout in (
        (r"\d\d:\d\d_\d{8}", "%H:%M_%Y%m%d"),
        (r"\d\d:\d{10}", "%H:%M%Y%m%d"),
        (r"\d\d:\d\d \d{8}", "%H:%M %Y%m%d"),
        (r"\d{8}", "%Y%m%d"),
        (r"\d{4}-\d\d-\d\d", "%Y-%m-%d"),
        (r"\d\d/\d\d/\d\d", "%m/%d/%y"),
    )
)
_INTERVAL: Final = re.compile(r"\s*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))\s*(ms|mo|[smhdwy])", re.ASCII)
_INTERVAL_UNITS: Final = _UNITS | {"mo": 2_592_000.0}


def graphite_interval(text: str) -> float:
    """Read an interval of Graphite, such as ``-1h`` or ``30min``. Raises ``ValueError``."""
    match = _INTERVAL.match(text)
    if match is None or len(text) > _LARGEST_TEXT:
        raise ValueError("no interval")
    return float(match[1]) * _INTERVAL_UNITS[match[2]]
