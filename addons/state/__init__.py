"""What the addons share: the policy in force, the decision on each request, and the limits on the wire.

It holds values and protocols; the packages above put them there and act on them.
"""

from __future__ import annotations

from .capture_status import CaptureStatus
from .dead_target import DEAD_ADDRESS, DEAD_TARGET
from .exchange import Exchange
from .page_access import PageAccess, header_edit, path_prefix
from .runtime import Runtime, Worker, head_of, tell_of_backend
from .wire_limits import WireLimits

__all__ = [
    "DEAD_ADDRESS",
    "DEAD_TARGET",
    "CaptureStatus",
    "Exchange",
    "PageAccess",
    "Runtime",
    "WireLimits",
    "Worker",
    "head_of",
    "header_edit",
    "path_prefix",
    "tell_of_backend",
]
