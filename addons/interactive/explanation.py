"""Explanation: shows decisions in mitmproxy's programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitmproxy.addonmanager import Loader

from vmgw_addons.process import Lifecycle
from vmgw_addons.state import Cycles, InForce, Process

if TYPE_CHECKING:
    from vmgw_addons._mitmproxy import Master


class Explanation:
    """In mitmproxy and mitmweb: decisions next to flows, commands, bodies that stay visible, and views of them.

    In mitmdump: reasons of refusals, and the views.

    Its parts are only loaded in these programs, so that they cost nothing elsewhere.
    """

    def __init__(self, in_force: InForce, process: Process, cycles: Cycles, lifecycle: Lifecycle) -> None:
        self.in_force = in_force
        self.process = process
        self.cycles = cycles
        self.lifecycle = lifecycle
        self.addons: list[object] = []

    def load(self, loader: Loader) -> None:
        """Fill ``addons``, which mitmproxy loads after this."""
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
        elif type(loader.master).__name__ == "DumpMaster":
            from .content_views import ContentViews
            from .refusal_lines import RefusalLines

            self.addons = [RefusalLines(self.cycles), ContentViews()]


def is_interactive(master: Master) -> bool:
    """Whether this is mitmproxy or mitmweb."""
    return type(master).__name__ in ("ConsoleMaster", "WebMaster")
