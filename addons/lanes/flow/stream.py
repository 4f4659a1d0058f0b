"""One request of the flow lane: connects the cycle with mitmproxy's layer and its hooks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mitmproxy.connection import ConnectionState
from mitmproxy.flow import Error
from mitmproxy.proxy.context import Context

from vmgw_addons._mitmproxy import (
    GetHttpConnection,
    HttpErrorHook,
    HttpEvent,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
    commands,
    events,
    layer,
)
from vmgw_addons.outgoing import SPEAKS_TLS, TLS_ALERT, failure_of_text
from vmgw_addons.steps import Filtering, FlowHeaders, forwarding, respond
from vmgw_core.enforcement import State
from vmgw_core.errors import BackendFailure, BackendTimeout, BackendUnreachable, Cause, InternalError, Refusal

from .early_response import EarlyResponses

if TYPE_CHECKING:
    from .layer import GatewayHttpLayer

_TLS_ALERT: Final = f"unexpected server response: {TLS_ALERT!r}"[:-1]
_NO_DECISION: Final = "no decision was taken on this request"
_WAITING: Final = frozenset((State.CHECKING, State.QUEUED))
_DECIDED: Final = frozenset((State.FORM, State.METERED, State.READY, State.ASKED, State.RESPONDING, State.ENDED))


@dataclass(repr=False)
class RowsAskedHook(commands.StartHook):
    """Other processes, which share a limit, are asked before more of a body passes."""

    answered: asyncio.Event


@dataclass(repr=False)
class AnswerCollectedHook(commands.StartHook):
    """A large answer, which must be limited to a token, is complete."""

    filtering: Filtering


class GatewayStream(EarlyResponses):
    """Sends nothing to a backend without a complete decision, and a refusal as soon as the head is judged."""

    def __init__(self, context: Context, stream_id: int, parent: GatewayHttpLayer) -> None:
        super().__init__(context, stream_id, parent)
        self.failure: Refusal | None = None
        self.reused = False
        self.stream: bool | Callable[[bytes], Iterable[bytes] | bytes] = False
        """How the body streams: the gateway's choice, which other addons cannot change."""

    @property
    def metered(self) -> bool:
        """Whether a meter counts the body. The backend is connected when the meter releases the first byte."""
        return self.cycle is not None and self.cycle.meter is not None

    def is_over(self) -> bool:
        """Whether the client has its response."""
        return self.cycle is not None and self.cycle.state is State.ENDED

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Note at once that the client has left: mitmproxy keeps that back while the head is decided on."""
        if isinstance(event, RequestProtocolError) and self.client_state == self.state_wait_for_request_headers:
            self.flow.error = Error(event.message)
            cycle = self.cycle
            if cycle is not None and cycle.state in _WAITING:
                cycle.end()
        yield from super().handle_event(event)

    # --- the request -----------------------------------------------------------------------------------------------

    def state_wait_for_request_headers(self, event: RequestHeaders) -> layer.CommandGenerator[None]:
        request = event.request
        if request.is_http2:
            request.http_version = "HTTP/1.1"  # as the backend will get it
            if not event.end_stream and "content-length" not in request.headers:
                request.headers["transfer-encoding"] = "chunked"
        yield from super().state_wait_for_request_headers(event)
        if self.client_state == self.state_errored and self.failure is None:
            return
        cycle = self.cycle
        if self.is_over() and self.flow.response is None:
            self.client_state = self.state_left
            return
        if self.failure is not None:
            self.refuse(self.failure)
        elif self.flow.response is None and (cycle is None or cycle.state not in _DECIDED):
            self.refuse(InternalError(_NO_DECISION))
        if self.flow.response is not None and not event.end_stream:
            yield from self.respond_early()

    def check_invalid(self, request: bool) -> layer.CommandGenerator[bool]:
        """Leave out what the core has checked already: the head of a client on HTTP/1."""
        headers = self.flow.request.headers
        if request and isinstance(headers, FlowHeaders) and headers.checked is not None:
            return False
        return (yield from super().check_invalid(request))

    def state_left(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Ignore what the client sent before it left."""
        yield from ()

    def check_body_size(self, request: bool) -> layer.CommandGenerator[bool]:
        """Ignore ``stream_large_bodies``: the route decides what streams."""
        yield from ()
        return False

    def start_request_stream(self) -> layer.CommandGenerator[None]:
        self.stream = self.flow.request.stream
        if self.flow.response is not None:  # set by the user, who had intercepted the flow
            self.client_state = self.state_consume_request_body
        elif self.metered:
            self.client_state = self.state_hold_request_body
        else:
            yield from super().start_request_stream()

    def state_hold_request_body(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Feed the meter, which holds the body. No backend is connected yet."""
        released = yield from self.released(event)
        ended = isinstance(event, RequestEndOfMessage)
        if released is None or not (released or ended):
            return
        yield from super().start_request_stream()
        if self.client_state == self.state_stream_request_body:
            yield from self.forward(event, released)
        elif self.failure is not None:
            yield from self.respond(self.failure, ended=ended)

    def state_stream_request_body(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if not self.metered:
            self.flow.request.stream = self.stream
            if self.cycle is not None and isinstance(event, RequestData):
                self.cycle.received += len(event.data)
            yield from super().state_stream_request_body(event)
            return
        released = yield from self.released(event)
        if released is not None:
            yield from self.forward(event, released)

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Hold the body of a form. Other bodies stream, whatever other addons ask for."""
        cycle = self.cycle
        if cycle is not None and isinstance(event, HttpEvent):
            try:
                if cycle.state is State.FORM and isinstance(event, RequestData):
                    cycle.hold(len(event.data))
            except Refusal as refusal:
                self.request_body_buf.clear()
                yield from self.respond(refusal, ended=False)
                return
            if self.metered and (yield from self.released(event)) is None:
                self.request_body_buf.clear()
                return
        yield from super().state_consume_request_body(event)
        if self.failure is not None:
            self.refuse(self.failure)
            yield from self.send_response()

    def forward(self, event: HttpEvent, released: bytes) -> layer.CommandGenerator[None]:
        """Send the backend what the meter released, and ``event`` if it is the end of the body."""
        self.flow.request.stream = self.stream
        if released:
            yield from super().state_stream_request_body(RequestData(self.stream_id, released))
        if not isinstance(event, RequestData):
            yield from super().state_stream_request_body(event)

    def released(self, event: HttpEvent) -> layer.CommandGenerator[bytes | None]:
        """Return what the meter releases on ``event``; None if it refused, after responding with the refusal."""
        cycle = self.cycle
        assert cycle is not None
        ended = isinstance(event, RequestEndOfMessage)
        if self.is_over():
            yield from self.discard(event)
            return None
        if not ended and not isinstance(event, RequestData):
            return b""
        answered = asyncio.Event()
        try:
            content = event.data if isinstance(event, RequestData) else b""
            released = cycle.body(content, end=ended, waiter=answered.set)
            if not cycle.awaiting:
                return released
            yield RowsAskedHook(answered)
            if not self.is_over():
                return cycle.resumed()
            yield from self.discard(event)
        except Refusal as refusal:
            yield from self.cut_off(refusal, ended=ended)
        return None

    def discard(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Discard the rest of the body: the client has its response. The backend never gets the end of the body."""
        yield from self.drop_backend()
        yield from self.linger()
        yield from self.state_discard(event)

    def cut_off(self, refusal: Refusal, *, ended: bool) -> layer.CommandGenerator[None]:
        """Refuse the rest of the body, and close the connection of a backend that has a part of it."""
        if self.client_state == self.state_stream_request_body:
            yield from self.drop_backend()
        if self.server_state == self.state_wait_for_response_headers:
            yield from self.respond(refusal, ended=ended)
            return
        # The backend responded before it had the whole body, and the client has at least a part of that response.
        if self.cycle is not None:
            self.cycle.refuse(refusal)
        if self.server_state == self.state_done and not ended:
            yield from self.linger()
        else:
            self.client_state = self.state_errored
            yield commands.CloseConnection(self.context.client)

    # --- the backend -----------------------------------------------------------------------------------------------

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        cycle = self.cycle
        while True:
            if cycle is None or cycle.upstream is None or cycle.state is not State.READY:
                self.failure = InternalError(_NO_DECISION)
                return False
            backend = cycle.upstream.backend
            cycle.ask(time.perf_counter())
            wanted, error = GetHttpConnection(backend.address, backend.scheme == "https", None), None
            connection = self.parent.idle_connection(wanted)
            if connection is None:
                connection, error = yield wanted
            if self.cycle is None or self.cycle.state is State.ENDED:
                return False  # the client has left
            if not error and connection.state is ConnectionState.OPEN:
                break
            failure: BackendFailure
            if not error:
                # mitmproxy would silently drop what is sent on it.
                text = f"-{backend.flag}: the backend closed the connection at once"
                failure = BackendUnreachable(text, Cause.CLOSED)
            elif self.parent.last_opened in self.parent.timed_out:
                failure = BackendTimeout(f"-{backend.flag}: connecting to the backend took too long")
            else:
                text, cause = failure_of_text(error)
                failure = BackendUnreachable(f"-{backend.flag}: the backend cannot be reached: {text}", cause)
            try:
                cycle.unreachable(failure)
            except Refusal as refusal:
                self.failure = refusal
                return False
        self.reused = connection in self.parent.used
        self.parent.used.add(connection)
        self.context.server = self.flow.server_conn = connection
        forwarding.apply(self.flow, cycle)  # whatever other addons made of the flow
        return True

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        if event.response.status_code == 101:
            self.server_state = self.state_switched_protocols
            return
        if self.cycle is not None and self.cycle.state is State.ASKED:
            self.cycle.responded(time.perf_counter())
        event.response.headers = FlowHeaders(event.response.headers.fields)
        yield from super().state_wait_for_response_headers(event)

    def start_response_stream(self) -> layer.CommandGenerator[None]:
        """Hold a response that is filtered, whatever other addons ask for."""
        if self.cycle is not None and self.cycle.filter is not None:
            self.server_state = self.state_consume_response_body
        else:
            yield from super().start_response_stream()

    def state_consume_response_body(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        cycle = self.cycle
        if cycle is None or cycle.filter is None:
            yield from super().state_consume_response_body(event)
            return
        if cycle.state is State.ENDED:
            return  # the client has left
        try:
            if isinstance(event, ResponseData):
                cycle.collect(event.data)
            if not isinstance(event, ResponseEndOfMessage):
                return
            assert self.flow.response is not None
            headers = self.flow.response.headers.fields
            make = cycle.filtering(self.flow.response.status_code, headers)
            if not cycle.filters_long(headers):
                found = make()
            else:
                filtering = Filtering(make)
                yield AnswerCollectedHook(filtering)
                if self.is_over():
                    return  # the client has left
                found = filtering.result()
            respond(self.flow, cycle.filtered(found))
        except Refusal as refusal:
            self.refuse(refusal)
        yield from self.send_response()
        if not isinstance(event, ResponseEndOfMessage):
            yield from self.drop_backend()
            self.server_state = self.state_errored  # ignore what else comes from it

    def state_switched_protocols(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Fail the backend at the end of its 101: Upgrade is never forwarded, so nobody asked to switch protocols.

        No other backend is tried: mitmproxy may still pass on what follows the 101, which would be taken for the
        other backend's response.
        """
        cycle = self.cycle
        if cycle is None or not isinstance(event, ResponseEndOfMessage):
            return
        yield commands.CloseConnection(self.context.server)
        failure: Refusal = BackendUnreachable("the backend failed: it switched protocols")
        try:
            cycle.lost("it switched protocols", Cause.RESPONSE)
        except Refusal as refusal:
            failure = refusal
        yield from self.respond(failure, ended=self.client_state == self.state_done)
        self.server_state = self.state_errored  # ignore what else comes from it

    def handle_protocol_error(
        self, event: RequestProtocolError | ResponseProtocolError
    ) -> layer.CommandGenerator[None]:
        waiting = self.server_state == self.state_wait_for_response_headers and self.client_state != self.state_errored
        if isinstance(event, RequestProtocolError) and waiting and self.context.server not in self.parent.connections:
            # The client left before there is a connection to a backend; mitmproxy would crash.
            self.flow.error = Error(event.message)
            yield HttpErrorHook(self.flow)
            self.server_state = self.state_errored
        sending = self.client_state == self.state_stream_request_body
        if isinstance(event, ResponseProtocolError) and (sending or self.client_state == self.state_done):
            if self.flow.response is None and self.cycle is not None and self.cycle.state is State.ASKED:
                yield from self.backend_failed(*self.reason(event.message))
                return
            if sending and self.server_state == self.state_done:
                # The backend responded early and closed the connection: the client has its response.
                yield from self.linger()
                return
        if isinstance(event, ResponseProtocolError) and self.cycle is not None and self.cycle.state is State.RESPONDING:
            try:
                self.cycle.lost("it closed the connection before the end of its response")
            except Refusal as refusal:
                if self.cycle.filter is not None:
                    yield from self.respond(refusal, ended=True)
                    return
                self.cycle.refuse(refusal)
        yield from super().handle_protocol_error(event)

    def reason(self, message: str) -> tuple[str, Cause]:
        """Return why there is no response, in the words of the fast lane. Empty: the connection ended."""
        error = self.context.server.error
        if error is not None:
            return failure_of_text(error)
        if message.startswith(_TLS_ALERT):
            return SPEAKS_TLS, Cause.TLS
        if message.startswith("Cannot parse HTTP response"):
            return "its response is not valid HTTP", Cause.RESPONSE
        return "", Cause.CLOSED

    def backend_failed(self, reason: str, cause: Cause) -> layer.CommandGenerator[None]:
        """Retry if that is safe, else respond with the failure: the backend closed the connection before responding."""
        cycle = self.cycle
        assert cycle is not None
        failure: Refusal | None
        try:
            if self.context.server in self.parent.timed_out:
                cycle.late()
            cycle.lost(reason, cause, stale=self.reused and not reason)
        except Refusal as refusal:
            failure = refusal
        else:
            if (yield from self.make_server_connection()):
                self.server_state = self.state_wait_for_response_headers
                yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, True), self.context.server)
                yield SendHttp(RequestEndOfMessage(self.stream_id), self.context.server)
                return
            failure = self.failure
        if failure is not None:  # else the client has left
            yield from self.respond(failure, ended=self.client_state == self.state_done)
