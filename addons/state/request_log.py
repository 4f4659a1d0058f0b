"""The interfaces of the access log, the query log and the traces."""

from __future__ import annotations

from typing import Protocol

from vmgw_core.enforcement import Cycle, Tracer
from vmgw_core.http import Headers


class RequestLog(Protocol):
    """Logs each request that has ended. ``AccessLog`` implements it."""

    lost: int
    """Lines that could not be written."""

    def finished(self, cycle: Cycle, status: int | None, sent: int) -> None:
        """Log a request that has ended.

        Args:
            status: of the response; None if the client or the backend broke off before there was one.
            sent: bytes of the response's content that were passed on to the client.
        """


class ResponseLog(RequestLog, Protocol):
    """Also reads responses while they pass. ``QueryLog`` implements it."""

    def watch(self, cycle: Cycle, status: int, headers: Headers) -> None:
        """Prepare ``cycle`` to read the content of the response that begins with this head."""

    def close(self) -> None:
        """Write what is queued."""


class Traces(RequestLog, Protocol):
    """Makes spans of requests. ``observability.Traces`` implements it."""

    tracer: Tracer
    """For the cycles of new requests."""

    def results(self) -> dict[str, int]:
        """Return the number of spans by result."""

    def close(self) -> None:
        """Send what is queued."""
