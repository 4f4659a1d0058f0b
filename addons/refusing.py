"""Answering a flow without a backend."""

from __future__ import annotations

from mitmproxy.http import Headers, HTTPFlow, Response

from vmgw_core.access import Access
from vmgw_core.answers import Answer, answer
from vmgw_core.errors import Refusal


def respond(flow: HTTPFlow, response: Answer) -> None:
    """Answer ``flow`` with a response of the gateway's own.

    The request must not be streamed then (mitmproxy cannot do both), and a client that waits for ``100 Continue``
    gets the answer in its place.
    """
    flow.request.stream = False
    flow.request.headers.pop("expect", None)
    # RFC 9110, sections 9.3.2 and 15.3.5: no content in an answer to HEAD, and no length in a 204.
    headless = flow.request.method == "HEAD"
    flow.response = Response.make(response.status, b"" if headless else response.body)
    flow.response.headers = Headers(response.headers)


def refuse(flow: HTTPFlow, refusal: Refusal, *, access: Access | None = None, tell_why: bool = False) -> None:
    """Answer ``flow`` with the refusal's status and text."""
    respond(flow, answer(refusal, access=access, tell_why=tell_why))
