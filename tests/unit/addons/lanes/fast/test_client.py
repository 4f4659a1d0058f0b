"""The fast lane's side of the client, over transports that the test plays both ends of."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.addons.fakes import GET, UNREAD, WRITE, FakeTransport, Lane, request

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


def statuses(transport: FakeTransport) -> list[int]:
    """Of the answers the client has got. No answer here has a body that looks like a status line."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", bytes(transport.written))]


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane()
    yield lane
    lane.close()


# --- who does not take answers, does not get to ask -----------------------------------------------------------------


def test_requests_of_a_client_that_takes_no_answers_wait_in_the_kernel(lane: Lane) -> None:
    client = lane.client()
    client.stalled = True
    many = 30_000
    lane.feed(client, HEALTH * many)
    assert not client.reading
    held = len(HEALTH) * many - len(client.incoming)
    assert held < 1 << 20
    answered = len(statuses(client))
    lane.call(client.drain)
    lane.turn()
    assert len(statuses(client)) > answered


def test_all_requests_are_answered_once_the_client_takes_answers(lane: Lane) -> None:
    client = lane.client()
    client.stalled = True
    lane.feed(client, HEALTH * 10_000)
    lane.call(client.drain)
    lane.turn()
    assert client.reading
    assert statuses(client) == [200] * 10_000


# --- empty lines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 100_000], ids=["one", "two", "many"])
def test_empty_lines_before_a_request_are_skipped(lane: Lane, count: int) -> None:
    client = lane.client()
    lane.feed(client, b"\r\n" * count + HEALTH)
    assert statuses(client) == [200]


# --- clocks ----------------------------------------------------------------------------------------------------------


def test_a_request_that_waits_for_a_connection_is_not_on_the_clock_of_its_head(lane: Lane) -> None:
    lane.network.gate.clear()
    client = lane.client()
    lane.feed(client, GET[:20])
    lane.feed(client, GET[20:])
    lane.pass_time(11)  # more than -http.headTimeout
    assert client.written == b""
    lane.call(lane.network.gate.set)
    lane.turn()
    lane.feed(lane.backends[0], NO_CONTENT)
    assert statuses(client) == [204]


def test_a_request_that_waits_for_a_connection_is_not_on_the_clock_of_idleness(lane: Lane) -> None:
    lane.network.gate.clear()
    client = lane.client()
    lane.pass_time(59)
    lane.feed(client, GET)
    lane.pass_time(2)
    assert not client.closing
    lane.call(lane.network.gate.set)
    lane.turn()
    lane.feed(lane.backends[0], NO_CONTENT)
    assert statuses(client) == [204]


def test_a_profile_that_takes_long_is_not_too_late(lane: Lane) -> None:
    client = lane.client()
    lane.feed(client, b"GET /debug/pprof/profile?seconds=120 HTTP/1.1\r\nHost: x\r\n")
    lane.feed(client, b"\r\n")
    for _ in range(10):
        lane.pass_time(61)
    assert client.written == b""
    assert not client.closing


