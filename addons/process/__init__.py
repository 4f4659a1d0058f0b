"""The process: configuration, start, reload, shutdown, and several workers on one port."""

from __future__ import annotations

from .checks import check
from .configuration import Configuration
from .lifecycle import Lifecycle
from .master import GatewayMaster
from .policy import build_keyring, build_policy, check_limit_classes, limiter_for, read_static_keys
from .workers import Supervisor, shared_directory

__all__ = [
    "Configuration",
    "GatewayMaster",
    "Lifecycle",
    "Supervisor",
    "build_keyring",
    "build_policy",
    "check",
    "check_limit_classes",
    "limiter_for",
    "read_static_keys",
    "shared_directory",
]
