"""Headers of responses in the flow lane are edited, and not twice."""

from __future__ import annotations

import pytest
from mitmproxy.http import Headers, HTTPFlow
from mitmproxy.test import tflow

from tests.support.addons.configured import configured
from vmgw_addons.steps import ResponseHeaders, respond
from vmgw_core.http import Response

ADDED = (b"X-Frame-Options", b"DENY")
MACHINE = (b"X-Server-Hostname", b"vm-1")
OTHER = (b"X-Other", b"1")


@pytest.fixture
def headers() -> ResponseHeaders:
    state = configured(**{"http.header.frameOptions": "DENY"})
    return ResponseHeaders(state.in_force, state.cycles)


@pytest.fixture
def flow() -> HTTPFlow:
    flow = tflow.tflow(resp=True)
    assert flow.response is not None
    flow.response.headers = Headers((MACHINE, OTHER))
    return flow


def _fields(flow: HTTPFlow) -> tuple[tuple[bytes, bytes], ...]:
    assert flow.response is not None
    return flow.response.headers.fields


def test_a_response_of_a_backend_is_edited_once(headers: ResponseHeaders, flow: HTTPFlow) -> None:
    headers.responseheaders(flow)
    edited = _fields(flow)
    assert edited == (OTHER, ADDED)
    headers.response(flow)
    assert _fields(flow) is edited


def test_a_response_that_takes_the_place_of_another_is_edited_too(headers: ResponseHeaders, flow: HTTPFlow) -> None:
    headers.responseheaders(flow)
    respond(flow, Response(status=502, headers=(MACHINE,), body=b""))
    headers.response(flow)
    assert _fields(flow) == (ADDED,)


def test_headers_that_another_addon_has_replaced_are_edited_again(headers: ResponseHeaders, flow: HTTPFlow) -> None:
    headers.responseheaders(flow)
    assert flow.response is not None
    flow.response.headers = Headers((MACHINE, ADDED))
    headers.response(flow)
    assert _fields(flow) == (ADDED,)
