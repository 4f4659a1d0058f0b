"""The two lanes that carry requests: ``fast`` over asyncio, ``flow`` over mitmproxy."""
