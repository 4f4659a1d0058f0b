"""Traces: a span of each sampled request, from both lanes (``-traces.endpoint``).

This module does without OpenTelemetry's SDK, which only the flag needs: see :mod:`.spans`.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Final

from vmgw_addons.outgoing import TLSFiles
from vmgw_addons.state import InForce
from vmgw_core.base import is_http_url, tenant_name
from vmgw_core.configuration import Settings
from vmgw_core.enforcement import Cycle, TracedCycle, Tracer
from vmgw_core.errors import ConfigurationError

from .access_log import parties, tenant_of

if TYPE_CHECKING:
    from .spans import SpanThread

MAX_WAITING: Final = 2048
"""Spans that wait to be sent. Further ones are dropped."""
_LAST_SECONDS: Final = 3.0  # for what is left at the end of the process
_METHODS: Final = frozenset(["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"])

Attributes = dict[str, str | int]


class Traces:
    """Makes a span of each sampled request that has ended."""

    def __init__(self, in_force: InForce, settings: Settings) -> None:
        self.in_force = in_force
        self.settings = settings
        self.tracer = Tracer(
            settings.traces_ratio, settings.traces_max_per_second, time.perf_counter, random.getrandbits
        )
        self.spans: SpanThread | None = None
        """Begun with the first span, so after any fork."""
        self.lost = 0
        """Spans that were dropped because too many waited."""
        self._queued = 0

    def is_for(self, settings: Settings) -> bool:
        """Whether the flags ``-traces.*`` are the same in ``settings``."""
        return _flags(settings) == _flags(self.settings)

    def finished(self, cycle: Cycle, status: int | None, sent: int) -> None:
        """Queue the span of a request that has ended; see ``RequestLog``."""
        if not isinstance(cycle, TracedCycle) or cycle.sampled is None:
            return
        if self.spans is None:
            from .spans import SpanThread

            self.spans = SpanThread(self.settings, self.in_force.outages, MAX_WAITING)
        if self._queued - self.spans.taken >= MAX_WAITING:
            self.lost += 1
            return
        self._queued += 1
        route, token = parties(self.in_force.configured.policy, cycle)
        grant, refusal = cycle.grant, cycle.refusal
        method = cycle.head.method if cycle.head.method in _METHODS else "_OTHER"
        tenant = tenant_of(None, token) if grant is None else tenant_name(grant.subject.tenant)
        code = status if status is not None or refusal is None else refusal.status
        failed = code is not None and code >= 500
        found = {
            "http.request.method": method,
            "http.route": None if route is None else route.path,
            "http.response.status_code": status,
            "http.request.body.size": cycle.received,
            "http.response.body.size": sent,
            "client.address": cycle.head.client,
            "error.type": None if not failed else str(code) if refusal is None else refusal.code,
            "vmgateway.tenant": tenant,
            "vmgateway.access": None if route is None else route.access.value,
            "vmgateway.verdict": cycle.verdict(status),
            "vmgateway.reason": None if refusal is None else refusal.code,
        }
        attributes = {name: value for name, value in found.items() if value is not None}
        name = method if route is None else f"{method} {route.path}"
        self.spans.put(cycle, name, time.perf_counter() - cycle.started, attributes, failed=failed)

    def results(self) -> dict[str, int]:
        """Return how many spans were sent, could not be sent or were dropped; and how many were not begun."""
        sent, failed = (0, 0) if self.spans is None else (self.spans.sent, self.spans.failed)
        return {"sent": sent, "failed": failed, "dropped": self.lost, "limited": self.tracer.limited}

    def close(self) -> None:
        """Send what is queued, for a few seconds at most."""
        if self.spans is not None:
            thread = threading.Thread(target=self.spans.close, name="last spans", daemon=True)
            thread.start()
            thread.join(_LAST_SECONDS)


def _flags(settings: Settings) -> tuple[object, ...]:
    names = ("endpoint", "ratio", "max_per_second", "service_name")
    return (settings.client_tls("traces"), *(getattr(settings, f"traces_{name}") for name in names))


def check_traces(settings: Settings) -> None:
    """Check ``-traces.*``. Raises ``ConfigurationError``."""
    if not settings.traces_endpoint:
        return
    if not is_http_url(settings.traces_endpoint):
        raise ConfigurationError("-traces.endpoint: expected a URL such as http://collector:4318/v1/traces")
    if not 0 <= settings.traces_ratio <= 1:
        raise ConfigurationError(f"-traces.ratio: expected a number from 0 to 1, got {settings.traces_ratio:g}")
    TLSFiles(settings.client_tls("traces")).context()
    try:
        from . import spans  # noqa: F401
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        text = "-traces.endpoint needs OpenTelemetry's SDK: pip install 'vmgateway[traces]'"
        raise ConfigurationError(text) from None


class Tracing:
    """Sends the last spans at the end of the process."""

    def __init__(self, in_force: InForce) -> None:
        self.in_force = in_force

    def done(self) -> None:
        traces = self.in_force.configured.traces
        if traces is not None:
            traces.close()
