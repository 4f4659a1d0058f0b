"""The addons in the order in which they see a request."""

from __future__ import annotations

from .access_control import AccessControl
from .access_log import AccessLogging
from .answer_headers import AnswerHeaders
from .backends import Backends, BackendsState
from .capture import Capture
from .configuration import Configuration
from .explanation import Explanation
from .fast_lane import FastLane
from .flow_lane import FlowLane
from .flow_patience import FlowPatience
from .flow_replay import FlowReplay
from .forwarding import Forwarding
from .key_refresh import KeyRefresh
from .lifecycle import Lifecycle
from .limit_metrics import LimitMetrics
from .limits_reload import LimitsReload
from .listener import Listener
from .occupancy import Occupancy, PlacesState
from .push_metrics import PushMetrics
from .rate_limit import RateLimit
from .runtime import Runtime
from .server_replay import ServerReplay
from .status_pages import StatusPages
from .telemetry import Telemetry
from .upstream_connections import UpstreamConnections
from .usage_exchange import UsageExchange
from .usage_refresh import UsageRefresh
from .worker_metrics import WorkerMetrics


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
