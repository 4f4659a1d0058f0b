"""Telemetry: the gateway's own metrics, in the Prometheus text format."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict

from mitmproxy.http import HTTPFlow
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from vmgw_addons.state import CaptureStatus, Cycles, InForce, Process, Reloads
from vmgw_addons.support import Background
from vmgw_core import __version__
from vmgw_core.backends import Durations
from vmgw_core.base import tenant_name
from vmgw_core.enforcement import Cycle
from vmgw_core.errors import Refusal, TokenRefused
from vmgw_core.tokens import KeyRing

_OTHER = "other"


class Telemetry:
    """Counts every answered request once: by access, outcome and tenant, the number of tenants bounded."""

    def __init__(self, in_force: InForce, cycles: Cycles) -> None:
        self.in_force = in_force
        self.cycles = cycles
        # Plain counters: those of prometheus_client cost a request some five microseconds.
        self.requests: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self.refusals: defaultdict[str, int] = defaultdict(int)
        self.auth_rejects: defaultdict[str, int] = defaultdict(int)
        self.durations: defaultdict[str, Durations] = defaultdict(Durations)
        self.tenants: set[str] = set()
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def response(self, flow: HTTPFlow) -> None:
        cycle = self.cycles.get(flow)
        if cycle is not None and not cycle.own_page and flow.response is not None:
            self.count(cycle, flow.response.status_code)

    def error(self, flow: HTTPFlow) -> None:
        cycle = self.cycles.get(flow)
        if cycle is not None:
            self.count(cycle, None)

    def count(self, cycle: Cycle, status: int | None) -> None:
        """Count one finished request. ``status`` is None where its client or backend broke it off."""
        grant, refusal = cycle.grant, cycle.refusal
        access, tenant = "none", "none"
        if grant is not None:
            access = grant.route.access.value
            tenant = self.tenant_label(tenant_name(grant.subject.tenant))
        if refusal is not None:
            self.refusals[refusal.code] += 1
            if isinstance(refusal, TokenRefused):
                self.auth_rejects[refusal.code] += 1
        self.requests[access, cycle.verdict(status), tenant] += 1
        self.durations[access].add(time.perf_counter() - cycle.started)

    def malformed(self, refusal: Refusal) -> None:
        """Count what is no request, and was answered all the same."""
        self.refusals[refusal.code] += 1
        self.requests["none", "refused", "none"] += 1

    def tenant_label(self, tenant: str) -> str:
        """The tenant, or ``other`` once ``-metrics.maxTenants`` of them have metrics of their own."""
        if tenant not in self.tenants:
            if len(self.tenants) >= self.in_force.configured.settings.metrics_max_tenants:
                return _OTHER
            self.tenants.add(tenant)
        return tenant

    def collect(self) -> Iterator[Metric]:
        """The counters as metric families."""
        requests = CounterMetricFamily(
            "vmgateway_requests",
            "Requests by access (read, write, delete, none), outcome (admitted, refused, failed) and tenant",
            labels=["access", "outcome", "tenant"],
        )
        for labels, number in self.requests.items():
            requests.add_metric(labels, number)
        yield requests
        for name, text, numbers in (
            ("vmgateway_refusals", "Requests the gateway refused, by reason", self.refusals),
            ("vmgateway_auth_rejects", "Tokens refused, by reason", self.auth_rejects),
        ):
            family = CounterMetricFamily(name, text, labels=["reason"])
            for reason, number in numbers.items():
                family.add_metric([reason], number)
            yield family
        durations = HistogramMetricFamily(
            "vmgateway_request_duration_seconds", "From the request's head to the end of its answer", labels=["access"]
        )
        for access, each in self.durations.items():
            durations.add_metric([access], each.cumulative(), each.sum)
        yield durations

    def exposition(self) -> tuple[bytes, str]:
        """The page and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class StateMetrics(Collector):
    """What is read from the configuration and the process when the page is asked for."""

    def __init__(
        self, in_force: InForce, process: Process, background: Background, reloads: Reloads, capture: CaptureStatus
    ) -> None:
        self.in_force = in_force
        self.process = process
        self.background = background
        self.reloads = reloads
        self.capture = capture

    def collect(self) -> Iterator[Metric]:
        configured = self.in_force.configured
        keyring, policy, access_log = configured.keyring, configured.policy, configured.access_log
        info = GaugeMetricFamily("vmgateway_info", "The running version", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        keyset = keyring.keyset if keyring is not None else None
        yield GaugeMetricFamily(
            "vmgateway_signatures_verified",
            "1 where the signatures of tokens are verified, 0 where no key is configured",
            value=float(keyset is not None),
        )
        yield GaugeMetricFamily("vmgateway_keys_loaded", "Keys that tokens are verified with", value=len(keyset or ()))
        cached = policy.verifier.cached if policy is not None else 0
        yield GaugeMetricFamily("vmgateway_tokens_cached", "Verified tokens kept", value=cached)
        if keyring is not None:
            yield from _sources(keyring)
        if configured.settings.capture_file:
            yield from self._capture()
        reloads = CounterMetricFamily("vmgateway_config_reloads", "Reloads by result", labels=["result"])
        for result, number in asdict(self.reloads).items():
            reloads.add_metric([result], number)
        yield reloads
        errors = CounterMetricFamily(
            "vmgateway_background_task_errors", "Failures of background tasks that nobody expected", labels=["task"]
        )
        for task, number in self.background.errors.items():
            errors.add_metric([task], number)
        yield errors
        if access_log is not None:
            yield CounterMetricFamily(
                "vmgateway_access_log_lost_lines",
                "Lines of the access log that could not be written",
                value=access_log.lost,
            )
        if self.process.log is not None:
            yield CounterMetricFamily(
                "vmgateway_log_lost_lines",
                "Lines of the log that could not be written, those of the access log included",
                value=self.process.log.lost,
            )

    def _capture(self) -> Iterator[Metric]:
        status = self.capture
        yield CounterMetricFamily("vmgateway_captured_flows", "Flows written to -capture.file", value=status.flows)
        yield CounterMetricFamily(
            "vmgateway_capture_lost_flows",
            "Flows not written to -capture.file: the disk was too slow",
            value=status.lost,
        )
        yield CounterMetricFamily("vmgateway_captured_bytes", "Bytes written to -capture.file", value=status.size)
        yield GaugeMetricFamily(
            "vmgateway_capture_stopped", "1 where the capture has stopped", value=float(bool(status.stopped))
        )


def _sources(keyring: KeyRing) -> Iterator[Metric]:
    keys = GaugeMetricFamily("vmgateway_key_source_keys", "Usable keys of a source", labels=["source"])
    success = GaugeMetricFamily(
        "vmgateway_key_source_last_success_timestamp_seconds", "Last good fetch, 0 for none", labels=["source"]
    )
    for status in keyring.status():
        keys.add_metric([status.name], status.keys)
        success.add_metric([status.name], status.last_success or 0)
    yield keys
    yield success
