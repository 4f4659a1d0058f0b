"""The usage report as CSV, JSON and text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from vmgw_core.base import printable

from .accounting import HOUR, LONGEST, NAMES, Amounts
from .question import Period, Question, moment_of

FORMATS: Final = ("text", "csv", "json")
# Where a cell begins: in some countries spreadsheets take a semicolon for the separator. The last four are wide.
_FORMULA: Final = re.compile('(^|;)(?=[\\s"]*[=+\\-@\uff1d\uff0b\uff0d\uff20])')
_HEADINGS: Final = ("start", "tenant", "subject", *NAMES)
_FORMATS: Final = {Period.HOUR: "%Y-%m-%dT%H:%MZ", Period.DAY: "%Y-%m-%d", Period.MONTH: "%Y-%m"}


@dataclass(frozen=True, slots=True)
class Line:
    """What one subject of a tenant used in the period that begins with ``hour``."""

    hour: int
    tenant: str
    subject: str
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to a question. The lines are in the order of time, tenant and subject."""

    question: Question
    lines: Sequence[Line]

    def start(self, hour: int) -> str:
        """Return the period that begins with ``hour``, in UTC."""
        return datetime.fromtimestamp(hour * HOUR, UTC).strftime(_FORMATS[self.question.by])

    def total(self) -> Amounts:
        """Return the sum of all lines."""
        total = Amounts()
        for line in self.lines:
            total.add(line.amounts)
        return total

    def written(self, form: str) -> bytes:
        """Return the report in one of the ``FORMATS``."""
        return {"text": self.as_text, "csv": self.as_csv, "json": self.as_json}[form]()

    def as_json(self) -> bytes:
        """Return a JSON object."""
        document = {
            "from": moment_of(self.question.first),
            "to": moment_of(self.question.end),
            "by": self.question.by,
            "lines": [
                {"start": moment_of(line.hour), "tenant": line.tenant, "subject": line.subject, **_object(line.amounts)}
                for line in self.lines
            ],
            "total": _object(self.total()),
        }
        return (json.dumps(document, indent=1) + "\n").encode()

    def as_csv(self) -> bytes:
        """Return a table in the form of RFC 4180. No cell is a formula for a spreadsheet: such text begins with '."""
        rows = [",".join(_HEADINGS), *(",".join(self._cells(line, _csv)) for line in self.lines)]
        return ("\r\n".join(rows) + "\r\n").encode()

    def as_text(self) -> bytes:
        """Return a table with aligned columns, and the total in its last line."""
        rows = [_HEADINGS, *(tuple(self._cells(line, _shown)) for line in self.lines)]
        rows.append(("total", "", "", *map(_number, self.total().values())))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "".join(_aligned(row, widths) for row in rows).encode()

    def _cells(self, line: Line, text: Callable[[str], str]) -> Iterator[str]:
        yield self.start(line.hour)
        yield text(line.tenant)
        yield text(line.subject)
        yield from map(_number, line.amounts.values())


def _object(amounts: Amounts) -> dict[str, int | float]:
    return {**dict(zip(NAMES, amounts.values(), strict=True)), "seconds": round(amounts.seconds, 3)}


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _shown(text: str) -> str:
    return (text if text.isprintable() else printable(text, LONGEST)) or "-"


def _csv(text: str) -> str:
    text = text if text.isprintable() else printable(text, LONGEST)
    text = _FORMULA.sub(r"\1'", text)
    return '"' + text.replace('"', '""') + '"'


def _aligned(row: Iterable[str], widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(width) if column < 3 else cell.rjust(width)  # text is on the left, numbers on the right
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip() + "\n"
