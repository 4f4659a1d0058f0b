"""Captures flows to files without usable secrets, and replays them."""

from __future__ import annotations

from .choice import Choice, choose
from .flow_replay import FlowReplay
from .reader import opened, read
from .recorder import Capture, check_capture
from .redaction import Tee
from .server_replay import ServerReplay

__all__ = [
    "Capture",
    "Choice",
    "FlowReplay",
    "ServerReplay",
    "Tee",
    "check_capture",
    "choose",
    "opened",
    "read",
]
