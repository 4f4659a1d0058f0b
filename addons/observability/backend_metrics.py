"""Metrics of the backends, and of concurrent requests."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from vmgw_addons.state import InForce

from .families import counter, gauge


class BackendMetrics(Collector):
    """The state of each backend. URLs have no credentials."""

    def __init__(self, in_force: InForce) -> None:
        self.in_force = in_force

    def collect(self) -> Iterator[Metric]:
        names = ["side", "url"]
        members = {
            (member.backend.flag.partition(".")[0], str(member.backend)): member
            for group in self.in_force.configured.groups
            for member in group.members
        }
        yield gauge(
            "vmgateway_backend_up",
            "0 if the last request or probe of this backend failed",
            names,
            ((labels, float(member.up)) for labels, member in members.items()),
        )
        yield gauge(
            "vmgateway_backend_concurrent_requests",
            "Concurrent requests to this backend",
            names,
            ((labels, member.load) for labels, member in members.items()),
        )
        yield counter(
            "vmgateway_backend_requests",
            "Requests sent to this backend",
            names,
            ((labels, member.requests) for labels, member in members.items()),
        )
        yield counter(
            "vmgateway_backend_errors",
            "Requests to this backend without a response, or without one in time",
            names,
            ((labels, member.errors) for labels, member in members.items()),
        )
        durations = HistogramMetricFamily(
            "vmgateway_backend_duration_seconds",
            "Time from sending a request to the head of the response",
            labels=names,
        )
        for labels, member in members.items():
            durations.add_metric(labels, member.durations.cumulative(), member.durations.sum)
        yield durations


class ConcurrencyMetrics(Collector):
    """The number of concurrent requests; nothing without a limit, since they are not counted then."""

    def __init__(self, in_force: InForce) -> None:
        self.in_force = in_force

    def collect(self) -> Iterator[Metric]:
        slots = self.in_force.configured.concurrency
        if slots is None:
            return
        for name, text, value in (
            ("vmgateway_concurrent_requests_current", "Concurrent requests", slots.running),
            ("vmgateway_concurrent_requests_waiting", "Requests that wait for a slot", slots.waiting),
            ("vmgateway_concurrent_requests_limit", "-maxConcurrentRequests, 0 for none", slots.total),
            ("vmgateway_concurrent_requests_per_tenant_limit", "-maxConcurrentPerTenant, 0 for none", slots.of_tenant),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        yield CounterMetricFamily(
            "vmgateway_concurrent_requests_rejected",
            "Requests refused with 429 because no slot was free",
            value=slots.refused,
        )
