"""Metrics that are read from the gateway's state: backends, places, and several processes together."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from tests.support.addons.configured import GatewayState, configured
from vmgw_addons.observability.backend_metrics import BackendMetrics, ConcurrencyMetrics
from vmgw_addons.observability.metrics import Telemetry
from vmgw_addons.observability.worker_calls import WorkerCalls
from vmgw_addons.observability.worker_metrics import WorkerMetrics
from vmgw_addons.state import Worker


def shown(collector: Collector) -> list[str]:
    registry = CollectorRegistry()
    registry.register(collector)
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_each_backend_is_shown_without_its_credentials() -> None:
    state = configured(**{"read.url": "http://user:secret@read.test:1"})
    member = state.configured.groups[0].members[0]
    member.up, member.load, member.requests, member.errors = False, 2, 7, 3
    lines = shown(BackendMetrics(state.in_force))
    labels = '{side="read",url="http://read.test:1"}'
    assert f"vmgateway_backend_up{labels} 0.0" in lines
    assert f"vmgateway_backend_concurrent_requests{labels} 2.0" in lines
    assert f"vmgateway_backend_requests_total{labels} 7.0" in lines
    assert f"vmgateway_backend_errors_total{labels} 3.0" in lines
    assert 'vmgateway_backend_up{side="write",url="http://write.test:1"} 1.0' in lines
    assert "secret" not in "\n".join(lines)


def test_places_are_shown_where_there_is_a_limit() -> None:
    assert shown(ConcurrencyMetrics(configured().in_force)) == []
    state = configured(maxConcurrentRequests="4", maxConcurrentPerTenant="2")
    assert shown(ConcurrencyMetrics(state.in_force)) == [
        "vmgateway_concurrent_requests_current 0.0",
        "vmgateway_concurrent_requests_waiting 0.0",
        "vmgateway_concurrent_requests_limit 4.0",
        "vmgateway_concurrent_requests_per_tenant_limit 2.0",
        "vmgateway_concurrent_requests_rejected_total 0.0",
    ]


def worker_metrics(directory: Path, slot: int, count: int) -> WorkerMetrics:
    state = GatewayState()
    worker = Worker(parent=1, slot=slot, count=count, directory=directory) if count > 1 else None
    return WorkerMetrics(WorkerCalls(state.in_force, worker), Telemetry(state.in_force, state.cycles))


def test_one_page_has_what_every_process_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> str:
        first, second = worker_metrics(tmp_path, 0, 3), worker_metrics(tmp_path, 1, 3)
        (tmp_path / "calls-1").touch()  # a worker that died has left it
        await second.calls.running()
        try:
            return (await first.exposition())[0].decode()
        finally:
            await second.calls.done()

    page = asyncio.run(main())
    assert 'worker="0"' in page
    assert 'worker="1"' in page
    assert 'worker="2"' not in page
    assert caplog.messages == [
        (
            "worker 2 does not answer to metrics: No such file or directory; "
            "/metrics, /-/status, /-/me and /-/reload leave it out"
        )
    ]
    names = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


def test_a_single_process_opens_no_socket(tmp_path: Path) -> None:
    metrics = worker_metrics(tmp_path, 0, 1)
    asyncio.run(metrics.calls.running())
    assert list(tmp_path.iterdir()) == []
