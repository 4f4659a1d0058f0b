"""The flow lane's layer without sockets: a test plays the client, the backends and mitmproxy's event loop."""

from __future__ import annotations

from typing import Any

from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.hooks import Hook
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.test import tflow

from tests.support.addons.configured import GatewayState
from tests.support.addons.fakes import mitmproxy_with
from vmgw_addons.lanes.flow.lane import FlowLane
from vmgw_addons.lanes.flow.layer import GatewayHttpLayer
from vmgw_addons.lanes.flow.upstreams import UpstreamConnections
from vmgw_addons.sources import KeyRefresh, PasswordChecks
from vmgw_addons.state.wire_limits import DEAD_ADDRESS
from vmgw_addons.steps.access_control import AccessControl
from vmgw_addons.steps.forwarding import Forwarding
from vmgw_addons.steps.rate_limit import RateLimit
from vmgw_core.enforcement.cycle import State


class FlowConnection:
    """A client's connection to the flow lane.

    Args:
        decide: False leaves out the addons that take the decision.
        direct: whether the layer calls the addons, as in the launcher; else this class does, as mitmproxy's tasks do.
    """

    def __init__(self, state: GatewayState, *, decide: bool = True, direct: bool = True) -> None:
        self.state = state
        in_force, cycles = state.in_force, state.cycles
        self.lane = FlowLane(in_force, cycles, UpstreamConnections(in_force))
        self.addons: list[Any] = [self.lane]
        if decide:
            control = AccessControl(
                in_force, cycles, KeyRefresh(in_force, state.background), PasswordChecks(state.background)
            )
            rate_limit = RateLimit(in_force, state.background, cycles)
            self.addons = [control, rate_limit, Forwarding(in_force, state.process, cycles), self.lane]
        with mitmproxy_with(Proxyserver()) as context:
            self.client = tflow.tclient_conn()
            self.client.state, self.client.alpn = ConnectionState.OPEN, None
            self.layer = GatewayHttpLayer(
                Context(self.client, context.options),
                HTTPMode.transparent,
                in_force,
                cycles,
                self.lane.connections.timed_out,
                self.lane.connections.requested,
                self.hook if direct else None,
            )
        self.layer.context.server.address = DEAD_ADDRESS
        self.written = b""
        """What the client got."""
        self.closed = False
        self.refusing = False
        """Whether backends take no connection."""
        self.backends: dict[Server, bytes] = {}
        """What each backend got."""
        self.play(events.Start())

    def feed(self, data: bytes, connection: Connection | None = None) -> None:
        """The client, or a backend, sends ``data``."""
        self.play(events.DataReceived(connection or self.client, data))

    def lose(self, connection: Connection) -> None:
        """The other end closes."""
        connection.state = ConnectionState.CLOSED
        self.play(events.ConnectionClosed(connection))

    def play(self, event: events.Event) -> None:
        """Hand ``event`` to the layer, and do what it asks for."""
        waiting = [event]
        while waiting:
            for command in list(self.layer.handle_event(waiting.pop(0))):
                waiting += self.answer(command)

    def answer(self, command: commands.Command) -> list[events.Event]:
        if isinstance(command, commands.SendData):
            if command.connection is self.client:
                self.written += command.data
            elif isinstance(command.connection, Server):
                self.backends[command.connection] += command.data
        elif isinstance(command, commands.CloseConnection):
            command.connection.state = ConnectionState.CLOSED
            self.closed = self.closed or command.connection is self.client
        elif isinstance(command, commands.OpenConnection):
            if self.refusing:
                return [events.OpenConnectionCompleted(command, "refused")]
            command.connection.state = ConnectionState.OPEN
            self.backends[command.connection] = b""
            return [events.OpenConnectionCompleted(command, None)]
        elif isinstance(command, commands.StartHook):
            self.hook(command)
            return [events.HookCompleted(command, None)]
        return []

    def hook(self, command: Hook) -> bool:
        """Call the addons, none of which has anything to await."""
        for addon in self.addons:
            call = getattr(addon, command.name, None)
            if call is not None:
                call(*command.args())
            if command.name == "requestheaders" and isinstance(addon, AccessControl):
                cycle = self.state.cycles.get(command.args()[0])
                if cycle is not None and cycle.state is State.AUTHORIZED:
                    assert cycle.enter()
        return True
