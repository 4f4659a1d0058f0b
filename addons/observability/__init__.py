"""For operators: metrics, the access log, traces, the gateway's own pages, and profiles."""

from __future__ import annotations

from .access_log import AccessLog, AccessLogging
from .backend_metrics import BackendMetrics, ConcurrencyMetrics
from .limit_metrics import LimitMetrics
from .metrics import StateMetrics, Telemetry
from .push_metrics import PushMetrics, PushTarget
from .query_log import QueryLog, QueryLogging, check_query_log
from .state_pages import ME
from .status_pages import StatusPages
from .traces import Traces, Tracing, check_traces
from .usage_log import USAGE, UsageLog, UsageReport
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
