"""The decision on the flow in focus, in the status bar of mitmproxy's list.

mitmproxy's list shows only the marker of a flow; mitmweb has a column for comments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mitmproxy import ctx
from mitmproxy.http import HTTPFlow

from vmgw_addons._mitmproxy import show_status

if TYPE_CHECKING:
    from vmgw_addons._mitmproxy import View

_SECONDS = 60


class FocusLine:
    """Shows the comment of the flow in focus."""

    def __init__(self) -> None:
        self.view: View | None = None
        self.shown: tuple[object, str] | None = None

    def running(self) -> None:
        self.view = ctx.master.addons.get("view")
        if self.view is not None:
            self.view.focus.sig_change.connect(self.show)

    def response(self, flow: HTTPFlow) -> None:
        self.show()

    def error(self, flow: HTTPFlow) -> None:
        self.show()

    def show(self) -> None:
        """Show the comment if it has changed."""
        flow = self.view.focus.flow if self.view is not None else None
        if flow is not None and flow.comment and self.shown != (flow.id, flow.comment):
            self.shown = (flow.id, flow.comment)
            show_status(flow.comment, _SECONDS)
