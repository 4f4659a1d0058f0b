"""Kept bodies: what streams through stays visible in mitmproxy and mitmweb, within bounds."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final
from weakref import ReferenceType, ref

from mitmproxy.http import HTTPFlow, Message

from vmgw_addons.capture import Tee
from vmgw_addons.state import Cycles

from .body_text import inflates_too_far

logger = logging.getLogger(__name__)

MAX_BODY: Final = 4 << 20
"""Bytes of one body. A larger one streams through and is not kept."""
MAX_TOTAL: Final = 256 << 20
"""Bytes of all bodies that are kept; the oldest give way."""

Stream = Callable[[bytes], "Iterable[bytes] | bytes"]


class KeptBodies:
    """Keeps a copy of each body that streams; the body itself streams on as it does without."""

    def __init__(self, cycles: Cycles) -> None:
        self.cycles = cycles
        self.kept: deque[tuple[ReferenceType[Message], int]] = deque()
        self.total = 0

    def requestheaders(self, flow: HTTPFlow) -> None:
        if flow in self.cycles and flow.request.stream:
            flow.request.stream = Copy(flow.request.stream)

    def responseheaders(self, flow: HTTPFlow) -> None:
        if flow.response is not None and flow in self.cycles and flow.response.stream:
            flow.response.stream = Copy(flow.response.stream)

    def request(self, flow: HTTPFlow) -> None:
        self.keep(flow.request)

    def response(self, flow: HTTPFlow) -> None:
        if flow.response is not None:
            self.keep(flow.response)

    def keep(self, message: Message) -> None:
        """Give a message the body that went through, where it was small enough."""
        copy = getattr(message, "stream", None)
        if isinstance(copy, Tee):  # a capture keeps its own
            copy = copy.inner
        if not isinstance(copy, Copy) or message.raw_content is not None:
            return
        body = copy.content()
        copy.parts.clear()
        if body is None:
            logger.info(f"a body of more than {MAX_BODY} bytes is not kept")
        elif inflates_too_far(body, message.headers.get("content-encoding", "")):
            logger.info("a body that grows beyond all bounds when it is decoded is not kept")
        else:
            message.data.content = body  # not message.content: that would add a Content-Length
            self.kept.append((ref(message), len(body)))
            self.total += len(body)
            self.make_room()

    def make_room(self) -> None:
        """Take the oldest bodies away again."""
        while self.total > MAX_TOTAL:
            reference, size = self.kept.popleft()
            self.total -= size
            message = reference()
            if message is not None:
                message.data.content = None


class Copy:
    """A stream function of mitmproxy that keeps what it passes on, if that is not too much."""

    def __init__(self, inner: Stream | bool) -> None:
        self.inner = inner
        self.parts: list[bytes] = []
        self.size = 0

    def __call__(self, data: bytes) -> Iterable[bytes] | bytes:
        passed: Iterable[bytes] | bytes = self.inner(data) if callable(self.inner) else data
        parts = [passed] if isinstance(passed, bytes) else list(passed)
        for part in parts:
            self.size += len(part)
            if self.size <= MAX_BODY:
                self.parts.append(part)
            else:
                self.parts.clear()
        return parts[0] if len(parts) == 1 else parts

    def content(self) -> bytes | None:
        """The whole of it, or None where it is too much."""
        return b"".join(self.parts) if self.size <= MAX_BODY else None
