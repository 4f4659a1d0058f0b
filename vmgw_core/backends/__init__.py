"""Which of several backends a request goes to, and how many requests may be under way.

A backend is an address with a base path. A group of them balances by load and leaves out those that failed.
"""

from __future__ import annotations

from .backend import Backend
from .balancer import BackendGroup, Member
from .concurrency import Concurrency
from .histogram import Durations

__all__ = [
    "Backend",
    "BackendGroup",
    "Concurrency",
    "Durations",
    "Member",
]
