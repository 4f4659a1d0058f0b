"""What the addons share: the configuration in force, the cycle of each request, and the limits of the protocol.

This package holds values and protocols; the packages above it set them and act on them.
"""

from __future__ import annotations

from .counts import CaptureStatus, Reloads
from .cycles import Cycles, head_of, hide_token
from .exchange import Accounts, Exchange
from .in_force import Configured, InForce, describe_keys
from .page_access import PageAccess, header_edit, path_prefix
from .process import Process, Worker
from .shadow import LiveShadow
from .usage_store import UsageStore
from .wire_limits import DEAD_ADDRESS, DEAD_TARGET, WireLimits

__all__ = [
    "DEAD_ADDRESS",
    "DEAD_TARGET",
    "Accounts",
    "CaptureStatus",
    "Configured",
    "Cycles",
    "Exchange",
    "InForce",
    "LiveShadow",
    "PageAccess",
    "Process",
    "Reloads",
    "UsageStore",
    "WireLimits",
    "Worker",
    "describe_keys",
    "head_of",
    "header_edit",
    "hide_token",
    "path_prefix",
]
