"""This process: how it was started, and whether it is ending."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmgw_addons.support import ThreadWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One of ``count`` processes on one port. They share ``directory``, which is deleted at their end."""

    parent: int
    slot: int
    count: int
    directory: Path


@dataclass(slots=True, kw_only=True)
class Process:
    """The launcher sets the first two; mitmproxy's programs leave them at their defaults."""

    worker: Worker | None = None
    """This process among several; None if it is the only one."""
    log: ThreadWriter[str] | None = None
    """Writes the log; None in mitmproxy's tools, which have their own."""
    fast: bool = False
    """Whether the fast lane is in use."""
    why_flows: str = ""
    """Why it is not, if the user did not ask for the flow lane."""
    interactive: bool = False
    """Whether this is mitmproxy or mitmweb, which show flows, so that more of each flow is kept."""
    offline: bool = False
    """Whether there is no listener (``mitmdump -n``)."""
    draining: bool = False
