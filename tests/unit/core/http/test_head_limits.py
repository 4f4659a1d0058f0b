"""head: how large a request's head may be, and what its first line says."""

from __future__ import annotations

import pytest

from vmgw_core.errors import HeadTooLarge, MalformedHead, TargetTooLong
from vmgw_core.http import Headers
from vmgw_core.http.head import (
    HeadLimits,
    RequestHead,
    RequestLine,
    check_fields,
    check_head,
    check_request_line,
)

LIMITS = HeadLimits(size=1000, line=40, fields=3)


def _head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


LONGEST = "/" + "x" * (LIMITS.line - len("GET / HTTP/1.1"))


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(_head(LONGEST), id="the longest line"),
        pytest.param(_head("/", "A: b", "C: d"), id="the most headers"),
        pytest.param(_head("/", "A: " + "x" * 500), id="a header longer than the line may be"),
    ],
)
def test_accepts(head: bytes) -> None:
    assert check_head(head, LIMITS).method == "GET"


@pytest.mark.parametrize(
    ("head", "error", "message"),
    [
        pytest.param(
            _head(LONGEST + "x"), TargetTooLong, "the request line is longer than 40 bytes", id="a longer line"
        ),
        pytest.param(b"x" * 41 + b"\r\n\r\n", TargetTooLong, "the request line is longer than 40 bytes", id="no line"),
        pytest.param(
            _head("/", "A: b", "C: d", "E: f"), HeadTooLarge, "the request has more than 3 headers", id="more headers"
        ),
    ],
)
def test_rejects(head: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        check_head(head, LIMITS)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", RequestLine("GET", "/", False, 16)),
        (b"POST /a?b=c HTTP/1.0\r\nnot looked at", RequestLine("POST", "/a?b=c", True, 22)),
    ],
)
def test_the_request_line(head: bytes, expected: RequestLine) -> None:
    assert check_request_line(head) == expected


@pytest.mark.parametrize("line", [b"GET / HTTP/2.0", b"CONNECT / HTTP/1.1", b"connect / HTTP/1.1", b"GET a HTTP/1.1"])
def test_a_line_that_is_none(line: bytes) -> None:
    with pytest.raises(MalformedHead, match=r"^the request line is not of the form METHOD /path HTTP/1\.1$"):
        check_request_line(line + b"\r\n\r\n")


def test_a_method_that_begins_like_one_that_is_refused() -> None:
    assert check_request_line(b"CONNECTED / HTTP/1.1\r\n\r\n").method == "CONNECTED"


FIELDS = {
    "as it is": ((b"accept", b"*/*"),),
    "its own host": ((b"Host", b"a"), (b"host", b"b")),
    "a chunked body": ((b"transfer-encoding", b"chunked"),),
}
NO_FIELDS = {
    "a line break": ((b"accept", b"a\r\nb: c"),),
    "NUL": ((b"accept", b"a\0b"),),
    "a name that is none": ((b"a b", b"c"),),
    "two lengths": ((b"content-length", b"1"), (b"content-length", b"2")),
    "length and coding": ((b"content-length", b"1"), (b"transfer-encoding", b"chunked")),
}


@pytest.mark.parametrize("headers", FIELDS.values(), ids=list(FIELDS))
def test_a_request_of_another_framing_may_become_http1(headers: Headers) -> None:
    check_fields(RequestHead(method="GET", target="/a?b", headers=headers, client="c"))


@pytest.mark.parametrize("headers", NO_FIELDS.values(), ids=list(NO_FIELDS))
def test_a_request_of_another_framing_that_would_be_no_http1_is_refused(headers: Headers) -> None:
    with pytest.raises(MalformedHead):
        check_fields(RequestHead(method="GET", target="/a?b", headers=headers, client="c"))


@pytest.mark.parametrize("target", ["/a b", "/a\r\nb", "http://a/b", "/\udcff"])
def test_a_target_that_no_request_line_holds_is_refused(target: str) -> None:
    with pytest.raises(MalformedHead):
        check_fields(RequestHead(method="GET", target=target, headers=(), client="c"))
