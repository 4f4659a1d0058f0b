"""Bounds of the flow lane's HTTP/1.1: chunked bodies, and interim answers of backends."""

from __future__ import annotations

import h11
import pytest
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.options import Options
from mitmproxy.proxy.context import Context
from mitmproxy.test import tflow

from vmgw_addons.lanes.flow.http1 import BoundedChunks, GatewayHttp1Client


def buffer(data: bytes) -> ReceiveBuffer:
    made = ReceiveBuffer()
    made += data
    return made


def test_chunks_are_read_to_their_end_and_no_further() -> None:
    read, received = BoundedChunks(100), buffer(b"3\r\nabc\r\n")
    event = read(received)
    assert isinstance(event, h11.Data)
    assert bytes(event.data) == b"abc"
    assert read(received) is None
    received += b"0\r\n\r\nGET / HTTP/1.1"
    assert isinstance(read(received), h11.EndOfMessage)
    assert bytes(received) == b"GET / HTTP/1.1"
    assert isinstance(read(received), h11.EndOfMessage)


@pytest.mark.parametrize("data", [b"1;" + b"x" * 200, b"zz\r\n", b"-1\r\n", b"0\r\n" + b"a: b\r\n" * 50])
def test_what_is_no_chunk_or_too_long_is_an_error(data: bytes) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        BoundedChunks(100)(buffer(data))


def test_a_body_that_ends_before_its_last_chunk_is_an_error() -> None:
    with pytest.raises(h11.RemoteProtocolError):
        BoundedChunks(100).read_eof()


@pytest.mark.parametrize(
    ("received", "left"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 A\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (b"HTTP/1.1 100 Cont", b"HTTP/1.1 100 Cont"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
    ids=["interim answers", "a switch of protocols", "half of one", "an answer"],
)  # fmt: skip
def test_interim_answers_are_dropped(received: bytes, left: bytes) -> None:
    context = Context(tflow.tclient_conn(), Options())
    context.server = tflow.tserver_conn()
    client = GatewayHttp1Client(context, lambda head: head)
    client.buf += received
    client.skip_interim()
    assert bytes(client.buf) == left
