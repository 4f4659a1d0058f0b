"""The fast lane's side of the backend: any bytes in any pieces are one answer, or one loss."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import vmgw_core
from tests.support.addons.fakes import FakeTransport, Lane
from vmgw_addons.lanes.fast import pool
from vmgw_addons.lanes.fast.connection import MAX_RESPONSE_HEAD, BackendConnection
from vmgw_addons.lanes.fast.response_head import MAX_CACHED, ResponseHead, ResponseHeadCache
from vmgw_core.errors import Cause

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH_4 = OK + b"Content-Length: 4\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = OK + b"\r\n"
REQUEST = b"GET / HTTP/1.1\r\n\r\n"


class Receiver:
    """Notes what it is told, and fails on what must not be."""

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.content = b""
        self.done = False
        self.lost: str | None = None

    def received(self, head: ResponseHead | None, content: bytes, done: bool) -> None:
        assert not self.done, "more behind the end"
        assert self.lost is None, "an answer behind its loss"
        assert (head is None) is (self.head is not None), "exactly one head, and at first"
        self.head = self.head or head
        self.content += content
        self.done = done

    def backend_lost(self, reason: str, cause: Cause = Cause.CLOSED) -> None:
        assert not self.done, "the loss of a complete answer"
        assert self.lost is None, "lost twice"
        self.lost = reason

    def backend_writable(self, writable: bool) -> None:
        """Of no interest here."""

    @property
    def outcome(self) -> tuple[int | None, bytes, bool, bool]:
        """Status, content, whether it is complete, whether it was lost."""
        return self.head.status if self.head else None, self.content, self.done, self.lost is not None


class Connection:
    """A connection to a backend that has been sent a request."""

    def __init__(self, lane: Lane, *, is_head: bool = False) -> None:
        self.lane = lane
        self.protocol = BackendConnection(lane.pool, (("read.test", 1), None))
        self.transport = FakeTransport(lane.loop, self.protocol)
        lane.pool.open.add(self.protocol)
        self.receiver = self.ask(is_head=is_head)

    def ask(self, *, is_head: bool = False) -> Receiver:
        """Send a request, the next one if the connection was kept."""
        self.receiver = Receiver()
        self.protocol.send(self.receiver, REQUEST, is_head=is_head)
        return self.receiver

    def feed(self, *pieces: bytes, end: bool = False) -> tuple[int | None, bytes, bool, bool]:
        """What the receiver has got once ``pieces`` have come, and the end of the connection where ``end``."""

        def step() -> None:
            for piece in pieces:
                self.transport.feed(piece)
            if end:
                self.transport.feed_eof()

        self.lane.call(step)
        self.lane.turn()
        return self.receiver.outcome

    @property
    def kept(self) -> bool:
        """Whether the pool has it for the next request."""
        idle = any(self.protocol in waiting for waiting in self.lane.pool.idle.values())
        assert not (idle and self.transport.closing)
        return idle


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    lane = Lane()
    yield lane
    lane.close()


# --- where an answer ends, and what becomes of its connection --------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status", "content"),
    [
        pytest.param(LENGTH_4 + b"abcd", 200, b"abcd", id="length"),
        pytest.param(OK + b"Content-Length: 0\r\n\r\n", 200, b"", id="length 0"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", 200, b"abcd", id="chunked"),
        pytest.param(CHUNKED + b"4\r\nabcd\r\n0\r\nX-T: 1\r\n\r\n", 200, b"abcd", id="chunked, with a trailer"),
        pytest.param(CHUNKED + b"4;x=y\r\nabcd\r\n0\r\n\r\n", 200, b"abcd", id="chunked, with an extension"),
        pytest.param(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 200, b"a", id="two codings"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", id="204"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, b"", id="304"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, b"", id="304 with a length"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, b"", id="304, chunked"),
        pytest.param(b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", 204, b"", id="204 with a length"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n" + LENGTH_4 + b"abcd", 200, b"abcd", id="103"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + LENGTH_4 + b"abcd", 200, b"abcd", id="100, thrice"),
        pytest.param(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", 200, b"a", id="1.0"),
    ],
)
def test_an_answer_that_ends_keeps_the_connection(lane: Lane, answer: bytes, status: int, content: bytes) -> None:
    for pieces in ([answer], [bytes([byte]) for byte in answer]):
        connection = Connection(lane)
        assert connection.feed(*pieces) == (status, content, True, False)
        assert connection.kept
        lane.pool.take(lane.in_force.configured.policy.read.first)  # type: ignore[union-attr]
        connection.ask()
        assert connection.feed(LENGTH_4, b"next") == (200, b"next", True, False)
        lane.call(connection.transport.abort)


@pytest.mark.parametrize(
    ("pieces", "content"),
    [
        pytest.param([LENGTH_4 + b"abcdX"], b"abcd", id="a byte behind the body"),
        pytest.param([LENGTH_4, b"abcdX"], b"abcd", id="a byte behind the body, by length"),
        pytest.param([LENGTH_4 + b"abcd" + LENGTH_4 + b"abcd"], b"abcd", id="two answers"),
        pytest.param([LENGTH_4, b"abcd" + LENGTH_4 + b"abcd"], b"abcd", id="two answers, by length"),
        pytest.param([CHUNKED + b"1\r\na\r\n0\r\n\r\n" + LENGTH_4], b"a", id="an answer behind the last chunk"),
        pytest.param([CHUNKED + b"1\r\na\r\n0\r\n\r\nrubbish"], b"a", id="rubbish behind the last chunk"),
        pytest.param([OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na"], b"a", id="Connection: close"),
        pytest.param([b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na"], b"a", id="HTTP/1.0"),
    ],
)
def test_an_answer_that_ends_the_connection(lane: Lane, pieces: list[bytes], content: bytes) -> None:
    connection = Connection(lane)
    assert connection.feed(*pieces) == (200, content, True, False)
    assert not connection.kept
    assert connection.transport.closing


@pytest.mark.parametrize("head", [LENGTH_4, CHUNKED, UNTIL_CLOSE, OK + b"Content-Length: 0\r\n\r\n"])
def test_the_answer_to_head_has_no_content(lane: Lane, head: bytes) -> None:
    connection = Connection(lane, is_head=True)
    assert connection.feed(head) == (200, b"", True, False)
    lane.call(connection.transport.abort)
    lane.turn()
    connection = Connection(lane, is_head=True)
    assert connection.feed(head + b"body") == (200, b"", True, False)
    assert not connection.kept


def test_until_close(lane: Lane) -> None:
    connection = Connection(lane)
    assert connection.feed(UNTIL_CLOSE, b"ab", b"cd") == (200, b"abcd", False, False)
    assert connection.feed(end=True) == (200, b"abcd", True, False)
    assert not connection.kept


def test_until_close_and_broken_off(lane: Lane) -> None:
    connection = Connection(lane)
    connection.feed(UNTIL_CLOSE, b"ab")
    lane.call(lambda: connection.transport.lose(ConnectionResetError()))
    assert connection.receiver.outcome == (200, b"ab", False, True)


@pytest.mark.parametrize(
    "received",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(OK, id="half a head"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="an interim answer alone"),
        pytest.param(LENGTH_4 + b"abc", id="half a body"),
        pytest.param(CHUNKED + b"4\r\nabcd\r\n", id="no last chunk"),
        pytest.param(CHUNKED + b"4\r\nabcd\r\n0\r\n", id="no end behind the last chunk"),
    ],
)
def test_an_answer_that_ends_too_early_is_lost(lane: Lane, received: bytes) -> None:
    connection = Connection(lane)
    assert connection.feed(received, end=True)[2:] == (False, True)
    assert connection.transport.lost


@pytest.mark.parametrize(
    "received",
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n", id="no HTTP"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", id="101"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", id="101, without Upgrade"),
        pytest.param(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na", id="two lengths"),
        pytest.param(OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", id="the same length twice"),
        pytest.param(OK + b"Content-Length: 1, 1\r\n\r\na", id="a list of lengths"),
        pytest.param(OK + b"Content-Length: -1\r\n\r\na", id="a negative length"),
        pytest.param(OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="both"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", id="both, turned"),
        pytest.param(OK + b"Transfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", id="gzip and a length"),
        pytest.param(OK + b"Content-Length : 1\r\n\r\na", id="a blank before the colon"),
        pytest.param(OK + b"Content-Length: 1\r\n 0\r\n\r\n1234567890", id="a folded length"),
        pytest.param(OK + b"X: a\rb\r\n\r\n", id="a bare CR"),
        pytest.param(OK + b"X: a\0b\r\n\r\n", id="NUL"),
        pytest.param(CHUNKED + b"0x1\r\na\r\n0\r\n\r\n", id="a prefixed size"),
        pytest.param(CHUNKED + b"1\r\nab\r\n0\r\n\r\n", id="a chunk that is too long"),
        pytest.param(CHUNKED + b"f" * 17 + b"\r\n", id="a size without bound"),
        pytest.param(OK + b"X-Long: " + b"x" * MAX_RESPONSE_HEAD, id="an endless head"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000, id="endless interim answers"),
        pytest.param(CHUNKED + b"0\r\nX-Long: " + b"x" * 2 * MAX_RESPONSE_HEAD, id="an endless trailer"),
        pytest.param(CHUNKED + b"0\r\n" + b"X-Many: yes\r\n" * 100_000, id="endless trailers"),
        pytest.param(CHUNKED + b"1;" + b"x" * 2 * MAX_RESPONSE_HEAD, id="an endless chunk extension"),
    ],
)
def test_what_is_no_answer_is_lost(lane: Lane, received: bytes) -> None:
    connection = Connection(lane)
    pieces = [received[start : start + 65536] for start in range(0, len(received), 65536)]
    assert connection.feed(*pieces)[2:] == (False, True)
    assert connection.transport.aborted
    assert not connection.kept


def test_an_answer_to_nothing_ends_the_connection(lane: Lane) -> None:
    connection = Connection(lane)
    connection.feed(LENGTH_4 + b"abcd")
    assert connection.kept
    connection.feed(LENGTH_4 + b"evil")
    assert connection.transport.aborted
    assert not connection.kept


def test_a_connection_is_kept_open_for_reading(lane: Lane) -> None:
    """The client of the last answer took its time: that is none of the next one's business."""
    connection = Connection(lane)
    connection.feed(LENGTH_4)
    lane.call(lambda: connection.protocol.pause(True))
    lane.call(lambda: connection.protocol.data_received(b"abcd"))
    assert connection.kept
    assert connection.transport.reading


