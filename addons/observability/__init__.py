"""For operators: metrics, the access log, traces, the gateway's own pages, and profiles."""

from __future__ import annotations

from .backend_metrics import BackendMetrics, ConcurrencyMetrics
from .limit_metrics import LimitMetrics
from .logs.access_log import AccessLog, AccessLogging
from .logs.query_log import QueryLog, QueryLogging, check_query_log
from .logs.traces import Traces, Tracing, check_traces
from .logs.usage_log import USAGE, UsageLog, UsageReport
from .metrics import StateMetrics, Telemetry
from .pages.state_pages import ME
from .pages.status_pages import StatusPages
from .push_metrics import PushMetrics, PushTarget
from .worker_calls import WorkerCalls
from .worker_metrics import WorkerMetrics

__all__ = [
    "ME",
    "USAGE",
    "AccessLog",
    "AccessLogging",
    "BackendMetrics",
    "ConcurrencyMetrics",
    "LimitMetrics",
    "PushMetrics",
    "PushTarget",
    "QueryLog",
    "QueryLogging",
    "StateMetrics",
    "StatusPages",
    "Telemetry",
    "Traces",
    "Tracing",
    "UsageLog",
    "UsageReport",
    "WorkerCalls",
    "WorkerMetrics",
    "check_query_log",
    "check_traces",
]
