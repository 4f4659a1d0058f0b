"""The interface of the access log."""

from __future__ import annotations

from typing import Protocol

from vmgw_core.enforcement import Cycle


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
