"""Usage from a real VictoriaMetrics: of tenants, of a single node, and of tenants that are asked themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.core.limiters import WINDOWED
from tests.support.wire.servers import Cluster, VictoriaMetrics, prometheus_lines
from tests.support.wire.upstream import RecordingUpstream, Reply
from tests.support.wire.waiting import HANGS, eventually
from vmgw_addons.outgoing.datasource import build_datasource
from vmgw_addons.sources.usage_refresh import Round, UsageRefresh
from vmgw_addons.state import Configured, InForce
from vmgw_addons.support import Background
from vmgw_core.base.tenants import Access, Subject, TenantID
from vmgw_core.configuration.command_line import parse
from vmgw_core.errors import RateLimited
from vmgw_core.limits.limiter import Limiter
from vmgw_core.limits.model import Limit, LimitType, Resolution

QUERIES, ROWS, NEW, ACTIVE = (
    LimitType.QUERIES,
    LimitType.ROWS_INSERTED,
    LimitType.NEW_SERIES,
    LimitType.ACTIVE_SERIES,
)
ZERO, A, B = TenantID(), TenantID(1, 5), TenantID(15, 0)
# Behind the alignment of the query's time, which leaves out what is newer than a multiple of it.
FAST = ("-ratelimit.refreshInterval=100ms",)


def limit(limit_type: LimitType, value: int = 100, resolution: Resolution = Resolution.MINUTE, **more: object) -> Limit:
    fields: dict[str, object] = {"tenant": None, "total": False, "labels": (), **more}
    return Limit(type=limit_type, resolution=resolution, value=value, **fields)  # type: ignore[arg-type]


class Refreshing:
    """A gateway's limiter and the refresh of its usage, driven by hand."""

    def __init__(self, limits: Iterable[Limit], *flags: str, stale_after: float | None = None) -> None:
        settings = parse(["-enable.rateLimit", *flags], {}).settings
        self.limiter = Limiter(limits, measured=True, stale_after=stale_after)
        configured = Configured(settings=settings, limiter=self.limiter, datasource=build_datasource(settings))
        self.registry = CollectorRegistry()
        self.addon = UsageRefresh(InForce(configured), Background(), self.registry)

    async def refresh(self) -> Round:
        current = self.addon.current()
        assert current is not None
        await self.addon.refresh(current)
        return current

    async def until(self, predicate: Callable[[], bool], pause: float = 0.05) -> None:
        """Refresh until it holds. The pauses grow: what is measured late on a busy machine arrives in one of them."""
        deadline = time.monotonic() + HANGS
        while True:
            await self.refresh()
            if predicate():
                return
            assert time.monotonic() < deadline, (self.addon.outage.reason, list(self.limiter.status(time.monotonic())))
            await asyncio.sleep(pause)
            pause *= 1.1

    def usage(self, limit_type: LimitType, tenant: TenantID = ZERO) -> int:
        """What the limiter takes the tenant to have used of its limit."""
        found = self.limiter.status_of(Subject(tenant), time.monotonic())
        return next(each.usage for each in found if each.limit.type is limit_type)

    def refused(self, access: Access, tenant: TenantID = ZERO) -> bool:
        try:
            self.limiter.admit(Subject(tenant), access, time.monotonic())
        except RateLimited:
            return True
        return False

    def metrics(self) -> str:
        return generate_latest(self.registry).decode()


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await work()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(main())


def tenant_lines(metric: str, tenant: TenantID, values: Iterable[int], **labels: str) -> str:
    """A counter scraped every 5 seconds, the last time a second ago."""
    more = "".join(f',{name}="{value}"' for name, value in labels.items())
    values = list(values)
    now = int(time.time() * 1000) - 1000
    return "".join(
        f'{metric}{{accountID="{tenant.account_id}",projectID="{tenant.project_id}"{more}}} {value} '
        f"{now - 5000 * (len(values) - 1 - place)}\n"
        for place, value in enumerate(values)
    )


@pytest.fixture
def datasource(victoria_metrics: VictoriaMetrics, metric: str) -> Callable[..., tuple[str, ...]]:
    """Flags for the shared server, narrowed to the series of this test."""

    def flags(*more: str) -> tuple[str, ...]:
        return (f"-datasource.url={victoria_metrics.url}", f"-ratelimit.extraLabels=test={metric}", *FAST, *more)

    return flags


Flags = Callable[..., tuple[str, ...]]


# --- a cluster's metrics -------------------------------------------------------------------------------------------


