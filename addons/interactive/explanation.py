"""Explanation: decisions that can be seen, in mitmproxy and mitmweb only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitmproxy.addonmanager import Loader

from vmgw_addons.process import Lifecycle
from vmgw_addons.state import Cycles, InForce, Process

if TYPE_CHECKING:
    from vmgw_addons._mitmproxy import Master


class Explanation:
    """In mitmproxy and mitmweb: the decision beside each flow, commands, bodies that stay visible, views of them.

    Elsewhere it is nothing: its parts are loaded, and become addons, only where somebody looks at flows. So neither
    the launcher nor mitmdump pays for them.
    """

    def __init__(self, in_force: InForce, process: Process, cycles: Cycles, lifecycle: Lifecycle) -> None:
        self.in_force = in_force
        self.process = process
        self.cycles = cycles
        self.lifecycle = lifecycle
        self.addons: list[object] = []

    def load(self, loader: Loader) -> None:
        """mitmproxy loads what is in ``addons`` behind this."""
        if is_interactive(loader.master):
            from .commands import DecisionCommands
            from .content_views import ContentViews
            from .kept_bodies import KeptBodies
            from .marks import DecisionMarks

            self.process.interactive = True
            self.addons = [
                DecisionMarks(self.in_force, self.cycles),
                KeptBodies(self.cycles),
                DecisionCommands(self.in_force, self.lifecycle),
                ContentViews(),
            ]
            if type(loader.master).__name__ == "ConsoleMaster":
                from .focus_line import FocusLine

                self.addons.append(FocusLine())


def is_interactive(master: Master) -> bool:
    """Whether somebody looks at flows: mitmproxy or mitmweb."""
    return type(master).__name__ in ("ConsoleMaster", "WebMaster")
