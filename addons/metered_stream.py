"""A request whose body goes through a meter on its way to the backend."""

from __future__ import annotations

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http._base import HttpEvent
from mitmproxy.proxy.layers.http._events import RequestData, RequestEndOfMessage

from vmgw_core.errors import Refusal
from vmgw_core.metering import RowMeter

from .http_stream import GatewayStream


class MeteredStream(GatewayStream):
    """A stream that heeds ``Decision.meter``.

    No backend is connected to before the meter lets the first byte out, and none gets the end of a body that the
    meter refuses. Without a meter this is a GatewayStream.
    """

    @property
    def meter(self) -> RowMeter | None:
        decision = self.decision
        return decision.meter if decision is not None else None

    def start_request_stream(self) -> layer.CommandGenerator[None]:
        if self.meter is None:
            yield from super().start_request_stream()
        else:
            self.client_state = self.state_hold_request_body

    def state_hold_request_body(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """The meter holds the body so far, and no backend knows of the request."""
        passed = yield from self.metered(event)
        ended = isinstance(event, RequestEndOfMessage)
        if passed is None or not (passed or ended):
            return
        yield from super().start_request_stream()
        if self.client_state == self.state_stream_request_body:
            yield from self.send_on(event, passed)
        elif self.failure is not None:
            yield from self.answer(self.failure, ended=ended)

    def state_stream_request_body(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if self.meter is None:
            yield from super().state_stream_request_body(event)
            return
        passed = yield from self.metered(event)
        if passed is not None:
            yield from self.send_on(event, passed)

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Where an addon wants the body whole, it is metered all the same."""
        if self.meter is not None and isinstance(event, HttpEvent) and (yield from self.metered(event)) is None:
            self.request_body_buf.clear()
            return
        yield from super().state_consume_request_body(event)

    def send_on(self, event: HttpEvent, passed: bytes) -> layer.CommandGenerator[None]:
        """Send the backend what the meter let out, and the end of the body where ``event`` is that."""
        if passed:
            yield from super().state_stream_request_body(RequestData(self.stream_id, passed))
        if not isinstance(event, RequestData):
            yield from super().state_stream_request_body(event)

    def metered(self, event: HttpEvent) -> layer.CommandGenerator[bytes | None]:
        """What the meter lets out on ``event``, or None where it refused and the request has been answered."""
        assert self.meter is not None
        try:
            if isinstance(event, RequestData):
                return self.meter.feed(event.data)
            return self.meter.finish() if isinstance(event, RequestEndOfMessage) else b""
        except Refusal as refusal:
            yield from self.cut_off(refusal, ended=isinstance(event, RequestEndOfMessage))
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
        if self.decision is not None:
            self.decision.refused(refusal)
        if self.server_state == self.state_done and not ended:
            yield from self.linger()
        else:
            self.client_state = self.state_errored
            yield commands.CloseConnection(self.context.client)

    def answer(self, refusal: Refusal, *, ended: bool) -> layer.CommandGenerator[None]:
        """Answer with the refusal, whether or not the client is still sending."""
        self.refuse(refusal)
        if ended:
            self.client_state = self.state_done
            yield from self.send_response()
        else:
            yield from self.answer_now()
