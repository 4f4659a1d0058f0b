"""Spans as OpenTelemetry's SDK has them, sent by OTLP over HTTP. Imported only with ``-traces.endpoint``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from vmgw_addons.outgoing import TLSFiles, failure_of, send
from vmgw_addons.support import Outages
from vmgw_core import __version__
from vmgw_core.base import without_credentials
from vmgw_core.configuration import Settings
from vmgw_core.enforcement import TracedCycle
from vmgw_core.http import TraceContext

from .traces import Attributes

logger = logging.getLogger(__name__)

_DEADLINE: Final = 5.0  # seconds for one request to the collector
_PAUSE_MS: Final = 1000
_BATCH: Final = 256
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
_SCOPE: Final = InstrumentationScope("vmgateway", __version__)


class SpanThread(SpanExporter):
    """Sends spans in the thread of a ``BatchSpanProcessor``. Those that the collector does not take are lost."""

    def __init__(self, settings: Settings, outages: Outages, most: int) -> None:
        self.taken = self.sent = self.failed = 0
        self._url = settings.traces_endpoint
        self._shown = without_credentials(self._url)
        self._tls = TLSFiles(settings.client_tls("traces"))
        self._outage = outages.of(f"-traces.endpoint {self._shown}", logger, "spans are lost")
        self._resource = Resource({"service.name": settings.traces_service_name, "service.version": __version__})
        self._processor = BatchSpanProcessor(self, most, _PAUSE_MS, _BATCH)

    def put(self, cycle: TracedCycle, name: str, seconds: float, attributes: Attributes, *, failed: bool) -> None:
        """Queue the span of a request that took ``seconds``."""
        trace = cycle.trace
        assert trace is not None
        begun = int(cycle.at * 1e9)
        self._processor.on_end(
            ReadableSpan(
                name,
                _context(trace.context, remote=False),
                None if trace.parent is None else _context(trace.parent, remote=True),
                self._resource,
                attributes,
                [
                    Event(step, details or None, begun + int((moment - cycle.started) * 1e9))
                    for step, moment, details in trace.steps
                ],
                kind=SpanKind.SERVER,
                status=_ERROR if failed else _UNSET,
                start_time=begun,
                end_time=begun + int(seconds * 1e9),
                instrumentation_scope=_SCOPE,
            )
        )

    def close(self) -> None:
        """Send what is queued, and end the thread. Blocks."""
        self._processor.shutdown()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send some spans, in the thread."""
        self.taken += len(spans)
        try:
            body = encode_spans(spans).SerializeToString()
            headers = {"Content-Type": "application/x-protobuf", "User-Agent": "vmgateway"}
            # largest=0: the body of the response is not read.
            send(
                "POST",
                self._url,
                success=range(200, 300),
                headers=headers,
                data=body,
                deadline=_DEADLINE,
                largest=0,
                tls=self._tls,
            )
        except Exception as error:  # whatever a library raises
            self.failed += len(spans)
            text, cause = failure_of(error)
            self._outage.failed(f"cannot send spans to {self._shown}: {text}", cause)
            return SpanExportResult.FAILURE
        self.sent += len(spans)
        self._outage.succeeded(f"spans are sent to {self._shown} again")
        return SpanExportResult.SUCCESS


def _context(context: TraceContext, *, remote: bool) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, remote, TraceFlags(context.flags))
