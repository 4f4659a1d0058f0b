"""HTTP/2 over TLS by hand: a client that says exactly which frames it sends."""

from __future__ import annotations

import contextlib
import socket
import ssl

from tests.support.wire.certificates import Authority
from tests.support.wire.processes import Gateway
from tests.support.wire.tls import trusting
from tests.support.wire.waiting import HANGS

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """RFC 9113, section 4.1."""
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def literal(name: bytes, value: bytes, *, indexed: bool = False) -> bytes:
    """A header field (RFC 7541, section 6.2), kept in the dynamic table where ``indexed``."""
    return (b"\x40" if indexed else b"\x00") + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    length, head = len(text), b""
    if length < 127:
        return bytes((length,)) + text
    length -= 127
    while length > 127:
        head += bytes((length % 128 + 128,))
        length //= 128
    return b"\x7f" + head + bytes((length,)) + text


def request(token: str | None, *more: bytes, target: str = "/api/v1/query?query=up") -> bytes:
    """The header block of a GET."""
    fields = [literal(b":method", b"GET"), literal(b":scheme", b"https"), literal(b":authority", b"gateway")]
    fields.append(literal(b":path", target.encode()))
    if token is not None:
        fields.append(literal(b"authorization", b"Bearer " + token.encode()))
    return b"".join([*fields, *more])


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HELLO = PREFACE + frame(SETTINGS)


class Client:
    """A connection over TLS on which HTTP/2 was agreed."""

    def __init__(self, gateway: Gateway, authority: Authority, *protocols: str) -> None:
        context = trusting(authority)
        context.set_alpn_protocols(protocols or ["h2"])
        raw = socket.create_connection(("127.0.0.1", gateway.port), timeout=HANGS)
        self.socket = context.wrap_socket(raw, server_hostname="localhost")
        assert self.socket.selected_alpn_protocol() == (protocols or ["h2"])[0]

    def send(self, data: bytes) -> bool:
        """Whether the peer took it."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def receive_all(self) -> bytes:
        """All until the gateway closes: a TimeoutError where it does not."""
        received = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := self.socket.recv(1 << 16):
                received += data
        return received

    def receive_until(self, mark: bytes) -> bytes:
        """What comes up to ``mark``, or to the end."""
        received = b""
        while mark not in received and (data := self.socket.recv(1 << 16)):
            received += data
        return received

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()
