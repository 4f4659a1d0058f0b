"""What must hold whatever bytes come: each target takes a fuzz input and fails where it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import h11

from tests.fuzz.script import ANSWERS, PIECES, REQUESTS, Script
from tests.support.addons.fakes import FakeTransport, Lane
from vmgw_addons.lanes.fast.connection import BackendConnection
from vmgw_addons.lanes.fast.request_head import FieldsCache, HeadReader
from vmgw_addons.lanes.fast.response_head import Framing, ResponseHead
from vmgw_core.errors import Cause, Refusal
from vmgw_core.http.framing import ChunkedReader
from vmgw_core.http.head import HeadLimits, RequestHead, check_head, find_head

LIMITS: Final = HeadLimits(size=8192, line=4096, fields=50)
MARKS: Final = (b"qa", b"qb", b"qc")
"""One for each client: what is meant for it, no other client may get to see."""
NOBODY: Final = b"qz"
"""In answers that nobody waits for."""


class Crashes(logging.Handler):
    """The log must not tell of a crash."""

    def emit(self, record: logging.LogRecord) -> None:
        """Fail where a traceback is logged."""
        if record.exc_info:
            raise AssertionError(f"logged: {record.getMessage()}") from record.exc_info[1]


# --- heads -----------------------------------------------------------------------------------------------------------


def heads(script: Script) -> None:
    """Any bytes are a head or a refusal, in any pieces, and llhttp reads a head as a plain split would."""
    data = b""
    while not script.over and len(data) < 20_000:
        data += script.message(REQUESTS, b"qa")
    seen = 0
    for end in range(0, len(data) + 1, 1 + script.number(200)):
        try:
            found = find_head(data[:end], LIMITS.size, seen)
        except Refusal:
            return
        seen = end
        if found:
            _head(data[:found])
            return


def _head(head: bytes) -> None:
    reader = HeadReader(FieldsCache())
    try:
        line = check_head(head, LIMITS)
    except Refusal:
        return
    result = reader.read(head, LIMITS, "c")
    fields = [field.partition(b":") for field in head[:-4].split(b"\r\n")[1:]]
    headers = tuple((name, value.strip(b" \t")) for name, _, value in fields)
    assert result == RequestHead(method=line.method, target=line.target, headers=headers, client="c")
    assert reader.read(head, LIMITS, "c") == result


# --- bodies ----------------------------------------------------------------------------------------------------------


def bodies(script: Script) -> None:
    """Any bytes are a body or a refusal, and the pieces they come in make no difference."""
    data = b""
    pieces: list[bytes] = []
    while not script.over and len(data) < 5_000:
        piece = script.choose(PIECES) if script.number(3) else script.raw()
        pieces.append(piece)
        data += piece
    assert _body([data]) == _body(pieces) == _body([data[index : index + 1] for index in range(len(data))])


def _body(pieces: list[bytes]) -> tuple[bytes, bytes, bool] | str:
    reader, content = ChunkedReader(200), b""
    try:
        for index, piece in enumerate(pieces):
            more, rest, done = reader.feed(piece)
            content += more
            if done:
                return content, rest + b"".join(pieces[index + 1 :]), True
    except Refusal as refusal:
        return str(refusal)
    return content, b"", False


# --- answers ---------------------------------------------------------------------------------------------------------


class Receiver:
    """Waits for an answer."""

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.size = 0
        self.done = self.lost = False

    def received(self, head: ResponseHead | None, content: bytes, done: bool) -> None:
        assert not self.done
        assert not self.lost
        assert (head is None) is (self.head is not None)
        self.head = self.head or head
        assert self.head is not None
        self.size += len(content)
        if self.head.framing is Framing.LENGTH:
            assert self.size <= self.head.length
            assert not done or self.size == self.head.length
        if self.head.framing is Framing.NONE:
            assert self.size == 0
            assert done
        names = [name.lower() for name, _ in self.head.headers]
        assert (
            names.count(b"content-length") == (self.head.framing is Framing.LENGTH) or self.head.framing is Framing.NONE
        )
        assert b"transfer-encoding" not in names
        assert all(b"\r" not in value and b"\n" not in value and b"\0" not in value for _, value in self.head.headers)
        self.done = done

    def backend_lost(self, reason: str, cause: Cause = Cause.CLOSED) -> None:
        assert not self.done
        assert not self.lost
        self.lost = True

    def backend_writable(self, writable: bool) -> None:
        """Of no interest here."""


def answers(script: Script, lane: Lane) -> None:
    """Any bytes of a backend are one answer or one loss for each request."""
    connection = BackendConnection(lane.pool, (("read.test", 1), None))
    transport = FakeTransport(lane.loop, connection)
    lane.pool.open.add(connection)
    policy = lane.in_force.configured.policy
    assert policy is not None
    assert policy.read is not None
    receiver = None
    while not script.over and not transport.closing:
        if receiver is None:
            receiver = Receiver()
            connection.send(receiver, b"", is_head=script.number(4) == 0)
        data = script.message(ANSWERS, b"qa")
        lane.call(lambda data=data: transport.feed(data))  # type: ignore[misc]
        if receiver.done and not transport.closing:
            assert lane.pool.take(policy.read.first) is connection
            receiver = None
    if script.number(2):
        lane.call(transport.feed_eof)
    lane.call(lambda: transport.lose(None if script.number(2) else ConnectionResetError()))
    lane.turn()
    assert receiver is None or receiver.done or receiver.lost
    assert not lane.pool.open
    assert not lane.pool.idle


# --- the lane --------------------------------------------------------------------------------------------------------


def exchanges(script: Script, lane: Lane) -> None:
    """Any bytes of clients and backends, in any order, with any delay."""
    lane.backends.clear()
    lane.network.refusing = False
    clients = [lane.client()]
    sent = [b""]
    while not script.over:
        _step(script, lane, clients, sent)
    lane.network.gate.set()
    for transport in (*clients, *lane.backends):
        lane.call(transport.drain)
    for _ in range(40):  # patience ends, whatever the state
        lane.pass_time(61)
        if not lane.fast.clients:
            break
    lane.turn()
    assert not lane.fast.clients, "a client was left"
    assert all(client.lost for client in clients)
    assert not [backend for backend in lane.backends if backend.protocol.receiver is not None]  # type: ignore[attr-defined]
    for mark, client, data in zip(MARKS, clients, sent, strict=False):
        _check_answers(client, mark, data)
    for backend in lane.backends:
        _check_requests(bytes(backend.written))
    lane.call(lane.pool.close)
    lane.turn()
    assert not lane.pool.open
    assert not lane.pool.idle


def _step(script: Script, lane: Lane, clients: list[FakeTransport], sent: list[bytes]) -> None:
    action = script.number(16)
    number = script.number(len(clients))
    client = clients[number]
    backend = script.choose(lane.backends) if lane.backends else None
    if action < 5:
        data = script.message(REQUESTS, MARKS[number])
        sent[number] += data
        lane.feed(client, data)
    elif action < 10 and backend is not None:
        lane.feed(backend, script.message(ANSWERS, _mark(backend, clients)))
    elif action == 10 and len(clients) < len(MARKS):
        clients.append(lane.client())
        sent.append(b"")
    elif action == 11:
        lane.feed_eof(script.choose([client, backend or client]))
    elif action == 12:
        either = script.choose([client, backend or client])
        either.stalled = not either.stalled
        if not either.stalled:
            lane.call(either.drain)
    elif action == 13:
        lane.pass_time(script.choose([0.2, 5, 11, 31, 61]))
    elif action == 14:
        lane.call(
            lambda: script.choose([client, backend or client]).lose(script.choose([None, ConnectionResetError()]))
        )
        lane.turn()
    elif script.number(2):
        lane.network.refusing = not lane.network.refusing
    elif lane.network.gate.is_set():
        lane.network.gate.clear()
    else:
        lane.call(lane.network.gate.set)
        lane.turn()


def _mark(backend: FakeTransport, clients: list[FakeTransport]) -> bytes:
    """The mark of the client whom the backend's next bytes are for."""
    exchange = backend.protocol.receiver  # type: ignore[attr-defined]
    if exchange is None:
        return NOBODY
    return next(mark for mark, client in zip(MARKS, clients, strict=False) if client.protocol is exchange.client)


