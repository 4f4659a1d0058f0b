"""Rate limits: sliding and calendar windows, counters, and usage that a datasource measures.

``limiter`` decides, and ``config`` reads the file of limits. ``account`` and ``lease`` share a limit among processes,
and ``replicas`` sums the counts of other gateways.
"""

from .config import MAX_BYTES, LimitFile, check_classes, check_measurable, read_limits
from .guards import Guard, Guards, Member, span_text
from .headers import rate_limit_headers
from .limiter import OTHER, Kind, Limiter, Notice, Question, finished
from .measured.datasource_query import Snapshot, UsagePlan, parse_labels
from .measured.own_requests import OwnRequests
from .measured.tenant_series import Ask, TenantSeries
from .model import Limit, LimitType, Resolution
from .sharing.account import ACCOUNT_SLACK, GRAINS, LEASE_SECONDS, UNKNOWN_SECONDS, Account, Reply, Want
from .sharing.queue import GRACE_SECONDS, MAX_CLAIMS
from .sharing.replicas import MAX_REPLICAS, LocalCounts, PeerCounts
from .slots import slot_usages
from .windows.calendar import Unsaved
from .windows.label_hashes import LabelHashes, joined, key_of
from .windows.series_counts import SeriesNews
from .windows.series_table import MAX_KEY

__all__ = [
    "ACCOUNT_SLACK", "GRACE_SECONDS", "GRAINS", "LEASE_SECONDS", "MAX_BYTES", "MAX_CLAIMS", "MAX_KEY",
    "MAX_REPLICAS", "OTHER", "UNKNOWN_SECONDS", "Account", "Ask", "Guard", "Guards", "Kind", "LabelHashes", "Limit",
    "LimitFile", "LimitType", "Limiter", "LocalCounts", "Member", "Notice", "OwnRequests", "PeerCounts", "Question",
    "Reply", "Resolution", "SeriesNews", "Snapshot", "TenantSeries", "Unsaved", "UsagePlan", "Want",
    "check_classes", "check_measurable", "finished", "joined", "key_of", "parse_labels", "rate_limit_headers",
    "read_limits", "slot_usages", "span_text",
]  # fmt: skip
