"""One request of the flow lane: a carrier of the cycle between mitmproxy's layer and its hooks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from mitmproxy.connection import ConnectionState
from mitmproxy.flow import Error
from mitmproxy.proxy.context import Context

from vmgw_addons._mitmproxy import (
    GetHttpConnection,
    HttpErrorHook,
    HttpEvent,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
    commands,
    events,
    layer,
)
from vmgw_addons.steps import forwarding, refuse
from vmgw_core.enforcement import Cycle, State
from vmgw_core.errors import BackendTimeout, BackendUnreachable, InternalError, Refusal

if TYPE_CHECKING:
    from .layer import GatewayHttpLayer

_LINGER_BYTES: Final = 8 << 20
_LINGER_SECONDS: Final = 2.0
_DECIDED: Final = frozenset((State.FORM, State.METERED, State.READY, State.ASKED, State.RESPONDING, State.ENDED))


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
        self.discarded = 0

    @property
    def cycle(self) -> Cycle | None:
        return self.parent.cycles.get(self.flow)

    def ended(self) -> bool:
        """Whether the client has its response, or has left."""
        return self.cycle is None or self.cycle.state is State.ENDED

    @property
    def metered(self) -> bool:
        """Whether the body goes through a meter. No backend is connected to before that lets the first byte out."""
        return self.cycle is not None and self.cycle.meter is not None

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
        cycle = self.cycle
        if self.failure is not None:
            self.refuse(self.failure)
        elif self.flow.response is None and (cycle is None or cycle.state not in _DECIDED):
            self.refuse(InternalError("no decision was taken on this request"))
        if self.flow.response is not None and not event.end_stream:
            yield from self.answer_now()

    def start_request_stream(self) -> layer.CommandGenerator[None]:
        if self.metered:
            self.client_state = self.state_hold_request_body
        else:
            yield from super().start_request_stream()

    def state_hold_request_body(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """The meter holds the body so far, and no backend knows of the request."""
        passed = yield from self.passed(event)
        ended = isinstance(event, RequestEndOfMessage)
        if passed is None or not (passed or ended):
            return
        yield from super().start_request_stream()
        if self.client_state == self.state_stream_request_body:
            yield from self.send_on(event, passed)
        elif self.failure is not None:
            yield from self.answer(self.failure, ended=ended)

    def state_stream_request_body(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if not self.metered:
            yield from super().state_stream_request_body(event)
            return
        passed = yield from self.passed(event)
        if passed is not None:
            yield from self.send_on(event, passed)

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """The body is held: a form or, if an addon wants it whole, one that would stream."""
        cycle = self.cycle
        if cycle is not None and isinstance(event, HttpEvent):
            try:
                if cycle.state is State.FORM and isinstance(event, RequestData):
                    cycle.hold(len(event.data))
            except Refusal as refusal:
                self.request_body_buf.clear()
                yield from self.answer(refusal, ended=False)
                return
            if self.metered and (yield from self.passed(event)) is None:
                self.request_body_buf.clear()
                return
        yield from super().state_consume_request_body(event)
        if self.failure is not None:
            self.refuse(self.failure)
            yield from self.send_response()

    def send_on(self, event: HttpEvent, passed: bytes) -> layer.CommandGenerator[None]:
        """Send the backend what the meter let out, and the end of the body if ``event`` is that."""
        if passed:
            yield from super().state_stream_request_body(RequestData(self.stream_id, passed))
        if not isinstance(event, RequestData):
            yield from super().state_stream_request_body(event)

    def passed(self, event: HttpEvent) -> layer.CommandGenerator[bytes | None]:
        """What the meter lets out on ``event``, or None if it refused and the request has been answered."""
        cycle = self.cycle
        assert cycle is not None
        ended = isinstance(event, RequestEndOfMessage)
        if cycle.state is State.ENDED:
            # The client has its response already. The rest is read and dropped, and the backend never sees the end.
            self.parent.connections.pop(self.context.server, None)
            yield commands.CloseConnection(self.context.server)
            yield from self.linger()
            yield from self.state_discard(event)
            return None
        try:
            if isinstance(event, RequestData):
                return cycle.body(event.data, end=False)
            return cycle.body(b"", end=True) if ended else b""
        except Refusal as refusal:
            yield from self.cut_off(refusal, ended=ended)
        return None

    def cut_off(self, refusal: Refusal, *, ended: bool) -> layer.CommandGenerator[None]:
        """Refuse the rest of the body. A backend that has a part of it loses its connection instead."""
        if self.client_state == self.state_stream_request_body:
            # What else comes from this connection is for nobody.
            self.parent.connections.pop(self.context.server, None)
            yield commands.CloseConnection(self.context.server)
        if self.server_state == self.state_wait_for_response_headers:
            yield from self.answer(refusal, ended=ended)
            return
        # The backend answered before it had the body, and the client has that answer, or a part of it.
        if self.cycle is not None:
            self.cycle.refuse(refusal)
        if self.server_state == self.state_done and not ended:
            yield from self.linger()
        else:
            self.client_state = self.state_errored
            yield commands.CloseConnection(self.context.client)

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

    def answer(self, refusal: Refusal, *, ended: bool) -> layer.CommandGenerator[None]:
        """Answer with the refusal, whether or not the client is still sending."""
        self.refuse(refusal)
        if ended:
            self.client_state = self.state_done
            yield from self.send_response()
        else:
            yield from self.answer_now()

    def refuse(self, refusal: Refusal) -> None:
        """Make ``refusal`` the flow's answer."""
        refuse(self.flow, self.cycle, refusal)

    # --- the backend -----------------------------------------------------------------------------------------------

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        cycle = self.cycle
        while True:
            if cycle is None or cycle.upstream is None or cycle.state is not State.READY:
                self.failure = InternalError("no decision was taken on this request")
                return False
            backend = cycle.upstream.backend
            forwarding.address(self.flow, cycle.upstream)
            cycle.ask(time.perf_counter())
            connection, error = yield GetHttpConnection(backend.address, backend.scheme == "https", None)
            if self.ended():
                return False  # the client left meanwhile
            if not error and connection.state is ConnectionState.OPEN:
                break
            failure: Refusal
            if not error:
                # It was closed between being opened and being used: what is sent now is dropped without a word.
                failure = BackendUnreachable(f"-{backend.flag}: the backend broke off at once")
            elif self.parent.last_opened in self.parent.timed_out:
                failure = BackendTimeout(f"-{backend.flag}: connecting to the backend took too long")
            else:
                failure = BackendUnreachable(f"-{backend.flag}: the backend cannot be reached")
            try:
                cycle.unreachable(failure)
            except Refusal as refusal:
                self.failure = refusal
                return False
        self.reused = connection in self.parent.used
        self.parent.used.add(connection)
        self.context.server = self.flow.server_conn = connection
        return True

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        if event.response.status_code == 101:
            self.server_state = self.state_switched_protocols
            return
        if self.cycle is not None and self.cycle.state is State.ASKED:
            self.cycle.responded(time.perf_counter())
        yield from super().state_wait_for_response_headers(event)

    def state_switched_protocols(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """The end of a 101 fails the backend: nobody asked to switch protocols, since Upgrade is never sent on.

        Another backend is not asked: mitmproxy may still pass on what follows the 101, and it must not be taken for
        the other one's response.
        """
        cycle = self.cycle
        if cycle is None or not isinstance(event, ResponseEndOfMessage):
            return
        yield commands.CloseConnection(self.context.server)
        failure: Refusal = BackendUnreachable("the backend failed: it switched protocols")
        try:
            cycle.lost("it switched protocols")
        except Refusal as refusal:
            failure = refusal
        yield from self.answer(failure, ended=self.client_state == self.state_done)
        self.server_state = self.state_errored  # what else comes from it is ignored

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        waiting = self.server_state == self.state_wait_for_response_headers and self.client_state != self.state_errored
        if isinstance(event, RequestProtocolError) and waiting and self.context.server not in self.parent.connections:
            # The client left, and there is no backend to tell, which mitmproxy would crash on.
            self.flow.error = Error(event.message)
            yield HttpErrorHook(self.flow)
            self.server_state = self.state_errored
        sending = self.client_state == self.state_stream_request_body
        if isinstance(event, ResponseProtocolError) and (sending or self.client_state == self.state_done):
            if self.flow.response is None and self.cycle is not None and self.cycle.state is State.ASKED:
                yield from self.backend_failed("")
                return
            if sending and self.server_state == self.state_done:
                # The backend answered before the request was through, and left: the client has its answer.
                yield from self.linger()
                return
        yield from super().handle_protocol_error(event)

    def backend_failed(self, reason: str) -> layer.CommandGenerator[None]:
        """The backend broke off before it answered: ask once more if that is safe, else answer."""
        cycle = self.cycle
        assert cycle is not None
        failure: Refusal | None = None
        try:
            if self.context.server in self.parent.timed_out:
                cycle.late()
            cycle.lost(reason, stale=self.reused and not reason)
        except Refusal as refusal:
            failure = refusal
        else:
            if (yield from self.make_server_connection()):
                self.server_state = self.state_wait_for_response_headers
                yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, True), self.context.server)
                yield SendHttp(RequestEndOfMessage(self.stream_id), self.context.server)
                return
            failure = self.failure
        if failure is not None:  # else the client left meanwhile
            yield from self.answer(failure, ended=self.client_state == self.state_done)
