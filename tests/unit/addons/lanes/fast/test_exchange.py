"""One request between its client and its backend, over transports that the test plays all ends of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

import vmgw_core
from tests.support.addons.fakes import GET, TOKEN, UNREAD, WRITE, Lane, request
from tests.support.core import keys
from tests.unit.addons.lanes.fast.test_client import NO_CONTENT, statuses
from vmgw_addons.support import OneThread
from vmgw_core.answers import Filtered


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane()
    yield lane
    lane.close()


def test_a_stale_connection_is_replaced_by_a_new_one(lane: Lane) -> None:
    """A backend that was started anew has left all its connections stale."""
    first, second = lane.client(), lane.client()
    lane.feed(first, GET)
    lane.feed(second, GET)
    for backend in list(lane.backends):
        lane.feed(backend, NO_CONTENT)
    lane.feed(first, GET)
    [busy] = [backend for backend in lane.backends if backend.protocol.receiver is not None]  # type: ignore[attr-defined]
    lane.call(lambda: busy.lose(ConnectionResetError()))
    lane.turn()
    assert len(lane.backends) == 3
    lane.feed(lane.backends[2], NO_CONTENT)
    assert statuses(first) == [204, 204]


def test_a_new_connection_is_not_tried_twice(lane: Lane) -> None:
    client = lane.client()
    lane.feed(client, GET)
    lane.call(lambda: lane.backends[0].lose(ConnectionResetError()))
    lane.turn()
    assert statuses(client) == [502]
    assert len(lane.backends) == 1


@pytest.mark.parametrize(
    "again",
    [
        request("POST", WRITE, "Content-Length: 4") + b"m 1\n",
        request("POST", "/api/v1/query?query=up"),
        request("GET", "/api/v1/query", "Content-Length: 1", "Content-Type: application/x-www-form-urlencoded") + b"a",
    ],
    ids=["a write", "a POST without a body", "a GET with a body"],
)
def test_what_may_have_had_an_effect_is_never_sent_twice(lane: Lane, again: bytes) -> None:
    client = lane.client()
    lane.feed(client, again)
    lane.feed(lane.backends[0], NO_CONTENT)
    lane.feed(client, again)
    lane.call(lambda: lane.backends[0].lose(ConnectionResetError()))
    lane.turn()
    assert statuses(client) == [204, 502]
    assert len(lane.backends) == 1


def test_an_answer_that_has_begun_is_never_begun_again(lane: Lane) -> None:
    client = lane.client()
    lane.feed(client, GET)
    lane.feed(lane.backends[0], NO_CONTENT)
    lane.feed(client, GET)
    lane.feed(lane.backends[0], b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    lane.call(lambda: lane.backends[0].lose(ConnectionResetError()))
    lane.turn()
    assert statuses(client) == [204, 200]
    assert client.written.endswith(b"12345")
    assert client.aborted


def test_a_client_that_leaves_while_a_connection_is_opened(lane: Lane) -> None:
    lane.network.gate.clear()
    client = lane.client()
    lane.feed(client, GET)
    lane.call(client.lose)
    lane.call(lane.network.gate.set)
    lane.turn()
    assert all(not backend.written for backend in lane.backends)
    assert not lane.fast.clients


def test_a_client_that_leaves_takes_its_backend_connection_along(lane: Lane) -> None:
    client = lane.client()
    lane.feed(client, GET)
    lane.call(client.lose)
    lane.turn()
    assert lane.backends[0].aborted
    assert not lane.pool.open


def test_one_slow_client_does_not_stop_the_next(lane: Lane) -> None:
    """The end of an answer fills the client's buffer; the backend's connection goes to another client."""
    slow, other = lane.client(), lane.client()
    slow.stalled = True
    lane.feed(slow, GET)
    lane.feed(lane.backends[0], b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
    lane.feed(other, GET)
    assert len(lane.backends) == 1
    lane.feed(lane.backends[0], NO_CONTENT)
    assert statuses(other) == [204]


def test_a_backend_that_takes_no_more_holds_the_client(lane: Lane) -> None:
    client = lane.client()
    lane.feed(client, request("POST", UNREAD, "Content-Length: 10000000") + b"x" * 1000)
    backend = lane.backends[0]
    backend.stalled = True
    lane.feed(client, b"x" * 9_000_000)
    assert not client.reading
    assert len(client.incoming) > 8_000_000
    lane.call(backend.drain)
    lane.turn()
    assert client.incoming == b""
    lane.feed(client, b"x" * 999_000)
    assert backend.written.endswith(b"\r\n\r\n" + b"x" * 10_000_000)


@pytest.mark.skipif(vmgw_core.BUILD == "compiled", reason="the compiled lane takes real clients only")
def test_a_crash_while_looking_at_the_clock_does_not_stop_it(lane: Lane) -> None:
    """The lane's timer goes on whatever one connection does, and the other connections have their turn."""
    ended: list[str] = []

    class Broken:
        deadline = 0.0

        def too_late(self) -> None:
            ended.append("too late")
            raise RuntimeError("broken on purpose")

        def abort(self) -> None:
            ended.append("aborted")

    lane.fast.clients |= {Broken(), Broken()}  # type: ignore[arg-type]
    lane.call(lane.fast.running)
    lane.services.now = lambda: lane.time
    lane.call(lane.fast.sweep)
    assert ended == ["too late", "aborted"] * 2
    assert lane.fast.sweeper is not None
    assert not lane.fast.sweeper.cancelled()
    assert lane.fast.sweeper.when() > lane.loop.time()
    lane.fast.sweeper.cancel()


