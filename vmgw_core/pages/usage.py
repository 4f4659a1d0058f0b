"""``/-/usage``: the usage report as HTML, with small plots. It needs no script."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Final
from urllib.parse import urlencode

from vmgw_core.usage import Amounts, Line, Period, Question, Report, moment_of, start_of

from .html import Cell, Html, document, element, joined, table

MOST_ROWS: Final = 1000
"""Rows of each table; the other formats have all of them."""
_ARGUMENTS: Final = "Arguments of this page: from, to, by=hour, day or month, tenant, subject, format=csv or json"
_HEIGHT: Final = 100
_COLUMNS: Final[tuple[tuple[str, Callable[[Amounts], float]], ...]] = (
    ("Queries", lambda amounts: amounts.queries),
    ("Rows", lambda amounts: amounts.rows),
    ("Bytes in", lambda amounts: amounts.bytes_in),
    ("Bytes out", lambda amounts: amounts.bytes_out),
    ("Seconds", lambda amounts: amounts.seconds),
    ("Series fetched", lambda amounts: amounts.series_fetched),
    ("Refusals", lambda amounts: amounts.refusals),
)
_NAMES: Final = tuple(name for name, _ in _COLUMNS)


def usage_page(report: Report, *, links: bool) -> bytes:
    """Return the page of ``report``. ``links``: with links to its other forms, which are not for a URL with a key."""
    return document("Usage", *_parts(report, links=links))


def _parts(report: Report, *, links: bool) -> Iterator[Html]:
    question = report.question
    asked = [f"{moment_of(question.first)} to {moment_of(question.end)}, by {question.by}"]
    asked += [f"tenant {question.tenant}"] if question.tenant is not None else []
    asked += [f"subject {question.subject}"] if question.subject is not None else []
    yield element("p", ", ".join(asked))
    yield element("p", _links(question) if links else _ARGUMENTS, "soft")
    yield joined(*_plots(report))
    yield element("h2", "By tenant and subject")
    sums = _sums(report.lines)
    rows = [(*who, *_cells(amounts)) for who, amounts in sums[:MOST_ROWS]]
    yield from _table(("Tenant", "Subject", *_NAMES), rows, len(sums))
    yield element("h2", f"By {question.by}")
    lines = sorted(report.lines, key=lambda line: -line.hour)  # the order of those of one period stays
    rows = [
        (report.start(line.hour), line.tenant, line.subject or None, *_cells(line.amounts))
        for line in lines[:MOST_ROWS]
    ]
    yield from _table(("Start", "Tenant", "Subject", *_NAMES), rows, len(lines))


def _sums(lines: Sequence[Line]) -> list[tuple[tuple[Cell, Cell], Amounts]]:
    """Return the sum of each tenant and subject, the one with the most seconds first."""
    found: dict[tuple[Cell, Cell], Amounts] = {}
    for line in lines:
        found.setdefault((line.tenant, line.subject or None), Amounts()).add(line.amounts)
    return sorted(found.items(), key=lambda pair: -pair[1].seconds)


def _cells(amounts: Amounts) -> Iterator[Cell]:
    for _, value in _COLUMNS:
        yield _shown(value(amounts))


def _table(headings: Sequence[str], rows: Sequence[Sequence[Cell]], number: int) -> Iterator[Html]:
    """Yield a table of the first rows of that number."""
    yield table(headings, rows, empty="nothing was used")
    if number > len(rows):
        yield element("p", f"and {number - len(rows)} more, which CSV and JSON have", "soft")


def _links(question: Question) -> Html:
    kept = {"tenant": question.tenant, "subject": question.subject}
    asked = [(name, value) for name, value in kept.items() if value is not None]
    hours = [("from", moment_of(question.first)), ("to", moment_of(question.end))]
    found = [_link(f"by {by}", [*asked, ("by", by)]) for by in Period]
    found += [_link(name.upper(), [*asked, *hours, ("by", question.by), ("format", name)]) for name in ("csv", "json")]
    return joined(*found)


def _link(text: str, arguments: Sequence[tuple[str, str]]) -> Html:
    return Html(f'<a href="?{escape(urlencode(arguments))}">{text}</a>')


def _plots(report: Report) -> Iterator[Html]:
    """Yield a plot of each amount: a bar for each period that has lines."""
    question = report.question
    total = report.total()
    periods: dict[int, Amounts] = {}
    for line in report.lines:
        periods.setdefault(line.hour, Amounts()).add(line.amounts)
    bar = {Period.HOUR: 1, Period.DAY: 24, Period.MONTH: 28 * 24}[question.by]
    begin = start_of(question.first, question.by)
    width = start_of(question.end - 1, question.by) + bar - begin
    for name, value in _COLUMNS:
        most = max((value(amounts) for amounts in periods.values()), default=0)
        if not most:
            continue
        bars = "".join(
            f"<rect x={hour - begin} y={_HEIGHT - height:.1f} width={bar * 0.9:g} height={height:.1f}>"
            f"<title>{report.start(hour)}: {_shown(value(amounts))}</title></rect>"
            for hour, amounts in sorted(periods.items())
            for height in (value(amounts) / most * _HEIGHT,)
        )
        picture = f'<svg viewBox="0 0 {width} {_HEIGHT}" preserveAspectRatio=none role=img>{bars}</svg>'
        caption = element("figcaption", f"{name}: {_shown(value(total))}, at most {_shown(most)} by {question.by}")
        yield element("figure", joined(Html(picture), caption))


def _shown(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.3f}"
