"""Answers that the gateway itself gives to a flow, and the headers of every answer."""

from __future__ import annotations

import json

from mitmproxy.test import tutils

from tests.support.addons.configured import asked, authorized, configured
from vmgw_addons.steps.flow_responses import refuse, respond
from vmgw_addons.steps.response_headers import ResponseHeaders
from vmgw_core.enforcement.cycle import State
from vmgw_core.errors import BackendUnreachable
from vmgw_core.http.responses import Response


def test_an_answer_ends_streaming_and_the_wait_for_100_continue() -> None:
    flow = asked(method="POST")
    flow.request.stream = True
    flow.request.headers["Expect"] = "100-continue"
    respond(flow, Response(status=200, headers=((b"X-A", b"1"),), body=b"text"))
    assert flow.response is not None
    assert (flow.response.status_code, flow.response.content, flow.response.headers["X-A"]) == (200, b"text", "1")
    assert flow.request.stream is False
    assert "Expect" not in flow.request.headers


def test_an_answer_to_head_has_the_headers_and_no_content() -> None:
    flow = asked(method="HEAD")
    respond(flow, Response(status=200, headers=((b"Content-Length", b"4"),), body=b"text"))
    assert flow.response is not None
    assert flow.response.raw_content == b""
    assert flow.response.headers["Content-Length"] == "4"


def test_a_refusal_is_told_and_noted() -> None:
    state, flow = configured(), asked()
    cycle = authorized(state, flow)
    refuse(flow, cycle, BackendUnreachable("gone"))
    assert flow.response is not None
    assert flow.response.status_code == 502
    assert json.loads(flow.response.content or b"")["error"] == "gone"
    assert cycle.state is State.REFUSED


def test_headers_of_flags_are_in_every_answer_and_no_backend_names_its_machine() -> None:
    state, flow = configured(**{"http.header.hsts": "max-age=1", "http.disableCORS": "true"}), asked()
    flow.response = tutils.tresp()
    flow.response.headers.update({"X-Server-Hostname": "db-1", "Access-Control-Allow-Origin": "*", "X-Kept": "1"})
    addon = ResponseHeaders(state.in_force, state.cycles)
    addon.responseheaders(flow)
    addon.response(flow)
    assert flow.response.headers.get_all("Strict-Transport-Security") == ["max-age=1"]
    assert flow.response.headers["X-Kept"] == "1"
    assert not {"x-server-hostname", "access-control-allow-origin"} & {name.lower() for name in flow.response.headers}
