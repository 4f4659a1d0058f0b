"""The listener: the socket, TLS, the PROXY protocol, and the choice of the lane."""

from __future__ import annotations

from .claim import claim_port
from .server import Listener, parse_listen_address
from .tls import ListenerTLS

__all__ = [
    "Listener",
    "ListenerTLS",
    "claim_port",
    "parse_listen_address",
]
