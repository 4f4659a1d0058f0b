"""fields: what a reader accepts, and that an error names the path and the type and never the value."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.base import strict_json
from vmgw_core.base.strict_json import FieldError, as_number, load_object, shown

_UINT32_MAX = 4294967295


def _account(value: object) -> int:
    return strict_json.as_integer(value, "vm_access.tenant_id.account_id", minimum=0, maximum=_UINT32_MAX)


@pytest.mark.parametrize("value", [0, 1, _UINT32_MAX - 1, _UINT32_MAX], ids=str)
def test_integer_accepts(value: int) -> None:
    assert _account(value) == value


@each(
    ("value", "got"),
    [
        pytest.param("15", "a string", id="string"),
        pytest.param(True, "a boolean", id="bool"),
        pytest.param(False, "a boolean", id="bool that is zero"),
        pytest.param(1.0, "a number with a fraction or an exponent", id="float"),
        pytest.param(None, "null", id="null"),
        pytest.param([1], "a list", id="list"),
        pytest.param((1,), "a list", id="tuple"),
        pytest.param({}, "an object", id="object"),
        pytest.param(b"1", "a value of type bytes", id="no JSON type"),
        pytest.param(-1, "one out of range", id="below"),
        pytest.param(_UINT32_MAX + 1, "one out of range", id="above"),
    ],
)
def test_integer_rejects(value: object, got: str) -> None:
    with pytest.raises(FieldError) as error:
        _account(value)
    assert str(error.value) == (f"vm_access.tenant_id.account_id: expected an integer of 0 to 4294967295, got {got}")
    assert error.value.path == "vm_access.tenant_id.account_id"
    assert error.value.message == f"expected an integer of 0 to 4294967295, got {got}"


@pytest.mark.parametrize(
    ("minimum", "maximum", "good", "bad", "expected"),
    [
        pytest.param(5, None, 5, 4, "an integer of at least 5", id="minimum"),
        pytest.param(None, 5, 5, 6, "an integer of at most 5", id="maximum"),
    ],
)
def test_integer_with_one_bound(minimum: int | None, maximum: int | None, good: int, bad: int, expected: str) -> None:
    assert strict_json.as_integer(good, "x", minimum=minimum, maximum=maximum) == good
    with pytest.raises(FieldError, match=f"expected {expected}, got one out of range"):
        strict_json.as_integer(bad, "x", minimum=minimum, maximum=maximum)


def test_integer_without_bounds() -> None:
    assert strict_json.as_integer(10**40, "x") == 10**40
    with pytest.raises(FieldError, match="expected an integer, got null"):
        strict_json.as_integer(None, "x")


def test_other_readers_accept() -> None:
    assert strict_json.as_text("täg \U0001f600", "x") == "täg \U0001f600"
    assert strict_json.as_text("", "x") == ""
    assert strict_json.as_list([1, None], "x") == [1, None]
    assert strict_json.as_list((1,), "x") == (1,)
    assert strict_json.as_object({"a": None}, "x") == {"a": None}


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        pytest.param(strict_json.as_text, 1, "expected a string, got an integer", id="number as text"),
        pytest.param(strict_json.as_text, None, "expected a string, got null", id="null as text"),
        pytest.param(
            strict_json.as_text, "a\ud800", "expected text, got a string with a lone surrogate", id="surrogate"
        ),
        pytest.param(strict_json.as_list, "abc", "expected a list, got a string", id="string as list"),
        pytest.param(strict_json.as_list, {"a": 1}, "expected a list, got an object", id="object as list"),
        pytest.param(strict_json.as_object, [], "expected an object, got a list", id="list as object"),
        pytest.param(strict_json.as_object, {1: 2}, "expected text keys, got an integer", id="YAML's integer keys"),
    ],
)
def test_other_readers_reject(read: Callable[[object, str], object], value: object, message: str) -> None:
    with pytest.raises(FieldError) as error:
        read(value, "some.path")
    assert str(error.value) == f"some.path: {message}"


_READERS = [
    pytest.param(strict_json.as_object, {"k": 1}, "expected an object, got null", id="as_object"),
    pytest.param(strict_json.as_list, ["k"], "expected a list, got null", id="as_list"),
    pytest.param(strict_json.as_text, "k", "expected a string, got null", id="as_text"),
    pytest.param(strict_json.as_integer, 7, "expected an integer, got null", id="as_integer"),
]


@each("get", [strict_json.optional, strict_json.required])
@each(("read", "value", "message"), _READERS)
def test_fields_are_read_with_their_paths(
    get: Callable[..., object], read: Callable[[object, str], object], value: object, message: str
) -> None:
    assert get({"name": value}, "name", read, "top") == value
    with pytest.raises(FieldError) as error:
        get({"name": None}, "name", read, "top")
    assert str(error.value) == f"top.name: {message}"


def test_an_absent_field() -> None:
    assert strict_json.optional({}, "exp", as_number) is None
    with pytest.raises(FieldError) as error:
        strict_json.required({}, "exp", as_number)
    assert str(error.value) == "exp: missing"


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        pytest.param("", "a", "a", id="top"),
        pytest.param("a", "b_1-c$", "a.b_1-c$", id="plain"),
        pytest.param("a", 3, "a[3]", id="index"),
        pytest.param("a", 'b"\n.c', r'a["b\"\n.c"]', id="odd name is escaped"),
        pytest.param("a", "", 'a[""]', id="empty name"),
        pytest.param("a", "x" * 40, "a." + "x" * 40, id="longest that is shown whole"),
        pytest.param("a", "x" * 41, 'a["' + "x" * 40 + '"]', id="shortened"),
    ],
)
def test_child(path: str, key: str | int, expected: str) -> None:
    assert strict_json.child(path, key) == expected


# --- JSON ----------------------------------------------------------------------------------------------------------


@each(
    ("data", "expected"),
    [
        pytest.param(b"{}", {}, id="empty"),
        pytest.param(' {"a" : 1 }\n', {"a": 1}, id="text with space around"),
        pytest.param('{"a":[{"b":[1.5,-0,1e3,null,true]}]}', {"a": [{"b": [1.5, 0, 1000.0, None, True]}]}, id="nested"),
        pytest.param(b'{"a":{"x":1},"b":{"x":1}}', {"a": {"x": 1}, "b": {"x": 1}}, id="same name, other object"),
        pytest.param(r'{"a":"😀"}', {"a": "\U0001f600"}, id="a pair of surrogate escapes"),
        pytest.param(r'{"a":"\\ud800"}', {"a": "\\ud800"}, id="an escaped backslash before ud800"),
        pytest.param('{"a":"[[[[{{{{"}', {"a": "[[[[{{{{"}, id="brackets in a string do not nest"),
        pytest.param(r'{"a":"\"[[[["}', {"a": '"[[[['}, id="nor after an escaped quote"),
        pytest.param('{"a":[[]],"b":[[]]}', {"a": [[]], "b": [[]]}, id="depth 3"),
    ],
)
def test_load_object_accepts(data: bytes | str, expected: object) -> None:
    assert load_object(data, "payload", max_depth=4) == expected


@each(
    ("data", "message"),
    [
        pytest.param(b"", "not valid JSON (line 1, column 1)", id="empty"),
        pytest.param(b"{", "not valid JSON (line 1, column 2)", id="cut"),
        pytest.param(b'{"a":1} x', "not valid JSON (line 1, column 9)", id="something after it"),
        pytest.param(b"{'a':1}", "not valid JSON (line 1, column 2)", id="single quotes"),
        pytest.param('{"a":"\n"}', "not valid JSON (line 1, column 7)", id="raw control character"),
        pytest.param("\ufeff{}", "not valid JSON (line 1, column 1)", id="byte order mark"),
        pytest.param(b"[]", "expected an object, got a list", id="list"),
        pytest.param(b"null", "expected an object, got null", id="null"),
        pytest.param(b'"{}"', "expected an object, got a string", id="string"),
        pytest.param(b'{"a":1,"a":1}', "a name occurs twice in one object", id="duplicate"),
        pytest.param(b'{"b":{"a":1,"\\u0061":2}}', "a name occurs twice in one object", id="duplicate by escape"),
        pytest.param(b'{"a":NaN}', "NaN is not a JSON number", id="NaN"),
        pytest.param(b'{"a":-Infinity}', "-Infinity is not a JSON number", id="-Infinity"),
        pytest.param(b'{"a":1e999}', "a number is out of range", id="infinite by size"),
        pytest.param(b'{"a":-1e999}', "a number is out of range", id="infinite by size, negative"),
        pytest.param(b'{"a":' + b"1" * 5000 + b"}", "a number or the nesting is too large", id="digits"),
        pytest.param(b'{"a":"\xff"}', "not valid UTF-8", id="no UTF-8"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', "not valid UTF-8", id="an encoded surrogate"),
        pytest.param('{"a":"\ud800"}', "not valid UTF-8", id="a surrogate in text"),
        pytest.param(r'{"a":"\ud800"}', "a string has a lone surrogate", id="a surrogate by escape"),
        pytest.param(r'{"a":[{"\uDFFF":1}]}', "a string has a lone surrogate", id="a surrogate in a name"),
        pytest.param('{"a":[[[]]]}', "nested deeper than 3 levels", id="depth 4"),
        pytest.param("[" * 100_000, "nested deeper than 3 levels", id="brackets only"),
        pytest.param('{"a":' * 9000 + "1" + "}" * 9000, "nested deeper than 3 levels", id="objects only"),
    ],
)
def test_load_object_rejects(data: bytes | str, message: str) -> None:
    with pytest.raises(FieldError) as error:
        load_object(data, "payload", max_depth=3)
    assert str(error.value) == f"payload: {message}"


def test_depth_has_a_boundary() -> None:
    text = '{"a":' * 31 + "[]" + "}" * 31
    assert strict_json.MAX_DEPTH == 32
    load_object(text, "payload")
    with pytest.raises(FieldError, match="nested deeper than 32 levels"):
        load_object('{"a":' + text + "}", "payload")


def test_nesting_beyond_the_interpreter_is_an_error_of_ours() -> None:
    with pytest.raises(FieldError, match="the nesting is too large"):
        load_object('{"a":' + "[" * 200_000 + "]" * 200_000 + "}", "payload", max_depth=10**6)


def test_no_error_shows_a_value() -> None:
    for text in ('{"a":"hunter2"', '"hunter2"', '{"hunter2":1,"hunter2":2}', '{"a":"hunter2","b":1e999}'):
        with pytest.raises(FieldError) as error:
            load_object(text, "payload")
        assert "hunter2" not in str(error.value)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Surrogates are what st.text() leaves out by default as well: they are refused.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), _JSON, max_size=3), st.booleans())
def test_load_object_is_the_inverse_of_dumps(value: dict[str, object], ascii_only: bool) -> None:
    assert load_object(json.dumps(value, ensure_ascii=ascii_only), "x") == value


@given(st.binary(max_size=60) | st.text(st.sampled_from('{}[]":,\\ud80ea1.-\ud800'), max_size=30))
def test_any_input_gives_an_object_or_a_field_error(data: bytes | str) -> None:
    try:
        value = load_object(data, "x")
    except FieldError:
        return
    assert json.dumps(value, ensure_ascii=False).encode()


@each(
    ("value", "text"),
    [
        ("", '""'),
        ("a\n\x00\x7f\u202eä", r'"a\n\u0000\u007f\u202e\u00e4"'),
        ("a" * 120, '"' + "a" * 120 + '"'),
        ("a" * 121, '"' + "a" * 120 + '..."'),
        ("a" * 10**6, '"' + "a" * 120 + '..."'),
        (1, "1"),
        (-1.5, "-1.5"),
        (10**4000, "1" + "0" * 39),
        (True, "true"),
        (None, "null"),
        ({"a": 1}, "an object"),
        ([], "[]"),
        (["a", 1, None, {}], '["a", 1, null, an object]'),
        (list(range(1000)), "[0, 1, 2, 3, ...]"),
        ([[[1]], "a" * 1000], '[a list, "' + "a" * 120 + '..."]'),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_shown(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize("value", [0, -1, 1.5, 10**400, 1e308])
def test_as_number_accepts(value: object) -> None:
    assert as_number(value, "a") is value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "a: expected a number, got a boolean"),
        ("1", "a: expected a number, got a string"),
        (None, "a: expected a number, got null"),
        (float("inf"), "a: expected a number, got one out of range"),
        (float("-inf"), "a: expected a number, got one out of range"),
        (float("nan"), "a: expected a number, got one out of range"),
    ],
)
def test_as_number_rejects(value: object, message: str) -> None:
    with pytest.raises(FieldError) as error:
        as_number(value, "a")
    assert str(error.value) == message