@pytest.mark.skipif(vmgw_core.BUILD == "compiled", reason="the compiled lane has the number built in")
def test_idle_connections_are_bounded(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_IDLE", 2)
    lane.pool.idle.clear()
    connections = [Connection(lane) for _ in range(3)]
    for connection in connections:
        connection.feed(LENGTH_4 + b"abcd")
    assert [connection.kept for connection in connections] == [True, True, False]
    assert connections[2].transport.closing


# --- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([b"Connection: X-Hop, close", b"X-Hop: 1", b"X-End: 2"], [(b"X-End", b"2")]),
        ([b"Connection: Content-Type", b"Content-Type: a/b"], [(b"Content-Type", b"a/b")]),
        ([b"Keep-Alive: timeout=5", b"Trailer: X", b"Upgrade: h2c", b"X: 1"], [(b"X", b"1")]),
    ],
)
def test_headers_of_the_connection_end_here(
    lane: Lane, headers: list[bytes], expected: list[tuple[bytes, bytes]]
) -> None:
    connection = Connection(lane)
    connection.feed(OK + b"\r\n".join([*headers, b"Content-Length: 0", b"", b""]))
    assert connection.receiver.head is not None
    assert [header for header in connection.receiver.head.headers if header[0] != b"Content-Length"] == expected


