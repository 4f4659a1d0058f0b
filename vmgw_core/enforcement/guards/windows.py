"""How far a MetricsQL query looks back: its lookbehind windows and subqueries.

https://docs.victoriametrics.com/victoriametrics/metricsql/. A window stands in brackets after an expression, so
``max_over_time(rate(m[5m])[1d:1m])`` looks back a day and five minutes, and its subquery has 1,440 points per series
more than the range of the query alone. ``offset`` and ``@`` move a window and do not make it longer.

The reader knows brackets, strings, comments and names, and no functions. What may hide a window raises ``ValueError``:
``WITH`` templates, and windows that are not written as durations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from .times import duration

MAX_WINDOWS: Final = 1000

_TOKEN: Final = re.compile(
    r"""\s++|\#[^\n]*+|(?P<string>"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|`(?:[^`\\]|\\.)*+`)"""
    r"""|(?P<name>(?:[\w.:$]|\\(?:[xX][0-9a-fA-F]{2}|[uU][0-9a-fA-F]{4}|[^xXuU]))++)|(?P<other>.)""",
    re.DOTALL,
)
_OPERATORS: Final = frozenset("+-*/%^=!<>,")
_WORDS: Final = frozenset(("and", "or", "unless", "if", "ifnot", "default", "atan2"))
_NUMBERS: Final = frozenset(("inf", "nan"))
_STEP: Final = ("$__interval", "$__rate_interval")


class Window(NamedTuple):
    """What stands in a pair of brackets, and the windows of the expression before it."""

    length: str
    """A duration; empty if only a step is given."""
    step: str | None
    """The step of a subquery; empty if it is that of the query, None if it is no subquery."""
    inner: tuple[Window, ...]


class Reach(NamedTuple):
    """What a query asks for. All are in seconds."""

    back: float = 0.0
    """How far it looks back before its range, or before its moment."""
    points: float = 0.0
    """The most points per series of its subqueries."""
    finest: float | None = None
    """The smallest step of its subqueries; None without one."""


def reach_of(windows: Sequence[Window], span: float, step: float) -> Reach:
    """Return how far the query with these windows reaches if its range is ``span`` seconds with ``step``.

    Raises ``ValueError``.
    """
    back, points = 0.0, 0.0
    finest: float | None = None
    # A window, and of the query around it: step, range, and how far that looks back.
    todo = [(window, step, span, 0.0) for window in windows]
    while todo:
        window, step, span, behind = todo.pop()
        length = max(_seconds(window.length, step), 0.0)
        inner_step = step
        if window.step is not None:
            inner_step = _seconds(window.step, step) or step
            points = max(points, (span + length) / inner_step)
            finest = inner_step if finest is None else min(finest, inner_step)
            # Functions without a window look back a step, and a subquery is evaluated a step more at both ends.
            behind, span = behind + max(length, inner_step), span + max(length, 2 * inner_step)
        else:
            behind, span = behind + length, span + length
        back = max(back, behind)
        todo += [(inner, inner_step, span, behind) for inner in window.inner]
    if math.isinf(back):
        raise ValueError("out of range")
    return Reach(back, points, finest)


def _seconds(text: str, step: float) -> float:
    if text in _STEP:
        return step
    return duration(text, step) if text else 0.0


class _Group:
    """An open bracket: the windows of the operands before the present one, and those of the present one."""

    __slots__ = ("done", "is_metric", "operand")

    def __init__(self) -> None:
        self.done: list[Window] = []
        self.operand: list[Window] = []
        self.is_metric = True
        """Whether the operand can be a selector of series, and nothing that must be evaluated."""

    def next_operand(self) -> None:
        self.done += self.operand
        self.operand = []
        self.is_metric = True


def windows_of(query: str) -> tuple[Window, ...]:
    """Return the outermost windows of a query. Raises ``ValueError``."""
    if "[" not in query:
        return ()
    groups = [_Group()]
    tokens = _tokens(query)
    count = 0
    for kind, text in tokens:
        group = groups[-1]
        if kind == "name":
            word = text.lower().replace("\u0307", "")
            if word == "with":
                raise ValueError("WITH templates can hide a window")
            if word in _WORDS:
                group.next_operand()
            elif word in _NUMBERS or word[0].isdigit() or word[0] == ".":
                group.is_metric = False
        elif kind == "string":
            group.is_metric = False
        elif text in ("(", "{"):
            groups.append(_Group())
        elif text in (")", "}") and len(groups) > 1:
            groups.pop()
            groups[-1].operand += group.done + group.operand
            groups[-1].is_metric = groups[-1].is_metric and text == "}"
        elif text == "[":
            count += 1
            if count > MAX_WINDOWS:
                raise ValueError(f"more than {MAX_WINDOWS} windows")
            group.operand = [_window(tokens, group)]
        elif text in _OPERATORS:
            group.next_operand()
    return tuple(window for group in groups for window in (*group.done, *group.operand))


def _window(tokens: Iterator[tuple[str, str]], group: _Group) -> Window:
    text = ""
    for kind, token in tokens:
        if token == "]":  # noqa: S105
            length, colon, step = text.partition(":")
            # A window of anything but a selector is a subquery too, with the step of the query.
            return Window(length, None if group.is_metric and not colon else step, tuple(group.operand))
        if kind == "string":
            break
        text += token
    raise ValueError("a window that is not a duration")


def _tokens(query: str) -> Iterator[tuple[str, str]]:
    for match in _TOKEN.finditer(query):
        if match.lastgroup is not None:
            yield match.lastgroup, match[0]
