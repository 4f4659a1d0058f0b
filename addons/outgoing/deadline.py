"""A time after which a question of the gateway's own is over, however slowly its answer trickles in.

Timeouts of sockets hold for one read each: a server that sends a byte now and then, of a head or of a body, would keep
a thread for as long as it likes. Here the connection is cut once the time is over, which ends whatever waits for it.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.poolmanager import PoolManager

_here = threading.local()


class Deadline:
    """What is asked in a ``with`` of it, by this thread through a :class:`CutAdapter`, is cut off after ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        _here.deadline = self
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        _here.deadline = None

    def watch(self, sock: socket.socket) -> None:
        """Cut this one too."""
        with self._lock:
            self._sockets.append(sock)
        if self.over:
            self._cut()

    def _cut(self) -> None:
        self.over = True
        with self._lock:
            for sock in self._sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


class _Watched(HTTPConnection):
    """Shows its socket to the deadline of the thread that asks."""

    def request(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        deadline: Deadline | None = getattr(_here, "deadline", None)
        if self.sock is None:
            self.connect()  # bounded by the timeout for connections, a handshake of TLS included
        if deadline is not None and self.sock is not None:
            deadline.watch(self.sock)
        super().request(*arguments, **options)


class _WatchedTLS(_Watched, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTLS


class CutAdapter(HTTPAdapter):
    """Asks over connections that a :class:`Deadline` can cut."""

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:  # noqa: ANN401
        super().init_poolmanager(connections, maxsize, block, **pool_kwargs)
        _use(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:  # noqa: ANN401
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        _use(manager)
        return manager


def _use(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
