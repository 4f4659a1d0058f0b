"""Response headers of the flow lane: ``-http.header.*``, ``-http.disableCORS`` and ``-ratelimit.headers``.

Headers that name the backend's machine are always removed. What the session of a login has brought is not for caches.
"""

from __future__ import annotations

from mitmproxy.http import HTTPFlow

from vmgw_addons.state import Cycles, InForce
from vmgw_core.http import NOT_SHARED

from .flow_headers import FlowHeaders


class ResponseHeaders:
    """Adds headers to every response, and removes some of backends' headers."""

    def __init__(self, in_force: InForce, cycles: Cycles) -> None:
        self.in_force = in_force
        self.cycles = cycles

    def responseheaders(self, flow: HTTPFlow) -> None:
        self.response(flow)
        cycle = self.cycles.get(flow)
        if flow.response is not None and cycle is not None and cycle.responding and cycle.is_private:
            name, value = NOT_SHARED
            flow.response.headers.add(name.decode(), value.decode())

    def response(self, flow: HTTPFlow) -> None:
        """Edit the gateway's own responses too. This changes nothing in a response edited before."""
        if flow.response is not None and not getattr(flow.response.headers, "edited", False):
            edit = self.in_force.configured.header_edit
            cycle = self.cycles.get(flow)
            limits = () if cycle is None else cycle.limit_headers()
            headers = flow.response.headers = FlowHeaders((*edit.apply(flow.response.headers.fields), *limits))
            headers.edited = True
