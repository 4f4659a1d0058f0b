"""What the gateway fetches or exchanges in the background: keys, limits, usage, and the counts of other replicas.

No request waits for any of it, but for the accounts of limits that processes share: see :mod:`.redis_accounts`.
"""

from __future__ import annotations

from .exchange.file_exchange import FileExchange
from .exchange.usage_exchange import UsageExchange, build_exchange
from .kept.kept_counts import KeptCounts
from .kept.kept_state import StateFileEnd, build_state_file
from .kept.usage_store import build_usage_store, usage_store
from .keys import KeyRefresh
from .limit_reload import LimitsReload, read_in_thread
from .passwords import PasswordChecks
from .usage_refresh import UsageRefresh

__all__ = [
    "FileExchange",
    "KeptCounts",
    "KeyRefresh",
    "LimitsReload",
    "PasswordChecks",
    "StateFileEnd",
    "UsageExchange",
    "UsageRefresh",
    "build_exchange",
    "build_state_file",
    "build_usage_store",
    "read_in_thread",
    "usage_store",
]
