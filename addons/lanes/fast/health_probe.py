"""Health probes: ask backends that failed whether they answer again."""

from __future__ import annotations

import asyncio
from typing import Final

from vmgw_addons.state import InForce, tell_of_backend
from vmgw_addons.support import Background
from vmgw_core.backends import Backend, Member
from vmgw_core.errors import Refusal

from .connection import AnswerHead
from .pool import Pool

_LOOK_SECONDS: Final = 1.0  # after that long it is seen that a backend was set aside, or less with a small -failTimeout
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
        """Watch those that were set aside since the last look. Returns when to look again."""
        for member in self.set_aside():
            if member not in self.watches:
                self.watches[member] = self.background.once("backend_probe", self.watch(member))
        return min(_LOOK_SECONDS, self.pause)

    def set_aside(self) -> set[Member]:
        """Those that wait for their next chance."""
        several = [group for group in self.in_force.configured.groups if group.only is None]
        return {member for group in several for member in group.members if not member.up}

    async def watch(self, member: Member) -> None:
        """Probe a backend until it answers, or is no longer one of several."""
        try:
            while True:
                await self.background.sleep(self.pause)
                if member not in self.set_aside() or await self.answers(member):
                    return
        finally:
            del self.watches[member]

    async def answers(self, member: Member) -> bool:
        """Ask a backend for its health. It is back with any answer but an error of the server's (5xx)."""
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                status = await ask_health(self.pool, member.backend)
        except (Refusal, TimeoutError):
            return False
        if status >= 500:
            return False
        if not member.up:  # a request may have found out meanwhile
            member.up = True
            tell_of_backend(member)
        return True


async def ask_health(pool: Pool, backend: Backend) -> int:
    """The status of ``/health`` at a backend, 599 where it gives no answer. Raises Refusal: it cannot be reached."""
    connection = await pool.connect(backend)
    receiver = _Status()
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
    """Waits for the head of an answer."""

    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def answered(self, head: AnswerHead | None, content: bytes, done: bool) -> None:
        if head is not None and not self.status.done():
            self.status.set_result(head.status)

    def backend_lost(self, reason: str) -> None:
        if not self.status.done():
            self.status.set_result(599)

    def backend_writable(self, writable: bool) -> None:
        """A head fits into any buffer."""
