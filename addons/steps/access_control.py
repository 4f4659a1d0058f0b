"""Access control: the decision on a request's head."""

from __future__ import annotations

import logging

from mitmproxy.http import HTTPFlow

from vmgw_addons.sources import KeyRefresh
from vmgw_addons.state import Cycles, InForce, hide_token
from vmgw_core.enforcement import Cycle, State, answer
from vmgw_core.errors import BadSignature, Refusal, SignatureNotChecked, TokenRefused, UnknownKey
from vmgw_core.http import Response, check_fields

from .flow_responses import respond

logger = logging.getLogger(__name__)


class AccessControl:
    """Checks the token and what it allows, and refuses the request otherwise."""

    def __init__(self, in_force: InForce, cycles: Cycles, keys: KeyRefresh) -> None:
        self.in_force = in_force
        self.cycles = cycles
        self.keys = keys

    def requestheaders(self, flow: HTTPFlow) -> None:
        if flow.response is not None or not flow.live:
            return
        cycle = self.cycles.of(flow)
        if cycle.state is not State.HEAD:
            return  # a replayed request
        hide_token(flow, self.in_force.configured.policy)
        try:
            # The check of HTTP/1.1 heads has not seen HTTP/2, nor what addons changed since.
            check_fields(cycle.head, self.in_force.configured.limits.head)
            cycle.authorize(self.in_force.configured.gateway)
        except Refusal as refusal:
            respond(flow, self.refuse(cycle, refusal))

    def refuse(self, cycle: Cycle, refusal: Refusal) -> Response:
        """Return the response to a refusal. Log it, and fetch keys if the token's key is not known."""
        policy = cycle.policy
        if isinstance(refusal, SignatureNotChecked):  # the cycle drops its cause
            logger.error(f"a request failed: {refusal.message}", exc_info=refusal.__cause__)
        cycle.refuse(refusal)
        tell_why = policy is not None and policy.tell_why
        if isinstance(refusal, UnknownKey | BadSignature):
            self.keys.unknown_key()
        if tell_why and isinstance(refusal, TokenRefused):
            # repr: the message may quote the client, and must not start another line.
            logger.warning(f"token refused: {refusal.code}: {refusal.message!r}, client {cycle.head.client}")
        return answer(policy, cycle.head, refusal)
