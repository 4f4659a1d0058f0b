"""The flow lane: mitmproxy's layers, hardened, for everything that needs flows, hooks or HTTP/2."""

from __future__ import annotations

from .hooks import DirectAddonManager
from .keepalive import FlowKeepAlive
from .lane import FlowLane
from .upstreams import ConnectionSeal, UpstreamConnections

__all__ = [
    "ConnectionSeal",
    "DirectAddonManager",
    "FlowKeepAlive",
    "FlowLane",
    "UpstreamConnections",
]
