"""Where the gateway listens, and where it leads as long as nothing was decided: nowhere."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from mitmproxy import ctx
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy.mode_servers import ServerInstance
from mitmproxy.proxy.mode_specs import ReverseMode

from vmgw_core import __version__
from vmgw_core.errors import ConfigurationError

from .fast_lane import FastLane
from .runtime import Runtime

logger = logging.getLogger(__name__)

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


class Listener:
    """Accepts connections, and gives each to the lane that carries it.

    mitmproxy's own listener stays closed in every program: there is one way in, with the same bounds and the same TLS
    for both lanes.
    """

    def __init__(self, runtime: Runtime, fast: FastLane) -> None:
        self.runtime = runtime
        self.fast = fast
        self.server: asyncio.Server | None = None
        self.flow: ServerInstance[ReverseMode] | None = None

    async def running(self) -> None:
        proxyserver = ctx.master.addons.get("proxyserver")
        assert isinstance(proxyserver, Proxyserver)
        # mitmproxy 12 opens a listener before it has loaded a script; without a usable configuration all are closed.
        await proxyserver.servers.update([])
        if self.runtime.policy is None:
            return
        self.flow = ServerInstance.make(f"reverse:{DEAD_TARGET}", proxyserver)
        settings = self.runtime.settings
        host, port = parse_listen_address(str(settings["httpListenAddr"]), ipv6=bool(settings["enableTCP6"]))
        factory = self.fast.client if self.runtime.fast else self.flow_protocol
        try:
            self.server = await asyncio.get_running_loop().create_server(
                factory, host or None, port, backlog=1024, reuse_port=int(str(settings["workers"])) > 1
            )
        except OSError as error:  # mitmproxy ends a start on which an error was logged
            logger.error(f"-httpListenAddr: cannot listen on {settings['httpListenAddr']}: {error.strerror}")
            return
        logger.info(f"vmgateway {__version__} listens on {host or '*'}:{port}, {self.lane_name()} lane")

    def lane_name(self) -> str:
        """For the log."""
        return "fast" if self.runtime.fast else "flow"

    def flow_protocol(self) -> asyncio.StreamReaderProtocol:
        """A new connection for mitmproxy's layers."""
        assert self.flow is not None
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), self.flow.handle_stream)

    async def close(self) -> None:
        """Accept no more."""
        if self.server is not None:
            self.server.close()
            self.server = None