def test_an_answer_without_content_has_no_length(lane: Lane) -> None:
    """RFC 9110, section 8.6: none in a 204. In a 304 it is that of the answer to come."""
    for status, expected in ((204, ()), (304, ((b"Content-Length", b"7"),))):
        connection = Connection(lane)
        connection.feed(b"HTTP/1.1 %d X\r\nContent-Length: 7\r\n\r\n" % status)
        assert connection.receiver.head is not None
        assert connection.receiver.head.headers == expected


# --- any bytes -------------------------------------------------------------------------------------------------------

_PARTS = st.sampled_from(
    [
        OK, b"HTTP/1.1 ", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 304 N\r\n", b"HTTP/1.1 204 N\r\n", b"HTTP/1.1 100 C\r\n",
        b"HTTP/1.1 101 S\r\n", b"HTTP/1.1 103 E\r\n", b"Content-Length: 4\r\n", b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n",
        b"Connection: keep-alive\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"\r\n", b"\n", b"\r", b"\0", b" ",
        b"4\r\nabcd\r\n", b"0\r\n\r\n", b"0\r\n", b"abcd", b"4;x\r\n", b"X: y\r\n", LENGTH_4, CHUNKED, UNTIL_CLOSE,
    ]
)  # fmt: skip
_ANSWERS = st.lists(_PARTS | st.binary(max_size=8), max_size=12).map(b"".join)


