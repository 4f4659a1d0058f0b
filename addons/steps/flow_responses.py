"""Responses to a flow without a backend."""

from __future__ import annotations

from mitmproxy import http
from mitmproxy.http import HTTPFlow

from vmgw_core.enforcement import Cycle
from vmgw_core.errors import Refusal
from vmgw_core.http import Response, refusal_response

from .flow_headers import FlowHeaders


def respond(flow: HTTPFlow, response: Response) -> None:
    """Respond to ``flow`` with a response of the gateway's own.

    It stops streaming, since mitmproxy cannot do both. A client that waits for ``100 Continue`` gets the response
    instead.
    """
    flow.request.stream = False
    flow.request.headers.pop("expect", None)
    # RFC 9110, sections 9.3.2 and 15.3.5: no content in a response to HEAD, and no length in a 204.
    is_head = flow.request.method == "HEAD"
    flow.response = http.Response.make(response.status, b"" if is_head else response.body)
    flow.response.headers = FlowHeaders(response.headers)


def refuse(flow: HTTPFlow, cycle: Cycle | None, refusal: Refusal) -> None:
    """Respond to ``flow`` with a refusal, and record it in the cycle, if there is one."""
    access = None
    if cycle is not None:
        cycle.refuse(refusal)
        access = cycle.grant.route.access if cycle.grant is not None else None
    respond(flow, refusal_response(refusal, access=access))
