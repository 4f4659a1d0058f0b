"""Connections to backends, shared by all clients of the fast lane."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

from vmgw_addons.state import InForce
from vmgw_core.backends import Backend
from vmgw_core.errors import BackendTimeout, BackendUnreachable

from .connection import BackendConnection, KnownHeads

MAX_IDLE: Final = 128
"""Idle connections kept for each backend. More are closed when their answer ends."""
IDLE_SECONDS: Final = 30.0
"""An idle connection is closed then: before most servers would do so themselves."""
_WRITE_BUFFER: Final = 256 * 1024

_Key = tuple[str, int, ssl.SSLContext | None]


class Pool:
    """Idle connections by backend, the one used last on top, and how to open another.

    The number of busy ones is bounded by that of clients: each waits for one answer at a time.
    """

    def __init__(self, in_force: InForce) -> None:
        self.in_force = in_force
        self.idle: dict[_Key, list[BackendConnection]] = {}
        self.keys: dict[BackendConnection, _Key] = {}
        self.heads = KnownHeads()

    def take(self, backend: Backend) -> BackendConnection | None:
        """An idle connection to ``backend``, or None."""
        waiting = self.idle.get(self.key(backend))
        while waiting:
            connection = waiting.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        return None

    async def connect(self, backend: Backend) -> BackendConnection:
        """Open a connection, TLS included.

        Raises:
            BackendTimeout: it took longer than ``-backend.connectTimeout``.
            BackendUnreachable: it was refused, or the certificate is not good.
        """
        key = self.key(backend)
        tls = self.in_force.configured.upstream_tls.get(backend.address)
        try:
            async with asyncio.timeout(self.in_force.configured.settings.backend_connect_timeout):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: BackendConnection(self),
                    *backend.address,
                    ssl=key[2],
                    server_hostname=None if tls is None else tls.server_name,
                    family=socket.AF_UNSPEC if self.in_force.configured.settings.enable_tcp6 else socket.AF_INET,
                )
        except TimeoutError:
            raise BackendTimeout(f"-{backend.flag}: connecting to the backend took too long") from None
        except OSError:  # a failed handshake is one too
            raise BackendUnreachable(f"-{backend.flag}: the backend cannot be reached") from None
        assert connection.transport is not None
        connection.transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        self.keys[connection] = key
        return connection

    def key(self, backend: Backend) -> _Key:
        """What connections to ``backend`` have in common: after a reload of its certificates, others."""
        tls = self.in_force.configured.upstream_tls.get(backend.address)
        return (*backend.address, None if tls is None else tls.fast)

    def release(self, connection: BackendConnection) -> None:
        """Keep ``connection`` for the next request, or close it where enough are kept."""
        key = self.keys.get(connection)
        if key is None or connection.transport is None:
            return
        waiting = self.idle.setdefault(key, [])
        if len(waiting) >= MAX_IDLE:
            connection.transport.close()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        waiting.append(connection)

    def forget(self, connection: BackendConnection) -> None:
        """``connection`` has ended."""
        key = self.keys.pop(connection, None)
        waiting = self.idle.get(key, []) if key is not None else []
        if connection in waiting:
            waiting.remove(connection)
        if key is not None and not waiting:
            self.idle.pop(key, None)

    def sweep(self, now: float) -> None:
        """Close what has been idle for long; ``now`` is the loop's time."""
        for waiting in list(self.idle.values()):
            for connection in list(waiting):
                if now - connection.idle_since < IDLE_SECONDS:
                    break  # those behind it were used later
                if connection.transport is not None:
                    connection.transport.close()

    def close(self) -> None:
        """Close everything."""
        for connection in list(self.keys):
            connection.abort()
