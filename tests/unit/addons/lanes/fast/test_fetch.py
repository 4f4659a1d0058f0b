"""fetch: the metric names of a token are read in a thread, and their response counts as held until then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

import vmgw_core
from tests.support.addons.configured import asked, authorized, configured
from tests.support.core import keys
from vmgw_addons.lanes.fast.fetch import fetch_names
from vmgw_addons.lanes.fast.pool import Pool
from vmgw_addons.lanes.fast.response_head import ResponseHead
from vmgw_addons.support import OneThread
from vmgw_core.answers import HeldBytes, VisibleNames
from vmgw_core.errors import BadAnswer

pytestmark = pytest.mark.skipif(vmgw_core.BUILD == "compiled", reason="the compiled lane takes real pools only")

DEV = keys.compact({"alg": "RS256"}, keys.claims(vm_access={"extra_labels": {"team": "dev"}}))
BODY = b'{"status":"success","data":["a","b"]}'


class Backend:
    """A pool whose one connection responds at once with ``body``."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.aborted = False

    async def connect(self, backend: object) -> Backend:
        return self

    def send(self, receiver: Any, head: bytes, *, is_head: bool) -> None:  # noqa: ANN401
        receiver.received(ResponseHead(200, [], is_head=False), self.body, True)

    def abort(self) -> None:
        self.aborted = True


class Watched(OneThread):
    """Notes what is held, and whether the connection is open, when the response is about to be read."""

    def __init__(self, held: HeldBytes, backend: Backend) -> None:
        super().__init__("test")
        self.held = held
        self.backend = backend
        self.seen: list[tuple[int, bool]] = []

    async def call(self, function: Callable[[], Any]) -> Any:  # noqa: ANN401
        self.seen.append((self.held.used, self.backend.aborted))
        return await super().call(function)


def fetched(body: bytes) -> tuple[VisibleNames | Exception, Watched]:
    state = configured()
    cycle = authorized(state, asked("/api/v1/metadata", token=DEV))
    cycle.enter()
    cycle.count(1.0)
    cycle.prepare()
    request = cycle.names_request(1.0)
    policy = state.in_force.configured.policy
    assert request is not None
    assert policy is not None
    backend = Backend(body)
    thread = Watched(policy.held, backend)

    async def run() -> VisibleNames | Exception:
        try:
            return await fetch_names(cast("Pool", backend), state.in_force, request, thread)
        except BadAnswer as error:
            return error

    return asyncio.run(run()), thread


def test_names_are_read_in_the_thread_while_their_bytes_are_held() -> None:
    found, thread = fetched(BODY)
    assert isinstance(found, VisibleNames)
    assert found.names == frozenset("ab")
    assert thread.seen == [(len(BODY), True)]
    assert thread.held.used == 0


@pytest.mark.parametrize("body", [b"secret", b"{}", b'{"data":[1]}'])
def test_what_has_no_names_is_given_back_too(body: bytes) -> None:
    found, thread = fetched(body)
    assert isinstance(found, BadAnswer)
    assert (thread.seen, thread.held.used) == ([(len(body), True)], 0)
