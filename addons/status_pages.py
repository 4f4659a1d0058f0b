"""Status pages: the gateway's own, which never come from a backend."""

from __future__ import annotations

from collections.abc import Callable

from mitmproxy.http import HTTPFlow

from vmgw_core.answers import Answer

from .refusing import respond
from .runtime import Runtime
from .telemetry import Telemetry

_PLAIN = b"text/plain; charset=utf-8"


class StatusPages:
    """Answers ``/health``, ``/-/healthy``, ``/-/ready``, ``/-/reload``, ``/ping`` and ``/metrics`` without a token."""

    def __init__(self, runtime: Runtime, telemetry: Telemetry, reload: Callable[[], None]) -> None:
        self.runtime = runtime
        self.telemetry = telemetry
        self.begin_reload = reload
        self.pages = {
            b"/health": self.health,
            b"/-/healthy": self.health,
            b"/-/ready": self.ready,
            b"/-/reload": self.reload,
            b"/ping": self.ping,
            b"/metrics": self.metrics,
        }

    def requestheaders(self, flow: HTTPFlow) -> None:
        page = self.pages.get(flow.request.data.path.partition(b"?")[0])
        methods = (b"GET", b"POST") if page == self.reload else (b"GET", b"HEAD")
        if page is None or flow.response is not None or flow.request.data.method not in methods:
            return
        self.runtime.decide(flow).own_page = True
        respond(flow, page())

    def health(self) -> Answer:
        """503 while draining, so that a load balancer sends new requests elsewhere."""
        if self.runtime.draining:
            return _answer(503, b"The service is shutting down\n")
        return _answer(200, b"OK")

    def ready(self) -> Answer:
        """503 until requests can be judged: a configuration is in force, and a key is there where one is awaited."""
        policy = self.runtime.policy
        if policy is None or policy.keys_awaited:
            return _answer(503, b"no key to verify tokens with yet\n")
        return self.health()

    def reload(self) -> Answer:
        """As SIGHUP. The answer does not wait for it, as in VictoriaMetrics: log and metrics say how it ended."""
        self.begin_reload()
        return _answer(200, b"")

    def ping(self) -> Answer:
        """What InfluxDB clients ask before they write."""
        return Answer(status=204, headers=(), body=b"")

    def metrics(self) -> Answer:
        """The gateway's own metrics."""
        body, content_type = self.telemetry.exposition()
        return _answer(200, body, content_type.encode())


def _answer(status: int, body: bytes, content_type: bytes = _PLAIN) -> Answer:
    headers = ((b"Content-Type", content_type), (b"Content-Length", str(len(body)).encode()))
    return Answer(status=status, headers=headers, body=body)
