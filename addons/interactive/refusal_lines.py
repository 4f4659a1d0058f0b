"""Lines of mitmdump that tell why a request was refused: mitmdump itself prints only the status."""

from __future__ import annotations

import logging

from mitmproxy import ctx
from mitmproxy.http import HTTPFlow

from vmgw_addons.state import Cycles
from vmgw_core.base import printable
from vmgw_core.errors import TokenRefused

logger = logging.getLogger(__name__)


class RefusalLines:
    """Prints a line for each refused request, before mitmdump's own. No line has a token.

    What is wrong with a token is told only with ``-logInvalidAuthTokens``, as everywhere.
    """

    def __init__(self, cycles: Cycles) -> None:
        self.cycles = cycles

    def response(self, flow: HTTPFlow) -> None:
        cycle = self.cycles.get(flow)
        if cycle is None or cycle.refusal is None or ctx.options.flow_detail == 0:
            return
        reason = cycle.refusal.code
        if not isinstance(cycle.refusal, TokenRefused) or (cycle.policy is not None and cycle.policy.tell_why):
            reason += f": {printable(cycle.refusal.message)}"
        logger.info(f"refused, {reason}", extra={"client": flow.client_conn.peername})
