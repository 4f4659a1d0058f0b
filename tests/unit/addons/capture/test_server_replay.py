from __future__ import annotations

from mitmproxy.http import Response
from mitmproxy.test import tutils

from tests.support.addons.configured import asked, authorized, configured
from tests.support.core import keys
from vmgw_addons.capture.server_replay import ServerReplay
from vmgw_addons.state import Cycles


def test_a_captured_answer_never_takes_the_place_of_the_gateways_own() -> None:
    replay, flow = ServerReplay(Cycles()), asked()
    own = flow.response = Response.make(401, b"no")
    replay.request(flow)
    flow.response, flow.is_replay = tutils.tresp(), "response"
    replay.responseheaders(flow)
    assert flow.response is own
    assert flow.is_replay is None


def test_a_captured_answer_is_given_where_the_gateway_gave_none() -> None:
    replay, flow = ServerReplay(Cycles()), asked()
    replay.request(flow)
    captured = flow.response = tutils.tresp()
    flow.is_replay = "response"
    replay.responseheaders(flow)
    assert flow.response is captured


def test_a_captured_answer_without_its_body_is_502() -> None:
    replay, flow = ServerReplay(Cycles()), asked()
    flow.response = tutils.tresp(content=None)
    flow.is_replay = "response"
    replay.responseheaders(flow)
    assert flow.response is not None
    assert flow.response.status_code == 502
    assert b"raise -capture.maxBodySize" in (flow.response.content or b"")


def test_a_captured_answer_is_not_given_where_the_gateway_would_limit_it() -> None:
    """The request that is compared with captured ones does not name the token's labels."""
    state, token = configured(), keys.compact({"alg": "RS256"}, keys.claims(vm_access={"extra_labels": {"a": "b"}}))
    replay, flow = ServerReplay(state.cycles), asked("/api/v1/rules", token=token)
    authorized(state, flow)
    replay.request(flow)
    flow.response, flow.is_replay = tutils.tresp(content=b"secret"), "response"
    replay.responseheaders(flow)
    assert flow.response is not None
    assert flow.response.status_code == 502
    assert b"limited to the token" in (flow.response.content or b"")
