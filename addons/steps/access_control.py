"""Access control: the decision on a request's head."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow, Request

from vmgw_addons.sources import KeyRefresh, PasswordChecks
from vmgw_addons.state import Cycles, InForce, hide_token
from vmgw_core.enforcement import Cycle, Policy, State, answer
from vmgw_core.errors import (
    BadSignature,
    PasswordUnchecked,
    Refusal,
    SignatureNotChecked,
    TokenRefused,
    UnknownKey,
)
from vmgw_core.http import RequestHead, Response, check_fields
from vmgw_core.tokens import KEY_WAIT

from .flow_headers import FlowHeaders
from .flow_responses import respond

logger = logging.getLogger(__name__)


def has_checked_head(request: Request, head: RequestHead) -> bool:
    """Whether the head is the very one that was checked when it came: no addon has changed it since."""
    data, headers = request.data, request.headers
    checked = headers.checked if isinstance(headers, FlowHeaders) else None
    return checked is not None and checked == (data.method, data.path, head.headers)


def _nobody() -> None:
    """Wait for nothing."""


class AccessControl:
    """Checks the token and what it allows, and refuses the request otherwise."""

    def __init__(
        self,
        in_force: InForce,
        cycles: Cycles,
        keys: KeyRefresh,
        passwords: PasswordChecks,
        gate: Callable[[Client], asyncio.Event] = lambda client: asyncio.Event(),
    ) -> None:
        """``gate`` returns the event of a client of the flow lane that must be set for reading from it."""
        self.in_force = in_force
        self.cycles = cycles
        self.keys = keys
        self.passwords = passwords
        self.gate = gate
        self.checking: dict[HTTPFlow, Cycle] = {}
        """The flows that wait for keys or a password."""

    def requestheaders(self, flow: HTTPFlow) -> Awaitable[None] | None:
        """Decide, or wait for keys or a password: mitmproxy awaits what a hook returns."""
        if flow.response is not None or not flow.live:
            return None
        traces = self.in_force.configured.traces
        cycle = self.cycles.of(flow, None if traces is None else traces.tracer)
        if cycle.state is not State.HEAD:
            return None  # a replayed request
        is_checked = has_checked_head(flow.request, cycle.head)
        hide_token(flow, self.in_force.configured.policy)
        try:
            # The check of HTTP/1.1 heads has not seen HTTP/2, nor what addons changed since.
            if not is_checked:
                check_fields(cycle.head, self.in_force.configured.limits.head)
            done = asyncio.Event()
            http2 = flow.client_conn.alpn == b"h2"
            # HTTP/2 streams share a connection, so one that waits must not hold up its connection, nor fill memory.
            waiter = None if http2 and cycle.head.has_body else done.set
            if not self.authorize(cycle, waiter):
                if flow.error is not None:
                    cycle.end()  # the client has left
                    return None
                self.checking[flow] = cycle
                return self.wait(flow, cycle, done, asyncio.Event() if http2 else self.gate(flow.client_conn))
        except Refusal as refusal:
            respond(flow, self.refuse(cycle, refusal))
        return None

    async def wait(self, flow: HTTPFlow, cycle: Cycle, done: asyncio.Event, reading: asyncio.Event) -> None:
        """Decide after that is done, or after ``KEY_WAIT``. Until then ``reading`` is cleared."""
        reading.clear()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(KEY_WAIT):
                    while cycle.state is State.CHECKING:
                        await done.wait()
                        done.clear()
                        if cycle.state is State.CHECKING:
                            self.recheck(cycle)
            if cycle.state is State.CHECKING:
                self.recheck(cycle, last=True)
        except Refusal as refusal:
            respond(flow, self.refuse(cycle, refusal))
        finally:
            reading.set()
            self.checking.pop(flow, None)

    def error(self, flow: HTTPFlow) -> None:
        cycle = self.checking.pop(flow, None)
        if cycle is not None:  # the client has left
            cycle.end()

    def authorize(self, cycle: Cycle, waiter: Callable[[], None] | None) -> bool:
        """Decide on the head. Return False if it must wait: see ``Cycle.authorize``. ``waiter`` None: it cannot."""
        if cycle.authorize(self.in_force.configured.gateway, waiter):
            return True
        self.begin(cycle.policy)
        return False

    def begin(self, policy: Policy | None) -> None:
        """Do what requests wait for: fetch keys, check passwords."""
        self.keys.wake.set()
        if policy is not None and policy.credentials is not None:
            self.passwords.begin(policy.credentials)

    def recheck(self, cycle: Cycle, *, last: bool = False) -> bool:
        """Decide again, with what is in force now. Return False if it must wait on."""
        if cycle.recheck(self.in_force.configured.gateway, time.time(), last=last):
            return True
        self.begin(cycle.policy)
        return False

    def refuse(self, cycle: Cycle, refusal: Refusal) -> Response:
        """Return the response to a refusal. Log it, and fetch the key or check the password that is not known yet."""
        policy = cycle.policy
        if isinstance(refusal, SignatureNotChecked):  # the cycle drops its cause
            logger.error(f"a request failed: {refusal.message}", exc_info=refusal.__cause__)
        cycle.refuse(refusal)
        tell_why = policy is not None and policy.tell_why
        if isinstance(refusal, UnknownKey | BadSignature) and not cycle.checked:
            self.keys.unknown_key()
        if isinstance(refusal, PasswordUnchecked) and refusal.attempt is not None and not cycle.checked:
            refusal.attempt.wait(_nobody, time.time())  # so that the next request need not wait
            self.begin(policy)
        if tell_why and isinstance(refusal, TokenRefused):
            # repr: the message may quote the client, and must not start another line.
            logger.warning(f"token refused: {refusal.code}: {refusal.message!r}, client {cycle.head.client}")
        return answer(policy, cycle.head, refusal)
