"""Metrics of the rate limiter: limits and usage per tenant, refusals, warnings, reloads."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vmgw_addons.state import InForce, Reloads
from vmgw_addons.steps import RateLimit
from vmgw_core.base import tenant_name
from vmgw_core.limits import OTHER, Kind, Resolution, slot_usages
from vmgw_core.limits.model import Usage, label_text

from .families import counter, gauge

_TENANTS_FULL: Final = "tenants"
"""The type of a refusal because ``-ratelimit.maxTenants`` is reached."""
_TOTAL: Final = "total"
_LABELS: Final = ("type", "resolution", "tenant")


class LimitMetrics(Collector):
    """Reads the limiter when metrics are collected.

    Args:
        tenant_label: names a tenant, or returns ``other`` after ``-metrics.maxTenants`` tenants.
    """

    def __init__(
        self, in_force: InForce, reloads: Reloads, rate_limit: RateLimit, tenant_label: Callable[[str], str]
    ) -> None:
        self.in_force = in_force
        self.reloads = reloads
        self.rate_limit = rate_limit
        self.tenant_label = tenant_label

    def collect(self) -> Iterator[Metric]:
        yield counter(
            "vmgateway_ratelimit_config_reloads",
            "Reloads of -ratelimit.config by result",
            ["result"],
            (([result], number) for result, number in self.reloads.by_result()),
        )
        limiter = self.in_force.configured.limiter
        if limiter is not None:
            slots = self.in_force.configured.concurrency
            in_use = () if slots is None else slot_usages(slots.in_use())
            yield from self.usages((*limiter.status(time.monotonic()), *in_use))
            yield GaugeMetricFamily(
                "vmgateway_ratelimit_tenants", "Tenants whose usage the limiter keeps", value=limiter.tenants
            )
            yield self.refusals("vmgateway_ratelimit_rejects", "Requests and rows refused by a limit", limiter.rejects)
            yield self.refusals(
                "vmgateway_ratelimit_observed", "What limits in mode observe would have refused", limiter.observed
            )
            yield self.warnings()

    def usages(self, found: Iterable[Usage]) -> Iterator[Metric]:
        """Limits and usage of each tenant that the limiter keeps, or that has requests in flight."""
        names = ["tenant", "type", "resolution", "labels", "class"]
        limits: dict[tuple[str, ...], float] = {}
        usages: dict[tuple[str, ...], float] = {}
        for usage in found:
            limit = usage.limit
            tenant = _TOTAL if limit.total else self.tenant_label(tenant_name(usage.tenant))
            if tenant == OTHER:  # limits of several tenants do not add up
                continue
            values = (
                tenant,
                limit.type.value,
                limit.resolution.value,
                label_text(limit.labels) if limit.labels else "",
                limit.limit_class,
            )
            limits[values], usages[values] = limit.value, usage.usage
        yield gauge("vmgateway_tenant_limit", "The limit, per window of the resolution", names, limits.items())
        yield gauge("vmgateway_tenant_usage", "Usage in the present window", names, usages.items())

    def refusals(
        self, name: str, text: str, numbers: Mapping[tuple[Kind | None, Resolution | None, str], int]
    ) -> Metric:
        """Refusals. Those of tenants without a name are added up."""
        totals: Counter[tuple[str, str, str]] = Counter()
        for (limit_type, resolution, tenant), number in numbers.items():
            label = OTHER if tenant == OTHER else self.tenant_label(tenant)
            totals[
                limit_type.value if limit_type else _TENANTS_FULL, resolution.value if resolution else "", label
            ] += number
        return counter(name, text, _LABELS, totals.items())

    def warnings(self) -> Metric:
        """How often usage came near a limit."""
        totals: Counter[tuple[str, str, str]] = Counter()
        for (limit_type, resolution, tenant), number in self.rate_limit.near.items():
            name = tenant if tenant == _TOTAL else self.tenant_label(tenant)
            totals[limit_type.value, resolution.value, name] += number
        return counter(
            "vmgateway_ratelimit_warnings", "How often usage reached 80 % of a limit", _LABELS, totals.items()
        )
