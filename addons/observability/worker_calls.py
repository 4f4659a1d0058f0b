"""Calls between the workers of one port, on Unix sockets in the directory that only they use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from vmgw_addons.outgoing import failure_of
from vmgw_addons.state import InForce, Worker

logger = logging.getLogger(__name__)

_NAME_SECONDS: Final = 2.0  # to wait for the name of a call


class WorkerCalls:
    """Answers the calls of other workers, and calls them."""

    def __init__(self, in_force: InForce, worker: Worker | None) -> None:
        self.in_force = in_force
        self.worker = worker
        self.handlers: dict[str, Callable[[str], Awaitable[bytes]]] = {}
        """What answers a call, by its name. It gets the call's argument, or an empty one."""
        self.server: asyncio.Server | None = None

    async def running(self) -> None:
        worker = self.worker
        if worker is not None:
            path = _socket(worker, worker.slot)
            path.unlink(missing_ok=True)  # left by a dead worker
            self.server = await asyncio.start_unix_server(self.serve, path)

    async def done(self) -> None:
        if self.server is not None:
            self.server.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one call. A failure closes the connection without an answer."""
        try:
            async with asyncio.timeout(_NAME_SECONDS):
                name, _, argument = (await reader.readline()).decode().strip().partition(" ")
            writer.write(await self.handlers[name](argument))
            await writer.drain()
        except (OSError, TimeoutError):
            pass  # the caller has left
        finally:
            writer.close()

    async def call_others(self, name: str, seconds: float, argument: str = "") -> Mapping[int, bytes]:
        """Call all other workers at once, with an argument without line breaks.

        Returns the answers by slot. A worker that does not answer has none.
        """
        worker = self.worker
        if worker is None:
            return {}
        others = [slot for slot in range(worker.count) if slot != worker.slot]
        answers = await asyncio.gather(*(self._call(worker, slot, name, argument, seconds) for slot in others))
        return {slot: answer for slot, answer in zip(others, answers, strict=True) if answer}

    async def _call(self, worker: Worker, slot: int, name: str, argument: str, seconds: float) -> bytes:
        outage = self.in_force.outages.of(
            f"worker {slot}", logger, "/metrics, /-/status, /-/me and /-/reload leave it out"
        )
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_unix_connection(_socket(worker, slot))
                try:
                    writer.write(f"{name} {argument}\n".encode())
                    answer = await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:  # it may just be starting
            text, cause = failure_of(error)
            outage.failed(f"worker {slot} does not answer to {name}: {text}", cause)
            return b""
        if answer:
            outage.succeeded(f"worker {slot} answers again")
        return answer


def _socket(worker: Worker, slot: int) -> Path:
    return worker.directory / f"calls-{slot}"
