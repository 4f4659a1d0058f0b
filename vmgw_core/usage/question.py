"""Which part of the usage report somebody wants: the arguments of ``/-/usage`` and of ``vmgateway usage``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Self

from vmgw_core.base import quoted

from .accounting import HOUR

DAY: Final = 24 * HOUR
_LATEST: Final = 253370764800  # 9999-01-01
_MONTH: Final = re.compile(r"[0-9]{4}-[0-9]{2}", re.ASCII)
_TIME: Final = "expected a date such as 2026-01-31, a month such as 2026-01, or a time such as 2026-01-31T12:00:00Z"


class Period(StrEnum):
    """What a line of the report sums up; periods begin and end in UTC."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


_DEFAULTS: Final = {Period.HOUR: DAY, Period.DAY: 31 * DAY, Period.MONTH: 366 * DAY}
ARGUMENTS: Final = ("from", "to", "by", "tenant", "subject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The hours from ``first`` up to ``end``, which is not included, in hours since 1970 (UTC)."""

    first: int
    end: int
    by: Period = Period.DAY
    tenant: str | None = None
    """None: all tenants."""
    subject: str | None = None
    """None: all subjects."""

    @classmethod
    def read(cls, arguments: Mapping[str, str], now: float) -> Self:
        """Read the arguments ``from``, ``to``, ``by``, ``tenant`` and ``subject``. ``now`` is Unix time.

        An hour that begins before ``from`` or ends after ``to`` is there whole. By default the report ends now, and
        begins a day, 31 days or a year earlier, with a whole period. Raises ``ValueError``, which names the argument.
        """
        text = arguments.get("by", Period.DAY)
        if text not in list(Period):
            raise ValueError(f"by: expected hour, day or month, got {quoted(text)}")
        by = Period(text)
        end = _seconds("to", arguments["to"]) if "to" in arguments else now
        begin = _seconds("from", arguments["from"]) if "from" in arguments else _begin(end - _DEFAULTS[by], by)
        if begin >= end:
            raise ValueError("from: it must be before to")
        return cls(
            first=int(begin // HOUR),
            end=int(-(-end // HOUR)),
            by=by,
            tenant=arguments.get("tenant"),
            subject=arguments.get("subject"),
        )


def start_of(hour: int, by: Period) -> int:
    """Return the first hour of the period that ``hour`` is in."""
    return int(_begin(hour * HOUR, by) // HOUR)


def moment_of(hour: int) -> str:
    """Return when ``hour`` begins, as the arguments ``from`` and ``to`` take it."""
    return datetime.fromtimestamp(hour * HOUR, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _begin(seconds: float, by: Period) -> float:
    """Return when the period that is at ``seconds`` has begun."""
    seconds = max(0.0, seconds)
    if by is Period.MONTH:
        at = datetime.fromtimestamp(seconds, UTC)
        return datetime(at.year, at.month, 1, tzinfo=UTC).timestamp()
    length = HOUR if by is Period.HOUR else DAY
    return seconds // length * length


def _seconds(name: str, text: str) -> float:
    try:
        at = datetime.fromisoformat(f"{text}-01" if _MONTH.fullmatch(text) else text)
        seconds = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"{name}: {_TIME}, got {quoted(text)}") from None
    if not 0 <= seconds <= _LATEST:
        raise ValueError(f"{name}: {_TIME}, got {quoted(text)}")
    return seconds
