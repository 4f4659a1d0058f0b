"""Access control: the decision on a request's head."""

from __future__ import annotations

import logging

from mitmproxy.http import HTTPFlow

from vmgw_addons.sources import KeyRefresh
from vmgw_addons.state import Cycles, InForce, hide_token
from vmgw_core.enforcement import Cycle, State, access_of
from vmgw_core.errors import BadSignature, Refusal, SignatureNotChecked, TokenRefused, UnknownKey
from vmgw_core.http import Response, check_fields, refusal_response

from .flow_responses import respond

logger = logging.getLogger(__name__)


class AccessControl:
    """Checks the token and what it allows; a refused request is answered here and goes no further."""

    def __init__(self, in_force: InForce, cycles: Cycles, keys: KeyRefresh) -> None:
        self.in_force = in_force
        self.cycles = cycles
        self.keys = keys

    def requestheaders(self, flow: HTTPFlow) -> None:
        if flow.response is not None or not flow.live:
            return
        cycle = self.cycles.of(flow)
        if cycle.state is not State.HEAD:
            return  # a captured request that is sent again
        hide_token(flow, self.in_force.configured.policy)
        try:
            if flow.client_conn.alpn == b"h2":  # no byte of it has been read as HTTP/1.1 is
                check_fields(cycle.head)
            cycle.authorize(self.in_force.configured.gateway)
        except Refusal as refusal:
            respond(flow, self.answer(cycle, refusal))

    def answer(self, cycle: Cycle, refusal: Refusal) -> Response:
        """What the client gets. Logs, and asks for new keys where the token's key was not among the known ones."""
        policy = cycle.policy
        if isinstance(refusal, SignatureNotChecked):  # the cycle drops its cause
            logger.error(f"a request failed: {refusal.message}", exc_info=refusal.__cause__)
        cycle.refuse(refusal)
        tell_why = policy is not None and policy.tell_why
        access = access_of(policy, cycle.head) if policy is not None else None
        if isinstance(refusal, UnknownKey | BadSignature):
            self.keys.unknown_key()
        if tell_why and isinstance(refusal, TokenRefused):
            # repr: nothing a client sends can start a line of its own.
            logger.warning(f"token refused: {refusal.code}: {refusal.message!r}, client {cycle.head.client}")
        return refusal_response(refusal, access=access, tell_why=tell_why)
