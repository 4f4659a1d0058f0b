"""Server replay: what mitmproxy's ``--server-replay`` may answer, and what it may not."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from mitmproxy.http import HTTPFlow, Response

from vmgw_addons.steps import refuse
from vmgw_core.errors import BackendUnreachable


class ServerReplay:
    """Keeps the gateway's own answers: mitmproxy would put captured ones, or its own, in the place of refusals."""

    def __init__(self) -> None:
        self.answers: WeakKeyDictionary[HTTPFlow, Response] = WeakKeyDictionary()

    def request(self, flow: HTTPFlow) -> None:
        """Runs behind all that may refuse, and before mitmproxy looks for a captured answer."""
        if flow.response is not None and flow.live:
            self.answers[flow] = flow.response

    def responseheaders(self, flow: HTTPFlow) -> None:
        own = self.answers.pop(flow, None)
        if flow.is_replay != "response" or flow.response is None or not flow.live:
            return
        if own is not None:
            flow.response, flow.is_replay = own, None
        elif flow.response.raw_content is None:  # it would announce a body, and never send it
            refuse(flow, None, BackendUnreachable("the captured answer has no body: raise -capture.maxBodySize"))
