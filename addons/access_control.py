"""Access control: the decision on a request's head."""

from __future__ import annotations

import logging

from mitmproxy.http import HTTPFlow

from vmgw_core.answers import Answer, answer
from vmgw_core.errors import BadSignature, InternalError, Refusal, SignatureNotChecked, TokenRefused, UnknownKey
from vmgw_core.gateway import access_of, admit
from vmgw_core.head import check_fields

from .key_refresh import KeyRefresh
from .refusing import respond
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
        self.runtime.hide_token(flow)
        try:
            if flow.client_conn.alpn == b"h2":  # no byte of it has been read as HTTP/1.1 is
                check_fields(decision.head)
            self.check(decision)
        except Refusal as refusal:
            respond(flow, self.answer(decision, refusal))

    def check(self, decision: Decision) -> None:
        """Admit the request, by the policy that is in force now and stays so for the whole of it.

        Raises:
            Refusal: it does not pass.
        """
        decision.policy = self.runtime.policy
        if decision.policy is None:
            raise InternalError("the gateway has no usable configuration")
        decision.grant = admit(decision.policy, decision.head, decision.at)

    def answer(self, decision: Decision, refusal: Refusal) -> Answer:
        """What the client gets. Logs, and asks for new keys where the token's key was not among the known ones."""
        policy = decision.policy
        if isinstance(refusal, SignatureNotChecked):  # the decision drops its cause
            logger.error(f"a request failed: {refusal.message}", exc_info=refusal.__cause__)
        decision.refused(refusal)
        tell_why = policy is not None and policy.tell_why
        access = access_of(policy, decision.head) if policy is not None else None
        if isinstance(refusal, UnknownKey | BadSignature):
            self.keys.unknown_key()
        if tell_why and isinstance(refusal, TokenRefused):
            # repr: nothing a client sends can start a line of its own.
            logger.warning(f"token refused: {refusal.code}: {refusal.message!r}, client {decision.head.client}")
        return answer(refusal, access=access, tell_why=tell_why)
