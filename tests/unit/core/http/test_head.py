"""head: one strict reading of a request's head, whatever bytes come and in whatever pieces."""

from __future__ import annotations

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.errors import HeadTooLarge, MalformedHead
from vmgw_core.http.head import HeadLimits, RequestHead, check_head, find_head, mend, skip_empty_lines

HOST = b"Host: gateway\r\n"
GET = b"GET /api/v1/query HTTP/1.1\r\n"
SMALLEST = GET + HOST + b"\r\n"


def _head(*headers: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(method="GET", target="/", headers=headers, client="192.0.2.1")


# --- RequestHead ---------------------------------------------------------------------------------------------------


def test_values_are_found_in_any_case_in_order_and_without_blanks() -> None:
    head = _head((b"X-One", b" a "), (b"x-two", b"b"), (b"X-ONE", b"\tc"), (b"x-one-more", b"d"))
    assert head.values(b"x-one") == [b"a", b"c"]
    assert head.values(b"x-three") == []


@each(
    ("headers", "expected"),
    [
        pytest.param((), False, id="no framing"),
        pytest.param(((b"Content-Length", b"0"),), False, id="length 0"),
        pytest.param(((b"Content-Length", b"000"),), False, id="length 000"),
        pytest.param(((b"content-length", b" 0 "),), False, id="length 0 with blanks"),
        pytest.param(((b"Content-Length", b"1"),), True, id="length 1"),
        pytest.param(((b"Content-Length", b"010"),), True, id="length 010"),
        pytest.param(((b"Transfer-Encoding", b"chunked"),), True, id="chunked"),
        pytest.param(((b"Content-Type", b"text/plain"),), False, id="a type alone"),
    ],
)
def test_has_body(headers: tuple[tuple[bytes, bytes], ...], expected: bool) -> None:
    assert _head(*headers).has_body is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param((), None, id="none"),
        pytest.param(((b"Content-Length", b"0"),), 0, id="0"),
        pytest.param(((b"content-length", b" 007 "),), 7, id="zeros before, in blanks"),
        pytest.param(((b"Content-Length", b"9" * 18),), 10**18 - 1, id="18 digits"),
    ],
)
def test_content_length(headers: tuple[tuple[bytes, bytes], ...], expected: int | None) -> None:
    assert _head(*headers).content_length == expected


@each(
    "values",
    [
        pytest.param([b""], id="empty"),
        pytest.param([b"-1"], id="negative"),
        pytest.param([b"+1"], id="a plus"),
        pytest.param([b"1_0"], id="an underscore"),
        pytest.param([b"1 0"], id="a blank"),
        pytest.param([b"0x1"], id="hexadecimal"),
        pytest.param([b"\xb2"], id="a digit of Latin-1"),
        pytest.param([b"9" * 19], id="19 digits"),
        pytest.param([b"7", b"7"], id="two, the same"),
        pytest.param([b"0", b"7"], id="two"),
    ],
)
def test_a_content_length_that_is_none(values: list[bytes]) -> None:
    """Not every head comes through check_head."""
    head = _head(*((b"Content-Length", value) for value in values))
    for name in ("content_length", "has_body"):
        with pytest.raises(MalformedHead, match=r"^the Content-Length is not one number of bytes$"):
            getattr(head, name)


# --- skip_empty_lines ----------------------------------------------------------------------------------------------


@each(
    ("received", "expected"),
    [
        (b"", 0),
        (b"GET", 0),
        (b"\r\nGET", 2),
        (b"\r\n" * 100_000 + b"GET\r\n", 200_000),
        (b"\r\n\r", 2),
        (b"\n\r\n", 0),
        (b"\r\r\n", 0),
        (b" \r\n", 0),
    ],
)
def test_skip_empty_lines(received: bytes, expected: int) -> None:
    assert skip_empty_lines(received) == expected


# --- find_head -----------------------------------------------------------------------------------------------------


