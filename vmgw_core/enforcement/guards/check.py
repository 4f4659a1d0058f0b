"""Holds a read to the guards of its tenant and token.

Judged is what the backend gets, as it reads it (measured on v1.150 and 1.79.5): of an argument that comes several
times the first one counts, and those of the form come before those of the URL. What cannot be read is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from functools import cached_property
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from vmgw_core.base import quoted
from vmgw_core.enforcement.arguments import MAX_FORM_READ
from vmgw_core.enforcement.graphite import intervals_of
from vmgw_core.errors import QueryGuarded
from vmgw_core.http import RequestHead, decoded_key
from vmgw_core.limits import Guard, Member, span_text
from vmgw_core.routing import Route

from .times import NoZone, below_seconds, duration_argument, graphite_interval, graphite_time, time_argument
from .windows import Reach, Window, reach_of, windows_of

TIMEOUT_KEY: Final = "timeout"
_TEXTS: Final = ("query", "match[]", "match", "target", "expr")
_MAX_TEXT: Final = 64 << 10
"""Characters of a query that are judged, and of all targets together: more would hold up other requests.
VictoriaMetrics refuses queries above 16 KiB by default."""
_TOO_LONG: Final = f"a query is longer than {_MAX_TEXT} characters: write a shorter one"
_STEP: Final = 300.0
"""The default of ``step``, and how far VictoriaMetrics looks back for the last value."""
_STORAGE_STEP: Final = 10.0
_DAY: Final = 86400.0

Note = Callable[[Guard, str], None]
"""Is told of each guard that a request breaks, and how."""


class Asks(Enum):
    """What kind of data a path asks for."""

    MOMENT = auto()
    RANGE = auto()
    SAMPLES = auto()
    FEDERATE = auto()
    NAMES = auto()
    GRAPHITE = auto()
    TEXT = auto()  # Graphite's lists of names


_ASKS: Final = {
    "/api/v1/query": Asks.MOMENT,
    "/api/v1/query_range": Asks.RANGE,
    "/api/v1/export": Asks.SAMPLES,
    "/api/v1/export/csv": Asks.SAMPLES,
    "/api/v1/export/native": Asks.SAMPLES,
    "/federate": Asks.FEDERATE,
    "/api/v1/series": Asks.NAMES,
    "/api/v1/labels": Asks.NAMES,
    "/api/v1/label/<name...>/values": Asks.NAMES,
    "/render": Asks.GRAPHITE,
    "/tags/findSeries": Asks.TEXT,
    "/tags/autoComplete/tags": Asks.TEXT,
    "/tags/autoComplete/values": Asks.TEXT,
    "/metrics/find": Asks.TEXT,
    "/metrics/find/": Asks.TEXT,
    "/metrics/expand": Asks.TEXT,
    "/metrics/expand/": Asks.TEXT,
}


def asks_of(route: Route) -> Asks | None:
    """Return what a route asks for; None: guards are not for it."""
    return _ASKS.get(route.path.removeprefix(route.prefix))


def hold_to_guards(
    guards: Sequence[Guard], route: Route, head: RequestHead, query: str, form: str | None, now: float, note: Note
) -> tuple[str, str | None]:
    """Return the query and the form to send, with the timeout that the guards force.

    Args:
        query: the raw query to send.
        form: the urlencoded form to send, or None.
        now: Unix time.

    Raises:
        QueryGuarded: the request breaks a guard that is enforced, or one that it cannot be held to.
    """
    asks = asks_of(route)
    if asks is None or not guards:
        return query, form
    read = _Read(asks, head, query, form, now)
    timeout: float | None = None
    for guard in guards:
        if guard.member is Member.TIMEOUT:
            timeout = guard.value if timeout is None else min(timeout, guard.value)
            continue
        try:
            broken = _CHECKS[guard.member](read, guard)
        except _Unreadable as error:
            broken = str(error)
        if broken:
            note(guard, broken)
            if not guard.observe:
                raise QueryGuarded(broken)
    return (query, form) if timeout is None else _with_timeout(read, query, form, timeout)


class _Unreadable(Exception):
    """A guard cannot be applied. The message tells the user what to write."""


class _Span(NamedTuple):
    seconds: float
    open: bool = False
    """Whether it has no start."""


class _Read:
    """The arguments of one request, as the backend reads them."""

    def __init__(self, asks: Asks, head: RequestHead, query: str, form: str | None, now: float) -> None:
        self.asks = asks
        self.head = head
        self.now = now
        read = "" if form is None or len(form) > MAX_FORM_READ else form  # Go reads no larger form
        self.pairs = [(decoded_key(pair), pair) for text in (read, query) for pair in text.split("&") if pair]

    def values(self, *keys: str) -> Iterable[str]:
        for key, pair in self.pairs:
            if key in keys:
                yield unquote_plus(pair.partition("=")[2], errors="replace")

    def first(self, key: str) -> str:
        return next(iter(self.values(key)), "")

    def duration(self, key: str) -> float | None:
        """Return the seconds of ``key``, or None if it is not given."""
        text = self.first(key)
        try:
            return duration_argument(text)
        except ValueError:
            raise _unreadable(key, text, "write it as 15s, 5m or 1h") from None

    def time(self, key: str, default: float) -> float:
        text = self.first(key)
        graphite = self.asks is Asks.GRAPHITE
        try:
            if not text:
                return default
            return (graphite_time if graphite else time_argument)(text, self.now)
        except NoZone:
            raise _unreadable(key, text, "it has no time zone: add Z for UTC") from None
        except ValueError:
            wanted = "-1h" if graphite else "2026-01-31T12:00:00Z"
            raise _unreadable(key, text, f"write it as Unix time, or as {wanted}") from None

    @cached_property
    def step(self) -> float | None:
        """The step in seconds, if it is given."""
        if self.asks is not Asks.GRAPHITE:
            return self.duration("step")
        text = self.first("storage_step") or b"".join(self.head.values(b"storage-step")[:1]).decode("latin-1")
        if not text:
            return None
        try:
            step = graphite_interval(text)
            if step <= 0:
                raise ValueError("not above zero")
        except ValueError:
            raise _unreadable("storage_step", text, "write it as 10s or 1min") from None
        return step

    @cached_property
    def default_step(self) -> float:
        if self.asks is Asks.GRAPHITE:
            return _STORAGE_STEP
        return (self.duration("max_lookback") if self.asks is Asks.MOMENT else None) or _STEP

    @cached_property
    def span(self) -> _Span:
        """The seconds from the start to the end."""
        latest = self.now // 1
        if self.asks is Asks.MOMENT:
            return _Span(0.0)
        if self.asks is Asks.GRAPHITE:
            return _Span(max(self.time("until", self.now) - self.time("from", self.now - _DAY), 0.0))
        end = self.time("end", latest)
        if below_seconds(self.first("end")):
            end = max(end, latest)
        if self.asks is Asks.RANGE:
            start = self.time("start", (self.now - _STEP) // 1)
            return _Span(end - start if start <= end else _STEP)
        if not self.first("start") and self.asks is Asks.FEDERATE and not self.first("end"):
            return _Span(self.duration("max_lookback") or _STEP)
        start = self.time("start", 0.0)
        if not start and self.asks is Asks.NAMES:
            start = end - _STEP
        return _Span(max(end - start, 0.0), open=not start)

    @cached_property
    def windows(self) -> Sequence[Window]:
        if self.asks not in (Asks.MOMENT, Asks.RANGE):
            return ()
        query = self.first("query")
        if len(query) > _MAX_TEXT:
            raise _Unreadable(_TOO_LONG)
        return windows_of(query)

    def reach(self, span: float = 0.0) -> Reach:
        """Return what the windows of the query ask for; ``span`` matters for the points only."""
        try:
            if not self.windows:
                return Reach()
            return reach_of(self.windows, span, self.step or self.default_step)
        except ValueError as error:
            raise _Unreadable(
                f"the gateway cannot tell how far the query looks back ({error}): write each window in brackets "
                "as a duration such as [5m], without WITH"
            ) from None


def _unreadable(key: str, text: str, hint: str) -> _Unreadable:
    return _Unreadable(f"the gateway cannot read the argument {key}={quoted(text, 40)}: {hint}")


def _max_range(read: _Read, guard: Guard) -> str:
    if read.asks is Asks.TEXT:
        return ""
    allowed = f"at most {guard.text} are allowed here"
    if read.span.open:
        return f"the request has no start, so it asks for all data; {allowed}: add the argument start"
    span = read.span.seconds
    return f"the query spans {span_text(span)}; {allowed}: choose a shorter range" if span > guard.value else ""


def _min_step(read: _Read, guard: Guard) -> str:
    needed = f"at least {guard.text} is needed here: choose a longer step"
    if read.asks in (Asks.RANGE, Asks.GRAPHITE):
        step = read.step or (read.default_step if read.asks is Asks.RANGE else guard.value)
        if step < guard.value:
            return f"the step of the query is {span_text(step)}; {needed}"
    finest = read.reach().finest
    if finest is not None and finest < guard.value:
        return f"the step of a subquery is {span_text(finest)}; {needed}"
    return ""


def _max_points(read: _Read, guard: Guard) -> str:
    allowed = f"at most {guard.text} are allowed here: choose a longer step or a shorter range"
    if read.asks in (Asks.RANGE, Asks.GRAPHITE):
        points = read.span.seconds // (read.step or read.default_step) + 1
        if points > guard.value:
            return f"the query has {points:.0f} points per series; {allowed}"
    if read.asks in (Asks.MOMENT, Asks.RANGE):
        points = read.reach(read.span.seconds).points
        if points > guard.value:
            return f"a subquery has {points:.0f} points per series; {allowed}"
    return ""


def _max_lookback(read: _Read, guard: Guard) -> str:
    allowed = f"at most {guard.text} is allowed here"
    if read.asks is Asks.GRAPHITE:
        return _graphite_lookback(read, guard, allowed)
    if read.asks not in (Asks.MOMENT, Asks.RANGE, Asks.FEDERATE):
        return ""
    given = read.duration("max_lookback")
    if given is not None and given > guard.value:
        return f"the argument max_lookback is {span_text(given)}; {allowed}: choose a shorter one"
    back = read.reach().back
    if back > guard.value:
        return f"the query looks back {span_text(back)}, subqueries included; {allowed}: choose shorter windows"
    step = 0.0 if read.asks is Asks.FEDERATE else read.step or 0.0
    if step > max(guard.value, read.span.seconds):
        return f"functions without a window look back a step, {span_text(step)}; {allowed}: choose a shorter step"
    return ""


def _graphite_lookback(read: _Read, guard: Guard, allowed: str) -> str:
    left = _MAX_TEXT
    for target in read.values("target"):
        left -= len(target)
        if left < 0:
            return f"the targets are longer than {_MAX_TEXT} characters together: send fewer in a request"
        try:
            back = sum(abs(graphite_interval(text)) for text in intervals_of(target))
        except ValueError as error:
            raise _Unreadable(f"the gateway cannot tell how far a target looks back: {error}") from None
        if back > guard.value:
            return f"the intervals of a target are {span_text(back)} together; {allowed}: choose shorter ones"
    return ""


def _deny_pattern(read: _Read, guard: Guard) -> str:
    assert guard.expression is not None
    for text in read.values(*_TEXTS):
        if len(text) > _MAX_TEXT:
            return _TOO_LONG
        if guard.expression.search(text) is not None:
            return f"the query has a part that is not allowed here: {quoted(guard.pattern, 100)}"
    return ""


_CHECKS: Final[dict[Member, Callable[[_Read, Guard], str]]] = {
    Member.MAX_RANGE: _max_range,
    Member.MIN_STEP: _min_step,
    Member.MAX_POINTS: _max_points,
    Member.MAX_LOOKBACK: _max_lookback,
    Member.DENY_PATTERN: _deny_pattern,
}


def _with_timeout(read: _Read, query: str, form: str | None, most: float) -> tuple[str, str | None]:
    """Return the query and the form with a timeout of at most ``most`` seconds."""
    try:
        asked = read.duration(TIMEOUT_KEY)
    except _Unreadable:  # VictoriaMetrics takes its default
        asked = None
    if asked is not None and asked <= most:
        return query, form
    kept = _without_timeout(query)
    forced = f"{TIMEOUT_KEY}={span_text(most)}"
    return f"{kept}&{forced}" if kept else forced, None if form is None else _without_timeout(form)


def _without_timeout(arguments: str) -> str:
    if TIMEOUT_KEY not in arguments and "%" not in arguments:
        return arguments
    return "&".join(pair for pair in arguments.split("&") if decoded_key(pair) != TIMEOUT_KEY)
