"""Responses of the gateway itself: before the whole request is there, and with headers that no flow shows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mitmproxy.proxy.context import Context

from vmgw_addons._mitmproxy import (
    Hook,
    HttpEvent,
    HttpRequestHeadersHook,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    ResponseHeaders,
    SendHttp,
    commands,
    events,
    layer,
)
from vmgw_addons.steps import FlowHeaders, refuse
from vmgw_core.enforcement import Cycle
from vmgw_core.errors import Refusal

if TYPE_CHECKING:
    from .layer import GatewayHttpLayer

_LINGER_BYTES: Final = 8 << 20
_LINGER_SECONDS: Final = 2.0


class EarlyResponses(HttpStream):
    """A stream that can respond at any time.

    The rest of the request is discarded for a while (8 MiB, 2 seconds), so that the client can read the response; then
    the connection is closed.
    """

    def __init__(self, context: Context, stream_id: int, parent: GatewayHttpLayer) -> None:
        super().__init__(context, stream_id)
        self.parent = parent
        self.found: Cycle | None = None
        """The cycle of the flow, once it has begun."""
        self.discarded = 0

    @property
    def cycle(self) -> Cycle | None:
        if self.found is None:
            self.found = self.parent.cycles.get(self.flow)
        return self.found

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Wakeup):
            if self.client_state == self.state_discard:
                yield commands.CloseConnection(self.context.client)
        else:
            handling, call = super()._handle_event(event), self.parent.call
            yield from handling if call is None else self.call_hooks(handling, call)

    def call_hooks(
        self, handling: layer.CommandGenerator[None], call: Callable[[Hook], bool]
    ) -> layer.CommandGenerator[None]:
        """Call the addons where a hook is started, as far as they need not be awaited.

        The first hook of a request is left to the parent. It calls the addons after the event, so however many requests
        a client has sent at once, they are not handled one inside the other.
        """
        reply = None
        with suppress(StopIteration):
            while True:
                command = handling.send(reply)
                if not isinstance(command, commands.StartHook) or isinstance(command, HttpRequestHeadersHook):
                    reply = yield command
                else:
                    reply = None if call(command) else (yield command)

    def drop_backend(self) -> layer.CommandGenerator[None]:
        """Close the connection to the backend, and ignore what still comes from it."""
        self.parent.connections.pop(self.context.server, None)
        yield commands.CloseConnection(self.context.server)

    def state_discard(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Discard the rest of the body, up to a limit: the response has been sent."""
        if isinstance(event, RequestData):
            self.discarded += len(event.data)
            if self.discarded > _LINGER_BYTES:
                yield commands.CloseConnection(self.context.client)
        elif isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            yield from self.flow_done()

    def send_response(self, already_streamed: bool = False) -> layer.CommandGenerator[None]:
        """Send the response, with the private headers of a page: they are added after all addons have seen the flow."""
        sending = super().send_response(already_streamed)
        private = () if self.cycle is None else self.cycle.private_headers
        if not private:
            yield from sending
            return
        reply = None
        with suppress(StopIteration):
            while True:
                command = sending.send(reply)
                if isinstance(command, SendHttp) and isinstance(command.event, ResponseHeaders):
                    response = command.event.response.copy()
                    response.headers = FlowHeaders((*response.headers.fields, *private))
                    event = ResponseHeaders(self.stream_id, response, command.event.end_stream)
                    command = SendHttp(event, command.connection)
                reply = yield command

    def respond_early(self) -> layer.CommandGenerator[None]:
        """Send the gateway's own response while the client is still sending its request."""
        assert self.flow.response is not None
        self.flow.response.headers["Connection"] = "close"
        yield from self.linger()
        yield from self.send_response()

    def linger(self) -> layer.CommandGenerator[None]:
        """Discard the rest of the body from now on, for a limited time."""
        self.client_state = self.state_discard
        yield commands.RequestWakeup(_LINGER_SECONDS)

    def respond(self, refusal: Refusal, *, ended: bool) -> layer.CommandGenerator[None]:
        """Respond with the refusal. ``ended``: whether the client has sent its whole request."""
        self.refuse(refusal)
        if ended:
            self.client_state = self.state_done
            yield from self.send_response()
        else:
            yield from self.respond_early()

    def refuse(self, refusal: Refusal) -> None:
        """Make ``refusal`` the flow's response."""
        refuse(self.flow, self.cycle, refusal)
