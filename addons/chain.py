"""The addons in the order in which they see a request."""

from __future__ import annotations

from .access_control import AccessControl
from .configuration import Configuration
from .explanation import Explanation
from .flow_lane import FlowLane
from .forwarding import Forwarding
from .key_refresh import KeyRefresh
from .lifecycle import Lifecycle
from .runtime import Runtime
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
    return [
        configuration,
        Lifecycle(runtime, configuration, keys),
        StatusPages(runtime, telemetry),
        AccessControl(runtime, keys),
        Forwarding(runtime),
        connections,
        FlowLane(runtime, connections),
        Explanation(runtime, configuration, keys),
        keys,
        telemetry,
    ]
