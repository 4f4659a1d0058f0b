"""The addons in the order in which they see a request."""

from __future__ import annotations

from .access_control import AccessControl
from .capture import Capture
from .configuration import Configuration
from .flow_lane import FlowLane
from .flow_replay import FlowReplay
from .forwarding import Forwarding
from .key_refresh import KeyRefresh
from .lifecycle import Lifecycle
from .limit_metrics import LimitMetrics
from .limits_reload import LimitsReload
from .rate_limit import RateLimit
from .runtime import Runtime
from .server_replay import ServerReplay
from .status_pages import StatusPages
from .telemetry import Telemetry
from .upstream_connections import UpstreamConnections


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
        StatusPages(runtime, telemetry, lifecycle.reload),
        FlowReplay(runtime),
        AccessControl(runtime, keys),
        rate_limit,
        Forwarding(runtime),
        ServerReplay(),
        connections,
        FlowLane(runtime, connections),
        keys,
        LimitsReload(runtime),
        telemetry,
        Capture(runtime),
    ]
