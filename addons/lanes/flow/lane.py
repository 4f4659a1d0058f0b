"""The flow lane: HTTP through mitmproxy's own layer and flows, with the holes in it closed."""

from __future__ import annotations

import asyncio

from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow

from vmgw_addons._mitmproxy import HTTPMode, NextLayer
from vmgw_addons.state import DEAD_ADDRESS, Cycles, InForce

from .layer import GatewayHttpLayer
from .upstreams import UpstreamConnections, transports


class FlowLane:
    """Puts the gateway's HTTP layer under every connection, and lets answers stream."""

    def __init__(self, in_force: InForce, cycles: Cycles, connections: UpstreamConnections) -> None:
        self.in_force = in_force
        self.cycles = cycles
        self.connections = connections

    def next_layer(self, nextlayer: NextLayer) -> None:
        """Runs before mitmproxy's own NextLayer, which leaves a layer that is set alone.

        Whatever the mode of the listener, a client meets this layer: it never finds an open proxy.
        """
        context = nextlayer.context
        if nextlayer.layer is None:
            context.server.address = context.server.address or DEAD_ADDRESS
            timed_out = self.connections.timed_out
            nextlayer.layer = GatewayHttpLayer(context, HTTPMode.transparent, self.in_force, self.cycles, timed_out)

    def responseheaders(self, flow: HTTPFlow) -> None:
        cycle = self.cycles.get(flow)
        if flow.response is not None and cycle is not None:
            if self.in_force.configured.access_log is None:
                flow.response.stream = True
                return

            def passing(data: bytes) -> bytes:
                cycle.sent += len(data)
                return data

            flow.response.stream = passing

    def client_disconnected(self, client: Client) -> None:
        """Close the socket that mitmproxy 12 forgets when it closes a client that is still sending."""
        io = transports(client).get(client)
        if io is not None and isinstance(io.writer, asyncio.StreamWriter):
            io.writer.close()
