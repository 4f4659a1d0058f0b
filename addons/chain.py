"""The addons in the order in which they see a request."""

from __future__ import annotations

from .access_control import AccessControl
from .configuration import Configuration
from .flow_lane import FlowLane
from .forwarding import Forwarding
from .key_refresh import KeyRefresh
from .lifecycle import Lifecycle
from .limit_metrics import LimitMetrics
from .limits_reload import LimitsReload
from .rate_limit import RateLimit
from .runtime import Runtime
from .status_pages import StatusPages
from .telemetry import Telemetry
from .upstream_connections import UpstreamConnections
from .usage_exchange import UsageExchange
from .usage_refresh import UsageRefresh


def build(runtime: Runtime | None = None) -> list[object]:
    """One instance of each; they share ``runtime`` and nothing else."""
    runtime = runtime or Runtime()
    configuration = Configuration(runtime)
    keys = KeyRefresh(runtime)
    telemetry = Telemetry(runtime)
    connections = UpstreamConnections(runtime)
    lifecycle = Lifecycle(runtime, configuration, keys)
    rate_limit = RateLimit(runtime)
    telemetry.registry.register(LimitMetrics(runtime, rate_limit, telemetry.tenant_label))
    return [
        configuration,
        lifecycle,
        StatusPages(runtime, telemetry, lifecycle.reload_on_request),
        AccessControl(runtime, keys),
        rate_limit,
        Forwarding(runtime),
        connections,
        FlowLane(runtime, connections),
        keys,
        LimitsReload(runtime),
        UsageRefresh(runtime, telemetry.registry),
        UsageExchange(runtime, telemetry.registry),
        telemetry,
    ]
