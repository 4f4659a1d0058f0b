"""The cycle of each flow, and what the flow lane makes of a flow's request."""

from __future__ import annotations

import time
from weakref import WeakKeyDictionary

from mitmproxy.http import HTTPFlow

from vmgw_core.base import is_credential_header
from vmgw_core.enforcement import Cycle, Policy
from vmgw_core.http import RequestHead


class Cycles(WeakKeyDictionary[HTTPFlow, Cycle]):
    """Flows are saved to files with their metadata, so what is no plain data is kept beside them, here."""

    def of(self, flow: HTTPFlow) -> Cycle:
        """The cycle of ``flow``, begun if there is none yet."""
        cycle = self.get(flow)
        if cycle is None:
            cycle = self[flow] = Cycle(head_of(flow), at=time.time(), started=time.perf_counter())
        return cycle


def head_of(flow: HTTPFlow) -> RequestHead:
    """The head of a flow's request, as the core reads it."""
    data = flow.request.data
    peer = flow.client_conn.peername
    return RequestHead(
        method=data.method.decode("ascii", "replace"),
        target=data.path.decode("utf-8", "surrogateescape"),
        headers=data.headers.fields,
        client=peer[0] if peer else "unknown",
    )


def hide_token(flow: HTTPFlow, policy: Policy | None) -> None:
    """Take credentials out of a flow's request, so that whoever prints or saves it does not come by a token.

    The cycle has the head as it came, and no flow is saved with that.
    """
    header = policy.token_header if policy is not None else b"authorization"
    flow.request.headers.fields = tuple(
        field
        for field in flow.request.headers.fields
        if field[0].lower() != header and not is_credential_header(field[0])
    )
