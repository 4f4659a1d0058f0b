"""The flow lane: mitmproxy's layers, hardened, for everything that needs flows, hooks or HTTP/2."""

from __future__ import annotations

from .keepalive import FlowKeepAlive
from .lane import FlowLane
from .upstreams import UpstreamConnections

__all__ = [
    "FlowKeepAlive",
    "FlowLane",
    "UpstreamConnections",
]