@each(
    ("received", "max_size", "expected"),
    [
        pytest.param(SMALLEST, 1000, len(SMALLEST), id="complete"),
        pytest.param(SMALLEST + b"body\n\0", 1000, len(SMALLEST), id="a body follows"),
        pytest.param(SMALLEST + SMALLEST, 1000, len(SMALLEST), id="a second request follows"),
        pytest.param(SMALLEST, len(SMALLEST), len(SMALLEST), id="exactly the limit"),
        pytest.param(SMALLEST + b"x" * 1000, len(SMALLEST), len(SMALLEST), id="exactly the limit, and a body"),
        pytest.param(b"\r\n\r\n" + SMALLEST, 1000, 4, id="two line ends, which check_head refuses"),
        pytest.param(b"", 1000, 0, id="nothing"),
        pytest.param(SMALLEST[:-1], 1000, 0, id="all but the last byte"),
        pytest.param(SMALLEST[:-1], len(SMALLEST), 0, id="all but the last byte, at the limit"),
        pytest.param(GET[:-1], 1000, 0, id="half a line end"),
        pytest.param(b"\r\r", 1000, 0, id="bare carriage returns, which check_head refuses"),
    ],
)
def test_find_head_accepts(received: bytes, max_size: int, expected: int) -> None:
    assert find_head(received, max_size) == expected


@each(
    ("received", "max_size", "error"),
    [
        pytest.param(SMALLEST, len(SMALLEST) - 1, HeadTooLarge, id="one byte over the limit"),
        pytest.param(SMALLEST, len(SMALLEST) - 4, HeadTooLarge, id="over the limit by the empty line"),
        pytest.param(SMALLEST[:-1], len(SMALLEST) - 1, HeadTooLarge, id="one byte over, its last byte still to come"),
        pytest.param(b"x" * 1000, 1000, HeadTooLarge, id="at the limit and no end"),
        pytest.param(b"x" * 5000, 1000, HeadTooLarge, id="far over the limit"),
        pytest.param(b"GET / HTTP/1.1\n", 1000, MalformedHead, id="a bare line feed"),
        pytest.param(b"GET / HTTP/1.1\n\n", 1000, MalformedHead, id="lines ended by line feeds"),
        pytest.param(b"\r\n\n", 1000, MalformedHead, id="a bare line feed after a proper end"),
        pytest.param(b"GET /\0", 1000, MalformedHead, id="NUL"),
        pytest.param(b"\x16\x03\x01\x00\xa5", 1000, MalformedHead, id="a TLS handshake"),
    ],
)
def test_find_head_rejects(received: bytes, max_size: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        find_head(received, max_size)


def _verdict(received: bytes, max_size: int) -> int | type[Exception]:
    """What becomes of ``received`` in the end: a checked length, 0 for an incomplete head, or the refusal."""
    try:
        end = find_head(received, max_size)
        if end:
            check_head(received[:end])
    except (HeadTooLarge, MalformedHead) as error:
        return type(error)
    return end


near_heads = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b"GET", b"/", b" HTTP/1.1", b"a"])
    | st.sampled_from([GET, HOST, b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"x: y\r\n", b"\xff"]),
    max_size=12,
).map(b"".join)


@given(near_heads, st.integers(1, 120), st.data())
@example(SMALLEST, len(SMALLEST), None)
def test_the_verdict_does_not_depend_on_the_pieces_a_head_comes_in(
    received: bytes, max_size: int, data: st.DataObject | None
) -> None:
    cuts = range(len(received)) if data is None else [data.draw(st.integers(0, len(received)))]
    for cut in cuts:
        early = _verdict(received[:cut], max_size)
        late = _verdict(received, max_size)
        if isinstance(early, int) and early:
            assert late == early
        elif early is HeadTooLarge:
            assert late is HeadTooLarge
        elif early is MalformedHead:
            # A head that was cut short as malformed may turn out to be too large as well; it never becomes good.
            assert late in (MalformedHead, HeadTooLarge)


@given(st.binary(max_size=200) | near_heads, st.integers(1, 200))
def test_any_bytes_are_a_head_or_a_refusal(received: bytes, max_size: int) -> None:
    verdict = _verdict(received, max_size)
    if isinstance(verdict, int):
        assert 0 <= verdict <= min(len(received), max_size)


# --- check_head ----------------------------------------------------------------------------------------------------


