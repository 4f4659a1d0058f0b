"""Metrics of the backends."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from vmgw_addons.state import InForce


class BackendsState(Collector):
    """What is known of each backend, for the metrics. URLs have no credentials."""

    def __init__(self, in_force: InForce) -> None:
        self.in_force = in_force

    def collect(self) -> Iterator[Metric]:
        names = ["side", "url"]
        up = GaugeMetricFamily("vmgateway_backend_up", "0 where the last that was heard of it was no answer",
                               labels=names)  # fmt: skip
        load = GaugeMetricFamily("vmgateway_backend_concurrent_requests", "Requests under way there", labels=names)
        requests = CounterMetricFamily("vmgateway_backend_requests", "Requests sent there", labels=names)
        errors = CounterMetricFamily("vmgateway_backend_errors", "Requests it gave no answer to, or not in time",
                                     labels=names)  # fmt: skip
        durations = HistogramMetricFamily(
            "vmgateway_backend_duration_seconds", "From a request sent to the head of its answer", labels=names
        )
        for group in self.in_force.configured.groups:
            for member in group.members:
                labels = [member.backend.flag.partition(".")[0], str(member.backend)]
                up.add_metric(labels, float(member.up))
                load.add_metric(labels, member.load)
                requests.add_metric(labels, member.requests)
                errors.add_metric(labels, member.errors)
                durations.add_metric(labels, member.durations.cumulative(), member.durations.sum)
        yield from (up, load, requests, errors, durations)
