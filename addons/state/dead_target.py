"""The target of mitmproxy's reverse mode, to which no connection is ever made."""

from __future__ import annotations

from typing import Final

DEAD_ADDRESS: Final = ("127.0.0.1", 1)
DEAD_TARGET: Final = "http://127.0.0.1:1"
"""The target of mitmproxy's reverse mode. No connection is ever made to it: see ``UpstreamConnections``."""
