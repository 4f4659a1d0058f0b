"""Usage refresh: asking the datasource what tenants have used, in the background, never in a request's way."""

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

from vmgw_addons.outgoing import DEADLINE, AskError, Datasource
from vmgw_addons.state import InForce
from vmgw_addons.support import Background, Outage, in_thread
from vmgw_core.backends import Backend
from vmgw_core.base import FieldError, TenantID
from vmgw_core.configuration import Settings
from vmgw_core.limits import Limiter, LimitType, OwnRequests, Resolution, Snapshot, UsagePlan
from vmgw_core.limits.datasource_query import Usage

from .tenant_series import TenantAsking

logger = logging.getLogger(__name__)

_IDLE: Final = 1.0  # seconds between two looks whether there is something to refresh
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class UsageRefresh:
    """Asks the datasource what tenants have used, every ``-ratelimit.refreshInterval``."""

    def __init__(self, in_force: InForce, background: Background, registry: CollectorRegistry) -> None:
        self.in_force = in_force
        self.background = background
        self.task: asyncio.Task[None] | None = None
        self.round: Round | None = None
        self.outage = Outage(logger, "the last known usage, and what is admitted here, goes on being held to")
        self.duration = Histogram(
            "vmgateway_ratelimit_refresh_duration_seconds",
            "From the question to the datasource until its answer was read",
            buckets=_BUCKETS,
            registry=registry,
        )
        registry.register(_State(self))

    def running(self) -> None:
        self.task = self.background.repeat("usage_refresh", self.step)

    async def done(self) -> None:
        await self.background.stop(self.task)
        if self.round is not None:
            self.round.close()

    async def step(self) -> float:
        """Refresh once. Returns when to do so again, at the pace of the flag."""
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
        """What to ask by the configuration in force; None where nothing has to be."""
        configured = self.in_force.configured
        limiter, datasource, settings = configured.limiter, configured.datasource, configured.settings
        if limiter is None or datasource is None:
            return None
        if self.round is None or not self.round.is_for(limiter, datasource, settings):
            self.round = Round(limiter, datasource, settings, self.background, self.round)
        return self.round if self.round.plan.expression else None

    async def refresh(self, current: Round) -> None:
        """One question, and what comes of it."""
        started = time.monotonic()
        try:
            snapshot = await asyncio.wait_for(current.ask(), DEADLINE + 5)
        except (AskError, FieldError, TimeoutError) as error:
            reason = str(error) or f"no answer within {DEADLINE + 5:.0f} seconds"
            shown = "" if isinstance(error, AskError) else f"{current.datasource.shown}: "
            self.outage.failed(f"cannot refresh usage: {shown}{reason}")
            return
        self.duration.observe(time.monotonic() - started)
        self.outage.succeeded("usage is refreshed again")
        await current.take(snapshot, time.monotonic())


