"""The life of the process: configuration, start, reload, drain, and several workers on one port."""

from __future__ import annotations

from .configuration import Configuration, build_keyring, build_policy, describe_keys, limiter_for, read_static_keys
from .lifecycle import Lifecycle
from .master import GatewayMaster
from .workers import Supervisor

__all__ = [
    "Configuration",
    "GatewayMaster",
    "Lifecycle",
    "Supervisor",
    "build_keyring",
    "build_policy",
    "describe_keys",
    "limiter_for",
    "read_static_keys",
]
