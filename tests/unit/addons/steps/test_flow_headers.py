"""Headers of flows find what mitmproxy's find, and are copied, changed and saved like those."""

from __future__ import annotations

import pytest
from mitmproxy.http import Headers

from vmgw_addons.steps import FlowHeaders

FIELDS = (
    (b"Host", b"a"),
    (b"X-Tag", b"one"),
    (b"x-tag", b"two"),
    (b"X-Raw", b"\xff\xc3\xa9"),
    (b"\xc3\x89", b"upper case beyond ASCII"),
    (b"X-Empty", b""),
)


@pytest.mark.parametrize("name", ["host", "HOST", "X-TAG", "x-raw", "X-Empty", "missing", "é", "É", "", b"Host", b"x"])
def test_a_name_is_found_as_in_mitmproxy(name: str | bytes) -> None:
    ours, theirs = FlowHeaders(FIELDS), Headers(FIELDS)
    assert ours.get(name) == theirs.get(name)
    assert ours.get(name, "default") == theirs.get(name, "default")
    assert ours.get_all(name) == theirs.get_all(name)
    assert (name in ours) is (name in theirs)
    try:
        expected = theirs[name]
    except KeyError:
        with pytest.raises(KeyError):
            ours[name]
    else:
        assert ours[name] == expected


def test_headers_change_copy_and_save_as_in_mitmproxy() -> None:
    ours, theirs = FlowHeaders(FIELDS), Headers(FIELDS)
    for each in (ours, theirs):
        each["Host"] = "b"
        each.add("X-Tag", "three")
        del each["x-raw"]
        each.insert(0, "First", "1")
        each.set_all("x-empty", ["1", "2"])
        assert each.pop("first") == "1"
    assert ours.fields == theirs.fields
    assert bytes(ours) == bytes(theirs)
    assert ours == theirs
    assert ours.copy().fields == theirs.copy().fields
    assert dict(ours) == dict(theirs)


def test_no_headers_are_written_as_in_mitmproxy() -> None:
    assert bytes(FlowHeaders()) == bytes(Headers()) == b""


def test_something_else_than_a_name_is_not_found() -> None:
    assert 1 not in FlowHeaders(FIELDS)