def _check_answers(client: FakeTransport, mark: bytes, sent: bytes) -> None:
    """A client gets valid answers, to its own requests only."""
    received = bytes(client.written)
    foreign = [other for other in (*MARKS, NOBODY) if other != mark and other in received]
    assert not foreign or any(other in sent for other in foreign), (mark, foreign)
    methods = [word for word in sent.split() if word in (b"GET", b"POST", b"HEAD")]
    if b"HEAD" in sent:
        return  # which answers have no content is not told by their bytes
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 24)
    count = 0
    data: bytes | None = received
    while data:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 24)
        connection.send(h11.Request(method="GET", target="/", headers=[("Host", "g")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                if not (client.aborted or client.left):
                    raise AssertionError(f"{error} in {received[:2000]!r}") from None
                return
            if isinstance(event, h11.EndOfMessage):
                count += 1
                data = connection.trailing_data[0]
                break
            assert not isinstance(event, h11.ConnectionClosed | type(h11.NEED_DATA)), received[:2000]
    assert count <= max(1, len(methods)) + sent.count(b"\r\n\r\n") + 1


def _check_requests(received: bytes) -> None:
    """A backend gets whole, valid requests; only the last on a connection may be cut off."""
    while received:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 24)
        connection.receive_data(received)
        event = connection.next_event()
        assert isinstance(event, h11.Request), received[:2000]
        headers = dict(event.headers)
        assert headers[b"host"] in (b"read.test:1", b"write.test:1")
        assert headers[b"x-forwarded-for"].endswith(b"192.0.2.7")
        assert b"authorization" not in headers
        assert event.target.startswith(b"/")
        while not isinstance(event, h11.EndOfMessage):
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return
        received = connection.trailing_data[0]


# --- all -------------------------------------------------------------------------------------------------------------


def one_input(lane: Lane) -> Callable[[bytes], None]:
    """The function that takes an input, all targets in one: its first byte says which."""

    def run(data: bytes) -> None:
        handler = Crashes()
        logging.getLogger().addHandler(handler)
        try:
            one(data)
        finally:
            logging.getLogger().removeHandler(handler)

    def one(data: bytes) -> None:
        script = Script(data)
        target = script.number(8)
        if target == 0:
            heads(script)
        elif target == 1:
            bodies(script)
        elif target == 2:
            answers(script, lane)
        else:
            exchanges(script, lane)

    return run
