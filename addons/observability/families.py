"""Metric families from samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

Samples = Iterable[tuple[Sequence[str], float]]
"""Label values, and the value."""


def counter(name: str, text: str, labels: Sequence[str], samples: Samples) -> CounterMetricFamily:
    """Make a family of counters. ``text`` is the HELP line."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def gauge(name: str, text: str, labels: Sequence[str], samples: Samples) -> GaugeMetricFamily:
    """Make a family of gauges. ``text`` is the HELP line."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family
