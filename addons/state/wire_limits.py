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

        def number(flag: str) -> float:
            return float(str(settings[flag]))

        return cls(
            head=HeadLimits(
                size=int(number("http.maxHeadSize")),
                line=int(number("http.maxRequestLine")),
                fields=int(number("http.maxHeaders")),
            ),
            chunk_line=int(number("http.maxChunkLine")),
            pipelined=int(number("http.maxPipelined")),
            head_timeout=number("http.headTimeout"),
            body_timeout=number("http.bodyTimeout"),
            idle_timeout=number("http.idleConnTimeout"),
            connection_timeout=number("http.connTimeout"),
            response_timeout=number("backend.responseTimeout"),
            keep_alive=not settings["http.disableKeepAlive"],
            connections=int(number("http.maxConnections")),
        )
