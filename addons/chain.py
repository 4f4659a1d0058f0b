"""The addons in the order in which they see a request."""

from __future__ import annotations

from vmgw_addons.capture import Capture, FlowReplay, ServerReplay
from vmgw_addons.interactive import Explanation
from vmgw_addons.lanes.fast import Backends, FastLane
from vmgw_addons.lanes.flow import FlowLane, FlowPatience, UpstreamConnections
from vmgw_addons.listener import Listener
from vmgw_addons.observability import (
    AccessLogging,
    BackendsState,
    LimitMetrics,
    PlacesState,
    PushMetrics,
    StatusPages,
    Telemetry,
    WorkerMetrics,
)
from vmgw_addons.process import Configuration, Lifecycle
from vmgw_addons.sources import KeyRefresh, LimitsReload, UsageExchange, UsageRefresh
from vmgw_addons.state import Runtime
from vmgw_addons.steps import AccessControl, AnswerHeaders, Forwarding, Occupancy, RateLimit


def build(runtime: Runtime | None = None) -> list[object]:
    """One instance of each; they share ``runtime`` and nothing else."""
    runtime = runtime or Runtime()
    configuration = Configuration(runtime)
    keys = KeyRefresh(runtime)
    telemetry = Telemetry(runtime)
    connections = UpstreamConnections(runtime)
    access_control = AccessControl(runtime, keys)
    rate_limit = RateLimit(runtime)
    telemetry.registry.register(LimitMetrics(runtime, rate_limit, telemetry.tenant_label))
    telemetry.registry.register(BackendsState(runtime))
    telemetry.registry.register(PlacesState(runtime))
    workers = WorkerMetrics(runtime, telemetry)
    pages = StatusPages(runtime, telemetry, workers)
    fast = FastLane(runtime, pages, access_control, rate_limit, telemetry)
    listener = Listener(runtime, fast)
    lifecycle = Lifecycle(runtime, configuration, keys, listener, fast)
    pages.begin_reload = lifecycle.reload_on_request
    return [
        configuration,
        lifecycle,
        FlowPatience(runtime),  # before a request is rewritten
        pages,
        FlowReplay(runtime),
        access_control,
        Occupancy(runtime),
        rate_limit,
        Forwarding(runtime),
        ServerReplay(),
        connections,
        FlowLane(runtime, connections),
        fast,
        Explanation(runtime, lifecycle),
        keys,
        Backends(runtime),
        AnswerHeaders(runtime),
        LimitsReload(runtime),
        UsageRefresh(runtime, telemetry.registry),
        UsageExchange(runtime, telemetry.registry),
        telemetry,
        workers,
        AccessLogging(runtime),
        PushMetrics(runtime, telemetry, workers),
        Capture(runtime),
        listener,  # last: who connects finds everything else running
    ]
