"""Forwarding: the one place that writes a backend's address into a request."""

from __future__ import annotations

from collections.abc import Callable

from mitmproxy.http import Headers, HTTPFlow

from vmgw_addons.state import Cycles, InForce, Process
from vmgw_core.enforcement import Body, Cycle, State, UpstreamRequest
from vmgw_core.errors import Refusal

from .flow_responses import refuse


class Forwarding:
    """Makes labels, filters and tenant binding, and sends the request on; nothing else does."""

    def __init__(self, in_force: InForce, process: Process, cycles: Cycles) -> None:
        self.in_force = in_force
        self.process = process
        self.cycles = cycles

    def requestheaders(self, flow: HTTPFlow) -> None:
        cycle = self.cycles.get(flow)
        if flow.response is None and cycle is not None and cycle.state is State.COUNTED:
            self.forward(flow, cycle, cycle.prepare)

    def request(self, flow: HTTPFlow) -> None:
        cycle = self.cycles.get(flow)
        if flow.response is None and cycle is not None and cycle.state is State.FORM:
            form = flow.request.raw_content or b""
            if self.process.interactive or len(form) <= self.in_force.configured.settings.capture_max_body_size:
                cycle.kept_form = form
            self.forward(flow, cycle, lambda: cycle.form(form))

    def forward(self, flow: HTTPFlow, cycle: Cycle, step: Callable[[], None]) -> None:
        """Take the step that rewrites the request, and write what came of it into the flow."""
        try:
            step()
        except Refusal as refusal:
            refuse(flow, cycle, refusal)
            return
        if cycle.upstream is None:
            return  # it follows from the form
        upstream = cycle.upstream
        apply(flow, upstream)
        flow.request.stream = cycle.grant is not None and cycle.grant.body is Body.STREAM
        if cycle.head.awaits_continue and flow.request.stream:
            flow.request.headers["expect"] = "100-continue"  # mitmproxy answers it, and does not send it on
        authorization = upstream.backend.authorization
        if flow.is_replay == "request" and authorization is not None:
            # A client replay goes through mitmproxy's own layer, not the one that adds them on the way out. They are
            # taken out of the flow when it has been sent, before anything saves it.
            flow.request.headers["Authorization"] = authorization.decode("ascii")


def apply(flow: HTTPFlow, upstream: UpstreamRequest) -> None:
    """Replace everything a backend sees of the request. An absolute-form or HTTP/2 authority goes with it."""
    request = flow.request
    request.headers = Headers(upstream.headers)
    request.data.authority = b""
    address(flow, upstream)
    if upstream.body is not None:
        request.data.content = upstream.body


def address(flow: HTTPFlow, upstream: UpstreamRequest) -> None:
    """Write where the request goes: all that differs between two backends of a group."""
    request = flow.request
    request.headers["Host"] = upstream.backend.host_header
    request.data.scheme = upstream.backend.scheme.encode()
    request.data.host, request.data.port = upstream.backend.address
    request.data.path = upstream.target.encode("ascii")
