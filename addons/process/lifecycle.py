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
from vmgw_addons.lanes.flow.upstreams import close_client
from vmgw_addons.listener import Listener
from vmgw_addons.observability import WorkerCalls
from vmgw_addons.sources import KeyRefresh
from vmgw_addons.state import InForce, Process
from vmgw_addons.support import Background

from .configuration import Configuration

logger = logging.getLogger(__name__)

_POLL: Final = 0.02  # seconds between two checks whether the last request has ended
_KILLED_PAUSE: Final = 0.2  # seconds between two looks for flows that were killed
_RELOAD_PAUSE: Final = 1.0  # seconds between two reloads by the page
_RELOAD_SECONDS: Final = 60.0  # to wait for a reload
_CALL: Final = "reload"
_DONE: Final = b"done"


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
        calls: WorkerCalls,
    ) -> None:
        self.in_force = in_force
        self.process = process
        self.background = background
        self.configuration = configuration
        self.keys = keys
        self.listener = listener
        self.fast = fast
        self.calls = calls
        self.flows: WeakSet[HTTPFlow] = WeakSet()
        """Flows whose response has not been sent."""
        self.ended: WeakSet[HTTPFlow] = WeakSet()
        """Flows whose end a hook has reported."""
        self.woken: WeakSet[HTTPFlow] = WeakSet()
        """Flows that were killed, and do not wait for the user any more."""
        self.stopping: asyncio.Task[None] | None = None
        self.reloading: asyncio.Task[None] | None = None
        self.next_reload: asyncio.Future[bool] | None = None
        """The result of the reload that has yet to begin."""
        self.requested: asyncio.Future[bool] | None = None
        """The result of the reload of all processes that has yet to begin."""
        self.paused_until = 0.0
        calls.handlers[_CALL] = self.reload_for_another

    def running(self) -> None:
        loop = asyncio.get_running_loop()
        if type(ctx.master).__name__ != "ConsoleMaster":  # there SIGHUP means that the terminal is gone
            early = signal.getsignal(signal.SIGHUP)
            loop.add_signal_handler(signal.SIGHUP, self.reload)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # one that came during the start counts
            if getattr(early, "came", False):  # in mitmproxy's programs, see vmgateway.py
                self.reload()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        if type(ctx.master).__name__ in ("DumpMaster", "GatewayMaster"):  # the others ask the user on Ctrl-C
            loop.add_signal_handler(signal.SIGINT, self.stop)
        if "scripts" in ctx.options:  # one of mitmproxy's programs
            self.background.repeat("killed_flows", self.end_killed)
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

    def reload(self) -> asyncio.Future[bool]:
        """Read files again, and fetch keys. Calls during a reload share one more. The result: whether it succeeded."""
        if self.next_reload is None:
            self.next_reload = asyncio.get_running_loop().create_future()
        result = self.next_reload
        if self.reloading is None or self.reloading.done():
            self.begin_reload()
        return result

    def begin_reload(self) -> None:
        """Begin the next reload, if one is wanted."""
        if self.next_reload is not None:
            result, self.next_reload = self.next_reload, None
            self.reloading = self.background.once("reload", self.reload_now(result))

    async def reload_now(self, result: asyncio.Future[bool]) -> None:
        """Reload, set the result, and begin the next reload if one is wanted meanwhile."""
        succeeded = False
        try:
            succeeded = await self.configuration.reload()
        finally:
            _settle(result, succeeded)
            self.begin_reload()
        if succeeded:
            self.keys.wake.set()

    async def reload_for_another(self, argument: str) -> bytes:
        """Reload for another worker. Returns ``done`` if it succeeded."""
        return _DONE if await self.reload_in_time() else b"failed"

    async def reload_in_time(self) -> bool:
        """Reload. A file that hangs counts as a failure after a minute; the reload goes on."""
        try:
            return await asyncio.wait_for(asyncio.shield(self.reload()), _RELOAD_SECONDS)
        except TimeoutError:
            return False

    async def reload_everywhere(self) -> bool:
        """Reload in all processes, for a client of the page ``/-/reload``. Returns whether all have succeeded.

        At most once a second; calls within that time share one more.
        """
        result = self.requested
        if result is None:
            result = self.requested = asyncio.get_running_loop().create_future()
            self.background.once("reload_everywhere", self.reload_after_pause(result))  # may run at once
        return await asyncio.shield(result)

    async def reload_after_pause(self, result: asyncio.Future[bool]) -> None:
        """Do what :meth:`reload_everywhere` promises."""
        loop = asyncio.get_running_loop()
        succeeded = False
        try:
            if loop.time() < self.paused_until:
                await self.background.sleep(self.paused_until - loop.time())
            self.requested = None
            self.paused_until = loop.time() + _RELOAD_PAUSE
            worker = self.process.worker
            others_wait = self.calls.call_others(_CALL, _RELOAD_SECONDS)
            own, others = await asyncio.gather(self.reload_in_time(), others_wait)
            expected = worker.count - 1 if worker is not None else 0
            succeeded = own and list(others.values()) == [_DONE] * expected
        finally:
            _settle(result, succeeded)

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
        await self.listener.leave()
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

    async def end_killed(self) -> float:
        """End the requests of flows that were killed.

        mitmproxy does so only when a hook of the flow ends, and leaves one waiting that was intercepted. A flow between
        two hooks ends with its client's connection.
        """
        for flow in [flow for flow in self.flows if flow not in self.ended and is_killed(flow)]:
            if flow in self.woken:
                close_client(flow.client_conn)
            else:
                self.woken.add(flow)
                flow.intercept()
                flow.resume()
        return _KILLED_PAUSE

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


def is_killed(flow: HTTPFlow) -> bool:
    """Whether the user or an addon has killed the flow."""
    return flow.error is not None and flow.error.msg == Error.KILLED_MESSAGE


def _settle(result: asyncio.Future[bool], succeeded: bool) -> None:
    if not result.done():
        result.set_result(succeeded)
