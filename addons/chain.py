"""The addons in the order in which they see a request."""

from __future__ import annotations

from .access_control import AccessControl
from .access_log import AccessLogging
from .answer_headers import AnswerHeaders
from .configuration import Configuration
from .fast_lane import FastLane
from .flow_lane import FlowLane
from .forwarding import Forwarding
from .key_refresh import KeyRefresh
from .lifecycle import Lifecycle
from .listener import Listener
from .push_metrics import PushMetrics
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
    pages = StatusPages(runtime, telemetry)
    access_control = AccessControl(runtime, keys)
    fast = FastLane(runtime, pages, access_control, telemetry)
    listener = Listener(runtime, fast)
    return [
        configuration,
        listener,
        Lifecycle(runtime, configuration, keys, listener, fast),
        pages,
        access_control,
        Forwarding(runtime),
        connections,
        FlowLane(runtime, connections),
        fast,
        keys,
        AnswerHeaders(runtime),
        telemetry,
        AccessLogging(runtime),
        PushMetrics(runtime, telemetry),
    ]
