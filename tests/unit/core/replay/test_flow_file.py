from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmgw_core.replay.flow_file import NetstringError, frame, spans, value


def read(data: bytes) -> object:
    span = frame(data, 0, len(data))
    assert span is not None
    return value(data, span)


def dumped(item: object) -> bytes:
    """A typed netstring, written by the plainest means."""
    match item:
        case None:
            body, kind = b"", b"~"
        case bool():
            body, kind = str(item).lower().encode(), b"!"
        case int():
            body, kind = str(item).encode(), b"#"
        case float():
            body, kind = repr(item).encode(), b"^"
        case bytes():
            body, kind = item, b","
        case str():
            body, kind = item.encode(), b";"
        case list():
            body, kind = b"".join(map(dumped, item)), b"]"
        case dict():
            body, kind = b"".join(dumped(key) + dumped(each) for key, each in item.items()), b"}"
        case _:
            raise TypeError
    return b"%d:%s%s" % (len(body), body, kind)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(st.characters(max_codepoint=127)), children),
    max_leaves=10,
)


@given(plain)
def test_reading_what_was_written_is_identity(item: object) -> None:
    assert read(dumped(item)) == item


@given(plain, st.data())
def test_a_part_is_incomplete_and_never_something_else(item: object, data: st.DataObject) -> None:
    whole = dumped(item)
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert frame(part, 0, len(part)) is None


@given(st.binary(max_size=60) | st.text(st.sampled_from("0123456789:,;#^!~]}truefals"), max_size=40).map(str.encode))
def test_any_bytes_give_a_value_or_an_error(data: bytes) -> None:
    try:
        span = frame(data, 0, len(data))
        if span is not None:
            value(data, span)
            spans(data, span)
    except NetstringError as error:
        offset = error.offset
    else:
        offset = 0
    assert 0 <= offset <= len(data)


def test_members_are_found_without_being_read() -> None:
    data = dumped({"a": {"b": [1, 2]}, "c": b"d"})
    found = frame(data, 0, len(data))
    assert found is not None
    members = spans(data, found)
    assert list(members) == [b"a", b"c"]
    assert value(data, spans(data, members[b"a"])[b"b"]) == [1, 2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x:", "not a number"),
        (b":", "not a number"),
        (b"123456789012345", "length is missing"),
        (b"12x", "length is missing"),
        (b"1:a?", "unknown type"),
        (b"1:a~", "unknown type"),
        (b"3:yes!", "unknown type"),
        (b"1:a#", "not of its type"),
        (b"1:a^", "not of its type"),
        (b"1:\xff;", "not of its type"),
        (b"2:9:]", "longer than its container"),
        (b"4:1:a,}", "a length is missing"),
        (b"6:1:a,9:}", "longer than its container"),
    ],
)
def test_rejects(data: bytes, message: str) -> None:
    with pytest.raises(NetstringError, match=message):
        read(data)


def test_members_are_those_of_a_mapping() -> None:
    with pytest.raises(NetstringError, match="expected a mapping"):
        spans(b"0:]", (2, 2, ord("]")))


def test_depth_is_bounded() -> None:
    data = b"0:]"
    for _ in range(40):
        data = b"%d:%s]" % (len(data), data)
    with pytest.raises(NetstringError, match="deeper than 32"):
        read(data)
