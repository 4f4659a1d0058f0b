"""Access control: the decision on a request's head."""

from __future__ import annotations

import logging

from mitmproxy.http import HTTPFlow

from vmgw_core.errors import BadSignature, InternalError, Refusal, TokenRefused, UnknownKey
from vmgw_core.gateway import access_of, admit

from .key_refresh import KeyRefresh
from .refusing import refuse
from .runtime import Decision, Runtime

logger = logging.getLogger(__name__)


class AccessControl:
    """Checks the token and what it allows; a refused request is answered here and goes no further."""

    def __init__(self, runtime: Runtime, keys: KeyRefresh) -> None:
        self.runtime = runtime
        self.keys = keys

    def requestheaders(self, flow: HTTPFlow) -> None:
        if flow.response is not None or not flow.live:
            return
        decision = self.runtime.decide(flow)
        if decision.grant is not None:
            return  # a captured request that is sent again
        policy = self.runtime.policy
        try:
            if policy is None:
                raise InternalError("the gateway has no usable configuration")
            decision.grant = admit(policy, decision.head, decision.at)
        except Refusal as refusal:
            self.refuse(flow, decision, refusal)

    def refuse(self, flow: HTTPFlow, decision: Decision, refusal: Refusal) -> None:
        """Answer, log, and ask for new keys where the token's key was not among the known ones."""
        policy = self.runtime.policy
        decision.refused(refusal)
        tell_why = policy is not None and policy.tell_why
        access = access_of(policy, decision.head) if policy is not None else None
        if policy is not None:  # whoever prints or saves a refused flow must not come by a token
            flow.request.headers.pop(policy.token_header.decode(), None)
        refuse(flow, refusal, access=access, tell_why=tell_why)
        if isinstance(refusal, UnknownKey | BadSignature):
            self.keys.unknown_key()
        if tell_why and isinstance(refusal, TokenRefused):
            # repr: nothing a client sends can start a line of its own.
            logger.warning(f"token refused: {refusal.code}: {refusal.message!r}, client {decision.head.client}")
