"""Usage refresh: queries the datasource for the usage of tenants, in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vmgw_addons.outgoing import DEADLINE, Datasource, RequestFailed, failure_of
from vmgw_addons.state import InForce
from vmgw_addons.support import Background, Outages, in_thread
from vmgw_core.backends import Backend
from vmgw_core.base import FieldError, TenantID
from vmgw_core.configuration import Settings
from vmgw_core.limits import Limiter, LimitType, OwnRequests, Resolution, Snapshot, UsagePlan
from vmgw_core.limits.measured.datasource_query import Role, Usage

from .tenant_series import TenantQueries

logger = logging.getLogger(__name__)

_IDLE: Final = 1.0  # seconds between two checks whether there is something to refresh
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class UsageRefresh:
    """Queries the datasource for the usage of tenants (-ratelimit.refreshInterval)."""

    def __init__(self, in_force: InForce, background: Background, registry: CollectorRegistry) -> None:
        self.in_force = in_force
        self.background = background
        self.round: Round | None = None
        consequence = "the last known usage still counts, and what is admitted here"
        self.outage = in_force.outages.of("-datasource.url", logger, consequence)
        self.duration = Histogram(
            "vmgateway_ratelimit_refresh_duration_seconds",
            "Duration of a refresh, from the query to the datasource until its response was read",
            buckets=_BUCKETS,
            registry=registry,
        )
        registry.register(_State(self))

    def running(self) -> None:
        self.background.repeat("usage_refresh", self.step)

    async def step(self) -> float:
        """Refresh once. Returns the seconds until the next refresh."""
        started = time.monotonic()
        current = self.current()
        if current is None:
            return _IDLE
        try:
            await self.refresh(current)
        except Exception:
            self.outage.failed("the refresh of usage failed")
            raise
        return max(0.01, started + current.interval - time.monotonic())

    def current(self) -> Round | None:
        """Return the round of the configuration in force; None if it needs no measured usage."""
        configured = self.in_force.configured
        limiter, datasource, settings = configured.limiter, configured.datasource, configured.settings
        if limiter is None or datasource is None:
            return None
        if self.round is None or not self.round.is_for(limiter, datasource, settings):
            self.round = Round(limiter, datasource, settings, self.background, configured.outages, self.round)
        return self.round if self.round.plan.expression else None

    async def refresh(self, current: Round) -> None:
        """Query once, and pass the result on."""
        started = time.monotonic()
        try:
            snapshot = await asyncio.wait_for(current.ask(), DEADLINE + 5)
        except (RequestFailed, FieldError, TimeoutError) as error:
            reason = str(error) or f"no response within {DEADLINE + 5:.0f} seconds"
            shown = "" if isinstance(error, RequestFailed) else f"{current.datasource.shown}: "
            self.outage.failed(f"cannot refresh usage: {shown}{reason}", failure_of(error).cause)
            return
        self.duration.observe(time.monotonic() - started)
        self.outage.succeeded("usage is refreshed again")
        await current.take(snapshot, time.monotonic())


class Round:
    """The queries of one configuration, and their results."""

    def __init__(
        self,
        limiter: Limiter,
        datasource: Datasource,
        settings: Settings,
        background: Background,
        outages: Outages,
        before: Round | None = None,
    ) -> None:
        """Take over the results of the round ``before``."""
        self.limiter = limiter
        self.limits = limiter.limits
        self.datasource = datasource
        self.settings = settings
        self.interval = settings.ratelimit_refresh_interval
        self.own: OwnRequests = before.own if before is not None else OwnRequests()
        cluster = settings.cluster_mode
        self.plan = UsagePlan(self.limits, cluster=cluster, labels=datasource.labels)
        self.queries: TenantQueries | None = None
        if before is not None and before.queries is not None and before.settings == settings:
            self.queries = before.queries
        elif cluster and settings.read_url:
            self.queries = TenantQueries(settings, self.own, self.interval, background, outages)
        if before is not None and before.queries is not None and before.queries is not self.queries:
            before.queries.close()
        self.counted_as = _counted_as(datasource.backend, settings)
        self.as_of: dict[LimitType, float] = {}
        """Monotonic seconds."""
        self.offset = 0.0
        """Of the monotonic clock from the wall clock, in seconds."""
        self.unmeasured: tuple[LimitType, ...] = ()
        self.sources: dict[LimitType, str] = {}

    def is_for(self, limiter: Limiter, datasource: Datasource, settings: Settings) -> bool:
        """Whether the configuration is still the same."""
        same = self.limiter is limiter and self.datasource is datasource
        return same and self.limits == limiter.limits and self.settings == settings

    async def ask(self) -> Snapshot:
        """Query the datasource. Raises ``RequestFailed`` or ``FieldError``."""
        asked = time.time()
        self.offset = time.monotonic() - asked
        self.own.forget_idle(asked)
        document = await in_thread(lambda: self.datasource.query(self.plan.expression, asked), "usage refresh")
        if self.counted_as is not None:
            self.own.note(self.counted_as, asked)
        own = self.own.copy()  # queries of tenants are noted while the thread reads it
        return await in_thread(lambda: self.plan.read(document, own), "usage refresh")

    async def take(self, snapshot: Snapshot, now: float) -> None:
        """Pass the usage to the limiter."""
        if self.queries is not None:
            self.queries.start(snapshot.to_ask, self.tenants(snapshot))
        found = {usage.type: usage for usage in snapshot.usages}
        for limit_type, usage in found.items():
            if limit_type not in snapshot.to_ask:
                # A sample from the future comes from a clock that is ahead: treat it as new.
                self.learn(usage.values, limit_type, min(now, usage.as_of + self.offset), now)
                await asyncio.sleep(0)  # many tenants take a while: let requests run in between
        unmeasured = [each for each in snapshot.unmeasured if each not in snapshot.to_ask]
        for limit_type in snapshot.to_ask:
            if not self.take_tenants(limit_type, found.get(limit_type), now):
                unmeasured.append(limit_type)
        self.note_sources(snapshot, found, tuple(unmeasured))

    def take_tenants(self, limit_type: LimitType, total: Usage | None, now: float) -> bool:
        """Pass on the usage that was queried per tenant. Returns whether there is any, or will be."""
        if self.queries is None:
            return False
        values, as_of = self.queries.series.values(limit_type), self.queries.series.as_of(limit_type)
        if as_of is None:
            return self.queries.outage.reason is None
        if total is not None:
            values = {**values, **total.values}
            as_of = min(as_of, total.as_of + self.offset)
        self.learn(values, limit_type, min(now, as_of), now)
        return True

    def learn(
        self,
        values: Mapping[tuple[LimitType, Resolution, TenantID | None], float],
        limit_type: LimitType,
        as_of: float,
        now: float,
    ) -> None:
        """Pass usage to the limiter, and note its age."""
        self.limiter.learn(values, as_of, now)
        self.as_of[limit_type] = as_of

    def tenants(self, snapshot: Snapshot) -> list[TenantID]:
        """Return the tenants to query one by one: those with a limit of their own, then those that write."""
        own = [limit.tenant for limit in self.limits if limit.type in snapshot.to_ask and limit.tenant is not None]
        return [*own, *snapshot.writers]

    def note_sources(
        self, snapshot: Snapshot, found: Mapping[LimitType, Usage], unmeasured: tuple[LimitType, ...]
    ) -> None:
        """Log what measures which limit, when that changes."""
        sources = {limit_type: f"is measured by {usage.source}" for limit_type, usage in found.items()}
        for limit_type, usage in found.items():
            if usage.role is Role.IDLE:
                sources[limit_type] = "is zero so far: its servers are scraped, and no tenant has used them yet"
        sources |= dict.fromkeys(snapshot.to_ask, "is measured by queries of each tenant (-read.url)")
        for limit_type, source in sources.items():
            if self.sources.get(limit_type) != source and limit_type not in unmeasured:
                self.sources[limit_type] = source
                logger.info(f"usage of {limit_type} {source}")
        for limit_type in unmeasured:
            if limit_type not in self.unmeasured:
                self.sources.pop(limit_type, None)
                logger.warning(
                    f"nothing measures {limit_type}: {self.datasource.shown} has none of its metrics; the last known "
                    "usage still counts, and what is admitted here"
                )
        self.unmeasured = unmeasured


def _counted_as(backend: Backend, settings: Settings) -> TenantID | None:
    """Return the tenant that the backend counts our own queries for; None if the datasource is another server."""
    if backend.address not in [Backend.parse(url, "read.url").address for url in settings.read_url]:
        return None
    if not settings.cluster_mode:
        return TenantID()
    place, _, rest = backend.base.removeprefix("/").partition("/")
    with suppress(ValueError):
        return TenantID.parse(rest.partition("/")[0]) if place == "select" else None
    return None


class _State(Collector):
    def __init__(self, refresh: UsageRefresh) -> None:
        self.refresh = refresh

    def collect(self) -> Iterator[Metric]:
        current = self.refresh.round
        errors = CounterMetricFamily(
            "vmgateway_ratelimit_refresh_errors", "Queries for usage that failed", labels=["source"]
        )
        errors.add_metric(["datasource"], self.refresh.outage.failures)
        queries = current.queries if current is not None else None
        if queries is not None:
            errors.add_metric(["tenant"], queries.outage.failures)
        yield errors
        if current is None:
            return
        age = GaugeMetricFamily(
            "vmgateway_ratelimit_data_age_seconds", "Age of the newest sample of the known usage", labels=["type"]
        )
        measured = GaugeMetricFamily(
            "vmgateway_ratelimit_measured", "1 if the usage of this type of limit is measured", labels=["type"]
        )
        for limit_type in {limit.type for limit in current.limits if limit.is_measurable}:
            if limit_type in current.as_of:
                age.add_metric([limit_type.value], time.monotonic() - current.as_of[limit_type])
            known = limit_type in current.as_of and limit_type not in current.unmeasured
            measured.add_metric([limit_type.value], float(known))
        yield age
        yield measured
        if queries is not None:
            yield GaugeMetricFamily(
                "vmgateway_ratelimit_tenants_not_asked",
                "Tenants that are not queried for their series, because there are too many",
                value=queries.series.left_out,
            )
