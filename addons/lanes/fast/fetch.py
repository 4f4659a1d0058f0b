"""Requests of the gateway itself to a backend, over a connection of their own."""

from __future__ import annotations

import asyncio

from vmgw_addons.state import InForce
from vmgw_core.enforcement import UpstreamRequest
from vmgw_core.errors import AnswerTooLarge, BackendTimeout, BackendUnreachable, Cause
from vmgw_core.http import Headers

from .connection import HeaderLines, head_bytes
from .pool import Pool
from .response_head import ResponseHead

Fetched = tuple[int, Headers, bytes]
"""Status, headers and body of a response."""


async def fetch(pool: Pool, in_force: InForce, request: UpstreamRequest) -> Fetched:
    """Send ``request`` and return the response.

    Raises:
        BackendFailure: there is no response within ``-backend.responseTimeout``.
        AnswerTooLarge: it is larger than ``-response.maxFilterBytes``.
    """
    settings = in_force.configured.settings
    flag = request.backend.flag
    try:
        async with asyncio.timeout(settings.backend_response_timeout):
            connection = await pool.connect(request.backend)
            receiver = _Response(flag, settings.response_max_filter_bytes)
            try:
                connection.send(receiver, head_bytes(request, HeaderLines()), is_head=False)
                return await receiver.response
            finally:
                connection.abort()
    except TimeoutError:
        raise BackendTimeout(f"-{flag}: the backend did not respond in time") from None


class _Response:
    """Collects a response."""

    def __init__(self, flag: str, largest: int) -> None:
        self.flag = flag
        self.largest = largest
        self.head: ResponseHead | None = None
        self.body = bytearray()
        self.response: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()

    def received(self, head: ResponseHead | None, content: bytes, done: bool) -> None:
        self.head = head or self.head
        if self.response.done():
            return
        if len(self.body) + len(content) > self.largest:
            text = f"the backend's answer is larger than {self.largest} bytes (-response.maxFilterBytes)"
            self.response.set_exception(AnswerTooLarge(text))
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
