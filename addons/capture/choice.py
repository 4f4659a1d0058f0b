"""The choice of captured requests: by the host that the client asked, and by mitmproxy's filter language."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from mitmproxy import connection, flowfilter
from mitmproxy.http import Headers, HTTPFlow, Request, Response

from vmgw_core.errors import ConfigurationError
from vmgw_core.replay import Captured

Choice = Callable[[Captured], bool]


def choose(hosts: list[str], expressions: list[str]) -> Choice:
    """Return a function that says whether a request is for one of ``hosts`` and matches all ``expressions``.

    Raises:
        ConfigurationError: an expression cannot be read.
    """
    filters = [parse_filter(text, "--filter") for text in expressions]
    wanted = {host.lower() for host in hosts}

    def chosen(captured: Captured) -> bool:
        if wanted and wanted.isdisjoint(_hosts_of(captured)):
            return False
        return not filters or all(matches(flow) for flow in [_flow_of(captured)] for matches in filters)

    return chosen


def parse_filter(text: str, option: str) -> Callable[[HTTPFlow], bool]:
    """Parse a filter expression of mitmproxy. Raises ``ConfigurationError``, which names ``option``."""
    try:
        parsed = flowfilter.parse(text)
    except ValueError:
        parsed = None
    if parsed is None:
        raise ConfigurationError(f"{option}: expected a mitmproxy filter expression such as ~u /api/v1/query")
    return lambda flow: bool(parsed(flow))


def _host_header(captured: Captured) -> str:
    return next(iter(captured.head.values(b"host")), b"").decode("latin-1").lower()


def _hosts_of(captured: Captured) -> set[str]:
    """Return the host that the client asked, with its port and without."""
    host = _host_header(captured)
    try:
        return {host, urlsplit(f"//{host}").hostname or host}
    except ValueError:
        return {host}


def _flow_of(captured: Captured) -> HTTPFlow:
    """Make a flow for the filter: the client's request, and the refusal if it was refused."""
    head = captured.head
    client = connection.Client(peername=(head.client, 0), sockname=("", 0), timestamp_start=captured.at)
    flow = HTTPFlow(client, connection.Server(address=None))
    flow.request = Request.make(head.method, "http://gateway/", captured.form or b"", Headers(head.headers))
    flow.request.data.headers = Headers(head.headers)  # make() adds a length
    flow.request.data.path = head.target.encode("utf-8", "surrogateescape")
    flow.request.data.authority = _host_header(captured).encode("latin-1")
    if captured.outcome is not None and not captured.outcome.admitted:
        flow.response = Response.make(captured.outcome.status)
    return flow
