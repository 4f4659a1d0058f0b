"""Values of flags: what each parser accepts, what it refuses, and that it does nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.configuration.values import (
    Value,
    format_array,
    parse_array,
    parse_bool,
    parse_duration,
    parse_float,
    parse_int,
    parse_size,
)

MAX_INT64 = 2**63 - 1
PEM = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCg\n+qK/bw==\n-----END PUBLIC KEY-----\n"

ACCEPTED: list[tuple[Callable[[str], Value], str, Value]] = [
    *((parse_bool, text, True) for text in ("1", "t", "T", "true", "True", "TRUE")),
    *((parse_bool, text, False) for text in ("0", "f", "F", "false", "False", "FALSE")),
    (parse_int, "0", 0),
    (parse_int, "-0", 0),
    (parse_int, "1000", 1000),
    (parse_int, "+7", 7),
    (parse_int, "-7", -7),
    (parse_int, "0x1F", 31),
    (parse_int, "0o17", 15),
    (parse_int, "-0b101", -5),
    (parse_int, str(MAX_INT64), MAX_INT64),
    (parse_int, str(-MAX_INT64 - 1), -MAX_INT64 - 1),
    (parse_float, "60", 60.0),
    (parse_float, "-.5", -0.5),
    (parse_float, "1.", 1.0),
    (parse_float, "+2.5e-3", 0.0025),
    (parse_duration, "0", 0.0),
    (parse_duration, "0s", 0.0),
    (parse_duration, "10", 10.0),
    (parse_duration, "1.5", 1.5),
    (parse_duration, "300ms", 0.3),
    (parse_duration, "5s", 5.0),
    (parse_duration, "1m30s", 90.0),
    (parse_duration, "5m0s", 300.0),
    (parse_duration, "1h2m3.5s", 3723.5),
    (parse_duration, ".5h", 1800.0),
    (parse_duration, "1.s", 1.0),
    (parse_duration, "7ns", 7e-9),
    (parse_duration, "2us", 2e-6),
    (parse_duration, "2\u00b5s", 2e-6),
    (parse_duration, "2\u03bcs", 2e-6),
    (parse_duration, "1d", 86400.0),
    (parse_duration, "2w", 1209600.0),
    (parse_duration, "1y", 31536000.0),
    (parse_duration, "1y2w1d12h", 31536000.0 + 1209600.0 + 86400.0 + 43200.0),
    (parse_duration, "292y", 292 * 31536000.0),
    (parse_size, "0", 0),
    (parse_size, "65536", 65536),
    (parse_size, "10.9", 10),
    (parse_size, "16MiB", 16 * 1024**2),
    (parse_size, "16mib", 16 * 1024**2),
    (parse_size, "1.5GiB", 3 * 1024**3 // 2),
    (parse_size, ".5KB", 500),
    (parse_size, "1KB", 1000),
    (parse_size, "2MB", 2 * 1000**2),
    (parse_size, "3GB", 3 * 1000**3),
    (parse_size, "4TB", 4 * 1000**4),
    (parse_size, "1KiB", 1024),
    (parse_size, "1TiB", 1024**4),
    (parse_size, str(MAX_INT64), MAX_INT64),
]

REJECTED: list[tuple[Callable[[str], Value], str, str]] = [
    *((parse_bool, text, "expected true or false") for text in ("", "yes", "on", "tRUE", "true ", "2", "-1")),
    *(
        (parse_int, text, "expected an integer such as 10")
        for text in ("", "-", "010", "1_000", "1.0", "1e3", " 1", "1\n", "0x", "0xg", "\u0661", "5m", "1" * 81)
    ),
    (parse_int, str(MAX_INT64 + 1), "expected an integer of 64 bits"),
    (parse_int, str(-MAX_INT64 - 2), "expected an integer of 64 bits"),
    *(
        (parse_float, text, "expected a number such as 0.5")
        for text in ("", ".", "inf", "-Inf", "nan", "0x1p-2", "1_0", "1e", "1e999", "\u0661", "1 ", "1.0\n")
    ),
    *(
        (parse_duration, text, "expected a duration such as 5s or 1m30s")
        for text in ("", "abc", "-5s", "+5s", "-1", "5 s", "5s ", "5s\n", "5S", "5M", "s", "1m30", "1e3s", "\u0661s")
    ),
    (parse_duration, "293y", "expected a duration of at most 292 years"),
    (parse_duration, "9" * 400, "expected a duration of at most 292 years"),
    *(
        (parse_size, text, "expected a size such as 65536 or 16MiB")
        for text in (
            "",
            "-1",
            "+1",
            "16M",
            "16 MiB",
            "16PiB",
            "16iB",
            "MiB",
            "1e6",
            "0x10",
            "\u0661",
            "1\u212aB",
            "1\n",
        )
    ),
    (parse_size, str(MAX_INT64 + 1), "expected a size of at most 8EiB"),
    (parse_size, "9" * 400 + "TiB", "expected a size of at most 8EiB"),
]

NUMERIC = [parse_bool, parse_int, parse_float, parse_duration, parse_size]


@each(("parser", "text", "value"), ACCEPTED)
def test_scalar_accepts(parser: Callable[[str], Value], text: str, value: Value) -> None:
    parsed = parser(text)
    assert parsed == value
    assert type(parsed) is type(value)


@each(("parser", "text", "reason"), REJECTED)
def test_scalar_rejects(parser: Callable[[str], Value], text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f'^{re.escape(reason)}, got "') as refusal:
        parser(text)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 150


def test_refusal_reads_as_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"^expected a duration such as 5s or 1m30s, got \"abc\"$"):
        parse_duration("abc")


@pytest.mark.parametrize("parser", NUMERIC)
@given(text=st.text() | st.text("0123456789.-+exabcdTtfmsMKiB\n"))
def test_any_text_gives_a_value_or_a_value_error(parser: Callable[[str], Value], text: str) -> None:
    refusal = ""
    try:
        parser(text)
    except ValueError as error:
        refusal = str(error)
    assert refusal.isprintable()


@each(
    ("text", "items"),
    [
        ("", ()),
        ("foo", ("foo",)),
        ("foo,b ar, baz", ("foo", "b ar", " baz")),
        (",foo,,bar,", ("", "foo", "", "bar", "")),
        (",", ("", "")),
        # quotes that wrap an item
        ('""', ("",)),
        ("'',``", ("", "")),
        ('"foo,bar",baz', ("foo,bar", "baz")),
        ("'foo,bar',baz", ("foo,bar", "baz")),
        ("`foo,bar`,baz", ("foo,bar", "baz")),
        (r'"a\tb\n\x41\101\u00e9\U0001F600\xc3\xa9\\\""', ("a\tb\nAA\u00e9\U0001f600\u00e9" + '\\"',)),
        (r"'it\'s \\ \n'", (r"it's \ \n",)),
        (r"`it's \\ \n`", (r"it's \\ \n",)),
        (r'''"it's","`","{"''', ("it's", "`", "{")),
        # what Go would not unquote loses its quotes and the two escapes that quoting needs
        ('"two\nlines \\" \\\\"', ('two\nlines " \\',)),
        ('"a\nb,\\n"', ("a\nb,\\n",)),
        (r'"\q,\xff"', (r"\q,\xff",)),
        (r'"a,\xff"', (r"a,\xff",)),
        (r'"a,\ud800"', (r"a,\ud800",)),
        (r'"a,\U00110000"', (r"a,\U00110000",)),
        (r'"a,\Uffffffff"', (r"a,\Uffffffff",)),
        (r'"a,\400"', (r"a,\400",)),
        (r'"a,\'"', (r"a,\'",)),
        # quotes inside an item stay
        ('foo="a,b",bar', ('foo="a,b"', "bar")),
        ("foo='a,b',bar", ("foo='a,b'", "bar")),
        ('"a","b"x,c', ("a", '"b"x', "c")),
        ('"a"x"b,c"', ('"a"x"b,c"',)),
        # brackets keep their commas, and stay
        ("{a,b},[c,d],(e,f)", ("{a,b}", "[c,d]", "(e,f)")),
        ('foo{bar="baz",x="y"},up', ('foo{bar="baz",x="y"}', "up")),
        ("foo{bar=\"ba}z\",x='('},up", ("foo{bar=\"ba}z\",x='('}", "up")),
        ("f({a,b},[c,`)`]),g", ("f({a,b},[c,`)`])", "g")),
        # what is never closed is an ordinary character
        ('"foo,bar', ('"foo', "bar")),
        ("it's,fine", ("it's", "fine")),
        ("`foo,bar", ("`foo", "bar")),
        ('"', ('"',)),
        (r'"foo\",bar', (r'"foo\"', "bar")),
        ("{a,b", ("{a", "b")),
        ("{a,(b},c)", ("{a", "(b}", "c)")),
        ("{a,'b},c", ("{a", "'b}", "c")),
        ("a),b}", ("a)", "b}")),
        # public keys
        (PEM, (PEM,)),
        (f"`{PEM}`", (PEM,)),
        (f"{PEM},`{PEM}`", (PEM, PEM)),
        (f'"{PEM}"', (PEM,)),
        ('"' + PEM.replace("\n", "\\n") + '"', (PEM,)),
    ],
)
def test_array_accepts(text: str, items: tuple[str, ...]) -> None:
    assert parse_array(text) == items


@pytest.mark.parametrize("depth", [1, 10_000])
def test_array_takes_any_depth_of_brackets(depth: int) -> None:
    nested = "(" * depth + "a,b" + ")" * depth
    assert parse_array(f"{nested},c") == (nested, "c")


TEXTS = st.text() | st.text(",\"'`{}[]()\\\nab")


@given(items=st.lists(TEXTS))
def test_array_of_quoted_items_round_trips(items: list[str]) -> None:
    assert parse_array(format_array(items)) == tuple(items)


@given(items=st.lists(st.text(st.characters(exclude_characters="`", codec="utf-8"))))
def test_array_of_items_in_backquotes_round_trips(items: list[str]) -> None:
    assert parse_array(",".join(f"`{item}`" for item in items)) == tuple(items)


@given(text=TEXTS)
def test_any_text_is_an_array(text: str) -> None:
    items = parse_array(text)
    assert parse_array(format_array(items)) == items


@each(
    ("items", "text"),
    [
        ((), ""),
        (("",), '""'),
        (("a", "b c"), "a,b c"),
        (("a,b", "c"), '"a,b",c'),
        (('say "hi"\n',), 'say "hi"\n'),
        (('"hi"',), r'"\"hi\""'),
        (("http://[::1]:1", "b"), "http://[::1]:1,b"),
        (("a[", "b]"), '"a[",b]'),
        ((PEM,), PEM),
    ],
)
def test_array_is_quoted_only_where_it_must_be(items: tuple[str, ...], text: str) -> None:
    assert format_array(items) == text


def test_array_keeps_undecodable_arguments() -> None:
    argument = b'"\xff,b"'.decode("utf-8", "surrogateescape")
    assert parse_array(argument) == (argument[1:-1],)
