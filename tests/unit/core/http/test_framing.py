"""bodies: where a body ends, in whatever pieces it comes, and nothing that two could read in two ways."""

from __future__ import annotations

from itertools import pairwise

import h11._readers
import pytest
from h11 import Data, EndOfMessage, RemoteProtocolError
from h11._receivebuffer import ReceiveBuffer
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.errors import BadRequest
from vmgw_core.http.framing import BodyReader, ChunkedReader, LengthReader

MAX = 40
"""Bytes of a chunk's head, and of all trailers, in these tests."""


def read(reader: BodyReader, *pieces: bytes) -> tuple[bytes, bytes, bool]:
    """The content, what is behind the end, and whether the end came, of a body that comes in ``pieces``."""
    content = b""
    for index, piece in enumerate(pieces):
        more, rest, done = reader.feed(piece)
        content += more
        assert done or not rest, "bytes given back before the end"
        if done:
            return content, rest + b"".join(pieces[index + 1 :]), True
    return content, b"", False


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """``data`` in pieces. Some may be empty."""
    bounds = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:stop] for start, stop in pairwise(bounds)]


# --- by length -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "pieces", "expected"),
    [
        pytest.param(4, [b"abcd"], (b"abcd", b"", True), id="in one"),
        pytest.param(4, [b"ab", b"cd"], (b"abcd", b"", True), id="in two"),
        pytest.param(4, [b"ab", b"", b"c"], (b"abc", b"", False), id="incomplete"),
        pytest.param(4, [b"abcdGET"], (b"abcd", b"GET", True), id="the next request follows"),
        pytest.param(4, [b"ab", b"cdGET"], (b"abcd", b"GET", True), id="it follows in the second piece"),
        pytest.param(0, [b"GET"], (b"", b"GET", True), id="empty"),
        pytest.param(0, [b""], (b"", b"", True), id="empty, and nothing yet"),
    ],
)
def test_a_body_by_length(length: int, pieces: list[bytes], expected: tuple[bytes, bytes, bool]) -> None:
    assert read(LengthReader(length), *pieces) == expected


# --- chunked ---------------------------------------------------------------------------------------------------------


