"""What the addons share: the policy in force, the decision on each request, and the limits on the wire.

It holds values and protocols; the packages above put them there and act on them.
"""

from __future__ import annotations

from .capture_status import CaptureStatus
from .cycles import Cycles, head_of, hide_token
from .dead_target import DEAD_ADDRESS, DEAD_TARGET
from .exchange import Exchange
from .in_force import Configured, InForce, tell_of_backend
from .page_access import PageAccess, header_edit, path_prefix
from .process import Process, Worker
from .reloads import Reloads
from .wire_limits import WireLimits

__all__ = [
    "DEAD_ADDRESS",
    "DEAD_TARGET",
    "CaptureStatus",
    "Configured",
    "Cycles",
    "Exchange",
    "InForce",
    "PageAccess",
    "Process",
    "Reloads",
    "WireLimits",
    "Worker",
    "head_of",
    "header_edit",
    "hide_token",
    "path_prefix",
    "tell_of_backend",
]
