"""Sizes and times on the wire: what a client may send, and how long each side may take."""

from __future__ import annotations

from dataclasses import dataclass

from vmgw_core.configuration import Settings
from vmgw_core.http import HeadLimits


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
        """The limits that the flags ask for."""
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
