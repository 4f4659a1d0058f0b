"""Traffic of each tenant: time, bytes and errors of its requests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric, SummaryMetricFamily

from .families import counter

ABORTED = "aborted"
"""In place of a status: the client has no complete response."""


class Traffic:
    """Requests of one tenant with one access. Plain numbers, since every request adds to them."""

    __slots__ = ("errors", "outcomes", "received", "requests", "seconds", "sent")

    def __init__(self) -> None:
        self.requests = 0
        self.seconds = 0.0
        self.received = 0
        """Bytes of content that came from clients."""
        self.sent = 0
        """Bytes of content that went to clients."""
        self.outcomes: defaultdict[str, int] = defaultdict(int)
        """Requests by outcome: admitted, refused, failed."""
        self.errors: defaultdict[str, int] = defaultdict(int)
        """Responses with an error by class of status, such as 5xx, and requests without a complete response."""

    def add(self, outcome: str, status: int | None, seconds: float, received: int, sent: int) -> None:
        """Count a request that has ended. ``status`` None: without a complete response."""
        self.requests += 1
        self.outcomes[outcome] += 1
        self.seconds += seconds
        self.received += received
        self.sent += sent
        if status is None or status >= 400:
            self.errors[ABORTED if status is None else f"{status // 100}xx"] += 1


def tenant_families(traffic: Mapping[tuple[str, str], Traffic]) -> Iterator[Metric]:
    """Make the metric families. The keys are tenant and access.

    The durations are a summary: with a histogram, a page of 1,000 tenants takes half a second to write.
    """
    labels = ["tenant", "access"]
    durations = SummaryMetricFamily(
        "vmgateway_tenant_request_duration_seconds",
        "Time from the head of a request to the end of its response, of granted requests",
        labels=labels,
    )
    for key, each in traffic.items():
        durations.add_metric(key, each.requests, each.seconds)
    yield durations
    yield counter(
        "vmgateway_tenant_received_bytes",
        "Bytes of request content received from clients, as sent",
        labels,
        ((key, each.received) for key, each in traffic.items()),
    )
    yield counter(
        "vmgateway_tenant_sent_bytes",
        "Bytes of response content sent to clients, as sent",
        labels,
        ((key, each.sent) for key, each in traffic.items()),
    )
    yield counter(
        "vmgateway_tenant_errors",
        "Responses with an error by class of status, and requests without a complete response (aborted)",
        [*labels, "status"],
        (((*key, status), number) for key, each in traffic.items() for status, number in each.errors.items()),
    )
