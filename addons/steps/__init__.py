"""The steps of one request, each a thin addon over the core: access, concurrency, rate limit, forwarding.

In the flow lane their hooks run. The fast lane calls the functions behind the hooks.
"""

from __future__ import annotations

from .access_control import AccessControl
from .answer_filter import AnswerFilter, Filtering
from .concurrency import ConcurrencyLimit
from .flow_headers import FlowHeaders
from .flow_responses import refuse, respond
from .forwarding import Forwarding
from .metric_names import MetricNames
from .rate_limit import RateLimit
from .request_options import RequestOptions
from .response_headers import ResponseHeaders
from .seal import Decisions

__all__ = [
    "AccessControl",
    "AnswerFilter",
    "ConcurrencyLimit",
    "Decisions",
    "Filtering",
    "FlowHeaders",
    "Forwarding",
    "MetricNames",
    "RateLimit",
    "RequestOptions",
    "ResponseHeaders",
    "refuse",
    "respond",
]
