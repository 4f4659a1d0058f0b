"""The gateway's own pages: which paths they are, who may see them, and what they say of the state."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from tests.support.addons.configured import GatewayState, asked, configured
from tests.support.core import keys
from tests.support.each import each
from vmgw_addons.observability.metrics import Telemetry
from vmgw_addons.observability.pages.status_pages import StatusPages
from vmgw_addons.observability.worker_calls import WorkerCalls
from vmgw_addons.observability.worker_metrics import WorkerMetrics
from vmgw_core.http.responses import Response


def pages(state: GatewayState) -> StatusPages:
    telemetry = Telemetry(state.in_force, state.cycles)
    workers = WorkerMetrics(WorkerCalls(state.in_force, None), telemetry)
    return StatusPages(state.in_force, state.process, state.background, state.cycles, telemetry, workers)


async def awaited(page: Awaitable[Response]) -> Response:
    return await page


def answer(made: StatusPages, target: str, method: str = "GET") -> Response | None:
    given = made.page_for(method, target, ())
    if given is not None and not isinstance(given, Response):
        given = asyncio.run(awaited(given))
    return given


@each(
    ("method", "target", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/health", 200),
        ("GET", "/-/healthy", 200),
        ("GET", "/-/ready", 200),
        ("GET", "/ping", 204),
        ("GET", "/ping?verbose=true", 200),
        ("GET", "/metrics", 200),
        ("GET", "/flags", 200),
        ("GET", "/-/status", 200),
        ("HEAD", "/-/status", 200),
        ("POST", "/-/status", None),
        ("GET", "/-/me", 401),
        ("GET", "/-/me?x=1", 401),
        ("POST", "/-/me", None),
        ("GET", "/-/me/", None),
        ("POST", "/-/reload", 500),
        ("GET", "/debug/pprof/", 200),
        ("HEAD", "/debug/pprof/profile?seconds=1", 200),
        ("GET", "/debug/pprof/profile?seconds=0", 400),
        ("GET", "/debug/pprof/profile?seconds=121", 400),
        ("OPTIONS", "/anything", 204),
        ("POST", "/metrics", None),
        ("GET", "/metrics/", None),
        ("GET", "/api/v1/query", None),
    ],
)
def test_a_page_is_answered_and_nothing_else(method: str, target: str, status: int | None) -> None:
    given = answer(pages(configured()), target, method)
    assert (given.status if given is not None else None) == status


def test_pages_are_below_the_prefix_alone() -> None:
    made = pages(configured(**{"http.pathPrefix": "/gateway"}))
    assert answer(made, "/health") is None
    below = answer(made, "/gateway/health")
    assert below is not None
    assert (below.status, below.body) == (200, b"OK")


@pytest.mark.parametrize(
    ("page", "flag"), [("/metrics", "metricsAuthKey"), ("/flags", "flagsAuthKey"), ("/-/reload", "reloadAuthKey")]
)
def test_a_guarded_page_needs_its_key(page: str, flag: str) -> None:
    made = pages(configured(**{flag: "k3y"}))
    reloads: list[None] = []

    async def reload() -> bool:
        reloads.append(None)
        return True

    made.reload_all = reload
    without, with_key = answer(made, page), answer(made, f"{page}?authKey=k3y")
    assert without is not None
    assert with_key is not None
    assert (without.status, with_key.status) == (401, 200)
    assert len(reloads) == (page == "/-/reload")


def test_health_and_readiness_follow_the_state() -> None:
    state = configured()
    made = pages(state)

    def statuses() -> tuple[int, ...]:
        return tuple(given.status for page in ("/health", "/-/ready") if (given := answer(made, page)) is not None)

    assert statuses() == (200, 200)
    assert state.configured.policy is not None
    state.change(policy=replace(state.configured.policy, keys_awaited=True))
    assert statuses() == (200, 503)
    state.process.draining = True
    assert statuses() == (503, 503)


def test_without_a_configuration_guarded_pages_are_503() -> None:
    given = answer(pages(GatewayState()), "/metrics")
    assert given is not None
    assert given.status == 503


def test_a_flow_is_answered_and_keeps_no_token() -> None:
    state = configured()
    flow = asked("/health")
    assert pages(state).requestheaders(flow) is None
    assert flow.response is not None
    assert flow.response.content == b"OK"
    assert "Authorization" not in flow.request.headers
    assert state.cycles[flow].own_page
    other = asked()
    pages(state).requestheaders(other)
    assert other.response is None


def test_a_client_that_leaves_while_its_key_is_fetched_leaves_nothing_behind() -> None:
    state = configured(**{"auth.jwksEndpoints": "http://idp.test:1/jwks"})
    made, keyring = pages(state), state.configured.keyring
    assert keyring is not None
    assert state.configured.policy is not None
    state.change(policy=replace(state.configured.policy, keys_awaited=False))
    unknown = keys.sign(keys.claims(), keys.ec_key(), {"alg": "ES256", "kid": "new"})

    async def leave() -> None:
        page = made.page_for("GET", "/-/me", ((b"Authorization", f"Bearer {unknown}".encode()),))
        assert page is not None
        assert not isinstance(page, Response)
        asking = asyncio.ensure_future(awaited(page))
        await asyncio.sleep(0)
        assert keyring._waiters
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(leave())
    assert not keyring._waiters
