"""The gateway's own metrics, in the Prometheus text format."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping

from mitmproxy.http import HTTPFlow
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from vmgw_addons.state import CaptureStatus, Cycles, InForce, Process, Reloads
from vmgw_addons.support import Background, Outages
from vmgw_core import BUILD, __version__
from vmgw_core.backends import Durations
from vmgw_core.base import TenantID, tenant_name
from vmgw_core.enforcement import Cycle
from vmgw_core.errors import Refusal, TokenRefused
from vmgw_core.pages import Decision, Decisions, holder
from vmgw_core.replay import Difference, ShadowCounts
from vmgw_core.tokens import KeyRing

from .families import counter, gauge
from .logs.access_log import parties, shown_path, tenant_of
from .tenant_metrics import Traffic, tenant_families

_OTHER = "other"
_NONE = "none"
"""The access and the tenant of a request that no route and token allow."""


class Telemetry:
    """Counts every request once, by access, outcome and tenant. The number of tenants is bounded."""

    def __init__(self, in_force: InForce, cycles: Cycles) -> None:
        self.in_force = in_force
        self.cycles = cycles
        # Plain counters: those of prometheus_client cost some five microseconds per request.
        self.ungranted: defaultdict[str, int] = defaultdict(int)
        """Requests that no route and token allow, by outcome."""
        self.refusals: defaultdict[str, int] = defaultdict(int)
        self.auth_rejects: defaultdict[str, int] = defaultdict(int)
        self.durations: defaultdict[str, Durations] = defaultdict(Durations)
        self.traffic: defaultdict[tuple[str, str], Traffic] = defaultdict(Traffic)
        """By tenant and access."""
        self.tenants: set[str] = set()
        self.decisions = Decisions()
        """The last refusals."""
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
        """Count a finished request. ``status`` is None if the client or the backend closed the connection."""
        grant, refusal, outcome = cycle.grant, cycle.refusal, cycle.verdict(status)
        seconds = time.perf_counter() - cycle.started
        if grant is None:
            self.ungranted[outcome] += 1
            self.durations[_NONE].add(seconds)
        else:
            access = grant.route.access
            self.traffic_of(grant.subject.tenant, access).add(outcome, status, seconds, cycle.received, cycle.sent)
            self.durations[access].add(seconds)
        if refusal is not None:
            self.refusals[refusal.code] += 1
            if isinstance(refusal, TokenRefused):
                self.auth_rejects[refusal.code] += 1
            self.note(cycle, refusal, status)

    def note(self, cycle: Cycle, refusal: Refusal, status: int | None) -> None:
        """Keep a refusal for the pages that tell of the last ones."""
        head, policy = cycle.head, cycle.policy  # which may not be in force any more
        _, token = parties(policy, cycle)
        of = None
        if token is not None and policy is not None:
            of = holder(token, None if token.credential is not None else policy.token_source.find(head.headers))
        decision = Decision(
            at=time.time(),
            method=head.method,
            path=shown_path(head),
            status=status or refusal.status,
            code=refusal.code,
            message=refusal.message,
            client=head.client,
            tenant=tenant_of(cycle.grant, token),
            subject=None if token is None else token.subject,
        )
        self.decisions.note(decision, of)

    def malformed(self, refusal: Refusal) -> None:
        """Count an invalid request, which has no cycle."""
        self.refusals[refusal.code] += 1
        self.ungranted["refused"] += 1

    def traffic_of(self, tenant: TenantID | None, access: str) -> Traffic:
        """Return what is counted of a tenant, or of all tenants beyond the bound."""
        name = tenant_name(tenant)
        found = self.traffic.get((name, access))  # it has labels alone, so this name is one
        return self.traffic[self.tenant_label(name), access] if found is None else found

    def tenant_label(self, tenant: str) -> str:
        """Return the tenant, or ``other`` after ``-metrics.maxTenants`` tenants."""
        if tenant not in self.tenants:
            if len(self.tenants) >= self.in_force.configured.settings.metrics_max_tenants:
                return _OTHER
            self.tenants.add(tenant)
        return tenant

    def collect(self) -> Iterator[Metric]:
        """Make the metric families of the counters."""
        yield counter(
            "vmgateway_requests",
            "Requests by access (read, write, delete, none), outcome (admitted, refused, failed) and tenant",
            ["access", "outcome", "tenant"],
            self.outcomes(),
        )
        for name, text, numbers in (
            ("vmgateway_refusals", "Requests that the gateway refused, by reason", self.refusals),
            ("vmgateway_auth_rejects", "Refused tokens, by reason", self.auth_rejects),
        ):
            yield counter(name, text, ["reason"], (([reason], number) for reason, number in numbers.items()))
        durations = HistogramMetricFamily(
            "vmgateway_request_duration_seconds",
            "Time from the head of a request to the end of its response",
            labels=["access"],
        )
        for access, each in self.durations.items():
            durations.add_metric([access], each.cumulative(), each.sum)
        yield durations
        yield from tenant_families(self.traffic)

    def outcomes(self) -> Iterator[tuple[tuple[str, str, str], int]]:
        """Yield the number of requests by access, outcome and tenant."""
        for outcome, number in self.ungranted.items():
            yield (_NONE, outcome, _NONE), number
        for (tenant, access), each in self.traffic.items():
            for outcome, number in each.outcomes.items():
                yield (access, outcome, tenant), number

    def exposition(self) -> tuple[bytes, str]:
        """Return the page and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class StateMetrics(Collector):
    """Metrics of the configuration and the process, read when metrics are collected."""

    def __init__(
        self,
        in_force: InForce,
        process: Process,
        background: Background,
        reloads: Mapping[str, Reloads],
        capture: CaptureStatus,
    ) -> None:
        self.in_force = in_force
        self.process = process
        self.background = background
        self.reloads = reloads
        self.capture = capture

    def collect(self) -> Iterator[Metric]:
        configured = self.in_force.configured
        keyring, policy = configured.keyring, configured.policy
        yield gauge("vmgateway_info", "The running version", ["version", "build"], [([__version__, BUILD], 1)])
        keyset = keyring.keyset if keyring is not None else None
        for name, text, value in (
            (
                "vmgateway_signatures_verified",
                "1 if signatures of tokens are verified, 0 without keys",
                float(keyset is not None),
            ),
            ("vmgateway_keys_loaded", "Keys that verify tokens", len(keyset or ())),
            (
                "vmgateway_tokens_cached",
                "Verified tokens in the cache",
                policy.verifier.cached if policy is not None else 0,
            ),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        if keyring is not None:
            yield from _sources(keyring)
        if configured.settings.capture_file:
            yield from _capture(self.capture)
        if configured.shadow is not None:
            yield from _shadow(configured.shadow.shadow.counts)
        yield counter(
            "vmgateway_config_reloads",
            "Reloads by result",
            ["result"],
            (([result], number) for result, number in self.reloads["configuration"].by_result()),
        )
        yield from _last_reloads(self.reloads)
        yield gauge(
            "vmgateway_certificate_expiry_timestamp_seconds",
            "Time when a certificate of the gateway expires, by the flag of its file",
            ["file"],
            (([name], end) for name, end in sorted(self.in_force.certificate_ends.items())),
        )
        yield from _outages(configured.outages)
        yield counter(
            "vmgateway_background_task_errors",
            "Unexpected failures of background tasks",
            ["task"],
            (([task], number) for task, number in self.background.errors.items()),
        )
        for log, name in ((configured.access_log, "access"), (configured.query_log, "query")):
            if log is not None:
                yield CounterMetricFamily(
                    f"vmgateway_{name}_log_lost_lines",
                    f"Lines of the {name} log that could not be written",
                    value=log.lost,
                )
        if configured.traces is not None:
            yield counter(
                "vmgateway_trace_spans",
                "Spans of requests that were sent, that could not be sent (failed), that were dropped because too many "
                "waited, and that were not begun because too many clients asked for one (limited)",
                ["result"],
                (([result], number) for result, number in configured.traces.results().items()),
            )
        if self.process.log is not None:
            yield CounterMetricFamily(
                "vmgateway_log_lost_lines",
                "Lines of the log that could not be written, including the access log",
                value=self.process.log.lost,
            )


def _capture(status: CaptureStatus) -> Iterator[Metric]:
    for name, text, value in (
        ("vmgateway_captured_flows", "Flows written to -capture.file", status.flows),
        (
            "vmgateway_capture_lost_flows",
            "Flows not written to -capture.file because the disk was too slow",
            status.lost,
        ),
        ("vmgateway_captured_bytes", "Bytes written to -capture.file", status.size),
    ):
        yield CounterMetricFamily(name, text, value=value)
    stopped = float(bool(status.stopped))
    yield GaugeMetricFamily("vmgateway_capture_stopped", "1 if the capture has stopped", value=stopped)


def _shadow(counts: ShadowCounts) -> Iterator[Metric]:
    for name, text, value in (
        ("requests", "Requests that the candidate configuration has judged", counts.requests),
        ("undecided", "Requests that it has judged and whose decisions could not be compared", counts.undecided),
        ("failures", "Requests that it could not judge because of a defect", counts.failures),
    ):
        yield CounterMetricFamily(f"vmgateway_shadow_{name}", text, value=value)
    yield counter(
        "vmgateway_shadow_differences",
        "Requests that the candidate configuration decides differently, by kind",
        ["kind"],
        (([kind.name.lower()], counts.differences[kind]) for kind in Difference),
    )


def _last_reloads(reloads: Mapping[str, Reloads]) -> Iterator[Metric]:
    read = {source: each for source, each in reloads.items() if each.last_success}
    yield gauge(
        "vmgateway_last_reload_successful",
        "1 if the files of a source could be read the last time, 0 while they cannot",
        ["source"],
        (([source], float(each.last_successful)) for source, each in read.items()),
    )
    yield gauge(
        "vmgateway_last_reload_success_timestamp_seconds",
        "Time when the files of a source were last read",
        ["source"],
        (([source], each.last_success) for source, each in read.items()),
    )


def _outages(outages: Outages) -> Iterator[Metric]:
    known = sorted(outages.by_name.items())
    yield counter(
        "vmgateway_failures",
        "Failures of what the gateway needs: backends, key endpoints, the datasource, Redis, files",
        ["what", "reason"],
        (([name, cause], number) for name, outage in known for cause, number in sorted(outage.causes.items())),
    )
    yield gauge(
        "vmgateway_failing",
        "1 with the reason while the last attempt has failed, else 0 with the reason none",
        ["what", "reason"],
        (([name, outage.cause], 1.0) if outage.reason is not None else ([name, "none"], 0.0) for name, outage in known),
    )


def _sources(keyring: KeyRing) -> Iterator[Metric]:
    sources = keyring.status()
    yield gauge(
        "vmgateway_key_source_keys",
        "Usable keys of a source",
        ["source"],
        (([source.name], source.keys) for source in sources),
    )
    yield gauge(
        "vmgateway_key_source_last_success_timestamp_seconds",
        "Time of the last successful fetch, 0 for none",
        ["source"],
        (([source.name], source.last_success or 0) for source in sources),
    )