@given(_ANSWERS, st.lists(st.integers(0, 200), max_size=6), st.booleans(), st.booleans())
@example(b"HTTP/1.1 304 N\r\nContent-Length: 4\r\n\r\n" + LENGTH_4 + b"abcd", [39], False, True)
def test_any_bytes_in_any_pieces_are_one_answer_or_one_loss(
    lane: Lane, received: bytes, cuts: list[int], is_head: bool, end: bool
) -> None:
    whole = Connection(lane, is_head=is_head)
    expected = whole.feed(received, end=end)
    places = [0, *sorted(min(cut, len(received)) for cut in cuts), len(received)]
    pieces = [received[start:stop] for start, stop in pairwise(places) if start < stop]
    cut = Connection(lane, is_head=is_head)
    outcome = cut.feed(*pieces, end=end)
    # What was passed on before a defect showed depends on the pieces; whether there is one does not.
    assert outcome[2:] == expected[2:]
    if expected[2]:
        assert outcome == expected
    for connection in (whole, cut):
        if end:
            assert connection.receiver.done or connection.receiver.lost is not None
        lane.call(connection.transport.abort)
    lane.turn()


# --- heads that were read before -----------------------------------------------------------------------------------


@given(_ANSWERS, _ANSWERS, st.booleans(), st.booleans())
@example(LENGTH_4 + b"abcd", LENGTH_4 + b"efghX", False, False)
@example(LENGTH_4 + b"abcd", LENGTH_4, True, False)
@example(OK + b"Content-Length: 0\r\n\r\n", OK + b"Content-Length: 0\r\n\r\nX", False, False)
@example(
    b"HTTP/1.1 200 OK\nContent-Length: 8\n\nab\r\n\r\ncd",
    b"HTTP/1.1 200 OK\nContent-Length: 8\n\nab\r\n\r\ne",
    False,
    True,
)
def test_what_was_answered_before_changes_no_answer(
    lane: Lane, before: bytes, received: bytes, is_head: bool, before_head: bool
) -> None:
    def answer() -> tuple[object, object, bool]:
        connection = Connection(lane, is_head=is_head)
        outcome = connection.feed(received)
        head, kept = connection.receiver.head, connection.kept
        lane.call(connection.transport.abort)
        lane.turn()
        return outcome, head and (head.headers, head.framing, head.length), kept

    lane.pool.heads = ResponseHeadCache()
    expected = answer()
    lane.pool.heads = ResponseHeadCache()
    for content in (before, received):
        other = Connection(lane, is_head=before_head)
        other.feed(content)
        lane.call(other.transport.abort)
        lane.turn()
    assert answer() == expected


def test_a_head_is_parsed_once(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    lane.pool.heads = ResponseHeadCache()
    assert Connection(lane).feed(LENGTH_4 + b"abcd") == (200, b"abcd", True, False)
    monkeypatch.setattr(BackendConnection, "_parse", None)
    assert Connection(lane).feed(LENGTH_4 + b"ef", b"gh") == (200, b"efgh", True, False)


def test_few_heads_are_kept_and_no_large_one(lane: Lane) -> None:
    lane.pool.heads = ResponseHeadCache()
    for number in range(3 * MAX_CACHED):
        Connection(lane).feed(OK + b"X: %d\r\nContent-Length: 0\r\n\r\n" % number)
        assert 0 < len(lane.pool.heads) <= MAX_CACHED
    lane.pool.heads = ResponseHeadCache()
    Connection(lane).feed(OK + b"X: %b\r\nContent-Length: 0\r\n\r\n" % (b"x" * 4096))
    assert len(lane.pool.heads) == 0


def test_a_known_head_in_the_middle_of_another_is_none(lane: Lane) -> None:
    Connection(lane).feed(LENGTH_4 + b"abcd")
    connection = Connection(lane)
    assert connection.feed(OK + b"X: ", LENGTH_4 + b"abcd") == (200, b"abcd", True, False)
    assert connection.receiver.head is not None
    assert connection.receiver.head.headers[0] == (b"X", b"HTTP/1.1 200 OK")
