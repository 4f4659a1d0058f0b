"""Flow replay: decides again on captured requests in ``mitmdump -nr`` and ``--client-replay``."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import replace

from mitmproxy import ctx
from mitmproxy.http import Headers, HTTPFlow

from vmgw_addons.state import Cycles, InForce, head_of
from vmgw_addons.steps import respond
from vmgw_core.base import FieldError
from vmgw_core.enforcement import Body, Cycle, access_of
from vmgw_core.errors import BadSignature, FiltersIgnored, Refusal
from vmgw_core.http import RequestHead, refusal_response
from vmgw_core.limits import Limiter
from vmgw_core.replay import METADATA_KEY, Captured, Judge, Tally, from_metadata, report_text

logger = logging.getLogger(__name__)


class FlowReplay:
    """Judges flows that mitmdump reads from a file, and the requests that it sends again."""

    def __init__(self, in_force: InForce, cycles: Cycles) -> None:
        self.in_force = in_force
        self.cycles = cycles
        self.tally = Tally()
        self.number = 0
        self.judge: Judge | None = None
        self.judged_by: object = None

    def current_judge(self) -> Judge | None:
        """Return the judge for the policy in force, or None without a policy."""
        policy = self.in_force.configured.policy
        keys = None if policy is None else policy.verifier.keys
        if policy is not None and self.judged_by != (policy, keys):
            limiter, gateway = self.in_force.configured.limiter, self.in_force.configured.gateway
            self.judge = Judge(
                policy,
                None if limiter is None else Limiter(limiter.limits, refuse_oversized=limiter.refuse_oversized),
                None if gateway is None else gateway.guards,
            )
            self.judged_by = (policy, keys)
        return self.judge if policy is not None else None

    def requestheaders(self, flow: HTTPFlow) -> None:
        if flow.live and flow.is_replay != "request":
            return
        if flow.response is None:
            self.cycles.pop(flow, None)  # of the time before: what is sent again is decided again
        judge, captured = self.current_judge(), captured_of(flow)
        if judge is None or captured is None:
            return
        if not flow.live:
            self.number += 1
            self.tally.add(f"flow {self.number}", captured, captured.outcome, judge.judge(captured))
        elif METADATA_KEY in flow.metadata:
            self.send_again(flow, captured, judge)

    def send_again(self, flow: HTTPFlow, captured: Captured, judge: Judge) -> None:
        """Restore the client's request from the record, and decide on it."""
        request, head = flow.request, captured.head
        request.data.method = head.method.encode("ascii", "replace")
        request.data.path = head.target.encode("utf-8", "surrogateescape")
        request.data.headers = Headers(head.headers)
        gateway = self.in_force.configured.gateway
        assert gateway is not None
        cycle = self.cycles[flow] = Cycle(head, at=captured.at, started=time.perf_counter())
        cycle.shadow = ""  # the shadow cannot verify a token without its signature
        try:
            judge.authorize(cycle, captured, replace(gateway, policy=judge.policy))
            if judge.tokens.doubtful:
                raise BadSignature("the signature of the token is not in the file")
            if cycle.filter is not None:  # mitmproxy's own layer carries what it sends again
                raise FiltersIgnored("its response would not be limited to the token")
            if cycle.grant is not None and cycle.grant.body is Body.STREAM:
                cycle.head = with_length(head, flow.request.raw_content or b"")
        except Refusal as refusal:
            cycle.refuse(refusal)
            logger.warning(f"not sent again: {refusal.code}: {refusal.message!r}")
            respond(flow, refusal_response(refusal, access=access_of(judge.policy, head), tell_why=True))

    def request(self, flow: HTTPFlow) -> None:
        cycle = self.cycles.get(flow)
        if flow.is_replay != "request" or cycle is None or not flow.live:
            return
        captured = captured_of(flow)
        if captured is not None and captured.form is not None and cycle.upstream is None:
            flow.request.data.content = captured.form

    def done(self) -> None:
        """At the end of ``mitmdump -nr``, report what would change. The exit code is then 1."""
        if self.number and "rfile" in ctx.options and ctx.options.rfile and type(ctx.master).__name__ == "DumpMaster":
            print(report_text(self.tally), end="")
            if self.tally.changed:
                sys.exit(1)


def with_length(head: RequestHead, body: bytes) -> RequestHead:
    """Set the length of the body that is left without secrets."""
    length = str(len(body)).encode()
    headers = ((name, length if name.lower() == b"content-length" else value) for name, value in head.headers)
    return head.with_headers(tuple(headers))


def captured_of(flow: HTTPFlow) -> Captured | None:
    """Return the request as the client sent it, from the record in the flow; without one, the flow's request."""
    data = flow.metadata.get(METADATA_KEY)
    if data is None:
        return Captured(head=head_of(flow), at=flow.request.timestamp_start, form=flow.request.raw_content)
    try:
        return from_metadata(data)
    except FieldError as error:
        logger.warning(f"cannot read the gateway's record in a flow: {error}")
        return None
