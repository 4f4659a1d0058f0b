"""Rate limits: sliding windows, counters, and usage that a datasource measures.

``limiter`` decides, and ``config`` reads the file of limits. ``account`` and ``lease`` share a limit among processes,
and ``replicas`` sums the counts of other gateways.
"""

from .account import ACCOUNT_SLACK, GRAINS, LEASE_SECONDS, Account, Reply, Want
from .config import MAX_BYTES, LimitFile, check_classes, check_measurable, read_limits
from .datasource_query import Snapshot, UsagePlan, parse_labels
from .guards import Guard, Guards, Member, span_text
from .headers import rate_limit_headers
from .limiter import OTHER, Kind, Limiter, Notice, Question
from .model import Limit, LimitType, Resolution
from .own_requests import OwnRequests
from .queue import GRACE_SECONDS, MAX_CLAIMS
from .replicas import MAX_REPLICAS, LocalCounts, PeerCounts
from .slots import slot_usages
from .tenant_series import Ask, TenantSeries

__all__ = [
    "ACCOUNT_SLACK", "GRACE_SECONDS", "GRAINS", "LEASE_SECONDS", "MAX_BYTES", "MAX_CLAIMS", "MAX_REPLICAS",
    "OTHER", "Account", "Ask", "Guard", "Guards", "Kind", "Limit", "LimitFile", "LimitType", "Limiter", "LocalCounts",
    "Member", "Notice", "OwnRequests", "PeerCounts", "Question", "Reply", "Resolution", "Snapshot", "TenantSeries",
    "UsagePlan", "Want", "check_classes", "check_measurable", "parse_labels", "rate_limit_headers", "read_limits",
    "slot_usages", "span_text",
]  # fmt: skip