@each(
    ("data", "content"),
    [
        pytest.param(b"0\r\n\r\n", b"", id="empty"),
        pytest.param(b"4\r\nabcd\r\n0\r\n\r\n", b"abcd", id="one chunk"),
        pytest.param(b"1\r\na\r\n2\r\nbc\r\n1\r\nd\r\n0\r\n\r\n", b"abcd", id="three chunks"),
        pytest.param(b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", id="upper case"),
        pytest.param(b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", id="lower case"),
        pytest.param(b"04\r\nabcd\r\n000\r\n\r\n", b"abcd", id="zeros before"),
        pytest.param(b"0" * 14 + b"4\r\nabcd\r\n" + b"0" * 15 + b"\r\n\r\n", b"abcd", id="15 digits"),
        pytest.param(b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", id="line ends as content"),
        pytest.param(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n", id="a last chunk as content"),
        pytest.param(b'4;a=b;c="\x80 \t"\r\nabcd\r\n0;x\r\n\r\n', b"abcd", id="extensions"),
        pytest.param(b"0\r\nX-Trailer: a\r\nB:\r\n\r\n", b"", id="trailers"),
        pytest.param(b"0\r\nA: \x80\t~\r\n\r\n", b"", id="a trailer of any text"),
        pytest.param(b"1;" + b"x" * (MAX - 3) + b"\r\na\r\n0\r\n\r\n", b"a", id="the longest line"),
        pytest.param(b"0\r\nA:" + b"x" * (MAX - 4) + b"\r\n\r\n", b"", id="the longest trailer"),
        pytest.param(b"0\r\n" + b"A:x\r\n" * (MAX // 5) + b"\r\n", b"", id="the longest trailers"),
    ],
)
def test_chunked_accepts(data: bytes, content: bytes) -> None:
    for pieces in ([data + b"GET /"], [bytes([byte]) for byte in data + b"GET /"]):
        assert read(ChunkedReader(MAX), *pieces) == (content, b"GET /", True)
    assert read(ChunkedReader(MAX), data[:-1])[1:] == (b"", False)


SIZE = "a chunk does not begin with its size"
BREAK = "a chunk does not end in a line break"
LONG = f"the size line of a chunk or the trailers are longer than {MAX} bytes"
TRAILERS = f"the trailers are malformed or longer than {MAX} bytes"


@each(
    ("data", "message"),
    [
        pytest.param(b"0x4\r\n", SIZE, id="0x"),
        pytest.param(b"+4\r\n", SIZE, id="a plus"),
        pytest.param(b"-4\r\n", SIZE, id="a minus"),
        pytest.param(b" 4\r\n", SIZE, id="a blank before"),
        pytest.param(b"4 \r\n", SIZE, id="a blank behind"),
        pytest.param(b"4\t\r\n", SIZE, id="a tab behind"),
        pytest.param(b"4 ;x\r\n", SIZE, id="a blank before an extension"),
        pytest.param(b"4_0\r\n", SIZE, id="an underscore"),
        pytest.param(b"4,4\r\n", SIZE, id="a comma"),
        pytest.param(b"4.0\r\n", SIZE, id="a point"),
        pytest.param(b"\xb2\r\n", SIZE, id="a digit of Latin-1"),
        pytest.param(b"\xef\xbc\x94\r\n", SIZE, id="a digit of Unicode"),
        pytest.param(b"g\r\n", SIZE, id="no digit"),
        pytest.param(b"\r\n", SIZE, id="no size"),
        pytest.param(b"\n", SIZE, id="a line feed alone"),
        pytest.param(b";x\r\n", SIZE, id="an extension alone"),
        pytest.param(b"4\nabcd\r\n0\r\n\r\n", SIZE, id="a bare line feed"),
        pytest.param(b"4\r\r\nabcd", SIZE, id="a bare carriage return"),
        pytest.param(b"4;a\rb\r\nabcd", SIZE, id="a bare carriage return in an extension"),
        pytest.param(b"4;a\nb\r\nabcd", SIZE, id="a bare line feed in an extension"),
        pytest.param(b"4;a\0\r\nabcd", SIZE, id="NUL in an extension"),
        pytest.param(b"4;a\x7f\r\nabcd", SIZE, id="DEL in an extension"),
        pytest.param(b"4\0\r\nabcd", SIZE, id="NUL"),
        pytest.param(b"0" * 16 + b"\r\n\r\n", SIZE, id="16 digits"),
        pytest.param(b"f" * 16 + b"\r\n", SIZE, id="16 digits that overflow"),
        pytest.param(b"4\r\nabcde\r\n", BREAK, id="a chunk longer than its size"),
        pytest.param(b"4\r\nabcd0\r\n\r\n", BREAK, id="no line break behind a chunk"),
        pytest.param(b"4\r\nabcd\n0\r\n\r\n", BREAK, id="a bare line feed behind a chunk"),
        pytest.param(b"4\r\nabcd\r0\r\n\r\n", BREAK, id="a bare carriage return behind a chunk"),
        pytest.param(b"0\r\nGET / HTTP/1.1\r\n", TRAILERS, id="a request for a trailer"),
        pytest.param(b"0\r\n\n", TRAILERS, id="a bare line feed for the end"),
        pytest.param(b"0\r\n\r\r\n", TRAILERS, id="a carriage return too many at the end"),
        pytest.param(b"0\r\nA : b\r\n", TRAILERS, id="a blank before the colon"),
        pytest.param(b"0\r\nA: b\r\n c\r\n", TRAILERS, id="a folded trailer"),
        pytest.param(b"0\r\nA: b\nB: c\r\n", TRAILERS, id="a bare line feed between trailers"),
        pytest.param(b"0\r\nA: b\rc\r\n", TRAILERS, id="a bare carriage return in a trailer"),
        pytest.param(b"0\r\n: b\r\n", TRAILERS, id="a trailer without a name"),
        pytest.param(b"0\r\nA:" + b"x" * (MAX - 3) + b"\r\n", TRAILERS, id="a trailer one byte too long"),
        pytest.param(b"0\r\n" + b"A:x\r\n" * (MAX // 5 + 1), TRAILERS, id="trailers one too many"),
        pytest.param(b"1;" + b"x" * (MAX - 2) + b"\r\n", LONG, id="a line two bytes too long"),
        pytest.param(b"1;" + b"x" * (MAX - 1), LONG, id="a line too long and no end of it"),
        pytest.param(b"0\r\nA:" + b"x" * (MAX - 1), LONG, id="a trailer too long and no end of it"),
    ],
)
def test_chunked_rejects(data: bytes, message: str) -> None:
    for pieces in ([data], [bytes([byte]) for byte in data], [data + b"x" * 1000]):
        with pytest.raises(BadRequest) as caught:
            read(ChunkedReader(MAX), *pieces)
        assert str(caught.value) == message


_PARTS = st.sampled_from(
    [
        b"0",
        b"4",
        b"\r\n",
        b"\n",
        b"\r",
        b";x",
        b"abcd",
        b"0\r\n\r\n",
        b"4\r\nabcd\r\n",
        b"A: b\r\n",
        b"0x4",
        b" ",
        b"\0",
    ]
)
_CHUNKED = st.lists(_PARTS | st.binary(max_size=4), max_size=12).map(b"".join)
_PLACES = st.lists(st.integers(0, 60), max_size=5)


def _outcome(data: bytes, places: list[int]) -> tuple[bytes, bytes, bool] | str:
    try:
        return read(ChunkedReader(MAX), *cut(data, places))
    except BadRequest as refusal:
        return str(refusal)


@given(_CHUNKED, _PLACES)
@example(b"1;" + b"x" * MAX, [10])
@example(b"0\r\n" + b"A: b\r\n" * 10, [7, 8, 9])
def test_pieces_make_no_difference(data: bytes, places: list[int]) -> None:
    assert _outcome(data, places) == _outcome(data, [])


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), _PLACES, st.binary(max_size=5))
def test_what_is_written_in_chunks_is_read_again(chunks: list[bytes], places: list[int], behind: bytes) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert read(ChunkedReader(MAX), *cut(data + behind, places)) == (b"".join(chunks), behind, True)


@given(st.lists(st.sampled_from([b"4\r\nabcd\r\n", b"1;x\r\na\r\n"]) | _PARTS, max_size=6).map(b"".join))
def test_whatever_is_accepted_h11_reads_the_same_or_refuses(data: bytes) -> None:
    data += b"0\r\n\r\n"
    outcome = _outcome(data, [])
    if isinstance(outcome, str) or not outcome[2]:
        return
    buffer, reader, content = ReceiveBuffer(), h11._readers.ChunkedReader(), b""
    buffer += data
    try:
        while not isinstance(event := reader(buffer), EndOfMessage):
            assert isinstance(event, Data)
            content += bytes(event.data)
    except RemoteProtocolError:
        return
    assert outcome == (content, bytes(buffer), True)


@given(st.integers(0, 20), st.binary(max_size=40), _PLACES)
def test_a_length_is_a_length(length: int, data: bytes, places: list[int]) -> None:
    whole = read(LengthReader(length), data)
    assert read(LengthReader(length), *cut(data, places)) == whole
    assert whole == (data[:length], data[length:], len(data) >= length)
