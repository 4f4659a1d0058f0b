"""Where the gateway listens, and where it leads as long as nothing was decided: nowhere."""

from __future__ import annotations

from typing import Final

from vmgw_core.errors import ConfigurationError

DEAD_ADDRESS: Final = ("127.0.0.1", 1)
DEAD_TARGET: Final = "http://127.0.0.1:1"
"""The target of mitmproxy's reverse mode. No connection is ever made to it: see ``UpstreamConnections``."""


def parse_listen_address(text: str, *, ipv6: bool) -> tuple[str, int]:
    """Read ``-httpListenAddr``: ``:8431``, ``127.0.0.1:8431``, ``[::1]:8431``.

    Args:
        ipv6: whether ``:8431`` means all IPv6 addresses too (``-enableTCP6``).

    Raises:
        ConfigurationError: it is no address, or its port none of 1 to 65535.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigurationError(f"-httpListenAddr: expected host:port or :port, got {text!r}")
    return host or ("" if ipv6 else "0.0.0.0"), int(port)