# --- a large answer that is limited to the token --------------------------------------------------------------------

DEV = keys.compact({"alg": "RS256"}, {"exp": 1 << 40, "vm_access": {"extra_labels": {"team": "dev"}}})
RULES = request("GET", "/api/v1/rules").replace(TOKEN.encode(), DEV.encode())
LARGE = b'{"data":{"groups":[]}}'.ljust(100_000)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + LARGE


class Gate(OneThread):
    """Stands for the thread, which the test lets end."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def call(self, function: Callable[[], Filtered]) -> Filtered:  # type: ignore[override]
        await self.open.wait()
        return function()


def test_a_large_answer_holds_up_its_own_client_alone(lane: Lane) -> None:
    gate = lane.services.filters = Gate()
    first, second = lane.client(), lane.client()
    lane.feed(first, RULES)
    lane.feed(lane.backends[0], ANSWER)
    lane.feed(first, GET)  # it waits for its turn
    assert statuses(first) == []
    lane.feed(second, GET)
    lane.feed(lane.backends[0], NO_CONTENT)
    assert statuses(second) == [204]
    lane.call(gate.open.set)
    lane.turn()
    lane.feed(lane.backends[0], NO_CONTENT)
    assert statuses(first) == [200, 204]
    assert b'{"status":"success","data":{"groups":[]}}' in first.written


def test_a_client_that_leaves_while_its_answer_is_made(lane: Lane) -> None:
    gate = lane.services.filters = Gate()
    client = lane.client()
    lane.feed(client, RULES)
    lane.feed(lane.backends[0], ANSWER)
    policy = lane.in_force.configured.policy
    assert policy is not None
    assert policy.held.used == len(LARGE)
    lane.call(client.lose)
    lane.call(gate.open.set)
    lane.turn()
    assert client.written == b""
    assert policy.held.used == 0


def test_a_large_answer_that_cannot_be_limited_is_refused(lane: Lane) -> None:
    client = lane.client()
    gate = lane.services.filters = Gate()
    gate.open.set()
    lane.feed(client, RULES)
    lane.feed(lane.backends[0], ANSWER.replace(b'{"data"', b'["data"'))
    assert statuses(client) == [502]
    lane.feed(client, GET)
    lane.feed(lane.backends[0], NO_CONTENT)
    assert statuses(client) == [502, 204]
