"""Which Graphite targets VictoriaMetrics bears.

Its functions take numbers for sizes of windows and counts of series without a bound, and a panic of one of them ends
the whole process. Measured on v1.150, where :data:`_NUMBERS` and :data:`_REFUSED` say what is passed on.
https://graphite.readthedocs.io/en/stable/functions.html
"""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple

from vmgw_core.errors import CostlyQuery

_TOKEN: Final = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+')|(?P<number>0[xX][0-9a-fA-F]*|0[bBoO]?[0-9]+(?![.eE0-9])"""
    r"""|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)|(?P<sign>[-+])"""
    r"""|(?P<name>(?:\\.|\[[^\]]*\]|\{[^}]*\}|[\w$:*.-])++)|(?P<other>[(),|=])|(?P<rest>.)""",
    re.DOTALL | re.ASCII,
)
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_INTERVAL: Final = re.compile(r"\s*([-+.0-9]+)\s*(ms|s|mo|m|h|d|w|y)", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604_800, "mo": 2_592_000, "y": 31_536_000}
_DAY: Final = 86400.0
_YEAR: Final = 365 * _DAY
_LARGEST: Final = 1e15
_LONGEST: Final = 10 * _YEAR
_LATEST: Final = 1e11
"""Seconds, of ``from`` and ``until``: later or earlier times overflow."""


class _Bounds(NamedTuple):
    least: float
    most: float


_ANY: Final = _Bounds(-_LARGEST, _LARGEST)
_COUNT: Final = _Bounds(1, 10_000)
_WINDOW: Final = _Bounds(0, 10_000)
_STEP: Final = _Bounds(1, 1_000_000)
_NUMBERS: Final = {
    **dict.fromkeys(
        ("highest", "highestAverage", "highestCurrent", "highestMax", "lowest", "lowestAverage", "lowestCurrent"),
        _COUNT,
    ),
    **dict.fromkeys(("mostDeviant", "exponentialMovingAverage"), _COUNT),
    **dict.fromkeys(
        ("movingAverage", "movingMax", "movingMedian", "movingMin", "movingSum", "movingWindow", "stdev"), _WINDOW
    ),
    "delay": _Bounds(-10_000, 10_000),
    **dict.fromkeys(("randomWalk", "randomWalkFunction", "sin", "sinFunction", "time", "timeFunction"), _STEP),
    "timeStack": _Bounds(-31, 31),
}
_INTERVALS: Final = {
    **dict.fromkeys(
        ("movingAverage", "movingMax", "movingMedian", "movingMin", "movingSum", "movingWindow"), _Bounds(1, 31 * _DAY)
    ),
    "exponentialMovingAverage": _Bounds(1, 31 * _DAY),
    **dict.fromkeys(("hitcount", "integralByInterval", "smartSummarize", "summarize"), _Bounds(1, _YEAR)),
}
_ANY_INTERVAL: Final = _Bounds(-_LONGEST, _LONGEST)
_REFUSED: Final = frozenset(
    (
        *("holtWintersAberration", "holtWintersConfidenceArea", "holtWintersConfidenceBands", "holtWintersForecast"),
        # These make another target of the names that they find, which nothing checks.
        *("aliasQuery", "applyByNode", "useSeriesAbove"),
    )
)
_WITHOUT_ARGUMENTS: Final = "linearRegression"
"""May have its series only: with times it panics where they are in the wrong order."""


def check_target(target: str) -> None:
    """Raises ``CostlyQuery`` if ``target`` has a function or an argument that could stop the backend."""
    calls: list[str] = []
    name = ""
    stacks = 0
    sign = ""
    for match in _TOKEN.finditer(target):
        kind, text = match.lastgroup, match[0]
        if text.isspace():
            continue
        function = calls[-1] if calls else ""
        if kind == "other":
            if text == "(":
                calls.append(name)
                stacks += name == "timeStack"
                if name in _REFUSED or stacks > 1:
                    raise CostlyQuery(f"the gateway does not pass on the Graphite function {name}() here")
            elif text == ")" and calls:
                calls.pop()
        elif kind == "string":
            _check_interval(function, text[1:-1])
        elif kind == "number" or (sign and kind == "name"):
            _check_number(function, sign, text)
        name = (
            _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)) if escape[1] else escape[2], text)
            if kind == "name"
            else ""
        )
        sign = text if kind == "sign" else ""


def intervals_of(target: str) -> list[str]:
    """Return all intervals of ``target``: windows, and how far series are shifted.

    Raises ``ValueError`` if its functions may look back otherwise.
    """
    if "\\" in target or "timeStack" in target:
        raise ValueError("it has timeStack() or a backslash")
    tokens = [(match.lastgroup, match[0]) for match in _TOKEN.finditer(target)]
    if "oving" in target and any(kind == "number" for kind, _ in tokens):
        raise ValueError("write the windows of moving functions as intervals, such as '1h', and no other numbers")
    return [text[1:-1] for kind, text in tokens if kind == "string" and _INTERVAL.match(text[1:-1])]


def check_times(key: str, value: str) -> None:
    """Raises ``CostlyQuery`` for a ``from``, ``until`` or ``storage_step`` that is out of reason."""
    seconds = _seconds(value)
    if key == "storage_step":
        good = seconds is None or 1 <= seconds <= _YEAR
    else:
        plain = re.fullmatch(r"[-+]?[0-9]+", value, re.ASCII)
        good = len(value) <= 100 and abs(int(value) if plain else seconds or 0) <= _LATEST
    if not good:
        raise CostlyQuery(f"the argument {key} is out of range")


def _check_number(function: str, sign: str, text: str) -> None:
    bounds = _NUMBERS.get(function, _ANY)
    number = _number(text) * (-1 if sign == "-" else 1)
    if function == _WITHOUT_ARGUMENTS or not bounds.least <= number <= bounds.most:
        raise CostlyQuery(f"a number for the Graphite function {function}() is out of range")


def _check_interval(function: str, text: str) -> None:
    bounds = _INTERVALS.get(function, _ANY_INTERVAL)
    seconds = _seconds(text)
    if function == _WITHOUT_ARGUMENTS or (seconds is not None and not bounds.least <= seconds <= bounds.most):
        raise CostlyQuery(f"an interval for the Graphite function {function}() is out of range")


def _number(text: str) -> float:
    try:
        if text[0] == "0" and text[1:2].isalpha() and text[1] not in "eE":
            return float(int(text, 0))
        if len(text) > 1 and text[0] == "0" and text.isdigit():
            return float(int(text, 8))
        return float(text)
    except (ValueError, OverflowError):
        return math.nan


def _seconds(text: str) -> float | None:
    """How long an interval is, or None if ``text`` is none."""
    match = _INTERVAL.match(text)
    if match is None:
        return None
    try:
        return float(match[1]) * _SECONDS[match[2]]
    except ValueError:
        return None