@each(
    "head",
    [
        pytest.param(SMALLEST, id="smallest"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", id="HTTP/1.0 without Host"),
        pytest.param(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n", id="HTTP/1.0 with Host"),
        pytest.param(b"M-SEARCH!#$%&'*+-.^_`|~0 / HTTP/1.1\r\n" + HOST + b"\r\n", id="every character of a token"),
        pytest.param(
            b"GET /" + bytes(range(0x21, 0x23)) + b"$%;=?[]{}|\\^`~ HTTP/1.1\r\n" + HOST + b"\r\n", id="odd path"
        ),
        pytest.param(GET + b"HOST:gateway\r\n\r\n", id="Host in capitals, no blank"),
        pytest.param(GET + b"Host:\r\n\r\n", id="an empty Host"),
        pytest.param(GET + HOST + b"X: \t a\tb \r\n\r\n", id="blanks and tabs in a value"),
        pytest.param(GET + HOST + b"X: \x80\xff\r\n\r\n", id="obs-text in a value"),
        pytest.param(GET + HOST + b"X-Host: b\r\nX: host: c\r\n\r\n", id="Host elsewhere"),
        pytest.param(GET + HOST + b"Content-Length: 0\r\n\r\n", id="length 0"),
        pytest.param(GET + HOST + b"Content-Length: " + b"9" * 18 + b"\r\n\r\n", id="a length of 18 digits"),
        pytest.param(GET + HOST + b"CONTENT-LENGTH:\t7 \r\n\r\n", id="a length between blanks"),
        pytest.param(GET + HOST + b"Transfer-Encoding: Chunked\r\n\r\n", id="chunked in capitals"),
        pytest.param(GET + HOST + b"X-Content-Length: x\r\n\r\n", id="a header that ends like a length"),
    ],
)
def test_check_head_accepts(head: bytes) -> None:
    check_head(head)


@each(
    "head",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\r\n\r\n", id="an empty line"),
        pytest.param(b"GET /\r\n\r\n", id="HTTP/0.9"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no Host"),
        pytest.param(SMALLEST[:-2], id="no empty line"),
        pytest.param(SMALLEST + b"x", id="something after the empty line"),
        pytest.param(b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", id="HTTP/1.2"),
        pytest.param(b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", id="HTTP/2.0"),
        pytest.param(b"GET / http/1.1\r\n" + HOST + b"\r\n", id="http in lower case"),
        pytest.param(b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", id="a blank after the version"),
        pytest.param(b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", id="two blanks"),
        pytest.param(b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", id="a tab"),
        pytest.param(b" GET / HTTP/1.1\r\n" + HOST + b"\r\n", id="a blank before the method"),
        pytest.param(b"GE(T / HTTP/1.1\r\n" + HOST + b"\r\n", id="a method that is no token"),
        pytest.param(b"/ HTTP/1.1\r\n" + HOST + b"\r\n", id="no method"),
        pytest.param(b"GET http://vm/ HTTP/1.1\r\n" + HOST + b"\r\n", id="absolute-form"),
        pytest.param(b"CONNECT vm:8428 HTTP/1.1\r\n" + HOST + b"\r\n", id="authority-form"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", id="asterisk-form"),
        pytest.param(b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n", id="a fragment"),
        pytest.param(b"GET /a?b#c HTTP/1.1\r\n" + HOST + b"\r\n", id="a fragment after the query"),
        pytest.param(b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", id="a blank in the target"),
        pytest.param(b"GET /\x80 HTTP/1.1\r\n" + HOST + b"\r\n", id="a raw byte in the target"),
        pytest.param(b"GET /\x7f HTTP/1.1\r\n" + HOST + b"\r\n", id="DEL in the target"),
        pytest.param(b"GET / HTTP/1.1\n" + HOST + b"\r\n", id="a bare line feed after the request line"),
        pytest.param(GET + b"Host: a\n\r\n", id="a bare line feed after a header"),
        pytest.param(GET + HOST + b"X: a\rb\r\n\r\n", id="a bare carriage return"),
        pytest.param(GET + HOST + b"X: a\0b\r\n\r\n", id="NUL"),
        pytest.param(GET + HOST + b"X: a\x0bb\r\n\r\n", id="a vertical tab"),
        pytest.param(GET + HOST + b"X: a\x7fb\r\n\r\n", id="DEL"),
        pytest.param(GET + HOST + b"X : a\r\n\r\n", id="a blank before the colon"),
        pytest.param(GET + HOST + b" X: a\r\n\r\n", id="folding, or a blank before the name"),
        pytest.param(GET + HOST + b"X: a\r\n b\r\n\r\n", id="folding"),
        pytest.param(GET + HOST + b"\tb: c\r\n\r\n", id="folding with a tab"),
        pytest.param(GET + HOST + b": a\r\n\r\n", id="no name"),
        pytest.param(GET + HOST + b"no colon\r\n\r\n", id="no colon"),
        pytest.param(GET + HOST + b"X\xe9: a\r\n\r\n", id="a name that is no token"),
        pytest.param(GET + HOST + HOST + b"\r\n", id="two Hosts"),
        pytest.param(GET + HOST + b"host: other\r\n\r\n", id="two Hosts, in two cases"),
        pytest.param(b"GET / HTTP/1.0\r\n" + HOST + HOST + b"\r\n", id="two Hosts in HTTP/1.0"),
        pytest.param(GET + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", id="length and chunked"),
        pytest.param(GET + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", id="chunked and length"),
        pytest.param(GET + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", id="two lengths, the same"),
        pytest.param(GET + HOST + b"Content-Length: 1\r\ncontent-length: 2\r\n\r\n", id="two lengths"),
        pytest.param(
            GET + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", id="chunked twice"
        ),
        pytest.param(GET + HOST + b"Content-Length:\r\n\r\n", id="an empty length"),
        pytest.param(GET + HOST + b"Content-Length: -1\r\n\r\n", id="a negative length"),
        pytest.param(GET + HOST + b"Content-Length: +1\r\n\r\n", id="a length with a plus"),
        pytest.param(GET + HOST + b"Content-Length: 0x1\r\n\r\n", id="a hexadecimal length"),
        pytest.param(GET + HOST + b"Content-Length: 1_0\r\n\r\n", id="a length with an underscore"),
        pytest.param(GET + HOST + b"Content-Length: 1 0\r\n\r\n", id="a length with a blank"),
        pytest.param(GET + HOST + b"Content-Length: 1, 1\r\n\r\n", id="a list of lengths"),
        pytest.param(GET + HOST + b"Content-Length: " + b"9" * 19 + b"\r\n\r\n", id="a length of 19 digits"),
        pytest.param(GET + HOST + b"Transfer-Encoding:\r\n\r\n", id="an empty coding"),
        pytest.param(GET + HOST + b"Transfer-Encoding: identity\r\n\r\n", id="identity"),
        pytest.param(GET + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", id="two codings"),
        pytest.param(GET + HOST + b"Transfer-Encoding: chunked;q=1\r\n\r\n", id="chunked with a parameter"),
        pytest.param(GET + HOST + b"Transfer-Encoding: xchunked\r\n\r\n", id="xchunked"),
        pytest.param(b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", id="chunked in HTTP/1.0"),
    ],
)
def test_check_head_rejects(head: bytes) -> None:
    with pytest.raises(MalformedHead):
        check_head(head, HeadLimits(line=2 * LONG, fields=LONG))


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"GET /\r\n\r\n", "the request line is not of the form METHOD /path HTTP/1.1"),
        (GET + b"X\r\n\r\n", "a header is not of the form Name: value, or holds a control character"),
        (GET + b"\r\n", "exactly one Host header is needed"),
        (
            GET + HOST + b"Content-Length: 1\r\nTransfer-Encoding: x\r\n\r\n",
            "the request has both Content-Length and Transfer-Encoding",
        ),
        (
            GET + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "the request has more than one Content-Length or Transfer-Encoding header",
        ),
        (GET + HOST + b"Content-Length: x\r\n\r\n", "the Content-Length is not a number of bytes"),
        (
            GET + HOST + b"Transfer-Encoding: x\r\n\r\n",
            "the Transfer-Encoding is not chunked, or the request is HTTP/1.0",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong(head: bytes, reason: str) -> None:
    with pytest.raises(MalformedHead, match=f"^{reason}$"):
        check_head(head)


def test_a_refusal_of_an_incomplete_head_says_what_is_wrong() -> None:
    with pytest.raises(HeadTooLarge, match=r"^the request line and headers are larger than 10 bytes$"):
        find_head(b"x" * 10, 10)
    with pytest.raises(MalformedHead, match=r"^the request head has a bare line feed or a NUL$"):
        find_head(b"\n", 10)


@given(near_heads)
@example(GET + HOST + b"Content-Length: 3\r\nx: y\r\n\r\n")
@example(GET + b"x:\r\n" + HOST + b"\xff: \xff\r\n\r\n")
def test_another_strict_parser_reads_an_accepted_head_the_same_way(head: bytes) -> None:
    try:
        check_head(head)
    except MalformedHead:
        return
    request_line, *lines = head[:-4].split(b"\r\n")
    server = h11.Connection(h11.SERVER)
    server.receive_data(head)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert b"%s %s HTTP/%s" % (request.method, request.target, request.http_version) == request_line
    ours = [(name.lower(), value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]
    # h11 gives chunked in lower case, whatever its case was.
    assert [(name, value) for name, value in request.headers if name != b"transfer-encoding"] == [
        (name, value) for name, value in ours if name != b"transfer-encoding"
    ]


LONG = 256 * 1024


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(GET + b"a" * LONG + b"\r\n\r\n", id="a long name"),
        pytest.param(GET + b"a:" + b" " * LONG + b"\0\r\n\r\n", id="a long value"),
        pytest.param(GET + b"a:\r\n" * (LONG // 4) + b"!\r\n\r\n", id="many headers"),
        pytest.param(GET + HOST + b"Content-Length:" + b" " * LONG + b"x\r\n\r\n", id="blanks before a length"),
        pytest.param(GET + HOST + b"Transfer-Encoding:" + b"\t" * LONG + b"\r\n\r\n", id="blanks before a coding"),
        pytest.param(b"G" * LONG, id="a long method"),
        pytest.param(b"GET /" + b"a" * LONG, id="a long target"),
    ],
)
def test_a_hostile_head_costs_no_more_than_a_long_one(head: bytes) -> None:
    # A quadratic reading takes minutes here, a linear one milliseconds.
    with pytest.raises(MalformedHead):
        check_head(head, HeadLimits(line=2 * LONG, fields=LONG))


def _find_in_pieces(data: bytes, size: int) -> list[int]:
    """What find_head answers as ``data`` grows by ``size`` bytes at a time."""
    ends = [*range(size, len(data), size), len(data)]
    return [find_head(data[:end], 1000, seen) for seen, end in zip([0, *ends], ends, strict=False)]


@each("size", range(1, 40))
def test_a_head_may_come_in_pieces(size: int) -> None:
    """Whatever the pieces, the same head is found, and the same bare line feed."""
    good = GET + HOST + b"X-A: b\r\n\r\n"
    *before, last = _find_in_pieces(good, size)
    assert not any(before)
    assert last == len(good)
    with pytest.raises(MalformedHead):
        _find_in_pieces(GET + HOST + b"X-A: b\nX: c\r\n", size)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], False),
        ([(b"Expect", b"100-continue")], True),
        ([(b"eXPECT", b" 100-Continue ")], True),
        ([(b"Expect", b"something")], False),
        ([(b"Expect", b"something"), (b"Expect", b"100-continue")], False),
        ([(b"X-Expect", b"100-continue")], False),
    ],
)
def test_who_waits_to_be_told_to_go_on(headers: list[tuple[bytes, bytes]], expected: bool) -> None:
    head = RequestHead(method="POST", target="/", headers=tuple(headers), client="192.0.2.7")
    assert head.awaits_continue is expected


# --- the head that Netdata sends -------------------------------------------------------------------------------------

NETDATA = (
    b"POST /api/put HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YTpi\nContent-Type: a/b\r\nContent-Length: 1\r\n\r\n"
)


def test_the_one_bare_line_feed_that_is_accepted() -> None:
    mended = mend(NETDATA + b"x")
    assert len(mended) == len(NETDATA) + 1
    assert mended.endswith(b"\r\nAuthorization:Basic YTpi\r\nContent-Type: a/b\r\nContent-Length: 1\r\n\r\nx")
    assert check_head(mended[:-1]).target == "/api/put"
    assert mend(mended) == mended


@pytest.mark.parametrize(
    "head",
    [
        NETDATA.replace(b"Content-Type", b"Content-Length"),
        NETDATA.replace(b"Content-Type", b"Transfer-Encoding"),
        NETDATA.replace(b"Content-Type: a/b", b"Authorization: Basic YTpj"),
        NETDATA.replace(b"Content-Type: a/b\r\n", b"Content-Type: a/b\n"),
        NETDATA.replace(b"Basic", b"Bearer"),
        NETDATA.replace(b"YTpi", b"YT pi"),
        NETDATA.replace(b"\r\nAuthorization", b"\nAuthorization"),
        NETDATA.replace(b"YTpi\n", b"YTpi\n "),
    ],
)
def test_other_bare_line_feeds_are_not(head: bytes) -> None:
    assert mend(head) == head
    with pytest.raises(MalformedHead):
        check_head(head)
