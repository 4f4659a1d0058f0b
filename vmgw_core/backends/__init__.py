"""Backends, load balancing between them, and limits of concurrent requests.

A backend is an address with a base path. A group balances by load and ejects backends that failed.
"""

from .backend import Backend
from .balancer import BackendGroup, Member
from .concurrency import Concurrency, Seat, Use
from .histogram import Durations

__all__ = ["Backend", "BackendGroup", "Concurrency", "Durations", "Member", "Seat", "Use"]