def test_usage_of_tenants(datasource: Flags, victoria_metrics: VictoriaMetrics, metric: str) -> None:
    text = ""
    for name in ("vm_tenant_select_requests_total", "vm_tenant_timeseries_created_total"):
        text += tenant_lines(name, A, [1000] * 10 + [1080, 1090], test=metric)
        text += tenant_lines(name, B, [0] * 10 + [30, 30], test=metric)
    text += tenant_lines("vm_tenant_inserted_rows_total", A, [0, 60], test=metric, type="influx")
    text += tenant_lines("vm_tenant_inserted_rows_total", A, [0, 50], test=metric, type="native")
    text += tenant_lines("vm_tenant_active_timeseries", A, [500, 99], test=metric, instance="a")
    text += tenant_lines("vm_tenant_active_timeseries", A, [1], test=metric, instance="b")
    text += tenant_lines("vm_tenant_select_requests_total", B, [0, 1000], test="another cluster")
    victoria_metrics.import_prometheus(text)
    limits = [limit(each) for each in WINDOWED] + [limit(QUERIES, 200, Resolution.HOUR, total=True)]

    async def work() -> None:
        gateway = Refreshing(limits, *datasource("-clusterMode"))
        assert not gateway.refused(Access.WRITE, A), "nothing is known yet"
        await gateway.until(lambda: gateway.usage(ACTIVE, A) == 100)
        assert gateway.addon.outage.reason is None
        assert (gateway.usage(QUERIES, A), gateway.usage(QUERIES, B)) == (90, 30)
        assert (gateway.usage(NEW, A), gateway.usage(NEW, B)) == (90, 30)
        assert (gateway.usage(ROWS, A), gateway.usage(ROWS, B)) == (110, 0)
        assert gateway.usage(ACTIVE, B) == 0
        assert gateway.refused(Access.WRITE, A)
        assert not gateway.refused(Access.WRITE, B)
        assert [gateway.refused(Access.READ, A) for _ in range(11)] == [False] * 10 + [True]
        total = next(each for each in gateway.limiter.status(time.monotonic()) if each.limit.total)
        assert total.usage == 90 + 30 + 10
        page = gateway.metrics()
        assert 'vmgateway_ratelimit_measured{type="active_series"} 1.0' in page
        assert "vmgateway_ratelimit_refresh_duration_seconds_count" in page
        assert 'vmgateway_ratelimit_refresh_errors_total{source="datasource"} 0.0' in page

    run(work)


def test_data_is_as_old_as_its_oldest_newest_sample(
    datasource: Flags, victoria_metrics: VictoriaMetrics, metric: str
) -> None:
    now = int(time.time() * 1000)
    victoria_metrics.import_prometheus(
        "".join(
            f'vm_tenant_select_requests_total{{accountID="1",projectID="5",test="{metric}",on="{name}"}} 7 {when}\n'
            for name, when in (("a", now - 1000), ("b", now - 20_000))
        )
    )

    async def work() -> None:
        gateway = Refreshing([limit(QUERIES)], *datasource("-clusterMode"))
        current = await gateway.refresh()
        assert 20 <= time.monotonic() - current.as_of[QUERIES] < 40

    run(work)


def test_the_newest_samples_count(metric: str) -> None:
    # As it is by default: VictoriaMetrics answers without the last 30 seconds unless it is asked not to.
    with VictoriaMetrics("-search.latencyOffset=30s") as server:
        now = int(time.time() * 1000) - 500
        server.import_prometheus(
            "".join(
                f'vm_tenant_select_requests_total{{accountID="1",projectID="5"}} {value} {now - age}\n'
                for value, age in ((0, 40_000), (0, 10_000), (70, 0))
            )
        )

        async def work() -> None:
            gateway = Refreshing([limit(QUERIES)], f"-datasource.url={server.url}", *FAST, "-clusterMode")
            await gateway.until(lambda: gateway.usage(QUERIES, A) == 70)

        run(work)


