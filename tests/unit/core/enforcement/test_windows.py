"""windows: how far queries look back, and what hides it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.enforcement.guards import windows
from vmgw_core.enforcement.guards.windows import MAX_WINDOWS, Reach

SPAN, STEP = 3600.0, 60.0


def reach_of(query: str, span: float, step: float) -> Reach:
    return windows.reach_of(windows.windows_of(query), span, step)


@each(
    ("query", "back", "points", "finest"),
    [
        ("up", 0, 0, None),
        ("m[5m]", 300, 0, None),
        ("m[300]", 300, 0, None),
        ("m[1h30m]", 5400, 0, None),
        ("m[2h-5m]", 6900, 0, None),
        ("m[5i]", 300, 0, None),
        ("m[$__interval]", 60, 0, None),
        ("m [ 5m # [1d]\n ]", 300, 0, None),
        ("m[5m] offset 30d", 300, 0, None),
        ("m[5m] @ 0 offset -5m", 300, 0, None),
        ("rate(m[5m]) + rate(n[10m])", 600, 0, None),
        ("m[5m] or n[10m]", 600, 0, None),
        ("m[5m] default n[4m]", 300, 0, None),
        ("sum(m[5m]) by (or) / n[2m]", 300, 0, None),
        ("max_over_time(m[1d:1h])", 86_400, 25, 3600),
        ("max_over_time(m[1d:])", 86_400, 1500, 60),
        ("max_over_time(m[1d:2i])", 86_400, 750, 120),
        ("max_over_time(rate(m[5m])[1d:1h])", 86_700, 25, 3600),
        ("max_over_time(rate(m[5i])[1d:1h])", 86_400 + 5 * 3600, 25, 3600),
        ("max_over_time(sum(rate(m[5m])) by (a)[1d:1h])", 86_700, 25, 3600),
        ("max_over_time((rate(m[5m]) + n[1m])[1d:1h])", 86_700, 25, 3600),
        ("f(rate(m)[1d])", 86_400, 1500, 60),
        ("f((m)[1d])", 86_400, 1500, 60),
        ("f(sum(m) by (a)[1d])", 86_400, 1500, 60),
        ("f(rate(m) keep_metric_names[1d])", 86_400, 1500, 60),
        ("f(1[1d])", 86_400, 1500, 60),
        ("f(.5[1d])", 86_400, 1500, 60),
        ("f(INF[1d])", 86_400, 1500, 60),
        ("f('a'[1d])", 86_400, 1500, 60),
        ("f(1 + m{a='b'}[1d])", 86_400, 0, None),
        ("f(sum(m) / m[1d])", 86_400, 0, None),
        ("f({a='b'}[1d])", 86_400, 0, None),
        ("max_over_time(m[:1h])", 3600, 1, 3600),
        ("max_over_time(m[1h:365d])", 365 * 86_400, 7200 / (365 * 86_400), 365 * 86_400),
        ("f(f(m[1h:1m])[1d:1h])", 90_000, (3600 + 86_400 + 3600) / 60, 60),
        ("m{a=\"[1d]\",b!~'[2d]',c=`[3d]`}[5m]", 300, 0, None),
        (r"foo\[1d[5m]", 300, 0, None),
        ("m[5m])[1h]", 3900, 0, None),
        ("a[1d] or b[1d] unless c[1d]", 86_400, 0, None),
        ("with[5m]", None, 0, None),
        ("WITH (w = 30d) m[w]", None, 0, None),
        ("WITH (f(x) = max_over_time(x[30d:1h])) f(f(m))", None, 0, None),
        ("WITH (x = 1) x", 0, 0, None),
        ("m[w]", None, 0, None),
        ("m['5m']", None, 0, None),
        ("m[5m", None, 0, None),
        ("m[]", 0, 0, None),
        ("m[-5m]", 0, 0, None),
        ("m[1e999]", None, 0, None),
        ("m[5m:1m:1m]", None, 0, None),
    ],
)
def test_reach(query: str, back: float | None, points: float, finest: float | None) -> None:
    if back is None:
        with pytest.raises(ValueError):
            reach_of(query, SPAN, STEP)
    else:
        assert reach_of(query, SPAN, STEP) == Reach(back, points, finest)


def test_the_number_of_windows_is_bounded() -> None:
    assert reach_of("+".join(["m[5m]"] * MAX_WINDOWS), SPAN, STEP).back == 300
    with pytest.raises(ValueError, match=f"more than {MAX_WINDOWS} windows"):
        reach_of("+".join(["m[5m]"] * (MAX_WINDOWS + 1)), SPAN, STEP)


def test_deep_nesting_takes_no_stack() -> None:
    query = "(" * 9000 + "m" + "[1m:1m])" * 900 + ")" * 8100
    assert reach_of(query, SPAN, STEP).back == 900 * 60


WINDOWS = st.sampled_from(["[5m]", "[1h:1m]", "[1d:]", "[3i:2i]"])
QUERIES = st.recursive(
    st.just("m"),
    lambda inner: st.one_of(
        st.tuples(inner, WINDOWS).map(lambda pair: f"f(({pair[0]}){pair[1]})"),
        st.tuples(inner, st.sampled_from([" + ", " or ", ", ", " default "]), inner).map("".join),
    ),
    max_leaves=8,
)


@given(QUERIES, WINDOWS)
def test_what_is_around_a_query_never_makes_it_shorter(query: str, window: str) -> None:
    plain = reach_of(query, SPAN, STEP)
    around = reach_of(f"f(({query}){window})", SPAN, STEP)
    assert around.back > plain.back or (around.finest or 0) > STEP
    assert reach_of(f"sum({query}) by (a)", SPAN, STEP) == plain
    assert reach_of(f"1 + ({query})", SPAN, STEP) == plain


@given(st.text() | st.lists(st.sampled_from([*"([{}])m5:,+'\"`\\#\n ", "5m", "with", "1d"])).map("".join))
def test_any_text_gives_a_reach_or_an_error(query: str) -> None:
    try:
        found = reach_of(query, SPAN, STEP)
    except ValueError:
        return
    assert found.back >= 0
