"""Lifecycle: reload on SIGHUP, drain on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from typing import Final
from weakref import WeakSet

from mitmproxy import ctx
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.http import HTTPFlow

from .configuration import Configuration
from .key_refresh import KeyRefresh
from .runtime import Runtime

logger = logging.getLogger(__name__)

_RELOAD_PAUSE: Final = 1.0  # seconds


class Lifecycle:
    """Ends requests before it ends the process."""

    def __init__(self, runtime: Runtime, configuration: Configuration, keys: KeyRefresh) -> None:
        self.runtime = runtime
        self.configuration = configuration
        self.keys = keys
        self.in_flight: WeakSet[HTTPFlow] = WeakSet()
        self.idle = asyncio.Event()
        self.stopping: asyncio.Task[None] | None = None
        self.reloading: asyncio.Task[None] | None = None
        self.reload_wanted = False

    def running(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        if type(ctx.master).__name__ in ("DumpMaster", "GatewayMaster"):  # in the others Ctrl-C asks the user
            loop.add_signal_handler(signal.SIGINT, self.stop)

    def reload(self) -> None:
        """Read files anew, and fetch keys again. While that goes on, one more is remembered, however many come."""
        self.reload_wanted = True
        if self.reloading is None or self.reloading.done():
            self.reloading = asyncio.get_running_loop().create_task(self.reload_now())

    async def reload_now(self) -> None:
        """Reload as long as that is wanted, at most once a second: anybody may ask for it."""
        while self.reload_wanted:
            self.reload_wanted = False
            if await self.configuration.reload():
                self.keys.wake.set()
            await asyncio.sleep(_RELOAD_PAUSE)

    def stop(self) -> None:
        """Begin to drain; a second signal ends at once."""
        if self.stopping is not None:
            ctx.master.shutdown()
            return
        self.stopping = asyncio.get_running_loop().create_task(self.drain())

    async def drain(self) -> None:
        """Tell load balancers, stop listening, let requests end, then leave."""
        self.runtime.draining = True
        await asyncio.sleep(self.seconds("http.shutdownDelay"))
        proxyserver = ctx.master.addons.get("proxyserver")
        assert isinstance(proxyserver, Proxyserver)
        await proxyserver.servers.update([])
        logger.info(f"draining: {len(self.in_flight)} requests in flight")
        limit = self.seconds("http.maxGracefulShutdownDuration")
        self.check_idle()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.idle.wait(), limit)
        if self.in_flight:
            logger.warning(f"{len(self.in_flight)} requests did not end within {limit:g} seconds and are cut off")
        await self.close_connections(proxyserver)
        ctx.master.shutdown()

    async def close_connections(self, proxyserver: Proxyserver) -> None:
        """Close what is left, so that no task is destroyed while it waits."""
        transports = [io for handler in proxyserver.connections.values() for io in handler.transports.values()]
        tasks = [io.handler for io in transports if io.handler is not None]
        for task in tasks:
            task.cancel("shutting down")
        if tasks:
            await asyncio.wait(tasks, timeout=1)

    def requestheaders(self, flow: HTTPFlow) -> None:
        self.in_flight.add(flow)

    def response(self, flow: HTTPFlow) -> None:
        self.finished(flow)

    def error(self, flow: HTTPFlow) -> None:
        self.finished(flow)

    def finished(self, flow: HTTPFlow) -> None:
        """One request less."""
        self.in_flight.discard(flow)
        if self.runtime.draining:
            asyncio.get_running_loop().call_soon(self.check_idle)  # the end of the answer is written after the hook

    def check_idle(self) -> None:
        """Whether the last request has ended."""
        if not self.in_flight:
            self.idle.set()

    def seconds(self, flag: str) -> float:
        """A duration flag, or 0 before there is a configuration."""
        return float(str(self.runtime.settings.get(flag, 0)))
