"""What the connections of the fast lane share: the configuration in force, the steps of a request, and the pool."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

from vmgw_addons.observability import StatusPages, Telemetry
from vmgw_addons.state import InForce, Process, WireLimits
from vmgw_addons.steps import AccessControl
from vmgw_addons.support import Background, OneThread
from vmgw_core.answers import VisibleNames
from vmgw_core.enforcement import Cycle, UpstreamRequest
from vmgw_core.errors import Refusal
from vmgw_core.http import Headers, Response, refusal_response

from .fetch import fetch_names
from .pool import Pool
from .request_head import FieldsCache
from .response_head import ResponseHead

logger = logging.getLogger(__name__)

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Tap(Protocol):
    """Keeps what a capture needs of one exchange. Bodies are bounded."""

    def keep_form(self, cycle: Cycle, form: bytes) -> None:
        """Keep the client's form."""

    def sent(self, content: bytes) -> None:
        """Keep more of the request's body."""

    def responded(self, status: int, headers: Headers) -> None:
        """Keep the head of the response."""

    def received(self, content: bytes) -> None:
        """Keep more of the response's body."""

    def end(self, cycle: Cycle, *, complete: bool) -> None:
        """Write what was kept. ``complete``: the client has the whole response."""


class Services:
    """Given to every connection of a client. ``now`` is the clock of all deadlines, in seconds."""

    def __init__(
        self,
        in_force: InForce,
        process: Process,
        background: Background,
        pages: StatusPages,
        access_control: AccessControl,
        telemetry: Telemetry,
    ) -> None:
        self.in_force = in_force
        self.process = process
        self.background = background
        self.pages = pages
        self.access_control = access_control
        self.telemetry = telemetry
        self.pool = Pool(in_force)
        self.filters = OneThread("answer filter")
        """Makes large answers that are limited to a token, one at a time."""
        self.fields = FieldsCache()
        self.tapping: Callable[[], Tap | None] | None = None
        """Returns a tap if the next request is to be captured. None without ``-capture.file``."""
        self.now: Callable[[], float] = time.monotonic

    def tap_with(self, tapping: Callable[[], Tap | None]) -> None:
        """Ask ``tapping`` for a tap of each request."""
        self.tapping = tapping

    @property
    def limits(self) -> WireLimits:
        """The sizes and timeouts in force."""
        return self.in_force.configured.limits

    async def fetch_names(self, request: UpstreamRequest) -> VisibleNames:
        """Ask for metric names. Raises ``BackendFailure``, ``BadAnswer``, ``AnswerTooLarge`` and ``Overloaded``."""
        return await fetch_names(self.pool, self.in_force, request, self.filters)

    def response_head(self, status: int, headers: Headers) -> bytes:
        """Return a response head without its end: the standard reason phrase, and the headers of every response."""
        line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        edited = self.in_force.configured.header_edit.apply(headers)
        return line + b"".join([b"%b: %b\r\n" % header for header in edited])

    def backend_head(self, head: ResponseHead) -> bytes:
        """Return the head of a backend's response for clients, without its end. It is written once and kept."""
        edit = self.in_force.configured.header_edit
        if head.edit is not edit:
            head.written, head.edit = self.response_head(head.status, head.headers), edit
        return head.written

    def own_response(self, response: Response, connection: bytes, *, content: bool = True) -> bytes:
        """Return a response of the gateway itself, as bytes.

        Args:
            connection: header lines about the connection, each with its end.
            content: False for the response to HEAD, which has a length and no content.
        """
        head = self.response_head(response.status, (*response.headers, *response.private))
        return head + connection + b"\r\n" + (response.body if content else b"")

    def last_response(self, refusal: Refusal) -> bytes:
        """Return the response to bytes that are no request, after which the connection is closed."""
        self.telemetry.malformed(refusal)
        return self.own_response(refusal_response(refusal), b"Connection: close\r\n")

    def finished(self, cycle: Cycle, status: int | None) -> None:
        """Count and log a request that has ended. If that fails, the connection still serves its next request."""
        try:
            if not cycle.own_page:
                self.telemetry.count(cycle, status)
            for log in self.in_force.configured.request_logs:
                log.finished(cycle, status, cycle.sent)
        except Exception as error:
            logger.error(f"a request could not be counted or logged: {type(error).__name__}")

    def captured(self, tap: Tap, cycle: Cycle, *, complete: bool) -> None:
        """Capture a request that has ended. If that fails, the connection still serves its next request."""
        try:
            tap.end(cycle, complete=complete)
        except Exception as error:
            logger.error(f"a request could not be captured: {type(error).__name__}")
