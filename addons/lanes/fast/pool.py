"""Connections to backends, shared by all clients of the fast lane."""

from __future__ import annotations

import time
from typing import Final

from vmgw_addons.state import InForce
from vmgw_core.backends import Backend

from .connection import BackendConnection, PoolKey
from .dialling import Dial, dial
from .response_head import ResponseHeadCache

MAX_IDLE: Final = 4096
"""Idle connections kept for each backend. More are closed when their response ends.

To open a connection costs more than the rest of a request, so as many are kept as clients of one process need at once.
"""
IDLE_SECONDS: Final = 30.0
"""An idle connection is closed after that, earlier than most servers would."""


class Pool:
    """Idle connections by backend, the one used last on top, and how to open another.

    The number of busy ones is bounded by the number of clients: each waits for one response at a time.
    """

    def __init__(self, in_force: InForce, dial: Dial = dial) -> None:
        self.in_force = in_force
        self.dial = dial
        self.idle: dict[PoolKey, list[BackendConnection]] = {}
        self.open: set[BackendConnection] = set()
        self.heads = ResponseHeadCache()

    def take(self, backend: Backend) -> BackendConnection | None:
        """An idle connection to ``backend``, or None."""
        waiting = self.idle.get(self.key(backend))
        while waiting:
            connection = waiting.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        return None

    async def connect(self, backend: Backend) -> BackendConnection:
        """Open a connection, TLS included. Raises as :func:`.dialling.dial` does."""
        key = self.key(backend)
        connection = await self.dial(self.in_force, backend, lambda: BackendConnection(self, key))
        self.open.add(connection)
        return connection

    def key(self, backend: Backend) -> PoolKey:
        """Return the key of connections to ``backend``: another one after a reload of its certificates."""
        tls = self.in_force.configured.upstream_tls.get(backend.address)
        return backend.address, None if tls is None else tls.fast

    def release(self, connection: BackendConnection) -> None:
        """Keep ``connection`` for the next request, or close it where enough are kept."""
        if connection not in self.open or connection.transport is None:
            return
        waiting = self.idle.get(connection.key)
        if waiting is None:
            waiting = self.idle[connection.key] = []
        if len(waiting) >= MAX_IDLE:
            connection.transport.close()
            return
        connection.idle_since = time.monotonic()
        waiting.append(connection)

    def forget(self, connection: BackendConnection) -> None:
        """``connection`` has ended."""
        self.open.discard(connection)
        waiting = self.idle.get(connection.key, [])
        if connection in waiting:
            waiting.remove(connection)
        if not waiting:
            self.idle.pop(connection.key, None)

    def sweep(self, now: float) -> None:
        """Close what has been idle for long; ``now`` is of the monotonic clock."""
        for waiting in list(self.idle.values()):
            for connection in list(waiting):
                if now - connection.idle_since < IDLE_SECONDS:
                    break  # those behind it were used later
                if connection.transport is not None:
                    connection.transport.close()

    def close(self) -> None:
        """Close everything."""
        for connection in list(self.open):
            connection.abort()
