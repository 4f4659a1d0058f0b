"""One request on its way: early refusal with flat memory, backend failures in JSON, one retry where it is safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import GetHttpConnection, HttpStream, SendHttp
from mitmproxy.proxy.layers.http._base import HttpEvent
from mitmproxy.proxy.layers.http._events import (
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseHeaders,
    ResponseProtocolError,
)

from vmgw_core.backends import Member
from vmgw_core.errors import BackendTimeout, BackendUnreachable, InternalError, Refusal
from vmgw_core.gateway import Body, too_large

from . import backends, forwarding
from .refusing import refuse
from .runtime import Decision

if TYPE_CHECKING:
    from .http_layer import GatewayHttpLayer

_LINGER_BYTES: Final = 8 << 20
_LINGER_SECONDS: Final = 2.0


class GatewayStream(HttpStream):
    """A stream that needs a decision.

    A request is answered or refused as soon as its head is judged. What the client still sends then is discarded
    for a moment (8 MiB, 2 seconds), so that it gets to read the answer, and the connection is closed. Without a
    complete decision nothing is sent to any backend.
    """

    def __init__(self, context: Context, stream_id: int, parent: GatewayHttpLayer) -> None:
        super().__init__(context, stream_id)
        self.parent = parent
        self.failure: Refusal | None = None
        self.reused = False
        self.retried = False
        self.tried: list[Member] = []
        self.held = 0
        self.discarded = 0

    @property
    def decision(self) -> Decision | None:
        return self.parent.runtime.decisions.get(self.flow)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Wakeup):
            if self.client_state == self.state_discard:
                yield commands.CloseConnection(self.context.client)
        else:
            yield from super()._handle_event(event)

    # --- the request -----------------------------------------------------------------------------------------------

    def state_wait_for_request_headers(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        request = event.request
        if request.is_http2:
            # From here on it is what it will be on its way to the backend.
            request.http_version = "HTTP/1.1"
            if not event.end_stream and "content-length" not in request.headers:
                request.headers["transfer-encoding"] = "chunked"
        yield from super().state_wait_for_request_headers(event)
        if self.client_state == self.state_errored and self.failure is None:
            return
        decision = self.decision
        if self.failure is not None:
            self.refuse(self.failure)
        elif self.flow.response is None and (decision is None or decision.grant is None):
            self.refuse(InternalError("no decision was taken on this request"))
        if self.flow.response is not None and not event.end_stream:
            yield from self.answer_now()

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        policy = self.parent.runtime.policy
        if isinstance(event, RequestData) and policy is not None:
            self.held += len(event.data)
            if self.held > policy.max_form_size:
                self.request_body_buf.clear()
                self.refuse(too_large(policy))
                yield from self.answer_now()
                return
        yield from super().state_consume_request_body(event)
        if self.failure is not None:
            self.refuse(self.failure)
            yield from self.send_response()

    def state_discard(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """The answer is out; what still comes is counted and thrown away."""
        if isinstance(event, RequestData):
            self.discarded += len(event.data)
            if self.discarded > _LINGER_BYTES:
                yield commands.CloseConnection(self.context.client)
        elif isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            yield from self.flow_done()

    def answer_now(self) -> layer.CommandGenerator[None]:
        """Send the gateway's own answer while the request is still on its way."""
        assert self.flow.response is not None
        self.flow.response.headers["Connection"] = "close"
        yield from self.linger()
        yield from self.send_response()

    def linger(self) -> layer.CommandGenerator[None]:
        """From now on discard the request's body, for a bounded time."""
        self.client_state = self.state_discard
        yield commands.RequestWakeup(_LINGER_SECONDS)

    def refuse(self, refusal: Refusal) -> None:
        """Make ``refusal`` the flow's answer."""
        decision = self.decision
        access = None
        if decision is not None:
            decision.refused(refusal)
            access = decision.grant.route.access if decision.grant is not None else None
        refuse(self.flow, refusal, access=access)

    # --- the backend -----------------------------------------------------------------------------------------------

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        decision = self.decision
        if decision is None or decision.upstream is None:
            self.failure = InternalError("no decision was taken on this request")
            return False
        while True:
            backend = decision.upstream.backend
            backends.ask(decision)
            connection, error = yield GetHttpConnection(backend.address, backend.scheme == "https", None)
            failure: Refusal
            if error:
                failure = BackendUnreachable(f"-{backend.flag}: the backend cannot be reached")
                if self.parent.last_opened in self.parent.timed_out:
                    failure = BackendTimeout(f"-{backend.flag}: connecting to the backend took too long")
            elif connection.state is not ConnectionState.OPEN:
                # It was closed between being opened and being used: what is sent now is dropped without a word.
                failure = BackendUnreachable(f"-{backend.flag}: the backend broke off at once")
            else:
                break
            backends.failed(decision)
            if not self.turn_elsewhere(decision):
                self.failure = failure
                return False
        self.reused = connection in self.parent.used
        self.parent.used.add(connection)
        self.context.server = self.flow.server_conn = connection
        return True

    def turn_elsewhere(self, decision: Decision) -> bool:
        """Whether there is another backend, that was not tried yet. No byte of the request went to the present one,
        or it has none but the head of a GET.
        """
        assert decision.member is not None
        self.tried.append(decision.member)
        if not backends.move(decision, self.tried):
            return False
        assert decision.upstream is not None
        forwarding.address(self.flow, decision.upstream)
        return True

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        if event.response.status_code == 101:
            # Nobody asked to switch protocols: Upgrade is never sent on.
            yield commands.CloseConnection(self.context.server)
            self.retried = True
            yield from self.backend_failed()
            self.server_state = self.state_errored  # what else comes from it is ignored
            return
        if self.decision is not None and self.decision.member is not None:
            backends.answered(self.decision)
        yield from super().state_wait_for_response_headers(event)

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        sending = self.client_state == self.state_stream_request_body
        if isinstance(event, ResponseProtocolError) and (sending or self.client_state == self.state_done):
            if self.flow.response is None:
                yield from self.backend_failed()
                return
            if sending and self.server_state == self.state_done:
                # The backend answered before the request was through, and left: the client has its answer.
                yield from self.linger()
                return
        yield from super().handle_protocol_error(event)

    def backend_failed(self) -> layer.CommandGenerator[None]:
        """The backend broke off before it answered: try once more where that is safe, else answer 502 or 504."""
        decision = self.decision
        assert decision is not None
        assert decision.grant is not None
        timed_out = self.context.server in self.parent.timed_out
        if not self.reused or self.retried or timed_out:
            backends.failed(decision, dead=not timed_out)
        again = not self.retried and not timed_out
        again = again and self.flow.request.method == "GET" and decision.grant.body is Body.NONE
        if again and (self.reused or self.turn_elsewhere(decision)):
            self.retried = True
            if (yield from self.make_server_connection()):
                yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, True), self.context.server)
                yield SendHttp(RequestEndOfMessage(self.stream_id), self.context.server)
                return
        flag = decision.grant.backend.flag
        failure = self.failure or (
            BackendTimeout(f"-{flag}: the backend did not answer in time")
            if timed_out
            else BackendUnreachable(f"-{flag}: the backend broke off before it answered")
        )
        self.refuse(failure)
        if self.client_state == self.state_done:
            yield from self.send_response()
        else:
            yield from self.answer_now()
