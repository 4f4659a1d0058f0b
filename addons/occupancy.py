"""Occupancy: what a request takes up while it is under way, a place among those at once and a share of its backend.

Whoever carries a request calls :func:`leave` at its end, in whatever way it ends; calling it twice does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator

from mitmproxy.http import HTTPFlow
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vmgw_core.errors import TooManyAtOnce

from .refusing import refuse
from .runtime import Decision, Runtime


def enter(runtime: Runtime, decision: Decision) -> bool:
    """Whether the request of ``decision`` may go on at once; it has its place then."""
    places, grant = runtime.concurrency, decision.grant
    assert grant is not None
    if places is None:
        return True
    if not places.enter(grant.subject.tenant):
        return False
    decision.places = places
    return True


def no_place(runtime: Runtime) -> TooManyAtOnce:
    """The refusal of a request that gets no place, counted."""
    assert runtime.concurrency is not None
    runtime.concurrency.refused += 1
    return TooManyAtOnce("as many requests are under way as may be at once: -maxConcurrentRequests or PerTenant")


def leave(decision: Decision) -> None:
    """The request has ended: others may have what it took up."""
    if decision.asked:
        decision.asked = 0.0
        assert decision.member is not None
        decision.member.end()
    if decision.places is not None:
        assert decision.grant is not None
        places, decision.places = decision.places, None
        for waiter in places.leave(decision.grant.subject.tenant):
            waiter()


class Occupancy:
    """Keeps account of the flow lane's requests. There, nobody waits: a request that gets no place is answered 429."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.flows: dict[HTTPFlow, Decision] = {}

    def requestheaders(self, flow: HTTPFlow) -> None:
        decision = self.runtime.decisions.get(flow)
        if flow.response is not None or decision is None or decision.grant is None:
            return
        if enter(self.runtime, decision):
            self.flows[flow] = decision
        else:
            refusal = no_place(self.runtime)
            decision.refused(refusal)
            refuse(flow, refusal, access=decision.grant.route.access)

    def response(self, flow: HTTPFlow) -> None:
        self.ended(flow)

    def error(self, flow: HTTPFlow) -> None:
        self.ended(flow)

    def ended(self, flow: HTTPFlow) -> None:
        """The flow has got its answer, or gets none."""
        decision = self.flows.pop(flow, None)
        if decision is not None:
            leave(decision)


class PlacesState(Collector):
    """How many requests are under way, for the metrics. Where there is no limit nobody counts them."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def collect(self) -> Iterator[Metric]:
        places = self.runtime.concurrency
        if places is None:
            return
        for name, text, value in (
            ("current", "Requests under way", places.running),
            ("waiting", "Requests that wait for others to end", places.waiting),
            ("limit", "-maxConcurrentRequests, 0 for none", places.total),
            ("per_tenant_limit", "-maxConcurrentPerTenant, 0 for none", places.of_tenant),
        ):
            yield GaugeMetricFamily(f"vmgateway_concurrent_requests_{name}", text, value=value)
        yield CounterMetricFamily(
            "vmgateway_concurrent_requests_rejected", "Requests answered 429 for want of a place", value=places.refused
        )
