"""The flow lane: HTTP through mitmproxy's layer and flows, hardened."""

from __future__ import annotations

from collections.abc import Callable

from mitmproxy.addonmanager import Loader
from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow

from vmgw_addons._mitmproxy import Hook, HTTPMode, NextLayer
from vmgw_addons.state import DEAD_ADDRESS, Cycles, InForce

from .hooks import DirectAddonManager
from .layer import GatewayHttpLayer
from .upstreams import UpstreamConnections, close_client


class FlowLane:
    """Sets the gateway's HTTP layer for every connection, and streams responses."""

    def __init__(self, in_force: InForce, cycles: Cycles, connections: UpstreamConnections) -> None:
        self.in_force = in_force
        self.cycles = cycles
        self.connections = connections
        self.call: Callable[[Hook], bool] | None = None

    def load(self, loader: Loader) -> None:
        addons = loader.master.addons
        if isinstance(addons, DirectAddonManager):
            self.call = addons.call

    def next_layer(self, nextlayer: NextLayer) -> None:
        """Set the layer, whatever the mode of the listener, so that there is never an open proxy.

        This runs before mitmproxy's NextLayer, which keeps a layer that is set.
        """
        context = nextlayer.context
        if nextlayer.layer is None:
            context.server.address = context.server.address or DEAD_ADDRESS
            timed_out, requested = self.connections.timed_out, self.connections.requested
            nextlayer.layer = GatewayHttpLayer(
                context, HTTPMode.transparent, self.in_force, self.cycles, timed_out, requested, self.call
            )

    def responseheaders(self, flow: HTTPFlow) -> None:
        cycle = self.cycles.get(flow)
        if flow.response is None or cycle is None or cycle.filter is not None:
            return
        response_log = self.in_force.configured.response_log
        if response_log is not None:
            response_log.watch(cycle, flow.response.status_code, flow.response.headers.fields)
        elif cycle.wants_series:
            cycle.watch(flow.response.status_code, flow.response.headers.fields)
        series = cycle.series

        def count(data: bytes) -> bytes:
            cycle.sent += len(data)
            if series is not None:
                series.feed(data)
            return data

        flow.response.stream = count

    def response(self, flow: HTTPFlow) -> None:
        """Note the size of a response of the gateway itself."""
        cycle = self.cycles.get(flow)
        if cycle is not None and flow.response is not None and not cycle.sent:
            cycle.sent = len(flow.response.raw_content or b"")

    def client_disconnected(self, client: Client) -> None:
        """Close the socket: mitmproxy 12 leaks it when it closes a client that is still sending."""
        close_client(client)
