"""Metric names that a token can see: the flow lane asks for them before a request whose response depends on them."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from mitmproxy.http import HTTPFlow

from vmgw_addons.state import Cycles
from vmgw_core.answers import VisibleNames
from vmgw_core.enforcement import Cycle, State, UpstreamRequest
from vmgw_core.errors import InternalError, Refusal

from .flow_responses import refuse

logger = logging.getLogger(__name__)

Fetch = Callable[[UpstreamRequest], Awaitable[VisibleNames]]


class MetricNames:
    """Asks for metric names. ``fetch`` sends a request of the gateway itself, and reads the names."""

    def __init__(self, cycles: Cycles, fetch: Fetch) -> None:
        self.cycles = cycles
        self.fetch = fetch

    def requestheaders(self, flow: HTTPFlow) -> Awaitable[None] | None:
        """Ask once the request is ready to be sent: mitmproxy awaits what a hook returns."""
        cycle = self.cycles.get(flow)
        if flow.response is not None or cycle is None or cycle.state is not State.READY:
            return None
        request = cycle.names_request(time.monotonic())
        return None if request is None else self.look_up(flow, cycle, request)

    request = requestheaders  # for a form, which is complete only then

    async def look_up(self, flow: HTTPFlow, cycle: Cycle, request: UpstreamRequest) -> None:
        """Give the cycle the names, or refuse the request."""
        try:
            cycle.names(await self.fetch(request), time.monotonic())
        except Refusal as refusal:
            refuse(flow, cycle, refusal)
        except Exception:
            # mitmproxy would log the exception and continue with the flow.
            logger.exception("the metric names of a token could not be asked for")
            refuse(flow, cycle, InternalError("the metric names of the token could not be asked for"))
