"""The fast lane without sockets: its protocol objects over transports that a test plays both ends of.

    lane = Lane()
    client = lane.client()
    client.feed(GET)                        # what the client sends
    lane.turn()                             # the event loop goes round until nothing is left to do
    backend = lane.backends[0]
    backend.feed(b"HTTP/1.1 204 Fine\\r\\n\\r\\n")
    assert client.written.startswith(b"HTTP/1.1 204 ")

Nothing here waits: ``lane.pass_time`` moves the clock that the lane's deadlines are on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mitmproxy.test import taddons

from tests.support.wire.tokens import SPEC_READ
from vmgw_addons.lanes.fast.client import FastClient
from vmgw_addons.lanes.fast.connection import BackendConnection
from vmgw_addons.lanes.fast.lane import FastLane
from vmgw_addons.lanes.fast.pool import Pool
from vmgw_addons.lanes.fast.services import Services
from vmgw_addons.observability.metrics import Telemetry
from vmgw_addons.observability.pages.status_pages import StatusPages
from vmgw_addons.observability.worker_calls import WorkerCalls
from vmgw_addons.observability.worker_metrics import WorkerMetrics
from vmgw_addons.process.configuration import Configuration
from vmgw_addons.sources import KeyRefresh, PasswordChecks
from vmgw_addons.state import Cycles, InForce, Process, Reloads
from vmgw_addons.steps.access_control import AccessControl
from vmgw_addons.support import Background
from vmgw_core.backends.backend import Backend
from vmgw_core.configuration import parse
from vmgw_core.errors import BackendUnreachable

HIGH_WATER = 64 * 1024

TOKEN = SPEC_READ
"""Good until 2031; no key is configured, so its signature does not matter."""


def request(method: str, target: str, *headers: str, version: str = "1.1") -> bytes:
    """A request head with a good token."""
    lines = [f"{method} {target} HTTP/{version}", "Host: gateway", f"Authorization: Bearer {TOKEN}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


GET = request("GET", "/api/v1/query?query=up")
WRITE = "/api/v1/import/prometheus"
UNREAD = "/datadog/api/v1/validate"
"""A write whose body is not read for rows and names: it streams from its first byte."""


class FakeTransport(asyncio.Transport):
    """One end of a connection. The test feeds it what the peer sends, and sees what the peer would get.

    ``stalled``: the peer takes nothing, so what is written stays in the buffer, until ``drain``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("192.0.2.7", 4711)})
        self.loop = loop
        self.protocol = protocol
        self.written = bytearray()
        self.incoming = b""
        self.eof = False
        self.stalled = False
        self.buffered = 0
        self.reading = True
        self.closing = self.aborted = self.lost = False
        self.left = False
        """Whether it was the peer that ended it."""
        self._told = False
        protocol.connection_made(self)

    # --- the peer --------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """The peer sends ``data``: it is received now, or as soon as reading goes on."""
        self.incoming += data
        self._pump()

    def feed_eof(self) -> None:
        """The peer sends no more."""
        self.eof = self.left = True
        self._pump()

    def lose(self, error: Exception | None = None) -> None:
        """The connection breaks."""
        self.closing = self.left = True
        self._lost(error)

    def drain(self) -> None:
        """The peer takes everything there is."""
        self.stalled = False
        self.buffered = 0
        if self._told:
            self._told = False
            self.protocol.resume_writing()
        if self.closing:
            self._lost(None)

    def _pump(self) -> None:
        while self.reading and not self.closing and self.incoming:
            data, self.incoming = self.incoming[: 256 * 1024], self.incoming[256 * 1024 :]
            self.protocol.data_received(data)
        if self.reading and not self.closing and self.eof:
            self.eof = False
            if not self.protocol.eof_received():
                self.close()

    def _lost(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connection_lost(error)

    # --- asyncio's interface ---------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self.closing:
            return
        self.written += data
        if self.stalled:
            self.buffered += len(data)
            if self.buffered > HIGH_WATER and not self._told:
                self._told = True
                self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.loop.call_soon(self._pump)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        if not self.buffered:
            self.loop.call_soon(self._lost, None)

    def abort(self) -> None:
        self.closing = self.aborted = True
        self.loop.call_soon(self._lost, None)


class Backends:
    """Opens connections of :class:`FakeTransport` when ``gate`` lets it, for :class:`Pool`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.opened: list[FakeTransport] = []
        self.refusing = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def dial(
        self, in_force: InForce, backend: Backend, make: Callable[[], BackendConnection]
    ) -> BackendConnection:
        await self.gate.wait()
        if self.refusing:
            raise BackendUnreachable("-read.url: the backend cannot be reached")
        connection = make()
        self.opened.append(FakeTransport(self.loop, connection))
        return connection


@contextmanager
def mitmproxy_with(addon: object, *, core: bool = True) -> Iterator[taddons.context]:
    """mitmproxy with one addon, and with its own core. mitmproxy 11 leaves it to the test to close the event loop."""
    with taddons.context(addon, loadcore=core) as context:
        try:
            yield context
        finally:
            context.master._legacy_log_events.uninstall()  # it would send log lines to the closed loop
            context.master.event_loop.close()


class Lane:
    """A fast lane, the event loop it runs in, and a clock. Close it behind the test."""

    def __init__(self, **flags: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.in_force = InForce()
        process, background, cycles = Process(), Background(), Cycles()
        given = {"enable.auth": "true", "read.url": "http://read.test:1", "write.url": "http://write.test:1", **flags}
        settings = parse([f"-{name}={text}" for name, text in given.items()], {}).settings
        Configuration(self.in_force, process, Reloads(), Reloads()).apply(settings)
        self.telemetry = Telemetry(self.in_force, cycles)
        workers = WorkerMetrics(WorkerCalls(self.in_force, None), self.telemetry)
        pages = StatusPages(self.in_force, process, background, cycles, self.telemetry, workers)
        control = AccessControl(
            self.in_force, cycles, KeyRefresh(self.in_force, background), PasswordChecks(background)
        )
        self.services = Services(self.in_force, process, background, pages, control, self.telemetry)
        self.fast = FastLane(self.services)
        self.network = Backends(self.loop)
        self.pool = self.services.pool = Pool(self.in_force, self.network.dial)
        self.time = 1000.0
        self.services.now = lambda: self.time
        self.failures: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context))

    def client(self) -> FakeTransport:
        """A new client."""
        return FakeTransport(self.loop, FastClient(self.services, self.fast, None, lambda _: asyncio.Protocol()))

    @property
    def backends(self) -> list[FakeTransport]:
        """The connections to backends, in the order in which they were opened."""
        return self.network.opened

    def turn(self) -> None:
        """Let the loop go round."""
        for _ in range(6):
            self.call(lambda: None)
        assert not self.failures, self.failures

    def call(self, step: Callable[[], None]) -> None:
        """Do ``step`` within the running loop, and let it go round once."""
        failed: list[BaseException] = []

        def run() -> None:
            try:
                step()
            except BaseException as error:
                failed.append(error)
            self.loop.stop()

        self.loop.call_soon(run)
        self.loop.run_forever()
        if failed:
            raise failed[0]

    def feed(self, transport: FakeTransport, data: bytes) -> None:
        """The peer of ``transport`` sends ``data``, and the loop goes round."""
        self.call(lambda: transport.feed(data))
        self.turn()

    def feed_eof(self, transport: FakeTransport) -> None:
        """The peer of ``transport`` sends no more."""
        self.call(transport.feed_eof)
        self.turn()

    def pass_time(self, seconds: float) -> None:
        """Time passes, and the lane looks at its deadlines."""
        self.time += seconds
        self.call(self.sweep)
        self.turn()

    def sweep(self) -> None:
        """As the lane's own timer does."""
        for client in [client for client in self.fast.clients if self.time > client.deadline]:
            client.too_late()

    def close(self) -> None:
        self.call(self.fast.close)
        self.turn()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()
