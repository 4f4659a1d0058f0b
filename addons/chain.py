"""The addons in the order in which they see a request."""

from __future__ import annotations

from vmgw_addons.capture import Capture, FlowReplay, ServerReplay
from vmgw_addons.interactive import Explanation
from vmgw_addons.lanes.fast import Backends, FastLane, Services
from vmgw_addons.lanes.flow import ConnectionSeal, FlowKeepAlive, FlowLane, UpstreamConnections
from vmgw_addons.lanes.flow.upstreams import gate
from vmgw_addons.listener import Listener
from vmgw_addons.login import LoginPages
from vmgw_addons.observability import (
    USAGE,
    AccessLogging,
    BackendMetrics,
    ConcurrencyMetrics,
    LimitMetrics,
    PushMetrics,
    QueryLogging,
    StateMetrics,
    StatusPages,
    Telemetry,
    Tracing,
    UsageReport,
    WorkerCalls,
    WorkerMetrics,
)
from vmgw_addons.process import Configuration, Lifecycle
from vmgw_addons.sources import (
    KeptCounts,
    KeyRefresh,
    LimitsReload,
    PasswordChecks,
    StateFileEnd,
    UsageExchange,
    UsageRefresh,
)
from vmgw_addons.state import CaptureStatus, Cycles, InForce, Process, Reloads
from vmgw_addons.steps import (
    AccessControl,
    AnswerFilter,
    ConcurrencyLimit,
    Decisions,
    Forwarding,
    MetricNames,
    RateLimit,
    RequestOptions,
    ResponseHeaders,
)
from vmgw_addons.support import Background


def build(in_force: InForce | None = None, process: Process | None = None) -> list[object]:
    """Build one instance of each addon, with what it needs of the others."""
    in_force, process = in_force or InForce(), process or Process()
    background, cycles, capture = Background(), Cycles(), CaptureStatus()
    reloads = {name: Reloads() for name in ("configuration", "limits", "certificate")}
    configuration = Configuration(in_force, process, reloads["configuration"], reloads["limits"])
    keys = KeyRefresh(in_force, background)
    telemetry = Telemetry(in_force, cycles)
    connections = UpstreamConnections(in_force)
    access_control = AccessControl(in_force, cycles, keys, PasswordChecks(background), gate)
    rate_limit = RateLimit(in_force, background, cycles)
    for collector in (
        StateMetrics(in_force, process, background, reloads, capture),
        LimitMetrics(in_force, reloads["limits"], rate_limit, telemetry.tenant_label),
        BackendMetrics(in_force),
        ConcurrencyMetrics(in_force),
    ):
        telemetry.registry.register(collector)
    calls = WorkerCalls(in_force, process.worker)
    workers = WorkerMetrics(calls, telemetry)
    pages = StatusPages(in_force, process, background, cycles, telemetry, workers)
    usage = UsageReport(in_force, background)
    pages.guarded[USAGE] = ("flagsAuthKey", usage.page)
    pages.login = LoginPages(in_force, background, keys)
    services = Services(in_force, process, background, pages, access_control, telemetry)
    fast = FastLane(services)
    listener = Listener(in_force, process, background, fast, reloads["certificate"], cycles)
    lifecycle = Lifecycle(in_force, process, background, configuration, keys, listener, fast, calls)
    pages.reload_all = lifecycle.reload_everywhere
    pages.begin = access_control.begin
    return [
        configuration,
        lifecycle,
        FlowKeepAlive(in_force, process),  # before a request is rewritten
        RequestOptions(),
        pages,
        FlowReplay(in_force, cycles),
        access_control,
        ConcurrencyLimit(cycles, gate),
        rate_limit,
        Forwarding(in_force, process, cycles),
        MetricNames(cycles, services.fetch_names),
        AnswerFilter(services.filters),
        ServerReplay(cycles),
        connections,
        FlowLane(in_force, cycles, connections),
        fast,
        Explanation(in_force, process, cycles, lifecycle),
        keys,
        Backends(in_force, background),
        ResponseHeaders(in_force, cycles),
        LimitsReload(in_force, background, reloads["limits"]),
        UsageRefresh(in_force, background, telemetry.registry),
        UsageExchange(in_force, background, process.worker, telemetry.registry),
        telemetry,
        calls,
        AccessLogging(in_force, cycles),
        QueryLogging(in_force),
        Tracing(in_force),
        PushMetrics(in_force, background, telemetry, workers),
        Capture(in_force, cycles, capture, services.tap_with),
        usage,
        KeptCounts(in_force, background),
        StateFileEnd(in_force),
        Decisions(cycles, ConnectionSeal(connections)),  # after all that set how a body streams
        listener,  # last: everything else is running when a client connects
    ]
