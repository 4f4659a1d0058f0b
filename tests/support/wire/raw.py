"""A client that says exactly which bytes it sends, and when."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from types import TracebackType

from tests.support.wire.waiting import HANGS


class RawClient:
    """One connection to a port on loopback."""

    def __init__(self, port: int, *, timeout: float = HANGS) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.buffer = b""

    def send(self, data: bytes) -> RawClient:
        self.socket.sendall(data)
        return self

    def end(self) -> RawClient:
        """Send no more, and still receive."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Break the connection off, as a client that crashes."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send_until_refused(self, chunk: bytes, limit: int) -> int:
        """Send ``chunk`` until the peer stops taking it or ``limit`` bytes are out; the bytes sent."""
        sent = 0
        while sent < limit:
            try:
                sent += self.socket.send(chunk)
            except OSError:
                break
        return sent

    def receive_head(self) -> bytes:
        """The next head, without its body."""
        while b"\r\n\r\n" not in self.buffer:
            self._receive()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head

    def receive_answer(self) -> tuple[int, bytes]:
        """The status and body of the next answer; its length must be announced."""
        head = self.receive_head()
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        while len(self.buffer) < length:
            self._receive()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(head.split(b" ", 2)[1]), body

    def receive_all(self) -> bytes:
        """Everything until the peer closes."""
        try:
            while True:
                self._receive()
        except (EOFError, ConnectionResetError):
            return self.buffer

    def is_closed(self) -> bool:
        """Whether the peer closed, waiting for it up to the timeout."""
        try:
            self.receive_all()
        except TimeoutError:
            return False
        return True

    def receive_more(self) -> None:
        """Whatever comes next, into ``buffer``."""
        self._receive()

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"the peer closed behind {self.buffer[-200:]!r}")
        self.buffer += data

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def head(method: str, target: str, token: str | None, headers: Iterable[str] = ()) -> bytes:
    """An HTTP/1.1 request head."""
    lines = [f"{method} {target} HTTP/1.1", "Host: gateway", *headers]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode()
