"""Response headers of the flow lane: ``-http.header.*`` and ``-http.disableCORS``.

Headers that name the backend's machine are always removed.
"""

from __future__ import annotations

from mitmproxy.http import Headers, HTTPFlow

from vmgw_addons.state import InForce


class ResponseHeaders:
    """Adds headers to every response, and removes some of backends' headers."""

    def __init__(self, in_force: InForce) -> None:
        self.in_force = in_force

    def responseheaders(self, flow: HTTPFlow) -> None:
        edit = self.in_force.configured.header_edit
        if flow.response is not None:
            flow.response.headers = Headers(edit.apply(flow.response.headers.fields))

    response = responseheaders  # for the gateway's own responses; it changes nothing in a response edited before
