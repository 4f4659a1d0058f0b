"""Kept bodies: streamed bodies stay visible in mitmproxy and mitmweb, up to a limit."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final
from weakref import ReferenceType, ref

from mitmproxy.http import HTTPFlow, Message

from vmgw_addons.capture import Tee
from vmgw_addons.state import Cycles

from .body_text import inflates_too_far

logger = logging.getLogger(__name__)

MAX_BODY: Final = 4 << 20
"""Bytes of one body. A larger one is not kept."""
MAX_TOTAL: Final = 256 << 20
"""Bytes of all kept bodies; the oldest ones are dropped."""


class KeptBodies:
    """Keeps a copy of each body that streams."""

    def __init__(self, cycles: Cycles) -> None:
        self.cycles = cycles
        self.kept: deque[tuple[ReferenceType[Message], int]] = deque()
        self.total = 0

    def requestheaders(self, flow: HTTPFlow) -> None:
        if flow in self.cycles and flow.request.stream:
            flow.request.stream = Tee(flow.request.stream, MAX_BODY)

    def responseheaders(self, flow: HTTPFlow) -> None:
        if flow.response is not None and flow in self.cycles and flow.response.stream:
            flow.response.stream = Tee(flow.response.stream, MAX_BODY)

    def request(self, flow: HTTPFlow) -> None:
        self.keep(flow.request)

    def response(self, flow: HTTPFlow) -> None:
        if flow.response is not None:
            self.keep(flow.response)

    def keep(self, message: Message) -> None:
        """Put the body that has streamed into the message, if it is small enough."""
        tee = getattr(message, "stream", None)
        if isinstance(tee, Tee) and isinstance(tee.inner, Tee):  # the outer one is the capture's
            tee = tee.inner
        if not isinstance(tee, Tee) or message.raw_content is not None:
            return
        body = bytes(tee.data)
        tee.data.clear()
        if not tee.whole:
            logger.info(f"not keeping a body of more than {MAX_BODY} bytes")
        elif inflates_too_far(body, message.headers.get("content-encoding", "")):
            logger.info("not keeping a body that is too large when it is decoded")
        else:
            message.data.content = body  # message.content would add a Content-Length
            self.kept.append((ref(message), len(body)))
            self.total += len(body)
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Drop the oldest bodies until the rest fits."""
        while self.total > MAX_TOTAL:
            reference, size = self.kept.popleft()
            self.total -= size
            message = reference()
            if message is not None:
                message.data.content = None