class Round:
    """What is asked for one configuration, and what was learnt with it."""

    def __init__(
        self,
        limiter: Limiter,
        datasource: Datasource,
        settings: Settings,
        background: Background,
        before: Round | None = None,
    ) -> None:
        """``before`` is the one whose place it takes: what tenants have told goes on."""
        self.limiter = limiter
        self.limits = limiter.limits
        self.datasource = datasource
        self.settings = settings
        self.interval = settings.ratelimit_refresh_interval
        self.own: OwnRequests = before.own if before is not None else OwnRequests()
        cluster = settings.cluster_mode
        self.plan = UsagePlan(self.limits, cluster=cluster, labels=datasource.labels)
        self.asking: TenantAsking | None = None
        if before is not None and before.asking is not None and before.settings == settings:
            self.asking = before.asking
        elif cluster and settings.read_url:
            self.asking = TenantAsking(settings, self.own, self.interval, background)
        if before is not None and before.asking is not self.asking:
            before.close()
        self.counted_as = _counted_as(datasource.backend, settings)
        self.as_of: dict[LimitType, float] = {}
        """Monotonic seconds."""
        self.offset = 0.0
        """From the wall clock to the monotonic one."""
        self.unmeasured: tuple[LimitType, ...] = ()
        self.sources: dict[LimitType, str] = {}

    def is_for(self, limiter: Limiter, datasource: Datasource, settings: Settings) -> bool:
        """Whether nothing has changed since."""
        same = self.limiter is limiter and self.datasource is datasource
        return same and self.limits == limiter.limits and self.settings == settings

    def close(self) -> None:
        """Stop asking."""
        if self.asking is not None:
            self.asking.close()

    async def ask(self) -> Snapshot:
        """Raises AskError or FieldError."""
        asked = time.time()
        self.offset = time.monotonic() - asked
        self.own.forget_idle(asked)

        document = await in_thread(lambda: self.datasource.query(self.plan.expression, asked), "usage refresh")
        if self.counted_as is not None:
            self.own.note(self.counted_as, asked)
        own = self.own.copy()  # while the thread reads it, answers of tenants are noted here
        return await in_thread(lambda: self.plan.read(document, own), "usage refresh")

    async def take(self, snapshot: Snapshot, now: float) -> None:
        """Hand what was learnt to the limiter."""
        if self.asking is not None:
            self.asking.start(snapshot.to_ask, self.tenants(snapshot))
        found = {usage.type: usage for usage in snapshot.usages}
        for limit_type, usage in found.items():
            if limit_type not in snapshot.to_ask:
                # A sample of the future is one of a clock that runs ahead: it is as new as it can be.
                self.learn(usage.values, limit_type, min(now, usage.as_of + self.offset), now)
                await asyncio.sleep(0)  # with many tenants it takes a while, and there are requests
        unmeasured = [each for each in snapshot.unmeasured if each not in snapshot.to_ask]
        for limit_type in snapshot.to_ask:
            if not self.take_tenants(limit_type, found.get(limit_type), now):
                unmeasured.append(limit_type)
        self.note_sources(snapshot, found, tuple(unmeasured))

    def take_tenants(self, limit_type: LimitType, total: Usage | None, now: float) -> bool:
        """Learn of tenants by their own answers. Whether there are, or will be, any."""
        if self.asking is None:
            return False
        values, as_of = self.asking.series.values(limit_type), self.asking.series.as_of(limit_type)
        if as_of is None:
            return self.asking.outage.reason is None
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
        """Pass it on, and note how old it is."""
        self.limiter.learn(values, as_of, now)
        self.as_of[limit_type] = as_of

    def tenants(self, snapshot: Snapshot) -> list[TenantID]:
        """Those to ask one by one: with a limit of their own, then those that write."""
        own = [limit.tenant for limit in self.limits if limit.type in snapshot.to_ask and limit.tenant is not None]
        return [*own, *snapshot.writers]

    def note_sources(
        self, snapshot: Snapshot, found: Mapping[LimitType, Usage], unmeasured: tuple[LimitType, ...]
    ) -> None:
        """Say in the log which metric tells of what, when that changes."""
        sources = {limit_type: usage.source for limit_type, usage in found.items()}
        sources |= dict.fromkeys(snapshot.to_ask, "the tenants themselves (-read.url)")
        for limit_type, source in sources.items():
            if self.sources.get(limit_type) != source and limit_type not in unmeasured:
                self.sources[limit_type] = source
                logger.info(f"usage of {limit_type} is measured by {source}")
        for limit_type in unmeasured:
            if limit_type not in self.unmeasured:
                self.sources.pop(limit_type, None)
                logger.warning(
                    f"no source measures {limit_type}: {self.datasource.shown} has none of the metrics that tell of "
                    "it, so all that counts is what was known before, and what is admitted here"
                )
        self.unmeasured = unmeasured


def _counted_as(backend: Backend, settings: Settings) -> TenantID | None:
    """The tenant that the backend counts our own queries for; None where the datasource is another server."""
    if backend.address not in [Backend.parse(url, "read.url").address for url in settings.read_url]:
        return None
    if not settings.cluster_mode:
        return TenantID()
    place, _, rest = backend.base.removeprefix("/").partition("/")
    with suppress(ValueError):
        return TenantID.parse(rest.partition("/")[0]) if place == "select" else None
    return None


class _State(Collector):
    """What is read when the page is asked for."""

    def __init__(self, refresh: UsageRefresh) -> None:
        self.refresh = refresh

    def collect(self) -> Iterator[Metric]:
        current = self.refresh.round
        errors = CounterMetricFamily(
            "vmgateway_ratelimit_refresh_errors", "Questions without an answer of use", labels=["source"]
        )
        errors.add_metric(["datasource"], self.refresh.outage.failures)
        asking = current.asking if current is not None else None
        if asking is not None:
            errors.add_metric(["tenant"], asking.outage.failures)
        yield errors
        if current is None:
            return
        age = GaugeMetricFamily(
            "vmgateway_ratelimit_data_age_seconds", "Since the newest sample behind the known usage", labels=["type"]
        )
        measured = GaugeMetricFamily(
            "vmgateway_ratelimit_measured", "1 where some source tells of this type of limit", labels=["type"]
        )
        for limit_type in {limit.type for limit in current.limits if not limit.labels}:
            if limit_type in current.as_of:
                age.add_metric([limit_type.value], time.monotonic() - current.as_of[limit_type])
            known = limit_type in current.as_of and limit_type not in current.unmeasured
            measured.add_metric([limit_type.value], float(known))
        yield age
        yield measured
        if asking is not None:
            yield GaugeMetricFamily(
                "vmgateway_ratelimit_tenants_not_asked",
                "Tenants beyond those that are asked for their series",
                value=asking.series.left_out,
            )
