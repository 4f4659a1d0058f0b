"""The state that addons share: what is in force, and what a flow may hold."""

from __future__ import annotations

import logging

import pytest

from tests.support.addons.configured import TOKEN, asked, configured
from vmgw_addons.state import DEAD_ADDRESS, DEAD_TARGET, Configured, head_of, hide_token
from vmgw_core.errors import BackendUnreachable, Cause
from vmgw_core.limits.limiter import Limiter


def test_without_a_configuration_nothing_is_in_force() -> None:
    assert Configured().gateway is None
    assert Configured().groups == []


def test_what_is_in_force_is_made_anew_when_a_part_of_it_changes() -> None:
    state, limiter = configured(), Limiter()
    first = state.configured.gateway
    assert first is not None
    state.change(limiter=limiter)
    second = state.configured.gateway
    assert second is not None
    assert (second.policy, second.limiter) == (first.policy, limiter)
    assert first.limiter is None


def test_the_groups_of_backends_are_those_of_the_policy() -> None:
    found = [str(member.backend) for group in configured().configured.groups for member in group.members]
    assert found == ["http://read.test:1", "http://write.test:1"]


def test_no_credential_stays_in_a_flow() -> None:
    state, flow = configured(), asked()
    flow.request.headers["Proxy-Authorization"] = "Basic c2VjcmV0"
    flow.request.headers["X-Kept"] = "yes"
    cycle = state.cycles.of(flow)
    hide_token(flow, state.configured.policy)
    assert flow.request.headers["X-Kept"] == "yes"
    assert "authorization" not in {name.lower() for name in flow.request.headers}
    assert TOKEN not in str(flow.request.headers.fields)
    assert any(TOKEN.encode() in value for _, value in cycle.head.headers)
    assert state.cycles.of(flow) is cycle


def test_the_head_of_a_flow_is_what_the_client_sent() -> None:
    flow = asked("/a\udcff?b=c", "POST")
    head = head_of(flow)
    assert (head.method, head.target, head.client) == ("POST", "/a\udcff?b=c", "127.0.0.1")
    flow.client_conn.peername = None  # type: ignore[assignment]
    assert head_of(flow).client == "unknown"


def test_a_backend_that_fails_is_logged_and_so_is_its_return(caplog: pytest.LogCaptureFixture) -> None:
    state = configured(**{"read.url": "http://one.test:1,http://two.test:1"})
    (one, _), (write,) = (group.members for group in state.configured.groups)
    with caplog.at_level(logging.INFO):
        one.up = False
        state.configured.note_backend(one, BackendUnreachable("-read.url: refused", Cause.REFUSED))
        one.up = True
        state.configured.note_backend(one, None)
        write.up = False
        state.configured.note_backend(write, BackendUnreachable("-write.url: refused", Cause.REFUSED))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "-read.url: refused (http://one.test:1); it gets no requests until it responds again"),
        ("INFO", "-read.url: http://one.test:1 responds again"),
        ("WARNING", "-write.url: refused (http://write.test:1); requests to it are answered 502"),
    ]


def test_the_dead_target_is_the_dead_address() -> None:
    host, port = DEAD_ADDRESS
    assert f"http://{host}:{port}" == DEAD_TARGET
