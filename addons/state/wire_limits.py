"""Limits of the protocol: sizes and timeouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vmgw_core.configuration import Settings
from vmgw_core.http import HeadLimits

DEAD_ADDRESS: Final = ("127.0.0.1", 1)
DEAD_TARGET: Final = "http://127.0.0.1:1"
"""The target of mitmproxy's reverse mode. No connection is ever made to it: see ``UpstreamConnections``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """What a client may send, and how long a client or a backend may take. Sizes are bytes, times seconds."""

    head: HeadLimits
    chunk_line: int
    pipelined: int
    head_timeout: float
    body_timeout: float
    idle_timeout: float
    connection_timeout: float
    response_timeout: float
    keep_alive: bool
    connections: int

    @classmethod
    def of(cls, settings: Settings) -> WireLimits:
        """Take the limits from the flags."""
        return cls(
            head=HeadLimits(
                size=settings.http_max_head_size,
                line=settings.http_max_request_line,
                fields=settings.http_max_headers,
            ),
            chunk_line=settings.http_max_chunk_line,
            pipelined=settings.http_max_pipelined,
            head_timeout=settings.http_head_timeout,
            body_timeout=settings.http_body_timeout,
            idle_timeout=settings.http_idle_conn_timeout,
            connection_timeout=settings.http_conn_timeout,
            response_timeout=settings.backend_response_timeout,
            keep_alive=not settings.http_disable_keep_alive,
            connections=settings.http_max_connections,
        )
