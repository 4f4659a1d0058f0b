"""A gateway's state with the flags that a test gives, and flows that its addons see."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mitmproxy.http import HTTPFlow
from mitmproxy.test import tflow

from tests.support.core import keys
from vmgw_addons.process.configuration import Configuration
from vmgw_addons.state import Configured, Cycles, InForce, Process, Reloads
from vmgw_addons.support import Background
from vmgw_core.configuration import Settings, parse
from vmgw_core.enforcement.cycle import Cycle

TOKEN = keys.compact({"alg": "RS256"}, keys.claims(vm_access={"tenant_id": {"account_id": 1, "project_id": 5}}))
"""For tenant 1:5. Without a configured key nobody checks its signature."""


@dataclass(slots=True, kw_only=True)
class GatewayState:
    """What a gateway's addons share. By default nothing is configured."""

    in_force: InForce = field(default_factory=InForce)
    process: Process = field(default_factory=Process)
    background: Background = field(default_factory=Background)
    cycles: Cycles = field(default_factory=Cycles)
    reloads: Reloads = field(default_factory=Reloads)
    limit_reloads: Reloads = field(default_factory=Reloads)

    @property
    def configured(self) -> Configured:
        """What is in force now."""
        return self.in_force.configured

    def change(self, **parts: object) -> None:
        """Replace parts of what is in force, past the flags."""
        self.in_force.configured = replace(self.configured, **parts)  # type: ignore[arg-type]


def settings_of(**flags: str) -> Settings:
    """A gateway's with tokens and two backends; ``flags`` by their names without the dash."""
    given = {"enable.auth": "true", "read.url": "http://read.test:1", "write.url": "http://write.test:1", **flags}
    return parse([f"-{name}={text}" for name, text in given.items()], {}).settings


def configured(**flags: str) -> GatewayState:
    """The state of a gateway with these flags (see :func:`settings_of`)."""
    state = GatewayState()
    configuration = Configuration(state.in_force, state.process, state.reloads, state.limit_reloads)
    configuration.apply(settings_of(**flags))
    return state


def asked(path: str = "/api/v1/query?query=up", method: str = "GET", token: str = TOKEN) -> HTTPFlow:
    """A flow whose head has just come in."""
    flow = tflow.tflow()
    flow.request.method, flow.request.path = method, path
    flow.request.headers.clear()
    flow.request.headers["Host"] = "gateway.test"
    flow.request.headers["Authorization"] = f"Bearer {token}"
    return flow


def authorized(state: GatewayState, flow: HTTPFlow) -> Cycle:
    """The cycle of ``flow``, which access control has let through."""
    cycle = state.cycles.of(flow)
    cycle.at = float(keys.NOW)
    cycle.authorize(state.configured.gateway)
    return cycle
