"""Forwarding: the only place that writes a backend's address into a request."""

from __future__ import annotations

from collections.abc import Callable

from mitmproxy.http import HTTPFlow

from vmgw_addons.state import Cycles, InForce, Process
from vmgw_core.enforcement import Body, Cycle, State, UpstreamRequest
from vmgw_core.errors import Refusal

from .flow_headers import FlowHeaders
from .flow_responses import refuse


class Forwarding:
    """Writes the token's labels, filters and tenant into the request, and the backend's address."""

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
        """Take the cycle's step that rewrites the request, and write the result into the flow."""
        try:
            step()
        except Refusal as refusal:
            refuse(flow, cycle, refusal)
            return
        flow.request.stream = cycle.grant is not None and cycle.grant.body is Body.STREAM
        if cycle.upstream is None:
            return  # the form decides
        apply(flow, cycle)
        if cycle.head.awaits_continue and flow.request.stream:
            flow.request.headers["expect"] = "100-continue"  # mitmproxy responds to it, and does not forward it


def apply(flow: HTTPFlow, cycle: Cycle) -> None:
    """Replace everything that a backend sees of the request, also an absolute-form or HTTP/2 authority."""
    upstream, request = cycle.upstream, flow.request
    assert upstream is not None
    assert cycle.grant is not None
    request.headers = FlowHeaders(upstream.headers)
    request.trailers = None
    request.data.http_version = b"HTTP/1.1"
    request.data.method = upstream.method.encode("ascii")
    request.data.authority = b""
    address(flow, upstream)
    if upstream.body is not None:
        request.data.content = upstream.body
    elif cycle.grant.body is not Body.STREAM:
        request.data.content = b""
    authorization = upstream.backend.authorization
    if flow.is_replay == "request" and authorization is not None:
        # A client replay uses mitmproxy's own layer, not the one that adds credentials. The capture removes them
        # when the request has been sent, before anything saves the flow.
        request.headers["Authorization"] = authorization.decode("ascii")


def address(flow: HTTPFlow, upstream: UpstreamRequest) -> None:
    """Write the backend's address: all that differs between two backends of a group."""
    request, host = flow.request, upstream.backend.host_header
    if request.headers.fields[:1] != ((b"Host", host.encode()),):  # it is of another backend
        request.headers["Host"] = host
    request.data.scheme = upstream.backend.scheme.encode()
    request.data.host, request.data.port = upstream.backend.address
    request.data.path = upstream.target.encode("ascii")
