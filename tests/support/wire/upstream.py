"""A backend that records, byte for byte, what reached it.

    with RecordingUpstream() as upstream:
        ...
        assert upstream.requests[0].target == "/api/v1/query?query=up"

One thread per connection, HTTP/1.1 read by hand, so that nothing is normalised on the way into the record. What it
answers is the ``responder``'s decision, taken per request: a ``Reply`` (at once, or once its ``gate`` opens), or
``HANG_UP`` (the connection is closed on the head, without an answer). Bodies are counted and hashed; the first
``KEPT`` bytes are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from tests.support.wire.processes import free_port

KEPT: Final = 1 << 20
"""Bytes kept of each body, and of each connection's raw input. The rest is counted and, for bodies, hashed."""

CHUNK: Final = 1 << 16

Headers = tuple[tuple[str, str], ...]


@dataclass(slots=True, kw_only=True)
class ReceivedRequest:
    """One request as it arrived. The head is complete; the body fields grow until ``complete`` is set."""

    connection: int
    method: str
    target: str
    version: str
    headers: Headers
    body: bytes = b""
    body_size: int = 0
    body_sha256: str = ""
    complete: bool = False

    def header(self, name: str) -> list[str]:
        """All values of a header, whatever the case of its name, in the order received."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def arguments(self) -> list[tuple[str, str]]:
        """The URL's arguments, decoded, in order and with duplicates."""
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    def argument(self, name: str) -> list[str]:
        return [value for key, value in self.arguments if key == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer. An iterable body is sent chunked unless ``headers`` has a Content-Length.

    ``gate``: answer once this event is set. ``early``: answer on the head, before the body is read. ``close``: close
    the connection behind the answer, and say so. ``interim``: raw bytes to send before the answer.
    """

    status: int = 200
    headers: Headers = (("Content-Type", "application/json"),)
    body: bytes | Iterable[bytes] = b'{"status":"success"}'
    gate: threading.Event | None = None
    early: bool = False
    close: bool = False
    interim: bytes = b""


HANG_UP: Final = Reply(status=0)
"""No answer: the connection is closed as soon as the head is read."""

Responder = Callable[[ReceivedRequest], Reply]


def never() -> Reply:
    """A reply that does not come: until the upstream is stopped."""
    return Reply(gate=threading.Event())


@dataclass(slots=True, kw_only=True)
class ReceivedConnection:
    """One accepted connection: its first ``KEPT`` raw bytes (behind TLS, the decrypted ones) and their count."""

    number: int
    raw: bytearray = field(default_factory=bytearray)
    bytes_received: int = 0
    tls_server_name: str | None = None
    tls_client_certificate: bytes | None = None
    tls_error: str | None = None
    closed: bool = False


class _Closed(Exception):
    """The peer, or ``stop``, closed the connection."""


class _Connection:
    """The thread behind one accepted connection."""

    def __init__(self, upstream: RecordingUpstream, sock: socket.socket, record: ReceivedConnection) -> None:
        self.upstream = upstream
        self.sock = sock
        self.record = record
        self.idle = True
        self._buffer = bytearray()
        self.thread = threading.Thread(target=self._run, name=f"upstream connection {record.number}", daemon=True)

    def close(self) -> None:
        """Wake the thread up: its next read finds the end."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            if self.upstream.tls is not None:
                self._start_tls(self.upstream.tls)
            while self._serve_one():
                pass
        except (_Closed, OSError):
            pass
        finally:
            self.record.closed = True
            self.close()
            self.sock.close()

    def _start_tls(self, context: ssl.SSLContext) -> None:
        wrapped = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
        self.sock = wrapped
        try:
            wrapped.do_handshake()
        except OSError as error:  # an ssl.SSLError is one
            self.record.tls_error = str(error)
            raise
        self.record.tls_client_certificate = wrapped.getpeercert(binary_form=True)

    # --- reading ----------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        data = self.sock.recv(CHUNK)
        if not data:
            raise _Closed
        self.record.bytes_received += len(data)
        self.record.raw += data[: max(0, KEPT - len(self.record.raw))]
        self._buffer += data

    def _take(self, size: int) -> bytes:
        while not self._buffer:
            self._receive()
        data = bytes(self._buffer[:size])
        del self._buffer[: len(data)]
        return data

    def _take_until(self, mark: bytes) -> bytes:
        while (end := self._buffer.find(mark)) < 0:
            self._receive()
        data = bytes(self._buffer[:end])
        del self._buffer[: end + len(mark)]
        return data

    def _read_head(self) -> ReceivedRequest:
        self.idle = not self._buffer
        lines = self._take_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self.idle = False
        method, target, version = lines[0].split(" ", 2)
        pairs = (line.partition(":") for line in lines[1:])
        headers = tuple((name, value.strip(" \t")) for name, _, value in pairs)
        return ReceivedRequest(
            connection=self.record.number, method=method, target=target, version=version, headers=headers
        )

    def _body(self, request: ReceivedRequest) -> Iterable[bytes]:
        if any(value.lower() == "chunked" for value in request.header("Transfer-Encoding")):
            while size := int(self._take_until(b"\r\n").partition(b";")[0], 16):
                yield from self._exactly(size)
                self._take_until(b"\r\n")
            while self._take_until(b"\r\n"):
                pass  # trailers
        else:
            yield from self._exactly(int((request.header("Content-Length") or ["0"])[0]))

    def _exactly(self, size: int) -> Iterable[bytes]:
        while size:
            data = self._take(min(size, CHUNK))
            size -= len(data)
            yield data

    def _read_body(self, request: ReceivedRequest) -> None:
        digest = hashlib.sha256()
        for data in self._body(request):
            digest.update(data)
            request.body_size += len(data)
            request.body += data[: max(0, KEPT - len(request.body))]
        request.body_sha256 = digest.hexdigest()
        request.complete = True

    # --- answering --------------------------------------------------------------------------------------------------

    def _serve_one(self) -> bool:
        """Read one request and answer it; whether the connection goes on."""
        request = self._read_head()
        self.upstream.requests.append(request)
        reply = self.upstream.responder(request)
        if reply is HANG_UP:
            return False
        if not reply.early:
            self._read_body(request)
        if reply.gate is not None and not self._wait(reply.gate):
            return False
        self._send(request, reply)
        if reply.early and not reply.close:
            self._read_body(request)
        return not reply.close

    def _wait(self, gate: threading.Event) -> bool:
        """Wait for the gate; False when the connection or the upstream ended before it opened."""
        while not gate.wait(0.02):
            if self.upstream.stopping.is_set() or self._peer_is_gone():
                return False
        return True

    def _peer_is_gone(self) -> bool:
        if isinstance(self.sock, ssl.SSLSocket):
            return False  # MSG_PEEK is not defined for TLS; stop() still ends the wait
        try:
            return self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False

    def _send(self, request: ReceivedRequest, reply: Reply) -> None:
        headers = list(reply.headers)
        names = {name.lower() for name, _ in headers}
        chunked = not isinstance(reply.body, bytes) and "content-length" not in names
        if chunked:
            headers.append(("Transfer-Encoding", "chunked"))
        elif isinstance(reply.body, bytes) and "content-length" not in names and reply.status not in (204, 304):
            headers.append(("Content-Length", str(len(reply.body))))
        if reply.close:
            headers.append(("Connection", "close"))
        lines = [f"HTTP/1.1 {reply.status} Scripted", *(f"{name}: {value}" for name, value in headers)]
        head = reply.interim + ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if request.method == "HEAD":
            self.sock.sendall(head)
        elif isinstance(reply.body, bytes):
            self.sock.sendall(head + reply.body)
        else:
            self.sock.sendall(head)
            for data in reply.body:
                self.sock.sendall(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)
            if chunked:
                self.sock.sendall(b"0\r\n\r\n")


class RecordingUpstream:
    """The server. ``responder``, ``close_on_accept`` and ``reset_on_accept`` may be changed while it runs."""

    def __init__(
        self,
        responder: Responder | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.responder: Responder = responder or (lambda _: Reply())
        self.host = host
        self.tls = tls
        if tls is not None:
            tls.sni_callback = self._note_server_name
        self.close_on_accept = False
        """Close each new connection right after accepting it."""
        self.reset_on_accept = False
        """Reset it instead."""
        self.requests: list[ReceivedRequest] = []
        self.connections: list[ReceivedConnection] = []
        self.stopping = threading.Event()
        self.port = port or free_port()
        self._accepted = 0
        self._live: list[_Connection] = []
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self.listen()

    # --- what the tests look at -------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}"

    @property
    def bytes_received(self) -> int:
        """Over all connections, the ones that are closed included."""
        return sum(connection.bytes_received for connection in self.connections)

    def forget(self) -> None:
        """Drop the record; open connections stay open."""
        self.requests.clear()
        for connection in self.connections:
            connection.bytes_received = 0
            connection.raw.clear()
        self.connections[:] = [connection for connection in self.connections if not connection.closed]

    # --- what the tests do to it ------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Accept connections, on the same port as before."""
        assert self._listener is None
        listener = socket.create_server(
            (self.host, self.port), family=socket.AF_INET6 if ":" in self.host else socket.AF_INET, backlog=256
        )
        self._listener = listener
        self._acceptor = threading.Thread(target=self._accept, args=(listener,), name="upstream", daemon=True)
        self._acceptor.start()

    def refuse(self) -> None:
        """Refuse new connections from now on; the open ones stay."""
        if self._listener is not None and self._acceptor is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # accept() returns; close() alone would leave it waiting
            self._acceptor.join()
            self._listener.close()
            self._listener = None

    def crash(self) -> None:
        """Refuse new connections and break the open ones, whatever they are in the middle of."""
        self.refuse()
        for connection in self._live:
            connection.close()
            connection.thread.join()

    def close_idle(self) -> int:
        """Close the connections that carry no request just now; how many they were."""
        idle = [
            connection
            for connection in self._live
            if connection.idle and not connection.record.closed and connection.thread.is_alive()
        ]
        for connection in idle:
            connection.close()
            connection.thread.join()
        return len(idle)

    def stop(self) -> None:
        self.stopping.set()
        self.refuse()
        for connection in self._live:
            connection.close()
        for connection in self._live:
            connection.thread.join()

    def __enter__(self) -> RecordingUpstream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            record = ReceivedConnection(number=self._accepted)
            self._accepted += 1
            self.connections.append(record)
            if self.close_on_accept or self.reset_on_accept:
                if self.reset_on_accept:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                record.closed = True
                sock.close()
                continue
            connection = _Connection(self, sock, record)
            self._live.append(connection)
            connection.thread.start()

    def _note_server_name(self, sock: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        for connection in self._live:
            if connection.sock is sock:
                connection.record.tls_server_name = name
