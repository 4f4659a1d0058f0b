"""The steps of one request, each a thin addon class over the core: access, concurrency, rate limit, forwarding.

The flow lane calls them as mitmproxy's hooks. The fast lane calls the functions that the hooks call.
"""

from __future__ import annotations

from .access_control import AccessControl
from .concurrency import Occupancy
from .flow_responses import refuse, respond
from .forwarding import Forwarding
from .rate_limit import RateLimit
from .response_headers import AnswerHeaders

__all__ = [
    "AccessControl",
    "AnswerHeaders",
    "Forwarding",
    "Occupancy",
    "RateLimit",
    "refuse",
    "respond",
]
