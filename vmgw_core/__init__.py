"""The policy of vmgateway as a pure library: no mitmproxy, no sockets, no files, no threads, no wall clock."""

from __future__ import annotations

from typing import Final

__version__: Final = "0.1.0"
