"""The seal: what other addons change in a request after the decision has no effect."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from mitmproxy import ctx
from mitmproxy.http import HTTPFlow, Response

from vmgw_addons.state import Cycles
from vmgw_core.enforcement import Body, Cycle, State
from vmgw_core.errors import InternalError

from .addon_order import AddonOrder
from .flow_responses import refuse
from .forwarding import apply

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Decision:
    """How a request is sent, or what the gateway responds."""

    stream: object
    """Whether or how the body streams."""
    content: bytes | None
    """The body of a request that is replayed."""
    response: Response | None


class Decisions:
    """Notes how each decided request is sent, before other addons see it.

    Args:
        last: another object with hooks that must run after all addons.
    """

    def __init__(self, cycles: Cycles, last: object) -> None:
        self.cycles = cycles
        self.last = last
        self.seal: Seal | None = None
        self.noted: WeakKeyDictionary[HTTPFlow, Decision] = WeakKeyDictionary()

    def running(self) -> None:
        if "scripts" in ctx.options:  # one of mitmproxy's programs, where there are other addons
            self.seal = Seal(self)
            AddonOrder(ctx.master.addons, (self.seal, self.last), self.seal.failed)

    def requestheaders(self, flow: HTTPFlow) -> None:
        if self.seal is not None and flow in self.cycles:
            content = flow.request.raw_content if flow.is_replay == "request" else None
            self.noted[flow] = Decision(flow.request.stream, content, flow.response)

    def request(self, flow: HTTPFlow) -> None:
        decision = self.noted.get(flow)
        if decision is not None:
            decision.response = flow.response


class Seal:
    """Comes after all addons: writes the decided request into the flow again, and refuses one without a decision.

    Flows so show what the backend gets. :class:`GatewayStream` does the same once more before it sends the request; a
    client replay, which mitmproxy's own stream sends, has only this.
    """

    def __init__(self, decisions: Decisions) -> None:
        self.decisions = decisions
        self.warned = False

    def requestheaders(self, flow: HTTPFlow) -> None:
        self.seal(flow)
        self.demand(flow, form_may_come=True)

    def request(self, flow: HTTPFlow) -> None:
        self.seal(flow)
        self.demand(flow, form_may_come=False)

    def responseheaders(self, flow: HTTPFlow) -> None:
        """Refuse to switch protocols: mitmproxy would pass on what the client sends next to the backend."""
        if flow.live and flow.response is not None and flow.response.status_code == 101:
            logger.warning("another addon answered 101, which would lead past the decision: the client gets 500")
            flow.response.status_code, flow.response.reason = 500, "Internal Server Error"

    response = responseheaders

    def failed(self, flow: HTTPFlow) -> None:
        """Refuse a request that an addon before the gateway has failed with: it may have wanted to refuse it."""
        if flow not in self.decisions.cycles:
            refuse(flow, None, InternalError("another addon failed"))

    def demand(self, flow: HTTPFlow, *, form_may_come: bool) -> None:
        """Refuse a request that a backend would get without a decision. A form that is yet to come may decide."""
        cycle = self.decisions.cycles.get(flow)
        if cycle is None or cycle.state is State.REFUSED:
            decided = False
        else:
            decided = cycle.upstream is not None or (form_may_come and cycle.state is State.FORM)
        if flow.live and flow.response is None and not decided:
            refuse(flow, cycle, InternalError("no decision was taken on this request"))

    def seal(self, flow: HTTPFlow) -> None:
        """Undo what was changed since the decision. A response that was set meanwhile stays."""
        cycle, decision = self.decisions.cycles.get(flow), self.decisions.noted.get(flow)
        if cycle is None or decision is None:
            return
        stream, content = decision.stream, decision.content
        if flow.response is None:
            flow.response = decision.response
        if flow.response is not None:
            flow.request.stream = False  # mitmproxy cannot both respond and stream
            flow.request.headers.pop("expect", None)
            return
        before = what_is_sent(flow), flow.request.stream
        flow.request.stream = stream  # type: ignore[assignment]
        if cycle.upstream is not None and cycle.state is not State.REFUSED:
            expect = flow.request.headers.get("expect")
            apply(flow, cycle)
            if expect is not None and cycle.head.awaits_continue and stream:
                flow.request.headers["expect"] = "100-continue"
            if content is not None and is_streamed(cycle):
                flow.request.data.content = content
        if before != (what_is_sent(flow), flow.request.stream) and not self.warned:
            self.warned = True
            logger.warning("another addon changed a request after the decision: such changes have no effect")


def is_streamed(cycle: Cycle) -> bool:
    """Whether the body is sent as the client sent it."""
    return cycle.grant is not None and cycle.grant.body is Body.STREAM


def what_is_sent(flow: HTTPFlow) -> tuple[object, ...]:
    """Return the parts of a request that a backend sees. mitmproxy's own options may order the headers anew."""
    data = flow.request.data
    headers = sorted((name.lower(), value) for name, value in flow.request.headers.fields)
    return data.method, data.scheme, data.authority, data.host, data.port, data.path, headers, data.content
