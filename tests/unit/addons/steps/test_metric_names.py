"""metric_names: the flow lane asks for names before the request, and fails closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest
from mitmproxy.http import HTTPFlow

from tests.support.addons.configured import GatewayState, asked, authorized, configured
from tests.support.core import keys
from vmgw_addons.steps.metric_names import MetricNames
from vmgw_core.answers import VisibleNames
from vmgw_core.enforcement import Cycle, UpstreamRequest
from vmgw_core.errors import BackendTimeout, BadAnswer

DEV = keys.compact({"alg": "RS256"}, keys.claims(vm_access={"extra_labels": {"team": "dev"}}))


def ready(state: GatewayState, path: str) -> tuple[HTTPFlow, Cycle]:
    flow = asked(path, token=DEV)
    cycle = authorized(state, flow)
    cycle.enter()
    cycle.count(1.0)
    cycle.prepare()
    return flow, cycle


def look_up(state: GatewayState, flow: HTTPFlow, reply: VisibleNames | Exception) -> list[str]:
    """Run the hook; return the targets that were asked."""
    targets = []

    async def fetch(request: UpstreamRequest) -> VisibleNames:
        targets.append(request.target)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def hook() -> None:
        waiting: Awaitable[None] | None = MetricNames(state.cycles, fetch).requestheaders(flow)
        if waiting is not None:
            await waiting

    asyncio.run(hook())
    return targets


def test_the_names_are_asked_for_before_the_request() -> None:
    state = configured()
    flow, cycle = ready(state, "/api/v1/metadata")
    (target,) = look_up(state, flow, VisibleNames(frozenset("a"), 100))
    assert target.startswith("/api/v1/label/__name__/values?start=0&extra_label=team%3Ddev&")
    assert (flow.response, cycle.names_request(1.0)) == (None, None)
    assert look_up(state, flow, ValueError()) == []


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (BadAnswer("no names"), 502),
        (BackendTimeout("-read.url: the backend did not respond in time"), 504),
        (ValueError("a defect"), 500),
    ],
)
def test_without_names_the_request_is_refused(reply: VisibleNames | Exception, status: int) -> None:
    state = configured()
    flow, _ = ready(state, "/api/v1/metadata")
    look_up(state, flow, reply)
    assert flow.response is not None
    assert flow.response.status_code == status


def test_other_requests_ask_for_no_names() -> None:
    state = configured()
    for path in ("/api/v1/rules", "/api/v1/query?query=up"):
        flow, _ = ready(state, path)
        assert look_up(state, flow, ValueError()) == []
    flow = asked("/api/v1/metadata", token=DEV)
    assert look_up(state, flow, ValueError()) == []
