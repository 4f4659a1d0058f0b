"""The seal: no request goes to a backend without a decision, such as one that a command of another addon sends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mitmproxy.http import HTTPFlow

from tests.support.addons.configured import GatewayState, asked, authorized, configured
from vmgw_addons.steps import Decisions
from vmgw_addons.steps.seal import Seal
from vmgw_core.enforcement import Cycle, State
from vmgw_core.errors import InternalError


def undecided(state: GatewayState, flow: HTTPFlow) -> None:
    """Nobody has looked at it."""


def admitted(state: GatewayState, flow: HTTPFlow) -> Cycle:
    cycle = authorized(state, flow)
    assert cycle.enter()
    assert cycle.count(1.0)
    cycle.prepare()
    return cycle


def refused(state: GatewayState, flow: HTTPFlow) -> None:
    """Another addon has removed the response."""
    admitted(state, flow).refuse(InternalError("refused"))


def ready(state: GatewayState, flow: HTTPFlow) -> None:
    assert admitted(state, flow).state is State.READY


def waits_for_its_form(state: GatewayState, flow: HTTPFlow) -> None:
    flow.request.method = "POST"
    flow.request.headers["Content-Type"] = "application/x-www-form-urlencoded"
    flow.request.headers["Transfer-Encoding"] = "chunked"
    assert admitted(state, flow).state is State.FORM


@pytest.mark.parametrize(
    ("before", "at_the_head", "at_the_end"),
    [
        pytest.param(undecided, 500, 500, id="undecided"),
        pytest.param(refused, 500, 500, id="refused"),
        pytest.param(waits_for_its_form, None, 500, id="its form is yet to come"),
        pytest.param(ready, None, None, id="admitted"),
    ],
)
def test_a_request_without_a_decision_is_refused(
    before: Callable[[GatewayState, HTTPFlow], None], at_the_head: int | None, at_the_end: int | None
) -> None:
    found = []
    for hook in (Seal.requestheaders, Seal.request):
        state, flow = configured(), asked()
        before(state, flow)
        hook(Seal(Decisions(state.cycles, object())), flow)
        found.append(None if flow.response is None else flow.response.status_code)
    assert found == [at_the_head, at_the_end]