def test_what_nothing_measures_is_said(
    datasource: Flags, victoria_metrics: VictoriaMetrics, metric: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def work() -> None:
        gateway = Refreshing([limit(QUERIES)], *datasource())
        await gateway.refresh()
        await gateway.refresh()
        (warning,) = (record.message for record in caplog.records if record.levelname == "WARNING")
        assert warning.startswith("nothing measures queries: -datasource.url has none of its metrics")
        assert 'vmgateway_ratelimit_measured{type="queries"} 0.0' in gateway.metrics()
        victoria_metrics.import_prometheus(
            tenant_lines("vm_tenant_select_requests_total", TenantID(), [0, 5], test=metric)
        )
        await gateway.until(lambda: gateway.usage(QUERIES) == 5)
        assert "usage of queries is measured by vm_tenant_select_requests_total" in caplog.text
        assert 'vmgateway_ratelimit_measured{type="queries"} 1.0' in gateway.metrics()

    run(work)


def test_an_idle_cluster_is_not_said_to_measure_anything(
    datasource: Flags, victoria_metrics: VictoriaMetrics, metric: str, caplog: pytest.LogCaptureFixture
) -> None:
    """vminsert is scraped, and nobody has written yet."""
    caplog.set_level("INFO")
    victoria_metrics.import_prometheus(
        tenant_lines("vm_http_requests_total", TenantID(), [0, 0], test=metric, path="/insert/{}/prometheus/")
    )

    async def work() -> None:
        gateway = Refreshing([limit(ROWS)], *datasource("-clusterMode"))
        await gateway.until(lambda: "usage of rows_inserted" in caplog.text)
        assert "usage of rows_inserted is zero so far: its servers are scraped, and no tenant has used" in caplog.text
        assert "is measured by" not in caplog.text
        victoria_metrics.import_prometheus(
            tenant_lines("vm_tenant_inserted_rows_total", TenantID(), [0, 5], test=metric)
        )
        await gateway.until(lambda: "usage of rows_inserted is measured by vm_tenant_inserted" in caplog.text)

    run(work)


# --- a single node's metrics ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def single() -> Iterator[VictoriaMetrics]:
    """A server that scrapes itself: backend and datasource in one."""
    with VictoriaMetrics("-selfScrapeInterval=1s") as server:
        yield server


def test_usage_of_a_single_node_that_is_its_own_datasource(single: VictoriaMetrics) -> None:
    def counted(name: str, **labels: str) -> float:
        """The value on its page: to ask for it is no read."""
        families = text_string_to_metric_families(single.client.get("/metrics").text)
        samples = (sample for family in families for sample in family.samples if sample.name == name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def active() -> float:
        return counted("vm_cache_entries", type="storage/hour_metric_ids")

    async def work() -> None:
        flags = (f"-datasource.url={single.url}", f"-read.url={single.url}", "-datasource.queryTimeAlignment=false")
        # Nothing leaves the window of an hour while this runs.
        gateway = Refreshing([limit(each, 10_000, Resolution.HOUR) for each in WINDOWED], *flags)
        eventually(lambda: counted("vm_new_timeseries_created_total") > 100, what="it has scraped itself")
        single.client.get("/api/v1/labels")
        single.import_prometheus(prometheus_lines("m_new", 50))
        await gateway.until(lambda: gateway.usage(ROWS) == 50 and gateway.usage(NEW) >= 50, pause=0.5)
        # Its own metrics are series, too. VictoriaMetrics 1.79 knows of none in the first hour of a day.
        await gateway.until(
            lambda: gateway.usage(ACTIVE) == active() and (active() > 100 or time.gmtime().tm_hour == 0), pause=0.5
        )
        # Refreshing asks the same server all the time, and that is not the tenant's doing.
        assert gateway.addon.round is not None
        while gateway.addon.round.own.count(None, 0, time.time()) <= 5:
            await gateway.refresh()
        # Its newest requests are not on the page that was scraped last: it pauses until they are.
        await gateway.until(lambda: gateway.usage(QUERIES) == 1, pause=4.0)
        sources = gateway.addon.round.sources if gateway.addon.round else {}
        assert sources == {
            QUERIES: "is measured by vm_http_requests_total",
            ROWS: "is measured by vm_rows_inserted_total",
            NEW: "is measured by vm_new_timeseries_created_total",
            ACTIVE: "is measured by vm_cache_entries",
        }

    run(work)


# --- tenants that are asked ----------------------------------------------------------------------------------------


def test_tenants_of_an_open_source_cluster_tell_of_their_series(
    datasource: Flags,
    victoria_metrics: VictoriaMetrics,
    cluster: Cluster,
    metric: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vmgw_addons.sources.tenant_series.INTERVAL", 0.0)
    victoria_metrics.import_prometheus(tenant_lines("vm_tenant_inserted_rows_total", A, [0, 60], test=metric))
    node = cluster.nodes[1, 5]
    node.import_prometheus(prometheus_lines(metric, 10, a="1"))

    async def work() -> None:
        flags = datasource("-clusterMode", f"-read.url={cluster.url}")
        gateway = Refreshing([limit(ACTIVE, 10_000), limit(NEW, 10_000), limit(ACTIVE, 9, tenant=B)], *flags)
        await gateway.until(lambda: gateway.usage(ACTIVE, A) >= 10)
        before = gateway.usage(ACTIVE, A)
        await gateway.until(
            lambda: "queries of each tenant" in str(gateway.addon.round and gateway.addon.round.sources)
        )
        assert gateway.usage(NEW, A) == 0
        node.import_prometheus(prometheus_lines(metric, 25, b="2"))
        await gateway.until(lambda: gateway.usage(ACTIVE, A) == before + 25)
        await gateway.until(lambda: gateway.usage(NEW, A) == 25)
        gateway.limiter.replace([*gateway.limiter.limits, limit(QUERIES)])  # as a reload does
        await gateway.until(lambda: gateway.addon.round is not None and len(gateway.addon.round.limits) == 4)
        await gateway.refresh()
        assert gateway.usage(NEW, A) == 25, "what is known stays known"
        cluster.nodes[15, 0].import_prometheus(prometheus_lines(metric, 9))
        await gateway.until(lambda: gateway.refused(Access.WRITE, B))
        assert not gateway.refused(Access.WRITE, A)
        asked = {request["target"] for request in cluster.requests()}
        assert "/select/15:0/prometheus/api/v1/status/tsdb?topN=1" in asked, "it has a limit of its own"
        assert "/select/1:5/prometheus/api/v1/series/count" in asked, "it writes"
        assert not any("/select/0:0/" in target for target in asked), "it does neither"

    run(work)


def test_a_tenant_that_does_not_tell(
    datasource: Flags, victoria_metrics: VictoriaMetrics, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmgw_addons.sources.tenant_series.INTERVAL", 0.0)
    replies = [Reply(body=b'{"data":{"totalSeries":70}}'), Reply(status=503)]

    async def work() -> None:
        with RecordingUpstream(lambda request: replies[0] if len(replies) == 2 else replies[-1]) as backend:
            url = backend.url.replace("//", "//user:hunter2@")
            gateway = Refreshing([limit(ACTIVE, 60, tenant=A)], *datasource("-clusterMode", f"-read.url={url}"))
            await gateway.until(lambda: gateway.refused(Access.WRITE, A))
            assert backend.requests[0].header("Authorization") == ["Basic dXNlcjpodW50ZXIy"]
            replies.pop(0)
            await gateway.until(lambda: 'refresh_errors_total{source="tenant"} 0' not in gateway.metrics())
            assert gateway.addon.round is not None
            assert gateway.addon.round.queries is not None
            assert gateway.addon.round.queries.outage.reason == "cannot query active_series of tenant 1:5: status 503"
            assert gateway.refused(Access.WRITE, A), "its last known usage still counts"

    run(work)


# --- outages -------------------------------------------------------------------------------------------------------


def test_an_outage(metric: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with VictoriaMetrics() as server:

        async def work() -> None:
            server.kill()
            flags = (f"-datasource.url={server.url}", *FAST, "-clusterMode")
            gateway = Refreshing([limit(QUERIES)], *flags)
            await gateway.refresh()
            assert gateway.addon.outage.reason == "cannot refresh usage: -datasource.url: Connection refused"
            assert not gateway.refused(Access.READ, A), "what is counted here is all that is known"
            server.start()
            server.import_prometheus(tenant_lines("vm_tenant_select_requests_total", A, [0, 95]))
            await gateway.until(lambda: gateway.usage(QUERIES, A) >= 95)
            assert "usage is refreshed again" in caplog.text
            server.kill()
            await gateway.refresh()
            assert [gateway.refused(Access.READ, A) for _ in range(6)][-1], "the last known usage, and local counts"
            assert not gateway.refused(Access.READ, B)
            page = gateway.metrics()
            assert 'vmgateway_ratelimit_refresh_errors_total{source="datasource"} 2.0' in page
            assert 'vmgateway_ratelimit_data_age_seconds{type="queries"}' in page
            server.start()

        run(work)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(Reply(status=500), "status 500", id="error"),
        pytest.param(Reply(body=b"<html>"), "answer: not valid JSON (line 1, column 1)", id="no JSON"),
        pytest.param(
            Reply(body=b'{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[]}}'),
            "answer.isPartial: the result is partial: a storage node did not respond",
            id="partial",
        ),
    ],
)
def test_answers_of_no_use(reply: Reply, reason: str) -> None:
    async def work() -> None:
        with RecordingUpstream(lambda _: reply) as server:
            gateway = Refreshing([limit(QUERIES)], f"-datasource.url={server.url}")
            await gateway.refresh()
            assert gateway.addon.outage.reason == f"cannot refresh usage: -datasource.url: {reason}"

    run(work)


def test_the_refresh_goes_on_by_itself(datasource: Flags, victoria_metrics: VictoriaMetrics, metric: str) -> None:
    async def work() -> None:
        gateway = Refreshing([], *datasource("-clusterMode"))
        gateway.addon.running()
        victoria_metrics.import_prometheus(tenant_lines("vm_tenant_select_requests_total", A, [0, 95], test=metric))
        gateway.limiter.replace([limit(QUERIES)])  # as a reload does
        deadline = time.monotonic() + 10
        while gateway.usage(QUERIES, A) != 95:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    run(work)
