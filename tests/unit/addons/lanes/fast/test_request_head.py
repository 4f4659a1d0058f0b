"""The fast lane's reading of a head: llhttp and the core see the same, and what is remembered is of the very bytes."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_addons.lanes.fast.request_head import CACHE_BYTES, FieldsCache, HeadReader
from vmgw_core.enforcement.upstream_headers import _forward
from vmgw_core.errors import BadRequest, HeadTooLarge, Refusal
from vmgw_core.http.head import HeadLimits, RequestHead, check_head
from vmgw_core.tokens import TokenSource

LIMITS = HeadLimits()
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n"


def plain(head: bytes) -> RequestHead:
    """A head that ``check_head`` accepts, split at its colons and line breaks."""
    line, *fields = head[:-4].split(b"\r\n")
    method, target, _ = line.decode().split(" ")
    pairs = (field.partition(b":") for field in fields)
    headers = tuple((name, value.strip(b" \t")) for name, _, value in pairs)
    return RequestHead(method=method, target=target, headers=headers, client="192.0.2.1")


def read(reader: HeadReader, head: bytes) -> RequestHead:
    return reader.read(head, LIMITS, "192.0.2.1")


# --- llhttp and the core ---------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(
    [
        b"X-A",
        b"Connection",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Upgrade",
        b"Expect",
        b"Proxy-Connection",
        b"!#'*",
    ]
) | st.text("abcXYZ-_.~|^`$%&+09", min_size=1, max_size=10).map(str.encode)
_VALUES = st.sampled_from(
    [
        b"", b" ", b"\t x \t", b" close", b" keep-alive", b" upgrade", b" Upgrade, close", b" h2c", b" websocket",
        b" 0", b" 5", b" 007", b" chunked", b"chunked\t", b" 100-continue", b" \x80\xff", b":", b" a: b", b" a,b",
        b" close, keep-alive", b" clos", b" keep-alivee", b" closed",
    ]
) | st.binary(max_size=6)  # fmt: skip
_METHODS = st.sampled_from(
    [
        b"GET",
        b"POST",
        b"HEAD",
        b"PUT",
        b"DELETE",
        b"OPTIONS",
        b"CONNECT",
        b"PRI",
        b"SOURCE",
        b"M-SEARCH",
        b"get",
        b"FOO",
    ]
)
_TARGETS = st.sampled_from(
    [b"/", b"/a?b=c", b"/%00", b"//", b"/a?b#c", b"/\x80", b"*", b"http://a/", b'/{}|^`"<>', b"/?"]
)
_HEADS = st.builds(
    lambda method, target, version, fields: (
        b"%b %b HTTP/%b\r\nHost: a\r\n" % (method, target, version)
        + b"".join(b"%b:%b\r\n" % field for field in fields)
        + b"\r\n"
    ),
    _METHODS,
    _TARGETS,
    st.sampled_from([b"1.1", b"1.1", b"1.0", b"0.9", b"2.0", b"1.2"]),
    st.lists(st.tuples(_NAMES, _VALUES), max_size=5),
)


@given(_HEADS)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\t5 \r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\t\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked \r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\t\r\n\r\n")
@example(b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n")
def test_a_head_that_the_core_accepts_is_read_as_a_plain_split_would(head: bytes) -> None:
    try:
        check_head(head, LIMITS)
    except Refusal as refusal:
        with pytest.raises(type(refusal)):
            read(HeadReader(FieldsCache()), head)
    else:
        assert read(HeadReader(FieldsCache()), head) == plain(head)


# --- what is remembered ----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from([b"GET /a", b"POST /b", b"FOO /c"]), st.integers(0, 4)), max_size=8))
def test_no_head_is_mixed_with_the_one_before(requests: list[tuple[bytes, int]]) -> None:
    tails = [
        b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b" HTTP/1.0\r\nHost: a\r\n\r\n",
        b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b" HTTP/1.1\r\nHost: b\r\n\r\n",
        b" HTTP/1.1\r\nHost: b\r\nX-A: 1\r\n\r\n",
    ]
    cache = FieldsCache()
    reader = HeadReader(cache)
    for line, number in requests:
        head, alone, other = line + tails[number], HeadReader(FieldsCache()), HeadReader(cache)
        assert read(reader, head) == read(other, head) == read(alone, head) == plain(head)
        assert reader.fields.old is other.fields.old is alone.fields.old
        assert reader.fields.keep_alive is other.fields.keep_alive is alone.fields.keep_alive


def test_nothing_is_remembered_of_a_head_that_was_refused() -> None:
    reader = HeadReader(FieldsCache())
    good, bad = GET + b"\r\n", GET + b"Content-Length: +1\r\n\r\n"
    read(reader, good)
    for _ in range(2):
        with pytest.raises(BadRequest):
            read(reader, bad)
        assert read(reader, good) == plain(good)


def test_other_limits_hold_for_headers_that_were_read_before() -> None:
    cache, head = FieldsCache(), GET + b"X: 1\r\n\r\n"
    assert read(HeadReader(cache), head) == plain(head)
    with pytest.raises(HeadTooLarge):
        HeadReader(cache).read(head, HeadLimits(fields=1), "c")
    assert read(HeadReader(cache), head) == plain(head)


def test_the_cache_is_bounded() -> None:
    cache = FieldsCache()
    for number in range(2 * CACHE_BYTES // 20_000):
        read(HeadReader(cache), GET + b"X: %d%b\r\n\r\n" % (number, b"x" * 5000))
        assert 0 < cache.used <= CACHE_BYTES
    assert cache.used > CACHE_BYTES - 30_000
    before = len(cache)
    read(HeadReader(cache), GET + b"X: %b\r\n\r\n" % (b"x" * 50_000))
    assert len(cache) == before


@each("fields", [0, 15], ids=str)
def test_the_memory_of_what_is_remembered_is_what_is_counted(fields: int) -> None:
    cache, source = FieldsCache(), TokenSource()
    others = b"".join(b"X-Other-%d: value of this header\r\n" % number for number in range(fields))
    heads = [GET + others + b"Authorization: Bearer %d.%b\r\n\r\n" % (n, b"x" * 500) for n in range(200)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for received in heads:
            head = read(HeadReader(cache), received)
            head.facts.token = source, source.find(head.headers)
            key = head.client, source.headers, "backend:8428", False, True
            head.facts.forwarded = key, _forward(head.headers, *key)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(cache) == 200
    assert cache.used / 2 < used <= cache.used


def test_what_is_remembered_is_found_at_another_connection() -> None:
    cache, head = FieldsCache(), GET + b"X: 1\r\n\r\n"
    first, second = HeadReader(cache), HeadReader(cache)
    read(first, head)
    read(second, head)
    assert second.fields is first.fields


def test_the_request_line_is_checked_every_time() -> None:
    reader = HeadReader(FieldsCache())
    read(reader, GET + b"\r\n")
    for line in (
        b"GET  /x HTTP/1.1",
        b"GET http://a/ HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /x\x0b HTTP/1.1",
        b" HTTP/1.1",
    ):
        with pytest.raises(BadRequest):
            read(reader, line + b"\r\nHost: a\r\n\r\n")


# --- whether the connection stays ------------------------------------------------------------------------------------


@each(
    ("head", "old", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", False, True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", False, True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", False, False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nCONNECTION: CLOSE\r\n\r\n", False, False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n", False, False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n", False, False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", False, True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: close\r\n\r\n", False, True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", False, True),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", False, True),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", False, True),
        (b"GET / HTTP/1.0\r\n\r\n", True, False),
        (b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n", True, False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True, True),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True, True),
        (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", False, True),
    ],
)
def test_who_wants_the_connection_to_stay(head: bytes, old: bool, keep_alive: bool) -> None:
    reader = HeadReader(FieldsCache())
    for _ in range(2):
        read(reader, head)
        assert (reader.fields.old, reader.fields.keep_alive) == (old, keep_alive)
