"""How long the flow lane keeps a client: which answer says that it is the last, and what the clocks do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from mitmproxy.connection import ConnectionState
from mitmproxy.http import HTTPFlow
from mitmproxy.test import tflow, tutils

from tests.support.addons.configured import GatewayState, asked, configured
from vmgw_addons.lanes.flow.keepalive import FlowKeepAlive, is_last
from vmgw_addons.lanes.flow.upstreams import GatedReader


@pytest.mark.parametrize(
    ("version", "connection", "last"),
    [
        ("HTTP/1.1", None, False),
        ("HTTP/1.1", "close", True),
        ("HTTP/1.1", "x, Close", True),
        ("HTTP/1.0", None, True),
        ("HTTP/1.0", "keep-alive", False),
    ],
)
def test_a_client_says_whether_it_wants_another(version: str, connection: str | None, last: bool) -> None:
    request = tutils.treq(http_version=version)
    if connection is not None:
        request.headers["Connection"] = connection
    assert is_last(request) is last


def with_patience(state: GatewayState, work: Callable[[FlowKeepAlive, HTTPFlow], None]) -> HTTPFlow:
    """``work`` in a loop, with a flow that has its answer."""
    flow = asked()
    flow.client_conn = tflow.tclient_conn()
    flow.client_conn.state, flow.client_conn.alpn = ConnectionState.OPEN, None
    flow.response = tutils.tresp()

    async def main() -> None:
        patience = FlowKeepAlive(state.in_force, state.process)
        patience.client_connected(flow.client_conn)
        work(patience, flow)
        patience.client_disconnected(flow.client_conn)
        assert not patience.clients

    asyncio.run(main())
    return flow


def answered(patience: FlowKeepAlive, flow: HTTPFlow) -> None:
    patience.requestheaders(flow)
    [client] = patience.clients.values()
    assert (client.requests, client.timer) == (1, None)
    patience.responseheaders(flow)
    patience.response(flow)
    assert client.requests == 0
    assert client.timer is not None


def test_a_connection_is_kept_unless_there_is_a_reason() -> None:
    def draining(state: GatewayState) -> None:
        state.process.draining = True

    cases: list[tuple[dict[str, str], Callable[[GatewayState], None], bool]] = [
        ({}, lambda state: None, False),
        ({"http.disableKeepAlive": "true"}, lambda state: None, True),
        ({}, draining, True),
    ]
    for flags, change, closes in cases:
        state = configured(**flags)
        change(state)
        flow = with_patience(state, answered)
        assert flow.response is not None
        assert (flow.response.headers.get("Connection") == "close") is closes, flags


def test_a_client_that_wants_no_more_gets_none_although_its_header_is_gone() -> None:
    def work(patience: FlowKeepAlive, flow: HTTPFlow) -> None:
        flow.request.headers["Connection"] = "close"
        patience.requestheaders(flow)
        del flow.request.headers["Connection"]
        patience.response(flow)

    flow = with_patience(configured(), work)
    assert flow.response is not None
    assert flow.response.headers["Connection"] == "close"


def test_http2_has_no_such_header() -> None:
    def work(patience: FlowKeepAlive, flow: HTTPFlow) -> None:
        flow.client_conn.alpn = b"h2"
        patience.process.draining = True
        answered(patience, flow)

    flow = with_patience(configured(), work)
    assert flow.response is not None
    assert "Connection" not in flow.response.headers


def test_a_gated_stream_is_read_once_the_gate_is_open() -> None:
    async def main() -> None:
        stream = asyncio.StreamReader()
        reader = GatedReader(stream)
        stream.feed_data(b"ab")
        assert await reader.read(1) == b"a"
        reader.open.clear()
        reading = asyncio.ensure_future(reader.read(1))
        await asyncio.sleep(0)
        assert not reading.done()
        reader.open.set()
        assert await reading == b"b"

    asyncio.run(main())
