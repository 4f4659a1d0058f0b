"""Answer headers: what ``-http.header.*`` and ``-http.disableCORS`` make of every answer of the flow lane.

What names the backend's machine is taken out in any case.
"""

from __future__ import annotations

from mitmproxy.http import Headers, HTTPFlow

from vmgw_addons.state import InForce


class AnswerHeaders:
    """Adds headers to every answer, and takes some out of those of backends."""

    def __init__(self, in_force: InForce) -> None:
        self.in_force = in_force

    def responseheaders(self, flow: HTTPFlow) -> None:
        self.edit(flow)

    def response(self, flow: HTTPFlow) -> None:
        self.edit(flow)  # answers of the gateway's own; those of a backend are on their way by now

    def edit(self, flow: HTTPFlow) -> None:
        """Edit the headers; doing it twice changes nothing."""
        edit = self.in_force.configured.header_edit
        if flow.response is not None:
            flow.response.headers = Headers(edit.apply(flow.response.headers.fields))
