"""Metrics of the rate limiter: limits and usage per tenant, refusals, warnings, reloads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vmgw_addons.state import InForce, Reloads
from vmgw_addons.steps import RateLimit
from vmgw_core.base import tenant_name
from vmgw_core.limits import OTHER, Limiter
from vmgw_core.limits.model import label_text

_TENANTS_FULL = "tenants"
"""The type of a refusal for want of room for another tenant."""


class LimitMetrics(Collector):
    """Reads the limiter when the page is asked for. Tenants are named up to ``-metrics.maxTenants``."""

    def __init__(
        self, in_force: InForce, reloads: Reloads, rate_limit: RateLimit, tenant_label: Callable[[str], str]
    ) -> None:
        """``tenant_label`` names a tenant, or says ``other`` once too many have a name."""
        self.in_force = in_force
        self.reloads = reloads
        self.rate_limit = rate_limit
        self.tenant_label = tenant_label

    def collect(self) -> Iterator[Metric]:
        reloads = CounterMetricFamily(
            "vmgateway_ratelimit_config_reloads", "Readings of -ratelimit.config while running", labels=["result"]
        )
        for result, number in asdict(self.reloads).items():
            reloads.add_metric([result], number)
        yield reloads
        limiter = self.in_force.configured.limiter
        if limiter is not None:
            yield from self.usages(limiter)
            yield from self.rejects(limiter)
            yield from self.warnings()

    def usages(self, limiter: Limiter) -> Iterator[Metric]:
        """What the tenants that are kept may do, and have done."""
        names = ["tenant", "type", "resolution", "labels"]
        limits = GaugeMetricFamily("vmgateway_tenant_limit", "The most in any window of the resolution", labels=names)
        usages = GaugeMetricFamily("vmgateway_tenant_usage", "What is used of the limit", labels=names)
        for usage in limiter.status(time.monotonic()):
            limit = usage.limit
            tenant = "total" if limit.total else self.tenant_label(tenant_name(usage.tenant))
            if tenant == OTHER:  # limits do not add up
                continue
            values = [
                tenant,
                limit.type.value,
                limit.resolution.value,
                label_text(limit.labels) if limit.labels else "",
            ]
            limits.add_metric(values, limit.value)
            usages.add_metric(values, usage.usage)
        yield limits
        yield usages
        yield GaugeMetricFamily("vmgateway_ratelimit_tenants", "Tenants that usage is kept for", value=limiter.tenants)

    def rejects(self, limiter: Limiter) -> Iterator[Metric]:
        """Refusals, those of tenants without a name added up."""
        totals: dict[tuple[str, str, str], int] = {}
        for (limit_type, resolution, tenant), number in limiter.rejects.items():
            name = OTHER if tenant == OTHER else self.tenant_label(tenant)
            key = (limit_type.value if limit_type else _TENANTS_FULL, resolution.value if resolution else "", name)
            totals[key] = totals.get(key, 0) + number
        family = CounterMetricFamily(
            "vmgateway_ratelimit_rejects",
            "Requests and rows refused by a limit",
            labels=["type", "resolution", "tenant"],
        )
        for values, number in totals.items():
            family.add_metric(values, number)
        yield family

    def warnings(self) -> Iterator[Metric]:
        """How often somebody came near a limit."""
        totals: dict[tuple[str, str, str], int] = {}
        for (limit_type, resolution, tenant), number in self.rate_limit.near.items():
            name = tenant if tenant == "total" else self.tenant_label(tenant)
            key = (limit_type.value, resolution.value, name)
            totals[key] = totals.get(key, 0) + number
        family = CounterMetricFamily(
            "vmgateway_ratelimit_warnings",
            "How often usage came to 80 % of a limit",
            labels=["type", "resolution", "tenant"],
        )
        for values, number in totals.items():
            family.add_metric(values, number)
        yield family
