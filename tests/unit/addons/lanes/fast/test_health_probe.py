"""Health probes: a backend that failed is back with any answer but an error of the server's."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.addons.configured import GatewayState, configured
from tests.support.wire.upstream import HANG_UP, RecordingUpstream, Reply
from vmgw_addons.lanes.fast.health_probe import Backends

DOWN = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("reply", "up"),
    [(Reply(status=200), True), (Reply(status=404), True), (Reply(status=503), False), (HANG_UP, False), (None, False)],
    ids=["200", "404", "503", "no answer", "refused"],
)
def test_who_answers_is_back(upstream: RecordingUpstream, reply: Reply | None, up: bool) -> None:
    upstream.responder = lambda request: reply if reply is not None else HANG_UP
    url = upstream.url.replace("://", "://user:pass@") + "/base" if reply is not None else DOWN
    state = configured(**{"read.url": f"{url},{DOWN}/other"})
    member = state.configured.groups[0].members[0]
    member.up = False

    async def probe() -> bool:
        backends = Backends(state.in_force, state.background)
        try:
            return await backends.responds(member)
        finally:
            await backends.done()

    assert asyncio.run(probe()) is up
    assert member.up is up
    if reply is not None:
        [request] = upstream.requests
        assert (request.method, request.target) == ("GET", "/base/health")
        assert request.header("Authorization") == ["Basic dXNlcjpwYXNz"]


def failed(state: GatewayState) -> int:
    for member in state.configured.groups[0].members:
        member.up = False
    return len(Backends(state.in_force, state.background).ejected())


def test_only_one_of_several_is_ejected() -> None:
    """A single backend is asked by every request, so nobody has to probe it."""

    async def count() -> list[int]:
        urls = (f"{DOWN},{DOWN}/other", DOWN)
        return [failed(configured(**{"read.url": url})) for url in urls]

    assert asyncio.run(count()) == [2, 0]
