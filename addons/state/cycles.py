"""The cycle of each flow, and the head of a flow's request."""

from __future__ import annotations

import time
from weakref import WeakKeyDictionary

from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow

from vmgw_core.base import is_credential_header
from vmgw_core.credentials import Certificate
from vmgw_core.enforcement import Cycle, Policy, TracedCycle, Tracer
from vmgw_core.http import RequestHead


class Cycles(WeakKeyDictionary[HTTPFlow, Cycle]):
    """The cycle of each flow. It is not in the flow's metadata, since mitmproxy saves that to files."""

    def __init__(self) -> None:
        super().__init__()
        self.certificates: WeakKeyDictionary[Client, Certificate] = WeakKeyDictionary()
        """The verified certificate of each client that has one."""

    def of(self, flow: HTTPFlow, tracer: Tracer | None = None) -> Cycle:
        """Return the cycle of ``flow``; begin it if there is none, with a span if there is a ``tracer``."""
        cycle = self.get(flow)
        if cycle is None:
            head = head_of(flow)
            head.certificate = self.certificates.get(flow.client_conn)
            at, started = time.time(), time.perf_counter()
            if tracer is None:
                cycle = self[flow] = Cycle(head, at=at, started=started)
            else:
                cycle = self[flow] = TracedCycle(head, at=at, started=started, tracer=tracer)
        return cycle


def head_of(flow: HTTPFlow) -> RequestHead:
    """Convert the head of a flow's request for the core."""
    data = flow.request.data
    peer = flow.client_conn.peername
    return RequestHead(
        method=data.method.decode("ascii", "replace"),
        target=data.path.decode("utf-8", "surrogateescape"),
        headers=data.headers.fields,
        client=peer[0] if peer else "unknown",
    )


def hide_token(flow: HTTPFlow, policy: Policy | None) -> None:
    """Remove credentials from a flow's request, so that no view or file shows them. The cycle keeps the whole head."""
    headers = policy.token_source.headers if policy is not None else ()
    flow.request.headers.fields = tuple(
        field
        for field in flow.request.headers.fields
        if field[0].lower() not in headers and not is_credential_header(field[0])
    )
