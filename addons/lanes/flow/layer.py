"""mitmproxy's HTTP layer, hardened: one client connection and its connections to backends.

``GatewayHttp1Server`` speaks to the client, ``GatewayHttp1Client`` to the backend, and ``GatewayStream`` carries one
request between them. :class:`GatewayHttpLayer` owns them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Container, Iterable, MutableMapping
from typing import Final, TypeVar

from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy.context import Context

from vmgw_addons._mitmproxy import (
    GetHttpConnection,
    Hook,
    HttpLayer,
    HTTPMode,
    RegisterHttpConnection,
    RequestHeaders,
    ServerTLSLayer,
    commands,
    events,
    layer,
    tunnel,
)
from vmgw_addons.state import Cycles, InForce
from vmgw_addons.steps import FlowHeaders

from .http1 import GatewayHttp1Client, GatewayHttp1Server
from .http2 import GatewayHttp2Server
from .stream import GatewayStream

logger = logging.getLogger(__name__)

T = TypeVar("T")

_JOINED: Final = 16 * 1024  # bytes; no more is added to them, or many small pieces would be copied again and again


class GatewayHttpLayer(HttpLayer):
    """HTTP for one client. It fails closed.

    Args:
        timed_out: the backend connections that were closed because of a timeout.
        requested: the address of each backend connection that this layer asks for. No other may be opened.
        call: calls the addons on a hook, and returns whether all is done. By default mitmproxy calls them, in a task.
    """

    def __init__(
        self,
        context: Context,
        mode: HTTPMode,
        in_force: InForce,
        cycles: Cycles,
        timed_out: Container[Server],
        requested: MutableMapping[Server, tuple[str, int]],
        call: Callable[[Hook], bool] | None = None,
    ) -> None:
        super().__init__(context, mode)
        self.in_force = in_force
        self.cycles = cycles
        self.timed_out = timed_out
        self.requested = requested
        self.call = call
        self.used: set[Server] = set()
        self.last_opened: Server | None = None

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Handle an event. Call the hooks that it starts after that, each in its turn, as tasks would."""
        if isinstance(event, events.Start):
            context = _fork(self.context)
            two = context.client.alpn == b"h2"
            limits = self.in_force.configured.limits
            server = GatewayHttp2Server(context) if two else GatewayHttp1Server(context, limits)
            self.connections[self.context.client] = server
        if self.call is None:
            yield from self.handle_safely(event)
            return
        pending: deque[commands.StartHook] = deque()
        while True:
            for command in _joined(self.handle_safely(event)):
                if isinstance(command, commands.StartHook):
                    pending.append(command)
                else:
                    yield command
            while pending and not self.call(pending[0]):
                yield pending.popleft()  # mitmproxy awaits the rest
            if not pending:
                return
            event = events.HookCompleted(pending.popleft())

    def handle_safely(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Close the connection after a crash; mitmproxy would log it and go on."""
        if isinstance(event, events.ConnectionEvent) and event.connection not in self.connections:
            return  # a late event of a backend connection that was dropped
        try:
            yield from super()._handle_event(event)
        except Exception:
            logger.exception("closing a client's connection after an internal error")
            yield commands.CloseConnection(self.context.client)

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        stream = GatewayStream(_fork(self.context), stream_id, self)
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def with_credentials(self, event: RequestHeaders) -> RequestHeaders:
        """Make the head for the backend, in HTTP/1.1 and with the backend's credentials.

        They are only added here, so that no flow, view or file ever contains them.
        """
        cycle = self.cycles.get(self.streams[event.stream_id].flow)
        if cycle is None or cycle.upstream is None:
            raise AssertionError("a request without a decision was about to be sent to a backend")
        # A copy: the connection frames the body as these headers say, whatever other addons make of the flow's.
        # mitmproxy's own copy() takes the request to pieces and checks each of them.
        request = _copy_of(event.request)
        request.data = _copy_of(request.data)
        request.headers = FlowHeaders(request.headers.fields)
        request.http_version = "HTTP/1.1"
        authorization = cycle.upstream.backend.authorization
        if authorization is not None:
            request.headers["Authorization"] = authorization.decode("ascii")
        return RequestHeaders(event.stream_id, request, event.end_stream)

    def idle_connection(self, event: GetHttpConnection) -> Server | None:
        """Return a connection of this client to the backend that carries no request, or None.

        mitmproxy keeps closed and failed connections as long as the client stays, and repeats the error of a failed
        one even after the backend is back.
        """
        for connection in list(self.connections):
            if not isinstance(connection, Server):
                continue
            if connection in self.waiting_for_establishment:
                continue
            if connection.state is not ConnectionState.OPEN:
                del self.connections[connection]
                self.used.discard(connection)
            elif event.connection_spec_matches(connection) and _is_idle(self.connections[connection]):
                return connection
        return None

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> layer.CommandGenerator[None]:
        """Open a connection: ``GatewayStream`` has found none to use again."""
        context = _fork(self.context)
        context.server = self.last_opened = Server(address=event.address)
        self.requested[context.server] = event.address
        stack = tunnel.LayerStack()
        if event.tls:
            stack /= BackendTLS(context)
        stack /= BackendConnection(context, self.with_credentials)
        self.connections[context.server] = stack[0]
        self.waiting_for_establishment[context.server].append(event)
        yield from self.event_to_child(stack[0], events.Start())

    def register_connection(self, command: RegisterHttpConnection) -> layer.CommandGenerator[None]:
        if command.err:
            self.connections.pop(command.connection, None)
        yield from super().register_connection(command)


class BackendTLS(ServerTLSLayer):
    """TLS to a backend, which reports the end of the connection exactly once.

    If the backend refuses the client certificate with a fatal alert, mitmproxy does not report the end, and the
    request waits for a response that cannot come.
    """

    reported = False

    def on_handshake_error(self, err: str) -> layer.CommandGenerator[None]:
        """Do without mitmproxy's line in the log for each connection: the failure is logged with its reason."""
        yield from super(ServerTLSLayer, self).on_handshake_error(err)

    def receive_data(self, data: bytes) -> layer.CommandGenerator[None]:
        """Keep an alert that comes after the handshake as the reason, such as a client certificate that is refused."""
        for command in super().receive_data(data):
            if isinstance(command, commands.Log) and command.level >= logging.WARNING:
                self.conn.error = f"OpenSSL {command.message}"
            else:
                yield command

    def receive_close(self) -> layer.CommandGenerator[None]:
        yield from self.event_to_child(events.ConnectionClosed(self.conn))

    def event_to_child(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.ConnectionClosed):
            if self.reported:
                return
            self.reported = True
        yield from super().event_to_child(event)


class BackendConnection(layer.Layer):
    """Opens a connection to a backend, then speaks HTTP/1.1 over it.

    Args:
        finish: makes the head that the backend gets.
    """

    client: GatewayHttp1Client | None = None

    def __init__(self, context: Context, finish: Callable[[RequestHeaders], RequestHeaders]) -> None:
        super().__init__(context)
        self.finish = finish

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        assert isinstance(event, events.Start)
        error = yield commands.OpenConnection(self.context.server)
        if not error:
            child = self.client = GatewayHttp1Client(self.context, self.finish)
            self._handle_event = child.handle_event  # type: ignore[method-assign]
            self.handle_event = child.handle_event  # type: ignore[method-assign]
            yield from child.handle_event(event)
        yield RegisterHttpConnection(self.context.server, error)


def _joined(handling: Iterable[commands.Command]) -> layer.CommandGenerator[None]:
    """Pass on commands. What is written to one connection in a row becomes one: each is a call of the kernel."""
    held: commands.SendData | None = None
    for command in handling:
        if not isinstance(command, commands.SendData):
            if held is not None and not isinstance(command, commands.Log):
                yield held
                held = None
            yield command
        elif held is not None and held.connection is command.connection and len(held.data) < _JOINED:
            held.data += command.data
        else:
            if held is not None:
                yield held
            held = command
    if held is not None:
        yield held


def _fork(context: Context) -> Context:
    """Fork a context, without the ``Server`` that mitmproxy makes for each and replaces at once."""
    forked = _copy_of(context)
    forked.layers = context.layers.copy()
    return forked


def _copy_of(thing: T) -> T:
    """Return a copy that shares all attributes."""
    made: T = object.__new__(type(thing))
    vars(made).update(vars(thing))
    return made


def _is_idle(connection: layer.Layer) -> bool:
    """Whether a connection to a backend carries no request: those of a client on HTTP/2 come at the same time."""
    if isinstance(connection, BackendTLS):
        connection = connection.child_layer
    return (
        isinstance(connection, BackendConnection)
        and connection.client is not None
        and connection.client.stream_id is None
    )
