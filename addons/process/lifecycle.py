"""Lifecycle: reload on SIGHUP, graceful shutdown on SIGTERM and SIGINT."""

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

_POLL: Final = 0.02  # seconds between two checks whether the last request has ended
_RELOAD_PAUSE: Final = 1.0  # seconds between two reloads by the page


class Lifecycle:
    """Reloads on SIGHUP; on SIGTERM lets requests finish before the process ends."""

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
        """Flows whose response has not been sent."""
        self.ended: WeakSet[HTTPFlow] = WeakSet()
        """Flows whose end a hook has reported."""
        self.stopping: asyncio.Task[None] | None = None
        self.reloading: asyncio.Task[None] | None = None
        self.reload_wanted = False
        self.pause: asyncio.TimerHandle | None = None
        self.requested_in_pause = False

    def running(self) -> None:
        loop = asyncio.get_running_loop()
        if type(ctx.master).__name__ != "ConsoleMaster":  # there SIGHUP means that the terminal is gone
            loop.add_signal_handler(signal.SIGHUP, self.reload)
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        if type(ctx.master).__name__ in ("DumpMaster", "GatewayMaster"):  # the others ask the user on Ctrl-C
            loop.add_signal_handler(signal.SIGINT, self.stop)
        if self.process.worker is not None:
            parent = self.process.worker.parent
            self.background.repeat("parent", lambda: self.watch(parent))

    async def done(self) -> None:
        self.listener.close()
        await self.background.close()

    async def watch(self, parent: int) -> float:
        """Stop this worker if its parent is gone: nobody else would stop or replace it."""
        if os.getppid() != parent and self.stopping is None:
            self.stop()
        return 1

    def reload(self) -> None:
        """Read files again, and fetch keys. Calls during a reload are merged into one more reload."""
        self.reload_wanted = True
        if self.reloading is None or self.reloading.done():
            self.reloading = self.background.once("reload", self.reload_now())

    async def reload_now(self) -> None:
        """Reload until no further reload is wanted."""
        while self.reload_wanted:
            self.reload_wanted = False
            if await self.configuration.reload():
                self.keys.wake.set()

    def reload_on_request(self) -> None:
        """Reload for a client of the page ``/-/reload``, at most once a second."""
        if self.pause is None:
            self.reload()
            self.pause = asyncio.get_running_loop().call_later(_RELOAD_PAUSE, self.end_pause)
        else:
            self.requested_in_pause = True

    def end_pause(self) -> None:
        """Reload once more if that was requested during the pause."""
        self.pause = None
        if self.requested_in_pause:
            self.requested_in_pause = False
            self.reload_on_request()

    def stop(self) -> None:
        """Begin the shutdown; a second signal ends the process at once."""
        if self.stopping is not None:
            ctx.master.shutdown()
            return
        self.stopping = self.background.once("drain", self.drain())

    async def drain(self) -> None:
        """Let requests finish, then end the process, even if something fails."""
        try:
            await self.let_requests_end()
        finally:
            ctx.master.shutdown()

    async def let_requests_end(self) -> None:
        """Fail health checks, stop listening, and wait for requests in flight up to the flag's duration."""
        self.process.draining = True
        await asyncio.sleep(self.in_force.configured.settings.http_shutdown_delay)
        self.listener.close()
        self.fast.close_idle()
        logger.info(f"draining: {self.in_flight} requests in flight")
        limit = self.in_force.configured.settings.http_max_graceful_shutdown_duration
        deadline = asyncio.get_running_loop().time() + limit
        while self.in_flight and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_POLL)
        if self.in_flight:
            logger.warning(f"closing the connections of {self.in_flight} requests that took longer than {limit:g} s")
        await self.close_connections()

    @property
    def in_flight(self) -> int:
        """The number of requests without a complete response, in both lanes."""
        return len(self.flows) + self.fast.in_flight

    async def close_connections(self) -> None:
        """Cancel the tasks of open connections, so that none is destroyed while it waits."""
        transports = [io for handler in proxyserver().connections.values() for io in handler.transports.values()]
        tasks = [io.handler for io in transports if io.handler is not None]
        for task in tasks:
            task.cancel("shutting down")
        if tasks:
            await asyncio.wait(tasks, timeout=1)

    def requestheaders(self, flow: HTTPFlow) -> None:
        self.flows.add(flow)
        self.ended.discard(flow)  # a replay sends it again

    def response(self, flow: HTTPFlow) -> None:
        if flow in self.ended:
            raise AddonHalt  # the client has left
        self.ended.add(flow)
        asyncio.get_running_loop().call_soon(self.flows.discard, flow)  # mitmproxy writes the rest after the hook

    def error(self, flow: HTTPFlow) -> None:
        if flow in self.ended:
            raise AddonHalt  # client_disconnected has reported the end
        self.ended.add(flow)
        self.flows.discard(flow)

    async def client_disconnected(self, client: Client) -> None:
        """Report the end of this client's requests: mitmproxy fires no hook for one that waits for a connection."""
        for flow in [flow for flow in self.flows if flow.client_conn is client and flow not in self.ended]:
            flow.error = flow.error or Error("the client left")
            await ctx.master.addons.handle_lifecycle(HttpErrorHook(flow))
