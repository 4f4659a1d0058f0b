"""This process: how it was started, and whether it ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmgw_addons.support import ThreadWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One of ``count`` processes on one port. ``directory`` is theirs alone, and goes with them."""

    parent: int
    slot: int
    count: int
    directory: Path


@dataclass(slots=True, kw_only=True)
class Process:
    """The launcher sets the first three; without it, in mitmproxy's tools, they stay as they are."""

    worker: Worker | None = None
    """Which of several processes this is; None if it is the only one."""
    log: ThreadWriter[str] | None = None
    """What writes the log; None in mitmproxy's tools, which write it themselves."""
    fast: bool = False
    """Whether the fast lane carries what it can."""
    interactive: bool = False
    """Whether somebody looks at flows, so that more of them is kept."""
    offline: bool | None = None
    """Whether no listener is wanted (``mitmdump -n``); None until a configuration was accepted."""
    draining: bool = False
