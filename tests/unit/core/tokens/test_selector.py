"""selector: one table of what is a series selector, one of what is none, and its round trip."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.tokens.selector import MAX_BYTES, Matcher, Selector, SelectorError, parse_selector

_Alternative = list[tuple[str, str, str]]


def _selector(*alternatives: _Alternative) -> Selector:
    return Selector(
        alternatives=tuple(
            tuple(Matcher(name=name, operator=operator, value=value) for name, operator, value in matchers)
            for matchers in alternatives
        )
    )


@each(
    ("text", "expected"),
    [
        pytest.param(
            '{env=~"prod|dev",team!="test"}',
            _selector([("env", "=~", "prod|dev"), ("team", "!=", "test")]),
            id="the specification's",
        ),
        pytest.param("foo", _selector([("__name__", "=", "foo")]), id="a metric name"),
        pytest.param("foo{}", _selector([("__name__", "=", "foo")]), id="a metric name with empty braces"),
        pytest.param('{__name__="foo"}', _selector([("__name__", "=", "foo")]), id="a metric name as a label"),
        pytest.param('{"foo.bar"}', _selector([("__name__", "=", "foo.bar")]), id="a quoted metric name"),
        pytest.param(
            '{"foo",a="b"}', _selector([("__name__", "=", "foo"), ("a", "=", "b")]), id="quoted metric name and label"
        ),
        pytest.param("metric{a='b'}", _selector([("__name__", "=", "metric"), ("a", "=", "b")]), id="single quotes"),
        pytest.param("{a=`b\\d\"'`}", _selector([("a", "=", "b\\d\"'")]), id="backquotes"),
        pytest.param("{a=`b\nc\\\\`}", _selector([("a", "=", "b\nc\\\\")]), id="line break and even backslashes"),
        pytest.param('{a="b",}', _selector([("a", "=", "b")]), id="trailing comma"),
        pytest.param('  {  a  !~  "b"  ,  }  ', _selector([("a", "!~", "b")]), id="spaces"),
        pytest.param('{a=""}', _selector([("a", "=", "")]), id="matches only what has no such label"),
        pytest.param('{a="b" or c="d"}', _selector([("a", "=", "b")], [("c", "=", "d")]), id="or"),
        pytest.param('{a="b"OR c="d"}', _selector([("a", "=", "b")], [("c", "=", "d")]), id="or in capitals, no space"),
        pytest.param(
            'm{a="b",c="d" or e="f"}',
            _selector(
                [("__name__", "=", "m"), ("a", "=", "b"), ("c", "=", "d")], [("__name__", "=", "m"), ("e", "=", "f")]
            ),
            id="or holds for the metric name too",
        ),
        pytest.param('{or="x" or or="y"}', _selector([("or", "=", "x")], [("or", "=", "y")]), id="a label named or"),
        pytest.param('{"label name"="x"}', _selector([("label name", "=", "x")]), id="quoted label name"),
        pytest.param(r"{foo\-bar='x'}", _selector([("foo-bar", "=", "x")]), id="escaped character"),
        pytest.param(r"foo\x2dbar", _selector([("__name__", "=", "foo-bar")]), id="hex escape"),
        pytest.param(r"\u0031foo", _selector([("__name__", "=", "1foo")]), id="unicode escape at the start"),
        pytest.param("ns:job.x_1:rate5m", _selector([("__name__", "=", "ns:job.x_1:rate5m")]), id="colon, dot, digits"),
        pytest.param("grün{größe='x'}", _selector([("__name__", "=", "grün"), ("größe", "=", "x")]), id="letters"),
        pytest.param(r'{a="\a\b\f\n\r\t\v\\\""}', _selector([("a", "=", '\a\b\f\n\r\t\v\\"')]), id="simple escapes"),
        pytest.param(r"{a='\''}", _selector([("a", "=", "'")]), id="escaped single quote"),
        pytest.param(r'{a="\x41\101\u00e4\U0001F600"}', _selector([("a", "=", "AA\u00e4\U0001f600")]), id="numbers"),
        pytest.param(r'{a="\x7f\177"}', _selector([("a", "=", "\x7f\x7f")]), id="last byte escapes"),
        pytest.param('{a="\x01"}', _selector([("a", "=", "\x01")]), id="control character in a string"),
        pytest.param('{a="}b{, or "}', _selector([("a", "=", "}b{, or ")]), id="syntax in a string"),
        pytest.param(
            '{a="' + "x" * (MAX_BYTES - 6) + '"}', _selector([("a", "=", "x" * (MAX_BYTES - 6))]), id="longest"
        ),
    ],
)
def test_accepts(text: str, expected: Selector) -> None:
    assert parse_selector(text) == expected
    assert parse_selector(str(expected)) == expected


@each(
    ("text", "column"),
    [
        pytest.param("", 1, id="empty"),
        pytest.param("   ", 4, id="spaces"),
        pytest.param("{}", 2, id="empty braces"),
        pytest.param("{,}", 2, id="comma alone"),
        pytest.param('{a="b",,}', 8, id="two commas"),
        pytest.param('{a="b" c="d"}', 8, id="no comma"),
        pytest.param('{a="b"', 7, id="not closed"),
        pytest.param('a="b"}', 2, id="not opened"),
        pytest.param('{a="b"}}', 8, id="closed twice"),
        pytest.param('{a="b"}{c="d"}', 8, id="two selectors"),
        pytest.param('{a="b"} or {c="d"}', 9, id="or outside of the braces"),
        pytest.param('foo{a="b"}[5m]', 11, id="a range"),
        pytest.param("foo offset 5m", 5, id="an offset"),
        pytest.param("sum(foo)", 4, id="a function"),
        pytest.param("foo # comment", 5, id="a comment"),
        pytest.param('{a="b" or }', 11, id="nothing after or"),
        pytest.param('{or a="b"}', 5, id="nothing before or"),
        pytest.param(r'{a="b" \or c="d"}', 8, id="an escaped or is a name"),
        pytest.param("{template}", 10, id="a WITH template"),
        pytest.param("{a}", 3, id="a label alone"),
        pytest.param("{a=}", 4, id="no value"),
        pytest.param("{a=b}", 4, id="a bare value"),
        pytest.param("{a=1}", 4, id="a number"),
        pytest.param('{a=="b"}', 4, id="no such operator"),
        pytest.param('{a="b"+"c"}', 7, id="concatenation"),
        pytest.param('{a>"b"}', 3, id="no operator of matchers"),
        pytest.param('{1a="b"}', 2, id="a digit first"),
        pytest.param('{""="b"}', 2, id="an empty name"),
        pytest.param('{"a\x00"="b"}', 2, id="a control character in a quoted name"),
        pytest.param('{a="b', 4, id="a string without end"),
        pytest.param(r'{a="b\"}', 4, id="a string whose end is escaped"),
        pytest.param("{a=`b", 4, id="a backquoted string without end"),
        pytest.param("{a=`b\\`,c=`d`}", 4, id="backquote after a backslash"),
        pytest.param("{a=`b\r`}", 4, id="carriage return in backquotes"),
        pytest.param('{a="b\nc"}', 4, id="line break in quotes"),
        pytest.param(r'{a="b\q"}', 6, id="no such escape"),
        pytest.param(r'{a="b\'"}', 6, id="the other quote escaped"),
        pytest.param(r"""{a='b\"'}""", 6, id="the other quote escaped, in single quotes"),
        pytest.param(r'{a="\x80"}', 5, id="first byte beyond ASCII"),
        pytest.param(r'{a="\200"}', 5, id="first byte beyond ASCII, octal"),
        pytest.param(r'{a="\x8"}', 5, id="a short hex escape"),
        pytest.param(r'{a="\ud800"}', 5, id="an escaped surrogate"),
        pytest.param(r'{a="\U00110000"}', 5, id="beyond Unicode"),
        pytest.param(r"foo\x2", 4, id="a broken escape in a name"),
        pytest.param("foo\\", 4, id="a backslash at the end"),
        pytest.param(r"foo\x00", 4, id="an escaped control character in a name"),
        pytest.param(r"foo\ud800", 4, id="an escaped surrogate in a name"),
        pytest.param("foo\\\n", 4, id="an escaped line break"),
        pytest.param('{a="b",\tc="d"}', 8, id="tab"),
        pytest.param('{a="b"}\n', 8, id="line break at the end"),
        pytest.param('{a\u00a0="b"}', 3, id="no-break space"),
        pytest.param('{a="\ud800"}', 5, id="a surrogate"),
        pytest.param('{a="' + "x" * (MAX_BYTES - 5) + '"}', 1, id="one byte too long"),
        pytest.param('{a="' + "ä" * (MAX_BYTES // 2) + '"}', 1, id="too long in bytes only"),
    ],
)
def test_rejects(text: str, column: int) -> None:
    with pytest.raises(SelectorError, match=f"^column {column}: ") as error:
        parse_selector(text)
    assert error.value.column == column


def test_many_tokens_need_no_recursion() -> None:
    text = "{" + " or ".join(['a="b"'] * 6000) + "}"
    assert len(parse_selector(text).alternatives) == 6000


def test_is_a_value() -> None:
    assert len({parse_selector('foo{a="b"}'), parse_selector("foo { a = 'b', }"), parse_selector("bar")}) == 2


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
_MATCHER = st.builds(
    lambda name, operator, value: Matcher(name=name, operator=operator, value=value),
    _NAME | st.sampled_from(["or", "OR", "__name__", "a.b", "1a"]),
    st.sampled_from(["=", "!=", "=~", "!~"]),
    _TEXT | st.sampled_from(['"', "\\", "`", "\n", "\\n", "\x00", "\x85"]),
)
_SELECTOR = st.lists(st.lists(_MATCHER, min_size=1, max_size=4).map(tuple), min_size=1, max_size=3).map(
    lambda alternatives: Selector(alternatives=tuple(alternatives))
)


@given(_SELECTOR)
def test_parse_is_the_inverse_of_str(selector: Selector) -> None:
    assert parse_selector(str(selector)) == selector


_TOKENS = [
    "{",
    "}",
    ",",
    "=",
    "!=",
    "=~",
    '"a"',
    "'b'",
    "`c`",
    '"',
    "`",
    "a",
    " or ",
    " ",
    "\\",
    r"\x2d",
    r"\-",
    "1",
    "ä",
]


@given(st.lists(st.sampled_from(_TOKENS), max_size=14).map("".join) | st.text(max_size=20))
def test_any_text_is_a_selector_or_a_selector_error(text: str) -> None:
    try:
        selector = parse_selector(text)
    except SelectorError:
        return
    assert parse_selector(str(selector)) == selector
