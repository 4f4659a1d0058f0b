"""Forwarding: the one place that writes a backend's address into a request."""

from __future__ import annotations

import logging

from mitmproxy.http import Headers, HTTPFlow

from vmgw_core.errors import Refusal
from vmgw_core.gateway import Body, UpstreamRequest, rewrite

from .backends import choose
from .refusing import refuse
from .runtime import Decision, Runtime

logger = logging.getLogger(__name__)


class Forwarding:
    """Makes labels, filters and tenant binding, and sends the request on; nothing else does."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def requestheaders(self, flow: HTTPFlow) -> None:
        decision = self.runtime.decisions.get(flow)
        if flow.response is not None or decision is None or decision.grant is None or not decision.counted:
            return
        if decision.grant.body is not Body.HOLD:
            self.forward(flow, decision, None)

    def request(self, flow: HTTPFlow) -> None:
        decision = self.runtime.decisions.get(flow)
        if flow.response is not None or decision is None or decision.grant is None or not decision.counted:
            return
        if decision.grant.body is Body.HOLD and decision.upstream is None:
            self.forward(flow, decision, flow.request.raw_content)

    def forward(self, flow: HTTPFlow, decision: Decision, form: bytes | None) -> None:
        """Rewrite the request and send it on, or refuse it."""
        policy, grant = decision.policy, decision.grant
        assert policy is not None
        assert grant is not None
        limit = int(str(self.runtime.settings["capture.maxBodySize"]))
        if self.runtime.interactive or (form is not None and len(form) <= limit):
            decision.form = form
        choose(decision)
        try:
            upstream = rewrite(policy, decision.grant or grant, decision.head, form)
        except Refusal as refusal:
            decision.refused(refusal)
            refuse(flow, refusal, access=grant.route.access)
            return
        apply(flow, upstream)
        flow.request.stream = grant.body is Body.STREAM
        if decision.head.awaits_continue and flow.request.stream:
            flow.request.headers["expect"] = "100-continue"  # mitmproxy answers it, and does not send it on
        authorization = upstream.backend.authorization
        if flow.is_replay == "request" and authorization is not None:
            # A client replay goes through mitmproxy's own layer, not the one that adds them on the way out. They are
            # taken out of the flow when it has been sent, before anything saves it.
            flow.request.headers["Authorization"] = authorization.decode("ascii")
        decision.upstream = upstream


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
