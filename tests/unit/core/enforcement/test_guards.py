"""guards: what a client is told to change, what is judged of arguments that come twice, and the timeout."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.base import Access, Subject, TenantID
from vmgw_core.enforcement.guards.check import asks_of, hold_to_guards
from vmgw_core.errors import QueryGuarded
from vmgw_core.http import RequestHead
from vmgw_core.limits import Guard, Guards, read_limits
from vmgw_core.routing.routes import ROUTES, Filters, match_route

NOW = 1_800_000_000.25
DAY = 86_400
RANGE = "/api/v1/query_range"


def guards(*items: str) -> tuple[Guard, ...]:
    return read_limits("guards:\n" + "\n".join(f"- {{{item}}}" for item in items), "limits").guards


def held(
    path: str, arguments: str, item: str, *, form: str | None = None, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> tuple[str, str | None]:
    head = RequestHead(method="POST", target=f"{path}?{arguments}", headers=headers, client="")
    route = match_route(path, "POST", cluster=True).route
    return hold_to_guards(guards(item), route, head, arguments, form, NOW, lambda guard, broken: None)


def broken(path: str, arguments: str, item: str, **more: object) -> str:
    """What a client is told, or nothing."""
    try:
        held(path, arguments, item, **more)  # type: ignore[arg-type]
    except QueryGuarded as refusal:
        return str(refusal)
    return ""


def text(query: str) -> str:
    return f"query={quote(query)}"


LONG = "the query spans 31d; at most 30d are allowed here: choose a shorter range"
ZONE = 'the gateway cannot read the argument start="2026-01-01": it has no time zone: add Z for UTC'
SOON = 'the gateway cannot read the argument start="soon": write it as Unix time, or as '
OPEN = "the request has no start, so it asks for all data; at most 30d are allowed here: add the argument start"


@each(
    ("path", "arguments", "told"),
    [
        (RANGE, "start=now-30d&end=now", ""),
        (RANGE, "start=now-31d&end=now", LONG),
        (RANGE, f"start={NOW - 30 * DAY}", ""),
        (RANGE, f"start={NOW - 31 * DAY - 0.25}", LONG),
        (RANGE, "", ""),
        (RANGE, "end=0", ""),  # the start is after the end, so five minutes
        (RANGE, "start=2026-01-01Z&end=2026-01-31Z", ""),
        (RANGE, "start=2026-01-01Z&end=2026-02-01Z", LONG),
        (RANGE, "start=2026-01-01", ZONE),
        (RANGE, "start=soon", f"{SOON}2026-01-31T12:00:00Z"),
        ("/api/v1/query", "time=0&query=m[365d]", ""),
        ("/api/v1/export", "start=-30d&end=now", ""),
        ("/api/v1/export", "start=-31d&end=now", LONG),
        ("/api/v1/export", "", OPEN),
        ("/api/v1/export/csv", "start=0", OPEN),
        ("/api/v1/export/native", "start=&start=now", OPEN),
        ("/federate", "match[]=m", ""),
        ("/federate", "max_lookback=31d", LONG),
        ("/federate", "end=now", OPEN),
        ("/federate", "start=-31d&end=now", LONG),
        ("/api/v1/series", "", ""),
        ("/api/v1/labels", "start=-31d&end=now", LONG),
        ("/api/v1/label/job/values", "start=-31d&end=now", LONG),
        ("/api/v1/label/job/values", "start=now&end=-31d", ""),
        ("/prometheus/api/v1/label/a/b/values", "start=-31d&end=now", LONG),
        ("/render", "from=-30d", ""),
        ("/render", "from=-31d", LONG),
        ("/graphite/render", "from=-31d", LONG),
        ("/render", "until=-31d", ""),
        ("/render", "from=soon", f"{SOON}-1h".replace("start", "from")),
        ("/metrics/find", "from=0", ""),
        ("/api/v1/status/tsdb", "start=0", ""),
    ],
)  # fmt: skip
def test_the_range(path: str, arguments: str, told: str) -> None:
    assert broken(path, arguments, "max_range: 30d") == told


@each(
    ("arguments", "form", "told"),
    [
        pytest.param("start=-1d&start=-31d&end=now", None, "", id="the first of the URL counts"),
        pytest.param("start=-31d&start=-1d&end=now", None, LONG, id="and not the second"),
        pytest.param("start=-31d&end=now", "start=-1d", "", id="the form comes before the URL"),
        pytest.param("start=-1d&end=now", "start=-31d", LONG, id="also if it is worse"),
        pytest.param("start=-31d&end=now", "start=", "", id="an empty first one is the default"),
        pytest.param("Start=-1d&START=-1d&start=-31d&end=now", None, LONG, id="case matters"),
        pytest.param("%73tart=-31d&end=now", None, LONG, id="an encoded key"),
        pytest.param("start=-31d&end=now", "start=-1d&x=" + "a" * (10 << 20), LONG, id="Go reads no larger form"),
    ],
)
def test_arguments_that_come_twice(arguments: str, form: str | None, told: str) -> None:
    assert broken(RANGE, arguments, "max_range: 30d", form=form) == told


UNREAD = 'the gateway cannot read the argument storage_step="%s": write it as 10s or 1min'
FINE = "at least 15s is needed here: choose a longer step"


@each(
    ("path", "arguments", "told"),
    [
        (RANGE, "step=15s", ""),
        (RANGE, "step=14.9", f"the step of the query is 14900ms; {FINE}"),
        (RANGE, "step=", ""),
        (RANGE, "step=x", 'the gateway cannot read the argument step="x": write it as 15s, 5m or 1h'),
        (RANGE, "query=f(m[1h:1s])", f"the step of a subquery is 1s; {FINE}"),
        ("/api/v1/query", "step=1s&query=m", ""),
        ("/api/v1/query", "step=1s&query=f(m[1h:])", f"the step of a subquery is 1s; {FINE}"),
        ("/api/v1/query", "query=f(m[1h:])", ""),
        ("/render", "storage_step=10s", f"the step of the query is 10s; {FINE}"),
        ("/render", "storage_step=1min", ""),
        ("/render", "", ""),
        *(
            ("/render", f"storage_step={step}", UNREAD % step)
            for step in ("x", "-1s", "0s")
        ),
        ("/api/v1/series", "step=1s", ""),
    ],
)  # fmt: skip
def test_the_step(path: str, arguments: str, told: str) -> None:
    assert broken(path, arguments, "min_step: 15s") == told


def test_the_step_of_graphite_may_be_a_header() -> None:
    headers = ((b"Storage-Step", b"1s"),)
    assert broken("/render", "", "min_step: 15s", headers=headers) == f"the step of the query is 1s; {FINE}"
    assert broken("/render", "storage_step=1min", "min_step: 15s", headers=headers) == ""


FEWER = "at most 100 are allowed here: choose a longer step or a shorter range"


@each(
    ("path", "arguments", "told"),
    [
        (RANGE, "start=0&end=99&step=1", ""),
        (RANGE, "start=0&end=100&step=1", f"the query has 101 points per series; {FEWER}"),
        (RANGE, "start=0&end=30000", f"the query has 101 points per series; {FEWER}"),
        ("/api/v1/query", "query=f(m[100m:1m])", ""),
        ("/api/v1/query", "query=f(m[101m:1m])", f"a subquery has 101 points per series; {FEWER}"),
        ("/api/v1/query", "query=f(m[1h:])&max_lookback=1s", f"a subquery has 3600 points per series; {FEWER}"),
        ("/render", "from=-1000s", f"the query has 101 points per series; {FEWER}"),
        ("/render", "from=-1000s&storage_step=1min", ""),
        ("/api/v1/export", "start=0", ""),
    ],
)
def test_the_points(path: str, arguments: str, told: str) -> None:
    assert broken(path, arguments, "max_points: 100") == told


LESS = "at most 1d is allowed here"
HIDDEN = "the gateway cannot tell how far a target looks back: "
MOVING = "write the windows of moving functions as intervals, such as '1h', and no other numbers"
UNKNOWN = ("the gateway cannot tell how far the query looks back ({}): write each window in brackets as a duration "
           "such as [5m], without WITH")  # fmt: skip


@each(
    ("path", "arguments", "told"),
    [
        ("/api/v1/query", text("m[1d] offset 90d"), ""),
        ("/api/v1/query", text("m[25h]"),
         f"the query looks back 1d1h, subqueries included; {LESS}: choose shorter windows"),
        (RANGE, text("f(rate(m[1h])[1d:1h])"),
         f"the query looks back 1d1h, subqueries included; {LESS}: choose shorter windows"),
        (RANGE, "query=m&step=2d&start=-3d&end=now", ""),
        (RANGE, "query=m&step=2d",
         f"functions without a window look back a step, 2d; {LESS}: choose a shorter step"),
        ("/api/v1/query", "query=m&step=2d",
         f"functions without a window look back a step, 2d; {LESS}: choose a shorter step"),
        ("/api/v1/query", "query=m&max_lookback=2d",
         f"the argument max_lookback is 2d; {LESS}: choose a shorter one"),
        ("/federate", "max_lookback=2d", f"the argument max_lookback is 2d; {LESS}: choose a shorter one"),
        ("/federate", "step=x", ""),
        ("/api/v1/query", text("WITH (w = 5m) m[w]"), UNKNOWN.format("WITH templates can hide a window")),
        ("/api/v1/query", text("WITH (x = 1) x"), ""),
        ("/api/v1/query", text("m[w]"), UNKNOWN.format("no duration")),
        ("/api/v1/labels", "max_lookback=2d", ""),
        ("/render", "target=movingAverage(m,'1d')", ""),
        ("/render", "target=movingAverage(timeShift(m,'12h'),'13h')",
         f"the intervals of a target are 1d1h together; {LESS}: choose shorter ones"),
        ("/render", "target=movingAverage(m,7)", f"{HIDDEN}{MOVING}"),
        ("/render", "target=timeStack(m,'1h',0,7)", f"{HIDDEN}it has timeStack() or a backslash"),
        ("/render", "target=scale(m.*.cpu0,7)&target=alias(m,'a')", ""),
        ("/tags/findSeries", "expr=a", ""),
    ],
)  # fmt: skip
def test_the_lookback(path: str, arguments: str, told: str) -> None:
    assert broken(path, arguments, "max_lookback: 1d") == told


DENIED = 'the query has a part that is not allowed here: "[.][*]\\""'


@each(
    ("path", "arguments", "told"),
    [
        (RANGE, 'query={job=~".%2B"}', ""),
        (RANGE, 'query={job=~".*"}', DENIED),
        (RANGE, "query=m&query={job=~%22.*%22}", DENIED),
        ("/api/v1/series", 'match[]=a&match[]={b=~".*"}', DENIED),
        ("/api/v1/labels", 'match={b=~".*"}', DENIED),
        ("/render", 'target=".*"', DENIED),
        ("/tags/findSeries", 'expr=a=~".*"', DENIED),
        ("/metrics/find", 'query=".*"', DENIED),
        (RANGE, 'x={job=~".*"}', ""),
        (RANGE, "query=" + "a" * 65_537, "a query is longer than 65536 characters: write a shorter one"),
        (RANGE, "query=" + "a" * 65_536, ""),
    ],
    ids=lambda value: value[:40],
)
def test_a_pattern(path: str, arguments: str, told: str) -> None:
    assert broken(path, arguments, "deny_pattern: '[.][*]\"'") == told


@each(
    ("arguments", "form", "sent"),
    [
        ("query=m", None, ("query=m&timeout=30s", None)),
        ("", "query=m", ("timeout=30s", "query=m")),
        ("timeout=10s", None, ("timeout=10s", None)),
        ("timeout=30", None, ("timeout=30", None)),
        ("a=1&timeout=31s&b=2", None, ("a=1&b=2&timeout=30s", None)),
        ("timeout=10s", "timeout=1h&a=%41", ("timeout=30s", "a=%41")),
        ("%74imeout=1h", None, ("timeout=30s", None)),
        ("timeout=x&timeout=1s", None, ("timeout=30s", None)),
        ("timeout=&timeout=1s", None, ("timeout=30s", None)),
        ("timeout=0", None, ("timeout=30s", None)),
        ("Timeout=1s", None, ("Timeout=1s&timeout=30s", None)),
    ],
)
def test_the_timeout(arguments: str, form: str | None, sent: tuple[str, str | None]) -> None:
    assert held(RANGE, arguments, "timeout: 30s", form=form) == sent
    assert held("/api/v1/query", arguments, "timeout: 30s", form=form) == sent


def test_the_shortest_timeout_of_several_holds() -> None:
    route = match_route(RANGE, "GET", cluster=True).route
    head = RequestHead(method="GET", target=RANGE, headers=(), client="")
    several = guards("timeout: 30s", "timeout: 1500ms, class: a", "timeout: 60s, class: b")
    assert hold_to_guards(several, route, head, "", None, NOW, lambda *_: None) == ("timeout=1500ms", None)


LONG_TEXT = "a query is longer than 65536 characters: write a shorter one"
LONG_TARGETS = "the targets are longer than 65536 characters together: send fewer in a request"


@each("item", ["max_lookback: 7d", "min_step: 15s", "max_points: 11000"])
@each("path", [RANGE, "/api/v1/query"])
def test_a_long_query_is_not_searched_for_windows(path: str, item: str) -> None:
    most = "m[5m]" + " " * 65_531
    assert broken(path, "", item, form=text(most)) == ""
    assert broken(path, "", item, form=text(most + " ")) == LONG_TEXT


def test_long_targets_are_not_searched_for_intervals() -> None:
    half = f"target={'a' * 32_768}"
    assert broken("/render", f"{half}&{half}", "max_lookback: 7d") == ""
    assert broken("/render", f"{half}&{half}&target=a", "max_lookback: 7d") == LONG_TARGETS


@each("key", ["step", "max_lookback"])
def test_a_duration_too_long_for_a_float_of_milliseconds(key: str) -> None:
    told = f'the gateway cannot read the argument {key}="1e308": write it as 15s, 5m or 1h'
    assert broken("/api/v1/query", f"{key}=1e308", "max_lookback: 7d") == told


def test_a_timeout_too_long_for_a_float_of_milliseconds_is_replaced() -> None:
    assert held(RANGE, "query=m&timeout=1e308", "timeout: 30s") == ("query=m&timeout=30s", None)


@each("path", [RANGE, "/api/v1/export", "/api/v1/series"])
def test_an_end_in_milliseconds_is_at_least_now(path: str) -> None:
    """VictoriaMetrics 1.79.5 reads it as the latest time, and would send all data since the start."""
    old, recent = int(NOW) - 31 * DAY, int(NOW) - DAY
    assert broken(path, f"start={old}&end={old}", "max_range: 30d") == ""
    assert broken(path, f"start={old}&end={old}000", "max_range: 30d") == LONG
    assert broken(path, f"start={old}&end={old}000000", "max_range: 30d") == LONG
    assert broken(path, f"start={recent}000&end={int(NOW)}000", "max_range: 30d") == ""


def test_windows_that_are_infinite_together_are_refused() -> None:
    told = broken("/api/v1/query", text("m[1e308:1e308][1e308:1e308]"), "max_lookback: 10d")
    assert told.startswith("the gateway cannot tell how far the query looks back (out of range)")


def test_a_guard_that_observes_is_told_and_the_next_one_refuses() -> None:
    told: list[tuple[str, bool]] = []
    route = match_route(RANGE, "GET", cluster=True).route
    head = RequestHead(method="GET", target=RANGE, headers=(), client="")
    both = guards("max_range: 1d, mode: observe", "min_step: 15s")
    with pytest.raises(QueryGuarded, match=r"^the step of the query is 1s"):
        hold_to_guards(both, route, head, "start=x&step=1s", None, NOW,
                       lambda guard, _: told.append((guard.member, guard.observe)))  # fmt: skip
    assert told == [("max_range", True), ("min_step", False)]
    assert hold_to_guards(both, route, head, "start=x", None, NOW, lambda *_: None) == ("start=x", None)


def test_every_path_that_reads_data_has_guards() -> None:
    reads = {route.path for route in ROUTES if route.access is Access.READ and route.filters is Filters.BIND}
    assert {route.path for route in ROUTES if asks_of(route) is not None} >= reads


def test_a_tenants_own_guard_replaces_one_member_of_the_default() -> None:
    found = Guards(guards("max_range: 30d, min_step: 15s", "max_range: 90d, account_id: 1", "max_range: 1d, class: a"))
    one, two = TenantID(1), TenantID(2)
    assert [str(guard) for guard in found.of(Subject(one))] == ["max_range 90d", "min_step 15s"]
    assert [str(guard) for guard in found.of(Subject(two))] == ["max_range 30d", "min_step 15s"]
    both = ["max_range 90d", "min_step 15s", "max_range 1d, class a"]
    assert [str(guard) for guard in found.of(Subject(one, (), frozenset("a")))] == both
    assert [str(guard) for guard in found.of(Subject(None))] == ["max_range 30d", "min_step 15s"]


@given(
    st.sampled_from([RANGE, "/api/v1/query", "/api/v1/export", "/federate", "/api/v1/labels", "/render"]),
    st.lists(
        st.tuples(
            st.sampled_from(["start", "end", "step", "query", "timeout", "max_lookback", "from", "target", "until"]),
            st.text(max_size=20) | st.sampled_from(["-1h", "now", "1700000000", "5m", "m[5m]", "f(m[1d:1s])"]),
        ),
        max_size=6,
    ),
)
def test_any_arguments_pass_or_are_refused(path: str, pairs: list[tuple[str, str]]) -> None:
    item = "max_range: 1d, min_step: 1s, max_points: 9, max_lookback: 1h, deny_pattern: x, timeout: 5s"
    arguments = "&".join(f"{key}={quote(value)}" for key, value in pairs)
    try:
        query, form = held(path, arguments, item)
    except QueryGuarded:
        return
    assert form is None
    assert query.count("timeout=") >= 1
