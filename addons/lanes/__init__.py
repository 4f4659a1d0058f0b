"""The two lanes that carry requests: ``fast`` over asyncio, ``flow`` over mitmproxy."""

from __future__ import annotations

__all__: list[str] = []
