"""Lifecycle: reload on SIGHUP, drain on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import Final
from weakref import WeakSet

from mitmproxy import ctx
from mitmproxy.connection import Client
from mitmproxy.exceptions import AddonHalt
from mitmproxy.flow import Error
from mitmproxy.http import HTTPFlow

from vmgw_addons._mitmproxy import HttpErrorHook, proxyserver
from vmgw_addons.lanes.fast import FastLane
from vmgw_addons.listener import Listener
from vmgw_addons.sources import KeyRefresh
from vmgw_addons.state import InForce, Process
from vmgw_addons.support import Background

from .configuration import Configuration

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.02  # between two looks whether the last request has ended
_RELOAD_PAUSE: Final = 1.0  # seconds


class Lifecycle:
    """Ends requests before it ends the process."""

    def __init__(
        self,
        in_force: InForce,
        process: Process,
        background: Background,
        configuration: Configuration,
        keys: KeyRefresh,
        listener: Listener,
        fast: FastLane,
    ) -> None:
        self.in_force = in_force
        self.process = process
        self.background = background
        self.configuration = configuration
        self.keys = keys
        self.listener = listener
        self.fast = fast
        self.flows: WeakSet[HTTPFlow] = WeakSet()
        """Those whose answer is not out yet."""
        self.ended: WeakSet[HTTPFlow] = WeakSet()
        """Those whose end a hook has told."""
        self.stopping: asyncio.Task[None] | None = None
        self.reloading: asyncio.Task[None] | None = None
        self.reload_wanted = False
        self.watching: asyncio.Task[None] | None = None
        self.pause: asyncio.TimerHandle | None = None
        self.asked_meanwhile = False

    def running(self) -> None:
        loop = asyncio.get_running_loop()
        if type(ctx.master).__name__ != "ConsoleMaster":  # there it says that the terminal is gone
            loop.add_signal_handler(signal.SIGHUP, self.reload)
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        if type(ctx.master).__name__ in ("DumpMaster", "GatewayMaster"):  # in the others Ctrl-C asks the user
            loop.add_signal_handler(signal.SIGINT, self.stop)
        if self.process.worker is not None:
            parent = self.process.worker.parent
            self.watching = self.background.repeat("parent", lambda: self.watch(parent))

    async def watch(self, parent: int) -> float:
        """A worker whose parent is gone has nobody to end or to replace it: it leaves."""
        if os.getppid() != parent and self.stopping is None:
            self.stop()
        return 1

    def reload(self) -> None:
        """Read files anew, and fetch keys again. While that goes on, one more is remembered, however many come."""
        self.reload_wanted = True
        if self.reloading is None or self.reloading.done():
            self.reloading = self.background.once("reload", self.reload_now())

    async def reload_now(self) -> None:
        """Reload as long as that is wanted."""
        while self.reload_wanted:
            self.reload_wanted = False
            if await self.configuration.reload():
                self.keys.wake.set()

    def reload_on_request(self) -> None:
        """As :meth:`reload`, for whoever can reach the page: at most once a second."""
        if self.pause is None:
            self.reload()
            self.pause = asyncio.get_running_loop().call_later(_RELOAD_PAUSE, self.pause_over)
        else:
            self.asked_meanwhile = True

    def pause_over(self) -> None:
        """Do what was asked for in the pause, once."""
        self.pause = None
        if self.asked_meanwhile:
            self.asked_meanwhile = False
            self.reload_on_request()

    def stop(self) -> None:
        """Begin to drain; a second signal ends at once."""
        if self.stopping is not None:
            ctx.master.shutdown()
            return
        self.stopping = self.background.once("drain", self.drain())

    async def drain(self) -> None:
        """Tell load balancers, stop listening, let requests end, then leave."""
        try:
            await self.let_requests_end()
        finally:  # whatever has failed, the process ends
            ctx.master.shutdown()

    async def let_requests_end(self) -> None:
        """Take no new requests, and wait for those in flight as long as the flag says."""
        self.process.draining = True
        await asyncio.sleep(self.in_force.configured.settings.http_shutdown_delay)
        self.listener.close()
        self.fast.close_idle()
        logger.info(f"draining: {self.in_flight} requests in flight")
        limit = self.in_force.configured.settings.http_max_graceful_shutdown_duration
        deadline = asyncio.get_running_loop().time() + limit
        while self.in_flight and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)
        if self.in_flight:
            logger.warning(f"{self.in_flight} requests did not end within {limit:g} seconds and are cut off")
        await self.close_connections()

    @property
    def in_flight(self) -> int:
        """Requests that are being answered, in both lanes."""
        return len(self.flows) + self.fast.in_flight

    async def close_connections(self) -> None:
        """Close what is left, so that no task is destroyed while it waits."""
        transports = [io for handler in proxyserver().connections.values() for io in handler.transports.values()]
        tasks = [io.handler for io in transports if io.handler is not None]
        for task in tasks:
            task.cancel("shutting down")
        if tasks:
            await asyncio.wait(tasks, timeout=1)

    def requestheaders(self, flow: HTTPFlow) -> None:
        self.flows.add(flow)
        self.ended.discard(flow)  # it may be sent again

    def response(self, flow: HTTPFlow) -> None:
        if flow in self.ended:
            raise AddonHalt  # there is nobody left to answer
        self.ended.add(flow)
        asyncio.get_running_loop().call_soon(self.flows.discard, flow)  # the answer's end is written after the hook

    def error(self, flow: HTTPFlow) -> None:
        if flow in self.ended:
            raise AddonHalt  # mitmproxy has found out behind client_disconnected
        self.ended.add(flow)
        self.flows.discard(flow)

    async def client_disconnected(self, client: Client) -> None:
        """mitmproxy tells nobody the end of a request that was reset while it waited for a connection: it is this."""
        for flow in [flow for flow in self.flows if flow.client_conn is client and flow not in self.ended]:
            flow.error = flow.error or Error("the client left")
            await ctx.master.addons.handle_lifecycle(HttpErrorHook(flow))
