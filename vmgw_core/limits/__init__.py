"""Rate limits: sliding windows, counters, and usage that a datasource measures.

``limiter`` decides, ``config`` reads the file of limits, and ``replicas`` sums the counts of other gateways.
"""

from .config import MAX_BYTES, check_measurable, read_limits
from .counter import RESERVED
from .datasource_query import Snapshot, UsagePlan, parse_labels
from .limiter import OTHER, Limiter
from .model import Limit, LimitType, Resolution
from .own_requests import OwnRequests
from .replicas import MAX_REPLICAS, LocalCounts, PeerCounts
from .tenant_series import Ask, TenantSeries

__all__ = [
    "MAX_BYTES", "MAX_REPLICAS", "OTHER", "RESERVED", "Ask", "Limit", "LimitType", "Limiter", "LocalCounts",
    "OwnRequests", "PeerCounts", "Resolution", "Snapshot", "TenantSeries", "UsagePlan", "check_measurable",
    "parse_labels", "read_limits",
]  # fmt: skip
