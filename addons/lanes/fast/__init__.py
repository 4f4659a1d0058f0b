"""The fast lane: HTTP/1.1 over asyncio's transports and llhttp, without flows and hooks."""

from __future__ import annotations

from .client import LINGER_BYTES, LINGER_SECONDS
from .health_probe import Backends
from .lane import MOST_TURNED_AWAY, FastLane
from .services import Services

__all__ = [
    "LINGER_BYTES",
    "LINGER_SECONDS",
    "MOST_TURNED_AWAY",
    "Backends",
    "FastLane",
    "Services",
]
