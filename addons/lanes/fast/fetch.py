"""Requests of the gateway itself to a backend, over a connection of their own."""

from __future__ import annotations

import asyncio

from vmgw_addons.state import InForce
from vmgw_addons.support import OneThread
from vmgw_core.answers import HeldBytes, VisibleNames, read_names
from vmgw_core.enforcement import UpstreamRequest
from vmgw_core.errors import AnswerTooLarge, BackendTimeout, BackendUnreachable, Cause, Overloaded
from vmgw_core.http import Headers

from .connection import HeaderLines, head_bytes
from .pool import Pool
from .response_head import ResponseHead

Fetched = tuple[int, Headers, bytes]
"""Status, headers and body of a response."""


async def fetch_names(pool: Pool, in_force: InForce, request: UpstreamRequest, thread: OneThread) -> VisibleNames:
    """Send ``request``, and return the metric names in the response, which is read in ``thread``.

    Raises:
        BackendFailure: there is no response within ``-backend.responseTimeout``.
        BadAnswer: it has no names.
        AnswerTooLarge: it is larger than ``-response.maxFilterBytes``.
        Overloaded: the gateway holds as much as it may.
    """
    configured = in_force.configured
    assert configured.policy is not None
    held = configured.policy.held
    flag = request.backend.flag
    receiver = _Response(flag, held)
    try:
        try:
            async with asyncio.timeout(configured.settings.backend_response_timeout):
                connection = await pool.connect(request.backend)
                try:
                    connection.send(receiver, head_bytes(request, HeaderLines()), is_head=False)
                    response = await receiver.response
                finally:
                    connection.abort()
        except TimeoutError:
            raise BackendTimeout(f"-{flag}: the backend did not respond in time") from None
        return await thread.call(lambda: read_names(*response, held.largest))
    finally:
        held.give_back(len(receiver.body))


class _Response:
    """Collects a response."""

    def __init__(self, flag: str, held: HeldBytes) -> None:
        self.flag = flag
        self.held = held
        self.head: ResponseHead | None = None
        self.body = bytearray()
        self.response: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()

    def received(self, head: ResponseHead | None, content: bytes, done: bool) -> None:
        self.head = head or self.head
        if self.response.done():
            return
        try:
            self.held.take(len(self.body), len(content))
        except (AnswerTooLarge, Overloaded) as refusal:
            self.response.set_exception(refusal)
            return
        self.body += content
        if done and self.head is not None:
            self.response.set_result((self.head.status, self.head.headers, bytes(self.body)))

    def backend_lost(self, reason: str, cause: Cause = Cause.CLOSED) -> None:
        if not self.response.done():
            text = reason or "the connection ended before the response"
            self.response.set_exception(BackendUnreachable(f"-{self.flag}: the backend failed: {text}", cause))

    def backend_writable(self, writable: bool) -> None:
        """A head fits into any buffer."""
