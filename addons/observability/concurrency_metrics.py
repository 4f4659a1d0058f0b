"""Metrics of the requests that are under way."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vmgw_addons.state import InForce


class PlacesState(Collector):
    """How many requests are under way, for the metrics. Where there is no limit nobody counts them."""

    def __init__(self, in_force: InForce) -> None:
        self.in_force = in_force

    def collect(self) -> Iterator[Metric]:
        places = self.in_force.configured.concurrency
        if places is None:
            return
        for name, text, value in (
            ("current", "Requests under way", places.running),
            ("waiting", "Requests that wait for others to end", places.waiting),
            ("limit", "-maxConcurrentRequests, 0 for none", places.total),
            ("per_tenant_limit", "-maxConcurrentPerTenant, 0 for none", places.of_tenant),
        ):
            yield GaugeMetricFamily(f"vmgateway_concurrent_requests_{name}", text, value=value)
        yield CounterMetricFamily(
            "vmgateway_concurrent_requests_rejected", "Requests answered 429 for want of a place", value=places.refused
        )
