"""Server replay: limits what mitmproxy's ``--server-replay`` may replace."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from mitmproxy.http import HTTPFlow, Response

from vmgw_addons.state import Cycles
from vmgw_addons.steps import refuse
from vmgw_core.errors import BackendUnreachable


class ServerReplay:
    """Restores the gateway's own responses: mitmproxy would replace refusals by captured responses, or its own."""

    def __init__(self, cycles: Cycles) -> None:
        self.cycles = cycles
        self.responses: WeakKeyDictionary[HTTPFlow, Response] = WeakKeyDictionary()

    def request(self, flow: HTTPFlow) -> None:
        """Note the response, after all addons that may refuse, and before mitmproxy looks for a captured one."""
        if flow.response is not None and flow.live:
            self.responses[flow] = flow.response

    def responseheaders(self, flow: HTTPFlow) -> None:
        own = self.responses.pop(flow, None)
        if flow.is_replay != "response" or flow.response is None or not flow.live:
            return
        if own is not None:
            flow.response, flow.is_replay = own, None
        elif (cycle := self.cycles.get(flow)) is not None and cycle.filter is not None:
            # The request does not name what limits the token, so the response may be of another one.
            refuse(flow, cycle, BackendUnreachable("a captured response cannot be limited to the token"))
        elif flow.response.raw_content is None:  # it would announce a body, and never send it
            refuse(flow, None, BackendUnreachable("the captured response has no body: raise -capture.maxBodySize"))
