"""The flow lane's layer: one client, its requests, and the backends that they reach or do not reach."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from mitmproxy.connection import Connection
from mitmproxy.hooks import Hook
from mitmproxy.http import Headers, HTTPFlow
from mitmproxy.net.http.http1 import read_request_head
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import NextLayer

from tests.support.addons.configured import configured
from tests.support.addons.fakes import TOKEN, WRITE, request
from tests.support.addons.layers import FlowConnection
from vmgw_addons.lanes.flow.http1 import request_of
from vmgw_addons.lanes.flow.layer import GatewayHttpLayer, _joined
from vmgw_addons.state import DEAD_ADDRESS
from vmgw_core.http import URLENCODED, check_head

QUERY = request("GET", "/api/v1/query?query=up")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup"


def connection(**flags: str) -> FlowConnection:
    return FlowConnection(configured(**flags))


@pytest.mark.parametrize("direct", [True, False], ids=["in the launcher", "in mitmproxy's programs"])
def test_an_admitted_request_reaches_the_backend_rewritten_and_its_answer_the_client(direct: bool) -> None:
    lane = FlowConnection(configured(**{"read.url": "http://user:pass@read.test:1/base"}), direct=direct)
    lane.feed(QUERY)
    [(backend, got)] = lane.backends.items()
    assert backend.address == ("read.test", 1)
    assert got.startswith(b"GET /base/api/v1/query?query=up HTTP/1.1\r\n")
    assert b"Authorization: Basic dXNlcjpwYXNz\r\n" in got
    assert TOKEN.encode() not in got
    lane.feed(OK, backend)
    assert lane.written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert lane.written.endswith(b"up")
    lane.feed(QUERY)
    assert len(lane.backends) == 1  # the connection is used again
    assert lane.backends[backend].count(b"GET /base/") == 2


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /api/v1/query?query=up HTTP/1.1\r\nHost: a\r\n\r\n", 401),
        (request("GET", "/no/such/path"), 404),
        (QUERY.replace(b"Host: ", b"Host : "), 400),
        (b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 100_000, 431),
    ],
    ids=["no token", "no route", "an ambiguous head", "an endless head"],
)
@pytest.mark.parametrize("direct", [True, False], ids=["in the launcher", "in mitmproxy's programs"])
def test_what_is_refused_reaches_no_backend(data: bytes, status: int, direct: bool) -> None:
    lane = FlowConnection(configured(), direct=direct)
    lane.feed(data)
    assert lane.written.startswith(b"HTTP/1.1 %d " % status)
    assert lane.backends == {}


def _new_path(flow: HTTPFlow) -> None:
    flow.request.data.path = b"/api/v1/query?query=up HTTP/1.1\r\nX: y"


def _new_method(flow: HTTPFlow) -> None:
    flow.request.data.method = b"GET /"


def _new_header(flow: HTTPFlow) -> None:
    flow.request.headers.fields = (*flow.request.headers.fields, (b"X", b"y\r\nZ: z"))


def _new_headers(flow: HTTPFlow) -> None:
    flow.request.headers = Headers((*flow.request.headers.fields, (b"X y", b"z")))


def _new_request(flow: HTTPFlow) -> None:
    flow.request = flow.request.copy()
    flow.request.headers["Transfer-Encoding"] = "chunked, chunked"


@pytest.mark.parametrize("change", [_new_path, _new_method, _new_header, _new_headers, _new_request])
@pytest.mark.parametrize("direct", [True, False], ids=["in the launcher", "in mitmproxy's programs"])
def test_what_another_addon_makes_of_a_head_is_checked_again(change: Callable[[HTTPFlow], None], direct: bool) -> None:
    lane = FlowConnection(configured(), direct=direct)
    lane.addons.insert(0, SimpleNamespace(requestheaders=change))
    lane.feed(QUERY)
    assert lane.written.startswith(b"HTTP/1.1 400 ")
    assert lane.backends == {}


def test_what_another_addon_makes_of_a_head_is_decided_on_and_sent() -> None:
    def change(flow: HTTPFlow) -> None:
        flow.request.path = "/api/v1/query?query=down"

    lane = connection()
    lane.addons.insert(0, SimpleNamespace(requestheaders=change))
    lane.feed(QUERY)
    [got] = lane.backends.values()
    assert got.startswith(b"GET /api/v1/query?query=down HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("head", "version", "path", "fields"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0", b"/", ()),
        (
            b"GET /a?b=c:d HTTP/1.1\r\nHost:a\r\nX-Two: b : c \t\r\nX-Empty:\r\nX-Two: \xff\r\n\r\n",
            b"HTTP/1.1",
            b"/a?b=c:d",
            ((b"Host", b"a"), (b"X-Two", b"b : c"), (b"X-Empty", b""), (b"X-Two", b"\xff")),
        ),
    ],
)
def test_a_request_is_what_mitmproxy_would_have_made_of_the_head(
    head: bytes, version: bytes, path: bytes, fields: tuple[tuple[bytes, bytes], ...]
) -> None:
    line = check_head(head)
    made = request_of(line, head[line.size :]).get_state()
    assert (made["method"], made["path"], made["http_version"], made["headers"]) == (b"GET", path, version, fields)
    theirs = read_request_head(head[:-4].split(b"\r\n")).get_state()
    assert made | {"timestamp_start": 0} == theirs | {"timestamp_start": 0}


def test_what_is_written_in_a_row_is_one_write_to_either_side() -> None:
    def writes(data: bytes, of: Connection) -> list[bytes]:
        found = list(lane.layer.handle_event(events.DataReceived(of, data)))
        assert all(isinstance(each, commands.SendData | commands.Log) for each in found)
        return [each.data for each in found if isinstance(each, commands.SendData)]

    lane = connection()
    lane.feed(QUERY)
    [backend] = lane.backends
    [answer] = writes(OK, backend)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nup")
    [form] = writes(
        request("POST", "/api/v1/query", f"Content-Type: {URLENCODED}", "Content-Length: 8") + b"query=up", lane.client
    )
    assert form.startswith(b"POST /api/v1/query HTTP/1.1\r\n")
    assert form.endswith(b"\r\n\r\nquery=up")
    # What a backend has sent is passed on at once.
    [head] = writes(OK[:-2], backend)
    assert head.endswith(b"\r\n\r\n")
    assert writes(b"u", backend) == [b"u"]
    assert writes(b"p", backend) == [b"p"]


def test_many_pieces_become_a_few_writes_of_bounded_size_in_their_order() -> None:
    lane = connection()
    pieces = [commands.SendData(lane.client, b"%07d\n" % number) for number in range(5000)]
    writes = [each.data for each in _joined(iter(pieces)) if isinstance(each, commands.SendData)]
    assert b"".join(writes) == b"".join(b"%07d\n" % number for number in range(5000))
    assert (len(writes), max(map(len, writes))) == (3, 16 * 1024)


def test_without_a_decision_nothing_is_sent() -> None:
    lane = FlowConnection(configured(), decide=False)
    lane.feed(QUERY)
    assert lane.written.startswith(b"HTTP/1.1 500 ")
    assert lane.backends == {}


def test_pipelined_requests_are_answered_in_their_order() -> None:
    lane = connection()
    lane.feed(request("GET", "/no/such/path") + QUERY + request("GET", "/no/such/path"))
    assert lane.written.count(b"HTTP/1.1 404 ") == 1
    [backend] = lane.backends
    lane.feed(OK, backend)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", lane.written) == [b"404", b"200", b"404"]


def test_however_many_requests_come_at_once_each_is_answered() -> None:
    lane = connection()
    lane.feed(request("GET", "/no/such/path") * 500)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", lane.written) == [b"404"] * 500
    assert not lane.closed


@pytest.mark.parametrize("awaited", ["", "requestheaders", "request", "responseheaders", "response"])
def test_the_addons_see_each_hook_once_and_in_order(awaited: str) -> None:
    lane, seen = connection(), []

    def call(hook: Hook) -> bool:
        if hook.name == awaited:
            return False  # mitmproxy awaits it, as ``FlowConnection.answer`` does
        seen.append(hook.name)
        return lane.hook(hook)

    lane.layer.call = call
    lane.feed(QUERY)
    [backend] = lane.backends
    lane.feed(OK, backend)
    assert seen == [name for name in ("requestheaders", "request", "responseheaders", "response") if name != awaited]
    assert lane.written.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_hook_that_must_be_awaited_goes_to_mitmproxy_with_the_request_undecided() -> None:
    lane = connection()
    lane.layer.call = lambda hook: False
    [command] = lane.layer.handle_event(events.DataReceived(lane.client, QUERY))
    assert isinstance(command, commands.StartHook)
    assert command.name == "requestheaders"
    lane.layer.call = lane.hook
    lane.hook(command)
    lane.play(events.HookCompleted(command))
    assert [got.startswith(b"GET /api/v1/query?query=up HTTP/1.1\r\n") for got in lane.backends.values()] == [True]


def test_a_backend_that_cannot_be_reached_is_502() -> None:
    lane = connection()
    lane.refusing = True
    lane.feed(QUERY)
    assert lane.written.startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize(("kept", "asked"), [(True, 2), (False, 1)])
def test_only_a_stale_connection_is_worth_a_second_try(kept: bool, asked: int) -> None:
    lane = connection()
    if kept:
        lane.feed(QUERY)
        lane.feed(OK, next(iter(lane.backends)))
        lane.written = b""
    before = len(lane.backends)
    lane.feed(QUERY)
    lane.lose(list(lane.backends)[-1])
    assert len(lane.backends) - before + kept == asked
    assert lane.written.startswith(b"HTTP/1.1 502 ") is not kept
    if kept:
        lane.feed(OK, list(lane.backends)[-1])
        assert lane.written.startswith(b"HTTP/1.1 200 ")


def test_a_refused_upload_is_answered_at_once_and_the_rest_is_dropped() -> None:
    lane = connection()
    lane.feed(b"POST /api/v1/import HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nx")
    assert lane.written.startswith(b"HTTP/1.1 401 ")
    before = lane.closed
    for _ in range(9):
        lane.feed(b"x" * (1 << 20))
    assert (before, lane.closed) == (False, True)
    assert lane.backends == {}


def test_an_upload_that_is_admitted_streams() -> None:
    lane = connection()
    lane.feed(request("POST", WRITE, "Content-Length: 8") + b"m 1\n")
    lane.feed(b"m 2\n")
    [(backend, got)] = lane.backends.items()
    assert backend.address == ("write.test", 1)
    assert got.endswith(b"m 1\nm 2\n")
    lane.feed(b"HTTP/1.1 204 No Content\r\n\r\n", backend)
    assert lane.written.startswith(b"HTTP/1.1 204 ")


def test_the_last_words_of_a_backend_that_was_given_up_are_ignored() -> None:
    lane = connection()
    lane.feed(QUERY)
    backend = next(iter(lane.backends))
    lane.lose(backend)
    written = lane.written
    lane.play(events.DataReceived(backend, OK))
    assert lane.written == written


def test_every_client_meets_the_layer_whatever_the_mode() -> None:
    lane = connection()
    meeting = NextLayer(lane.layer.context)
    lane.layer.context.server.address = None
    lane.lane.next_layer(meeting)
    assert isinstance(meeting.layer, GatewayHttpLayer)
    assert meeting.context.server.address == DEAD_ADDRESS
    before = meeting.layer
    lane.lane.next_layer(meeting)
    assert meeting.layer is before
