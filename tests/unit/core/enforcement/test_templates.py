"""templates: queries whose templates expand without bound are refused, and those that people write are not."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.enforcement.templates import MAX_DEPTH, check_templates
from vmgw_core.errors import CostlyQuery

TWENTY = ", ".join(rf'd{i} = sum(rate(m{i}{{job="a",x=~"b\\.c"}}[5m])) by (job)' for i in range(20))
STEPS = ", ".join(f"x{i} = x{i - 1} + x{i - 1}" for i in range(1, 31))


@each(
    "query",
    [
        "",
        "up",
        "sum without (x) (a)",
        r'a{b="c\\d", c=~`e\.f`}',
        "WITH (f(x) = rate(x[5m]) / sum(x), g(y) = f(y) + 1, h(z) = g(z) * 2) h(foo{a='b'})",
        f"WITH ({TWENTY}) " + " + ".join(f"d{i}" for i in range(20)),
        "WITH (common = {job='$job'}) rate(x{common}[1m]) / on (job) group_left(common) y{common, a!='b'}",
        'WITH (up = up{job="x"}) up',
        "WITH (w = 5m) rate(a[w:1m])",
        'WITH (x = {a="b"}) {__name__="y", x}',
        "WITH (x = 1, ) x # x30",
        "ttf(node_filesystem_free) + ru(free, total)",
        'alias(range_median(x[1h:1m]), "y")',
        "WITH (f = 1) f",
        "WITH (f(a) = a) f{b='c'}",
        "with + 1",
    ],
)
def test_what_people_write_passes(query: str) -> None:
    check_templates(query)


@each(
    "query",
    [
        pytest.param(f"WITH (x0 = a + b, {STEPS}) x30", id="steps"),
        pytest.param(f"wItH#x\n (x0 = a + b, {STEPS}) x30", id="a comment before the bracket"),
        pytest.param(f"W\u0130TH (x0 = a + b, {STEPS}) x30", id="a letter that Go lowers to i"),
        pytest.param("WITH (f(x) = x + x) " + "f(" * 20 + "a" + ")" * 20, id="calls"),
        pytest.param("WITH (f(x) = x + x) WITH (g(x) = f(f(f(x)))) " + "g(" * 9 + "a" + ")" * 9, id="calls of calls"),
        pytest.param("ttf(" * 20 + "a" + ")" * 20, id="ttf"),
        pytest.param("\\x74tf(" * 20 + "a" + ")" * 20, id="ttf escaped"),
        pytest.param("ru(a," * 20 + "a" + ")" * 20, id="ru"),
        pytest.param(
            "WITH (s = '"
            + "a" * 8000
            + "', "
            + ", ".join(f"t{i} = s + s" for i in range(9))
            + ") "
            + "+".join(["t8"] * 30),
            id="text",
        ),
    ],
)
def test_what_expands_without_bound_is_refused(query: str) -> None:
    with pytest.raises(CostlyQuery, match="expand to more than 20000 tokens"):
        check_templates(query)


@each(
    "name",
    [
        "a[5m:x{n}]",
        "a[x{n}]",
        "{{'x{n}'}}",
        "{{`x{n}`}}",
        '{{"\\x78{n}"}}',
        '{{"\\170{n}"}}',
        '{{"\\u0078{n}"}}',
        '{{"\\U00000078{n}"}}',
        '{{__name__="x{n}"}}',
        "{{'a'='b', x{n}}}",
        "\\x78{n}",
        "\\u0078{n}",
        "sum(a) by (x{n})",
        "(x{n})",
    ],
)
def test_every_way_to_name_a_template_is_counted(name: str) -> None:
    steps = ", ".join(f"x{n} = {name.format(n=n - 1)} + {name.format(n=n - 1)}" for n in range(1, 31))
    with pytest.raises(CostlyQuery, match="expand to more than 20000 tokens"):
        check_templates(f"WITH (x0 = a + b, {steps}) x30")


@each(
    ("query", "message"),
    [
        pytest.param("WITH (x = x + x, f(a) = a) f(f(f(x)))", "'x' is a template's name", id="a metric of that name"),
        pytest.param("WITH (f(a, b) = b + b) f(f(z, a), a)", "'a' is a template's name", id="an argument of that name"),
        pytest.param("WITH (f(a) = a + a, g(f) = f) g(f)", "'f' is a template's name", id="a template not called"),
        pytest.param("alias(alias(x, q), q)", "'q' is a template's name", id="a built-in argument"),
        pytest.param("WITH (x = 1) {__name__='x' + '30'}", "as one string", id="a name put together"),
        pytest.param("WITH (x = 1) {'__name__'=x}", "as one string", id="a name from a template"),
        pytest.param("WITH (f(x) = WITH (g(y) = x + y) g(1)) f(2)", "inside of another", id="a template in a template"),
        pytest.param("WITH (x = 1) " + "(" * MAX_DEPTH, "inside of each other", id="brackets"),
        pytest.param("WITH (x = 1) " * 2 * MAX_DEPTH, "inside of each other", id="WITH in WITH"),
    ],
)
def test_what_cannot_be_counted_is_refused(query: str, message: str) -> None:
    with pytest.raises(CostlyQuery, match=message):
        check_templates(query)


def test_the_bounds_are_exact() -> None:
    check_templates("WITH (x = 1) " + "(" * (MAX_DEPTH - 2) + ")" * (MAX_DEPTH - 2))
    check_templates("WITH (x = 1) " + "+".join(["x"] * 6600))
    with pytest.raises(CostlyQuery):
        check_templates("WITH (x = 1) " + "+".join(["x"] * 6700))


_PIECES = st.sampled_from(
    ["WITH", "with (", "(", ")", "[", "]", "{", "}", ",", "=", "=~", "x", "f", "f(", "x:y", "ttf(", "by (", "'x'", '"',
     "`", "\\", "\\x4", '"\\u12zz"', '"\\Uffffffff"', "__name__", "+", "1", "5m", "#", "\n", " "]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=40))
def test_any_text_is_judged(pieces: list[str]) -> None:
    with suppress(CostlyQuery):  # and nothing else is raised
        check_templates("".join(pieces))
