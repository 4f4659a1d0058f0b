"""mitmproxy's options that change or block requests, applied before the decision: nothing may change after it."""

from __future__ import annotations

from mitmproxy import ctx
from mitmproxy.http import HTTPFlow


class RequestOptions:
    """Applies ``block_list``, ``--anticache``, ``anticomp`` and ``--modify-headers`` to what the client sent."""

    def requestheaders(self, flow: HTTPFlow) -> None:
        if flow.response is not None or not flow.live or "block_list" not in ctx.options:
            return
        options, addons = ctx.options, ctx.master.addons
        if options.block_list:
            addons.get("blocklist").request(flow)
        if options.anticache:
            flow.request.anticache()
        if options.anticomp:
            flow.request.anticomp()
        if options.modify_headers:
            addons.get("modifyheaders").requestheaders(flow)