def test_an_answer_that_has_begun_is_not_on_the_clock_of_the_backend(lane: Lane) -> None:
    client = lane.client()
    lane.feed(client, request("POST", UNREAD, "Content-Length: 4"))
    backend = lane.backends[0]
    lane.feed(backend, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    lane.feed(client, b"m 1\n")
    lane.pass_time(301)  # more than -backend.responseTimeout
    lane.feed(backend, b"67890")
    assert client.written.endswith(b"1234567890")


def test_a_slow_reader_is_not_idle(lane: Lane) -> None:
    """Its answer is complete for the gateway, and not yet for the client."""
    client = lane.client()
    client.stalled = True
    lane.feed(client, GET)
    lane.feed(lane.backends[0], b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)
    for left in range(200_000, 0, -20_000):
        client.buffered = left
        lane.pass_time(61)
        assert not client.closing
    client.buffered = 5
    lane.pass_time(61)
    lane.pass_time(61)
    assert client.aborted


def test_a_slow_reader_has_its_time_for_each_response(lane: Lane) -> None:
    client = lane.client()
    for seen in range(2):
        client.stalled = True
        lane.feed(client, GET)
        lane.feed(lane.backends[0], b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000)
        lane.pass_time(61)
        assert (seen, client.closing) == (seen, False)
        lane.call(client.drain)
        lane.turn()


def test_a_client_that_takes_nothing_is_cut_off(lane: Lane) -> None:
    client = lane.client()
    client.stalled = True
    lane.feed(client, GET)
    backend = lane.backends[0]
    lane.feed(backend, b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 200_000)
    assert not backend.reading
    lane.pass_time(61)
    lane.pass_time(61)
    assert client.aborted
    assert backend.aborted


def test_a_backend_that_falls_silent_is_cut_off(lane: Lane) -> None:
    client = lane.client()
    lane.feed(client, GET)
    backend = lane.backends[0]
    lane.feed(backend, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    for content in b"12345":
        lane.pass_time(290)  # less than -backend.responseTimeout
        lane.feed(backend, bytes([content]))
        assert not client.closing
    for _ in range(7):
        lane.pass_time(61)
    assert client.aborted
    assert backend.aborted


def test_a_backend_that_answers_early_and_falls_silent_is_cut_off(lane: Lane) -> None:
    client = lane.client()
    lane.feed(client, request("POST", UNREAD, "Content-Length: 4"))
    lane.feed(lane.backends[0], b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    lane.feed(client, b"m 1\n" + HEALTH * 10_000)
    for _ in range(7):
        lane.pass_time(61)
    assert client.aborted


def test_a_backend_that_takes_nothing_is_504(lane: Lane) -> None:
    client = lane.client()
    lane.feed(client, request("POST", UNREAD, "Content-Length: 10000000") + b"x" * 1000)
    lane.backends[0].stalled = True
    lane.feed(client, b"x" * 1_000_000)
    for _ in range(4):
        lane.pass_time(61)
        assert client.written == b""
    for _ in range(2):
        lane.pass_time(61)
    assert statuses(client) == [504]
    assert lane.backends[0].aborted


# --- half-closed -----------------------------------------------------------------------------------------------------


def test_a_half_closed_client_gets_all_its_answers(lane: Lane) -> None:
    client = lane.client()
    lane.feed(client, GET + GET + HEALTH)
    lane.feed_eof(client)
    for _ in range(2):
        assert not client.closing
        [busy] = [backend for backend in lane.backends if backend.protocol.receiver is not None]  # type: ignore[attr-defined]
        lane.feed(busy, NO_CONTENT)
    assert statuses(client) == [204, 204, 200]
    assert client.closing


def test_a_half_closed_client_that_takes_its_answers_late_gets_them_all(lane: Lane) -> None:
    client = lane.client()
    client.stalled = True
    lane.feed(client, HEALTH * 1000)
    lane.feed_eof(client)
    lane.call(client.drain)
    lane.turn()
    assert statuses(client) == [200] * 1000
    assert client.closing


def test_a_half_closed_client_with_half_a_request_is_closed(lane: Lane) -> None:
    client = lane.client()
    lane.feed(client, GET + GET[:30])
    lane.feed_eof(client)
    lane.feed(lane.backends[0], NO_CONTENT)
    assert statuses(client) == [204]
    assert client.closing


def test_half_a_request_and_its_end_is_closed(lane: Lane) -> None:
    client = lane.client()
    lane.feed(client, request("POST", UNREAD, "Content-Length: 10") + b"12345")
    backend = lane.backends[0]
    lane.feed_eof(client)
    assert client.closing
    assert backend.aborted


# --- 100 Continue ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "expectation", "expected"),
    [
        pytest.param("1.1", "100-continue", True, id="as curl does"),
        pytest.param("1.1", "100-Continue", True, id="in another case"),
        pytest.param("1.0", "100-continue", False, id="HTTP/1.0 knows no interim answers"),
        pytest.param("1.1", "something-else", False, id="another expectation"),
    ],
)
def test_who_is_told_to_continue(lane: Lane, version: str, expectation: str, expected: bool) -> None:
    client = lane.client()
    lane.feed(client, request("POST", WRITE, "Content-Length: 4", f"Expect: {expectation}", version=version))
    assert client.written.startswith(b"HTTP/1.1 100 Continue\r\n\r\n") is expected
    lane.feed(client, b"m 1\n")
    assert lane.backends[0].written.endswith(b"m 1\n")


# --- own pages -------------------------------------------------------------------------------------------------------


def test_a_body_behind_a_request_for_a_page_that_takes_time(lane: Lane, caplog: pytest.LogCaptureFixture) -> None:
    client = lane.client()
    lane.feed(client, b"GET /debug/pprof/profile?seconds=9 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12345")
    client.resume_reading()
    lane.feed(client, b"6789")
    assert client.written == b""
    assert "crashed" not in caplog.text


def test_only_so_much_is_taken_of_requests_that_come_early() -> None:
    lane = Lane(**{"http.maxPipelined": "1KiB"})
    try:
        client = lane.client()
        reading = []
        for early in (GET, GET, GET * 20):
            lane.feed(client, early)
            reading.append(client.reading)
        for number in range(22):  # the next request is on its way before the last one's connection is free
            lane.feed(lane.backends[number % 2], NO_CONTENT)
        assert [*reading, client.reading] == [True, True, False, True]
        assert statuses(client) == [204] * 22
    finally:
        lane.close()
