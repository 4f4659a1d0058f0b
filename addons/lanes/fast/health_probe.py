"""Health probes: ask failed backends whether they work again."""

from __future__ import annotations

import asyncio
from typing import Final

from vmgw_addons.state import InForce
from vmgw_addons.support import Background
from vmgw_core.backends import Backend, Member
from vmgw_core.errors import BackendFailure, BackendTimeout, BackendUnreachable, Cause

from .pool import Pool
from .response_head import ResponseHead

_LOOK_SECONDS: Final = 1.0  # a backend that was ejected is seen after that time, or less with a small -failTimeout
_PROBE_TIMEOUT: Final = 5.0


class Backends:
    """Probes those of several backends that failed, with a request of the gateway's own every ``-failTimeout``."""

    def __init__(self, in_force: InForce, background: Background) -> None:
        self.in_force = in_force
        self.background = background
        self.pool = Pool(in_force)
        self.task: asyncio.Task[None] | None = None
        self.watches: dict[Member, asyncio.Task[None]] = {}

    def running(self) -> None:
        self.task = self.background.repeat("backends", self.step)

    async def done(self) -> None:
        await self.background.stop(self.task, *self.watches.values())
        self.pool.close()

    @property
    def pause(self) -> float:
        """``-failTimeout`` in seconds."""
        return self.in_force.configured.settings.fail_timeout

    async def step(self) -> float:
        """Watch those ejected since the last look. Returns when to look again."""
        for member in self.ejected():
            if member not in self.watches:
                self.watches[member] = self.background.once("backend_probe", self.watch(member))
        return min(_LOOK_SECONDS, self.pause)

    def ejected(self) -> set[Member]:
        """Return the ejected backends."""
        several = [group for group in self.in_force.configured.groups if group.only is None]
        return {member for group in several for member in group.members if not member.up}

    async def watch(self, member: Member) -> None:
        """Probe a backend until it responds, or is no longer one of several."""
        try:
            while True:
                await self.background.sleep(self.pause)
                if member not in self.ejected() or await self.responds(member):
                    return
        finally:
            del self.watches[member]

    async def responds(self, member: Member) -> bool:
        """Ask a backend for its health. Any response but a server error (5xx) puts it back."""
        flag = member.backend.flag
        failure: BackendFailure | None = None
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                status = await ask_health(self.pool, member.backend)
            if status >= 500:
                failure = BackendUnreachable(f"-{flag}: the backend answers /health with {status}", Cause.STATUS)
        except TimeoutError:
            failure = BackendTimeout(f"-{flag}: the backend did not respond to /health in time")
        except (BackendUnreachable, BackendTimeout) as error:
            failure = error
        if failure is not None:
            member.failing = True
        elif not member.up:  # a request may have found out meanwhile
            member.failing, member.up = False, True
        else:
            return True
        self.in_force.configured.note_backend(member, failure)
        return failure is None


async def ask_health(pool: Pool, backend: Backend) -> int:
    """Return the status of ``/health`` at a backend. Raises ``BackendFailure`` if there is none."""
    connection = await pool.connect(backend)
    receiver = _Status(backend.flag)
    try:
        head = f"GET {backend.base}/health HTTP/1.1\r\nHost: {backend.host_header}\r\nConnection: close\r\n"
        data = head.encode("ascii")
        if backend.authorization is not None:
            data += b"Authorization: %b\r\n" % backend.authorization
        connection.send(receiver, data + b"\r\n", is_head=False)
        return await receiver.status
    finally:
        connection.abort()


class _Status:
    """Waits for the head of a response."""

    def __init__(self, flag: str) -> None:
        self.flag = flag
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def received(self, head: ResponseHead | None, content: bytes, done: bool) -> None:
        if head is not None and not self.status.done():
            self.status.set_result(head.status)

    def backend_lost(self, reason: str, cause: Cause = Cause.CLOSED) -> None:
        if not self.status.done():
            text = reason or "the connection ended before the response"
            self.status.set_exception(BackendUnreachable(f"-{self.flag}: the backend failed: {text}", cause))

    def backend_writable(self, writable: bool) -> None:
        """A head fits into any buffer."""
