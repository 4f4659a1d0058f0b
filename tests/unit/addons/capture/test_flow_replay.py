"""Flows from a file are judged with the policy in force; a captured request is sent again from its record."""

from __future__ import annotations

from mitmproxy.http import HTTPFlow

from tests.support.addons.configured import TOKEN, GatewayState, asked, configured
from tests.support.core import keys
from tests.support.core.captured import captured, head, policy
from vmgw_addons.capture.flow_replay import FlowReplay, captured_of, with_length
from vmgw_addons.state import head_of
from vmgw_core.http.head import RequestHead
from vmgw_core.replay import METADATA_KEY
from vmgw_core.replay.record import to_metadata


def read(path: str, token: str = TOKEN) -> HTTPFlow:
    """A flow as it comes from a file."""
    flow = asked(path, token=token)
    flow.live = False
    flow.request.timestamp_start = float(keys.NOW)
    return flow


def replaying(state: GatewayState) -> FlowReplay:
    return FlowReplay(state.in_force, state.cycles)


def test_flows_of_a_file_are_judged_each_once() -> None:
    replay = replaying(configured())
    for path in ("/api/v1/query?query=up", "/no/such/path"):
        replay.requestheaders(read(path))
    assert replay.number == 2
    judge = replay.current_judge()
    assert judge is not None
    assert replay.current_judge() is judge


def test_without_a_policy_and_on_the_wire_nothing_is_judged() -> None:
    replay = replaying(GatewayState())
    replay.requestheaders(read("/api/v1/query"))
    assert (replay.current_judge(), replay.number) == (None, 0)
    replay = replaying(configured())
    replay.requestheaders(asked())
    assert replay.number == 0


def test_a_record_that_cannot_be_read_is_no_request() -> None:
    flow = read("/api/v1/query")
    flow.metadata[METADATA_KEY] = {"of": "somebody else"}
    assert captured_of(flow) is None
    replay = replaying(configured())
    replay.requestheaders(flow)
    assert replay.number == 0


def test_without_a_record_the_request_in_the_flow_is_judged() -> None:
    flow = read("/api/v1/query?query=up")
    captured = captured_of(flow)
    assert captured is not None
    assert (captured.head, captured.at) == (head_of(flow), float(keys.NOW))


def test_the_length_is_that_of_what_is_left_of_a_body() -> None:
    head = RequestHead(
        method="POST", target="/", headers=((b"Content-Length", b"100"), (b"X-A", b"1")), client="127.0.0.1"
    )
    assert with_length(head, b"abc").headers == ((b"Content-Length", b"3"), (b"X-A", b"1"))


def test_what_the_gateway_would_limit_is_not_sent_again() -> None:
    state = configured()
    request = head("/api/v1/rules", vm_access={"extra_labels": {"team": "dev"}})
    flow = asked("/api/v1/rules")
    flow.is_replay = "request"
    flow.metadata[METADATA_KEY] = to_metadata(captured(request, policy(filters_responses=True)))
    replaying(state).requestheaders(flow)
    assert flow.response is not None
    assert flow.response.status_code == 403
    assert b"would not be limited to the token" in (flow.response.content or b"")
    assert state.cycles[flow].shadow == "", "the shadow does not judge it"
